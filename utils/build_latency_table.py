"""Measure how long every choice of every choice block takes on this machine, for `search_supernet.py --latency-table`.

python -m utils.build_latency_table --use-se --last-conv-after-pooling --save-dir runs/latency
python -m utils.build_latency_table --space tiny --save-dir runs/latency
python -m utils.build_latency_table --supernet-params runs/digits/supernet/model.params --dtype int8
python -m utils.plot latency runs/latency --output latency.png

Every (block choice, channel choice) is timed as a few copies of the choice block in one graph; copies of blocks that
keep the shape of the map run one behind the other, as in a network. A block without a width is timed once. Stem, and
head with classifier, are timed too, and then whole networks, spread over the FLOPs that the space can reach: on some of
them the table's correction is fitted, on the others its error is told. Graphs are hybridized; weights and inputs are
random numbers.

What is compared takes turns and is divided by reference calls just before and after it, in passes spread over the whole
measurement, because the speed of a machine changes (spos/core/timing.py). --clock cpu takes the processor time of one
thread, which other programs do not lengthen.

Stop it at any time: the same command goes on. The result is latency.json in --save-dir.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from spos.core.errors import InputError, warn
from spos.core.flags import OneLineParser, RunOptions, as_json, flag, pick, positive, positive_number, run_program
from spos.core.machine import processor_name
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng
from spos.core.tables import table
from spos.core.timing import CLOCKS, Rounds, Run, time_in_turns
from spos.engine.compat import mx, num_threads
from spos.engine.devices import versions
from spos.engine.gpu import read_compute_capabilities
from spos.latency.fit import FEWEST_TO_FIT, FEWEST_TO_JUDGE, Agreement
from spos.latency.graphs import GraphMaker
from spos.latency.measurements import (
    FIT,
    HELD_OUT,
    MEASUREMENTS_FILE,
    PROGRAM,
    TABLE_FILE,
    Key,
    MeasurementRow,
    Measurements,
    Plan,
    as_row,
    draw_parts,
    place_of,
)
from spos.latency.table import DTYPES, LatencyTable
from spos.runs.files import write_json
from spos.runs.journal import Journal
from spos.runs.lock import entered
from spos.runs.run import find_config
from spos.space.flags import SpaceOptions, fit, space_of, use_blocks
from spos.space.space import SearchSpace
from spos.space.space_file import described_space

FEWEST = {FIT: FEWEST_TO_FIT, HELD_OUT: FEWEST_TO_JUDGE}
DEFAULT_SAVE_DIR = "runs/latency"
LARGE_DRIFT = 1.5  # of the slowest reference call to the fastest, from which the machine is called busy


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured, and how well."""

    supernet_params: str = flag("", "measure the space of this supernet, for its images, instead of that of the flags")
    input_size: Optional[int] = flag(None, "height and width of the images [that of the space]", type=positive)
    classes: Optional[int] = flag(None, "number of classes [that of the space]", type=positive)
    batch_size: int = flag(1, "images in a call", type=positive)
    device: str = flag("cpu", "cpu, or the first GPU", choices=("cpu", "gpu"))
    dtype: str = flag("float32", "precision: float16 on a GPU, int8 on a CPU", choices=DTYPES)
    copies: int = flag(3, "of a choice block in one graph", type=positive)
    fit_networks: int = flag(24, "whole networks that the correction is fitted on", type=positive)
    held_out_networks: int = flag(40, "whole networks that tell the error", type=positive)
    clock: str = flag("wall", "cpu: processor time, with OMP_NUM_THREADS=1 on a CPU", choices=tuple(CLOCKS))
    passes: int = flag(3, "times that everything is measured", type=positive)
    error: float = flag(0.01, "relative standard error at which a pass times a call no more", type=positive_number)
    max_rounds: int = flag(Rounds.most, f"timings of a call in a pass at most, at least {Rounds.least}", type=positive)


@dataclass(frozen=True)
class TableRunOptions(RunOptions):
    """Where results lie, and what makes a run repeatable."""

    save_dir: str = flag("", f"run directory ({DEFAULT_SAVE_DIR} by default)")


GROUPS = (TableRunOptions, MeasureOptions, SpaceOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    run, options, space_options = pick(TableRunOptions, args), pick(MeasureOptions, args), pick(SpaceOptions, args)
    check_flags(options)
    space = find_space(options, space_options)
    counts = {FIT: options.fit_networks, HELD_OUT: options.held_out_networks}
    networks = draw_parts(space, counts, run.seed)
    for part, fewest in FEWEST.items():
        if len(networks[part]) < fewest:
            raise InputError(f"the space has too few networks for '{part}': {len(networks[part])}, not {fewest}")
    config: Dict[str, Any] = {
        "program": PROGRAM,
        "options": as_json(run, options, space_options),
        "space": space.to_json(),
        "fingerprint": space.fingerprint,
        "networks": {part: [(one.block_choices, one.channel_choices) for one in own] for part, own in networks.items()},
        "device": describe_device(options.device),
        "versions": versions(),
    }
    plan = Plan(space, options.copies, options.passes, networks)
    with entered(run.save_dir or DEFAULT_SAVE_DIR, config, run.resume) as save_dir:
        measurements = measure(plan, options, Journal(save_dir / MEASUREMENTS_FILE, MeasurementRow), run.seed)
        result = measurements.table(
            device=config["device"],
            dtype=options.dtype,
            batch_size=options.batch_size,
            details={"clock": options.clock, "copies": options.copies},
            versions={name: str(version) for name, version in config["versions"].items()},
        )
        write_json(save_dir / TABLE_FILE, result.to_json())
    print(summary(result, measurements, save_dir))
    return 0


def check_flags(options: MeasureOptions) -> None:
    """Raise InputError for flags that cannot work together, or on this machine."""
    if options.fit_networks < FEWEST[FIT] or options.held_out_networks < FEWEST[HELD_OUT]:
        raise InputError(
            f"--fit-networks must be at least {FEWEST[FIT]} and --held-out-networks at least {FEWEST[HELD_OUT]}"
        )
    if options.max_rounds < Rounds.least:
        raise InputError(f"--max-rounds must be at least {Rounds.least}, not {options.max_rounds}")
    if options.device == "gpu" and not mx.context.num_gpus():
        raise InputError("--device gpu: MXNet sees no GPU here")
    if options.dtype == "float16" and options.device == "cpu":
        raise InputError("--dtype float16: MXNet has no float16 convolutions on a CPU; use --device gpu")
    if options.dtype == "int8" and options.device == "gpu":
        raise InputError("--dtype int8 is for --device cpu: its kernels are oneDNN's")
    if options.clock == "cpu" and (options.device == "gpu" or num_threads() != 1):
        raise InputError("--clock cpu adds up all threads of the processor; set OMP_NUM_THREADS=1, on a CPU")


def find_space(options: MeasureOptions, space_options: SpaceOptions) -> SearchSpace:
    """The space of the supernet's run, or of the flags. Raises InputError if both are given."""
    if not options.supernet_params:
        return of_one_size(fit(space_of(space_options), space_options, options.input_size, options.classes))
    use_blocks(space_options)
    if replace(space_options, blocks="") != SpaceOptions() or options.classes:
        raise InputError("--supernet-params brings its own space and images; leave out flags of the space")
    trained = find_config(options.supernet_params)
    if trained is None:
        raise InputError(f"{options.supernet_params} does not lie in a run of train_imagenet.py")
    if not trained.get("space"):
        raise InputError(f"{options.supernet_params} is not of a network with a search space")
    space = described_space(trained, options.supernet_params)
    if options.input_size and not space.input_sizes:
        raise InputError("--supernet-params brings its own images; leave out --input-size")
    return of_one_size(space.at(options.input_size) if options.input_size else space)


def of_one_size(space: SearchSpace) -> SearchSpace:
    """Raises InputError if the input size is still a choice."""
    if space.input_sizes:
        sizes = ", ".join(map(str, space.input_sizes))
        raise InputError(f"a table is of one input size; give --input-size, one of {sizes}, and build a table of each")
    return space


def measure(plan: Plan, options: MeasureOptions, journal: Journal, seed: int) -> Measurements:
    """Time what the journal does not have yet. Every row is on disk when the next begins."""
    ctx = mx.gpu(0) if options.device == "gpu" else mx.cpu()
    maker = GraphMaker(plan.space, ctx, options.dtype, options.batch_size)
    rounds = Rounds(most=options.max_rounds, error=options.error)
    places = list(plan.rows())
    done = {place_of(row) for row in journal.rows}
    missing = [place for place in places if place not in done]
    references: Dict[str, Run] = {}
    bar = progress_bar(missing, total=len(places), initial=len(done), unit="group", leave=True)
    for number, kind, key in bar:
        bar.set_description(f"pass {number + 1}, {kind}")
        if kind not in references:
            references[kind] = reference(plan, maker, kind)
        runs = graphs(plan, maker, kind, key)
        rng = derive_rng(seed, "turns", number, kind, *key)
        timings, seconds = time_in_turns(references[kind], runs, options.clock, rounds, rng)
        journal.append(as_row(number, kind, key, timings, seconds))
    return Measurements.of(plan, journal.rows)


def reference(plan: Plan, maker: GraphMaker, kind: str) -> Run:
    if kind == "networks":
        return maker.network(plan.reference_network)
    index, block_choice = plan.reference_choice
    return maker.block(index, block_choice, -1, plan.copies)


def graphs(plan: Plan, maker: GraphMaker, kind: str, key: Key) -> List[Run]:
    """What is timed in turns for one row."""
    if kind == "fixed":
        return [maker.stem(), maker.tail()]
    if kind == "blocks":
        index, block_choice = key
        return [maker.block(index, block_choice, choice, plan.copies) for choice in plan.widths(index, block_choice)]
    return [maker.network(architecture) for architecture in plan.at_once(*key)]


def describe_device(device: str) -> str:
    if device == "gpu":
        major, minor = read_compute_capabilities()[0]
        return f"GPU of compute capability {major}.{minor}"
    return f"{processor_name()}, {num_threads()} thread{'s' if num_threads() > 1 else ''}"


def summary(result: LatencyTable, measurements: Measurements, save_dir: Path) -> str:
    """What the program prints at its end; a warning goes to standard error if the machine was busy."""
    noise, parts = measurements.noise(), measurements.plan.networks
    if noise["drift"] > LARGE_DRIFT:
        warn(f"the speed of this machine changed by {noise['drift']:.1f} x while it was measured; is it busy?")
    clock, passes = result.details["clock"], measurements.plan.passes
    rows: List[Tuple[str, str]] = [
        ("device", f"{result.device}, {result.dtype}, batch {result.batch_size}, {clock} clock"),
        ("timed", f"{noise['calls']} calls, {noise['rounds']} times in {passes} passes"),
        ("standard error", f"{noise['median_error']:.1%} (median), {noise['largest_error']:.1%} (largest)"),
        ("noise", f"{noise['outliers']:.2%} of the times off by more than half, drift {noise['drift']:.2f} x"),
        ("correction", f"{result.scale:.3f} x sum {result.offset_ms:+.3f} ms, by {len(parts[FIT])} networks"),
        ("held-out networks", str(Agreement.of(*(part.tolist() for part in measurements.compare(result, HELD_OUT))))),
        ("table", str(save_dir / TABLE_FILE)),
    ]
    return table(rows)


if __name__ == "__main__":
    sys.exit(run_program(main))
