"""What widths that are no multiple of 8 or 16 cost: the same architectures with middle widths rounded up, in turns.

OMP_NUM_THREADS=1 python -m benchmarks.width_multiple --layout OneShot --architectures 12

Every architecture runs with the published widths and with each multiple, hybridized, on random numbers; times are
relative to the published widths just before and after (spos/core/timing.py).
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from benchmarks.measure import OutputOptions, where_and_when, write_line
from spos.core.flags import OneLineParser, flag, not_negative, pick, positive, run_program
from spos.core.progress import progress_bar
from spos.core.timing import CLOCKS, Rounds, Timing, time_in_turns
from spos.engine.compat import mx
from spos.latency.graphs import GraphMaker
from spos.space.cost import count_architecture
from spos.space.space import STABLE_CHANNEL_CHOICE, SearchSpace
from spos.space.space_file import LAYOUTS, search_space

MULTIPLES = (8, 16)


@dataclass(frozen=True)
class BenchmarkOptions:
    """What to measure."""

    layout: str = flag("OneShot", "channels layout of the space", choices=tuple(LAYOUTS))
    architectures: int = flag(12, "drawn uniformly, scales 0.6 to 2.0", type=positive)
    input_size: int = flag(224, "height and width of the images", type=positive)
    batch_size: int = flag(1, "images in a call", type=positive)
    dtype: str = flag("float32", "precision", choices=("float32", "int8"))
    clock: str = flag("wall", "cpu: processor time, with OMP_NUM_THREADS=1", choices=tuple(CLOCKS))
    max_rounds: int = flag(40, "timings of a network at most", type=positive)
    seed: int = flag(0, "seed of the architectures", type=not_negative)


@dataclass(frozen=True)
class Comparison:
    """One architecture at one multiple, relative to the published widths."""

    flops: float
    time: Timing


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, (BenchmarkOptions, OutputOptions)).parse_args(argv)
    options, output = pick(BenchmarkOptions, args), pick(OutputOptions, args)
    output.check()
    results, milliseconds = measure(options)
    line = json.dumps(record(options, results, milliseconds))
    write_line(line, output)
    if output.json:
        print(line)
        return 0
    print(f"published widths  median {np.median(milliseconds):.1f} ms")
    for multiple, rows in results.items():
        times, flops = [row.time.ratio for row in rows], [row.flops for row in rows]
        print(
            f"multiples of {multiple:2d}   time {np.median(times):.3f} x ({min(times):.3f} to {max(times):.3f}), "
            f"FLOPs {np.median(flops):.3f} x, standard error {np.median([row.time.error for row in rows]):.1%}"
        )
    return 0


def record(
    options: BenchmarkOptions, results: Dict[int, List[Comparison]], milliseconds: List[float]
) -> Dict[str, Any]:
    """Ratios of every architecture by multiple; all that a line of JSON holds."""
    ratios = {
        str(multiple): [[row.flops, row.time.ratio, row.time.error] for row in rows]
        for multiple, rows in results.items()
    }
    return {
        "stage": "width_multiple",
        "options": asdict(options),
        "milliseconds": milliseconds,
        "flops_time_error": ratios,
        **where_and_when(),
    }


def measure(options: BenchmarkOptions) -> Tuple[Dict[int, List[Comparison]], List[float]]:
    """Comparisons by multiple, and the milliseconds of every architecture with the published widths."""
    space = search_space(
        options.layout,
        use_se=True,
        last_conv_after_pooling=True,
        input_size=options.input_size,
        min_channel_choice=STABLE_CHANNEL_CHOICE,
    )
    rng = np.random.default_rng(options.seed)
    rounds = Rounds(min(Rounds.least, options.max_rounds), options.max_rounds)
    results: Dict[int, List[Comparison]] = {multiple: [] for multiple in MULTIPLES}
    milliseconds = []
    for _ in progress_bar(range(options.architectures), unit="arch", leave=True):
        architecture = space.sample(rng)
        spaces = [replace(space, width_multiple=multiple) for multiple in MULTIPLES]
        reference, *runs = (make_graphs(own, options).network(architecture) for own in (space, *spaces))
        timings, seconds = time_in_turns(reference, runs, options.clock, rounds, rng)
        milliseconds.append(1e3 * seconds)
        macs = count_architecture(space, architecture).macs
        for multiple, own, timing in zip(MULTIPLES, spaces, timings):
            results[multiple].append(Comparison(count_architecture(own, architecture).macs / macs, timing))
    return results, milliseconds


def make_graphs(space: SearchSpace, options: BenchmarkOptions) -> GraphMaker:
    return GraphMaker(space, mx.cpu(), options.dtype, options.batch_size)


if __name__ == "__main__":
    sys.exit(run_program(main))
