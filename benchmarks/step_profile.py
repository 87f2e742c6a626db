"""Where the time of a training step goes, part by part, beside the shortest time that this machine could take for each.

    OMP_NUM_THREADS=1 python -m benchmarks.step_profile --input-size 32 --batch-size 64
    OMP_NUM_THREADS=1 python -m benchmarks.step_profile --input-size 32 --batch-size 64 --architecture oneshot-s+
    OMP_NUM_THREADS=1 python -m benchmarks.step_profile --input-size 32 --batch-size 32 --classes 10 --strides 2,2,2,2,2

The supernet's paths by default, a subnet with --architecture; as the program trains, their graphs compiled before. A
child process trains under MXNet's profiler while oneDNN tells about its kernels (`benchmarks/step_trace.py`); this
process takes the same steps undisturbed. What could be reached at best: `benchmarks/limits.py`.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from benchmarks.limits import Machine, measure_machine, page_faults, path_works, shortest_times
from benchmarks.measure import OutputOptions, milliseconds, where_and_when, write_line
from benchmarks.step_trace import KINDS, StepTrace, read_kernels, read_operators, trace_of
from benchmarks.supernet_step import make_space
from benchmarks.training import LR, Problem, Step, TrainingOptions, make_problem, options_json, our_step
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, pick, positive, run_program
from spos.core.tables import Column, Table, as_text
from spos.engine.compat import mx, num_threads
from spos.space.architecture import Architecture
from spos.space.flags import ArchitectureOptions, SpaceOptions, fit, named_architecture, with_strides
from spos.space.space import SearchSpace

TRACE_FILE, STEPS_FILE = "trace.json", "steps.json"
VERBOSE = {"DNNL_VERBOSE": "1", "DNNL_VERBOSE_TIMESTAMP": "1"}
MILLI, MIB, GIGA = 1e-3, 2**20, 1e9


@dataclass(frozen=True)
class ProfileOptions:
    """Of which network."""

    architecture: str = flag("", "published name or architecture file of a subnet; the supernet without it")
    strides: str = flag("", "stride plan: stem, then each stage, e.g. 2,2,2,2,2 (empty: by input size)")
    paths: int = flag(4, "architectures of the supernet, in turns", type=positive)


GROUPS = (TrainingOptions, ProfileOptions, OutputOptions)


@dataclass(frozen=True)
class Case:
    """What is trained: a problem, and the architectures that take turns on it."""

    problem: Problem
    architectures: Tuple[Architecture, ...]

    @classmethod
    def of(cls, options: TrainingOptions, chosen: ProfileOptions) -> Case:
        space, architecture = _network(options, chosen)
        rng = np.random.default_rng(options.seed)
        paths = [space.sample(rng) for _ in range(chosen.paths)] if architecture is None else [architecture]
        return cls(make_problem(space, options, architecture), tuple(dict.fromkeys(paths)))

    def ready_step(self) -> Step:
        """A step for which everything is compiled."""
        step = our_step(self.problem.network(), self.problem, LR)
        for architecture in self.architectures:
            if not np.isfinite(step(architecture)):
                raise InputError("the loss is not finite: its times are of another computation")
        return step


def _network(options: TrainingOptions, chosen: ProfileOptions) -> Tuple[SearchSpace, Optional[Architecture]]:
    if not chosen.architecture:
        space = make_space(options.input_size, options.classes)
        return (with_strides(space, chosen.strides) if chosen.strides else space), None
    record = named_architecture(ArchitectureOptions(chosen.architecture), SpaceOptions())
    flags = SpaceOptions(strides=chosen.strides)
    return fit(record.space, flags, options.input_size, options.classes), record.architecture


@dataclass(frozen=True)
class Undisturbed:
    """Medians of steps without a profiler; of a supernet the means of its paths' medians.

    Args:
        wall, python, system: seconds of a step, of them the interpreter's thread computed, the kernel of the system did.
        faults: page faults of a step.
        one_image: seconds of a step on one image: what does not depend on the batch.
        transfer: seconds in which a batch in memory becomes an array of the engine; no part of the step.
    """

    wall: float
    python: float
    system: float
    faults: float
    one_image: float
    transfer: float


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, GROUPS)
    parser.add_argument("--child", default="", help="a folder: train under the profiler and write the trace into it")
    args = parser.parse_args(argv)
    options, chosen, output = (pick(group, args) for group in GROUPS)
    case = Case.of(options, chosen)
    if args.child:
        record(case, options, Path(args.child))
        return 0
    output.check()
    undisturbed = measure_undisturbed(case, options)
    traces = traces_of_child(options, chosen)
    machine = measure_machine(num_threads())
    batch_size = options.batch_size
    limits = [shortest_times(path_works(case.problem.space, one, batch_size), machine) for one in case.architectures]
    rows = shares(traces, limits, machine)
    line = json.dumps(to_json(rows, undisturbed, machine, traces, {**options_json(options, chosen)}))
    write_line(line, output)
    print(line if output.json else as_text(table(rows, undisturbed, machine, traces)))
    return 0


def record(case: Case, options: TrainingOptions, folder: Path) -> None:
    """Train under the profiler; write its trace, and when each counted step began and ended, by architecture."""
    step = case.ready_step()
    mx.profiler.set_config(
        profile_imperative=True,
        profile_symbolic=True,
        aggregate_stats=True,  # or operators that run in one go have no entries
        filename=str(folder / TRACE_FILE),
    )
    spans: List[List[Tuple[float, float]]] = [[] for _ in case.architectures]
    for number in range(options.warm_up + options.rounds):
        for own, architecture in zip(spans, case.architectures):
            mx.profiler.set_state("run" if number >= options.warm_up else "stop")
            start = time.time()
            step(architecture)
            own.append((start, time.time()))
            mx.profiler.set_state("stop")
    mx.profiler.dump(finished=True)
    (folder / STEPS_FILE).write_text(json.dumps([own[options.warm_up :] for own in spans]), encoding="utf-8")


def traces_of_child(options: TrainingOptions, chosen: ProfileOptions) -> List[List[StepTrace]]:
    """Steps by architecture. Raises: InputError with the child's last words if it fails."""
    flags = {**options_json(options), **options_json(chosen)}
    command = [sys.executable, "-m", "benchmarks.step_profile"]
    command += [
        part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value)) if value != ""
    ]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--child", folder],
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, **VERBOSE},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["it was killed; there may be too little memory"])[-1]
            raise InputError(f"the step under the profiler ended with code {done.returncode}: {words}")
        operators = read_operators(json.loads((Path(folder) / TRACE_FILE).read_text(encoding="utf-8")))
        spans = json.loads((Path(folder) / STEPS_FILE).read_text(encoding="utf-8"))
    kernels = read_kernels(done.stdout)
    return [[trace_of(start, end, operators, kernels) for start, end in own] for own in spans]


def measure_undisturbed(case: Case, options: TrainingOptions) -> Undisturbed:
    step, images = case.ready_step(), case.problem.images
    steps: List[List[Tuple[float, ...]]] = [[] for _ in case.architectures]
    for number in range(options.warm_up + options.rounds):
        for own, architecture in zip(steps, case.architectures):
            before = _clocks()
            step(architecture)
            if number >= options.warm_up:
                own.append(tuple(after - old for after, old in zip(_clocks(), before)))
    wall, python, system, faults = np.mean([np.median(own, axis=0) for own in steps], axis=0).tolist()
    single = replace(case, problem=replace(case.problem, images=images[:1], labels=case.problem.labels[:1]))
    small = single.ready_step()
    walls = [[_wall(lambda: small(one)) for _ in range(options.rounds)] for one in case.architectures]  # noqa: B023
    transfer = float(np.median([_wall(lambda: mx.nd.array(images).wait_to_read()) for _ in range(options.rounds)]))
    return Undisturbed(wall, python, system, faults, float(np.mean(np.median(walls, axis=1))), transfer)


def _clocks() -> Tuple[float, float, float, float]:
    return time.perf_counter(), time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_stime, page_faults()


def _wall(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Share:
    """A part of the step under the profiler.

    Args:
        seconds: median of the steps, and mean of the paths.    share: of the step.
        limit: the shortest time that it could take.
        speed: of convolutions, FLOP/s as executed by the peak.
        work: of convolutions, FLOPs as executed by those that are needed; both of None otherwise.
    """

    kind: str
    seconds: float
    share: float
    limit: float
    speed: Optional[float] = None


def shares(
    traces: Sequence[Sequence[StepTrace]], limits: Sequence[Mapping[str, float]], machine: Machine
) -> List[Share]:
    """A part after the other, as KINDS has them; those that take no time are left out."""
    wall = _mean_of_medians(traces, lambda trace: trace.wall)
    rows = []
    for kind in KINDS:
        seconds = _mean_of_medians(traces, lambda trace: trace.seconds.get(kind, 0.0))  # noqa: B023
        flops = _mean_of_medians(traces, lambda trace: trace.flops.get(kind, 0.0))  # noqa: B023
        limit = float(np.mean([own.get(kind, 0.0) for own in limits]))
        if seconds or limit:
            speed = flops / seconds / machine.peak if flops else None
            rows.append(Share(kind, seconds, seconds / wall, limit, speed))
    return rows


def _mean_of_medians(traces: Sequence[Sequence[StepTrace]], value: Any) -> float:
    return float(np.mean([np.median([value(trace) for trace in own]) for own in traces]))


def to_json(
    rows: Sequence[Share],
    undisturbed: Undisturbed,
    machine: Machine,
    traces: Sequence[Sequence[StepTrace]],
    options: Mapping[str, Any],
) -> Dict[str, Any]:
    return {
        "stage": "step_profile",
        "options": dict(options),
        "shares": [vars(row) for row in rows],
        "traced": _mean_of_medians(traces, lambda trace: trace.wall),
        "stray": _mean_of_medians(traces, lambda trace: trace.stray),
        "others": _others(traces),
        "undisturbed": vars(undisturbed),
        "limits": vars(machine),
        **where_and_when(),
    }


def _others(traces: Sequence[Sequence[StepTrace]]) -> List[str]:
    return sorted({name for own in traces for trace in own for name in trace.others})


def table(
    rows: Sequence[Share], undisturbed: Undisturbed, machine: Machine, traces: Sequence[Sequence[StepTrace]]
) -> Table:
    columns = (
        Column("kind", "part"),
        Column("seconds", "time", "ms", MILLI, ".1f"),
        Column("share", spec=".1%"),
        Column("limit", "at best", "ms", MILLI, ".1f"),
        Column("speed", "of peak", spec=".0%"),
    )
    values = tuple((row.kind, row.seconds, row.share, row.limit, row.speed) for row in rows)
    wall = _mean_of_medians(traces, lambda trace: trace.wall)
    total = ("the step under the profiler", wall, 1.0, sum(row.limit for row in rows), None)
    rates = ", ".join(f"{rate / GIGA:.0f} GB/s on {size / MIB:g} MiB" for size, rate in machine.bandwidths)
    num_steps = sum(map(len, traces))
    notes = (
        f"Medians of {num_steps} steps of {len(traces)} path{'s' * (len(traces) > 1)}. A step without a profiler: "
        f"{milliseconds(undisturbed.wall)} ms; of one image: {milliseconds(undisturbed.one_image)} ms. Of it Python's "
        f"thread computes {milliseconds(undisturbed.python)} ms, beside operators; a batch reaches the engine in "
        f"{milliseconds(undisturbed.transfer)} ms, before the step.",
        f"Page faults: {undisturbed.faults:,.0f} a step, at {machine.fault * 1e6:.1f} us each "
        f"{milliseconds(undisturbed.faults * machine.fault)} ms; the system's own time in a step: "
        f"{milliseconds(undisturbed.system)} ms. They lie in the parts whose memory is new.",
        f"Peak: {machine.peak / GIGA:.0f} GFLOP/s (a product of matrices). Copies: {rates}.",
        *([f"Other operators: {', '.join(_others(traces))}."] if _others(traces) else []),
    )
    return Table("", columns, values, notes, totals=(total,))


if __name__ == "__main__":
    sys.exit(run_program(main))
