"""Time to count the FLOPs and parameters of an architecture: by a symbol built for it, and in closed form.

    OMP_NUM_THREADS=1 python -m benchmarks.flops_count

Every round counts a new architecture; all ways must agree on both integers.

plain    the graph of a network that is there already, and a walk over it
network  the network built for the count, then the same
ours     the closed form (`spos.space.cost`) by the table of choices, made once for a space: the notes say how fast
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from benchmarks.measure import OTHER, OURS, PLAIN, OutputOptions, Result, Row, Way, rows_of, take_turns
from benchmarks.plain import count_by_symbol, count_network
from benchmarks.supernet_step import make_space
from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, not_negative, pick, positive, run_program
from spos.space.architecture import Architecture
from spos.space.cost import Cost, CostTable, count_architecture
from spos.space.space import SearchSpace

REPEATS = 1000  # of a way that takes microseconds, in each round


@dataclass(frozen=True)
class CountingOptions:
    """What to measure."""

    input_size: int = flag(224, "height and width of the images", type=positive)
    classes: int = flag(1000, "number of classes", type=positive)
    rounds: int = flag(15, "architectures that are counted", type=positive)
    seed: int = flag(0, "seed of the architectures", type=not_negative)


GROUPS = (CountingOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    options, output = (pick(group, OneLineParser(__doc__, GROUPS).parse_args(argv)) for group in GROUPS)
    output.check()
    space = make_space(options.input_size, options.classes)
    rng = np.random.default_rng(options.seed)
    architectures = [space.sample(rng) for _ in range(options.rounds + 1)]
    start = time.perf_counter()
    CostTable(space)
    notes = [f"Making the table of a space takes {1e3 * (time.perf_counter() - start):.0f} ms, once."]
    rows = measure(space, architectures, rng)
    notes.append(f"All ways agree on the FLOPs and parameters of {len(architectures)} architectures.")
    Result("flops_count", "a count", asdict(options), rows, notes).report(output)
    return 0


def measure(space: SearchSpace, architectures: List[Architecture], rng: np.random.Generator) -> List[Row]:
    """The first architecture is not timed."""
    networks = {architecture: Subnet(space, architecture) for architecture in architectures}
    functions: Dict[str, Callable[[Architecture], Cost]] = {
        "plain: a symbol for every count": lambda a: count_network(networks[a], space),
        "a network for every count": lambda a: count_by_symbol(space, a),
        "ours: closed form by table": lambda a: count_architecture(space, a),
    }
    for architecture in architectures:
        found = {name: function(architecture) for name, function in functions.items()}
        if len(set(found.values())) > 1:
            raise InputError(f"the counts of {architecture} differ: {found}; not timed")
    roles = (PLAIN, OTHER, OURS)
    ways = [
        Way(name, role, _repeated(function, REPEATS if role == OURS else 1), True)
        for (name, function), role in zip(functions.items(), roles)
    ]
    return rows_of(ways, take_turns(ways, architectures, 1, rng))


def _repeated(function: Callable[[Architecture], Any], times: int) -> Callable[[Architecture], float]:
    """Mean seconds of a call."""

    def run(architecture: Architecture) -> float:
        start = time.perf_counter()
        for _ in range(times):
            function(architecture)
        return (time.perf_counter() - start) / times

    return run


if __name__ == "__main__":
    sys.exit(run_program(main))
