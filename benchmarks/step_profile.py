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
from typing import Dict, List, Optional, Tuple

import numpy as np

from benchmarks.limits import measure_machine, path_works, shortest_times
from benchmarks.measure import OutputOptions, write_line
from benchmarks.step_shares import Profile, Undisturbed
from benchmarks.step_trace import StepTrace, read_kernels, read_operators, trace_of
from benchmarks.supernet_step import make_space
from benchmarks.training import BY_GRAPHS, LR, Problem, Step, TrainingOptions, make_problem, options_json
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, not_negative, pick, positive, run_program
from spos.core.tables import as_text
from spos.engine.compat import mx, num_threads
from spos.space.architecture import Architecture
from spos.space.flags import ArchitectureOptions, SpaceOptions, fit, named_architecture, with_strides
from spos.space.space import SearchSpace

COMMAND = sys.executable, "-m", "benchmarks.step_profile"  # of the child
TRACE_FILE, STEPS_FILE = "trace.json", "steps.json"
VERBOSE = {"DNNL_VERBOSE": "1", "DNNL_VERBOSE_TIMESTAMP": "1"}


@dataclass(frozen=True)
class ProfileOptions:
    """Of which network."""

    architecture: str = flag("", "published name or architecture file of a subnet; the supernet without it")
    strides: str = flag("", "stride plan: stem, then each stage, e.g. 2,2,2,2,2 (empty: by input size)")
    paths: int = flag(4, "architectures of the supernet, in turns", type=positive)
    details: int = flag(0, "also show so many operators and kernels, the longest first", type=not_negative)


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
        """A step by MXNet's graphs, all compiled: its trace knows nothing of native kernels."""
        _, step = BY_GRAPHS.start(self.problem, LR)
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
    space, batch_size = case.problem.space, options.batch_size
    limits = [shortest_times(path_works(space, one, batch_size), machine) for one in case.architectures]
    profile = Profile(traces, limits, undisturbed, machine)
    line = json.dumps({"stage": "step_profile", "options": options_json(options, chosen), **profile.to_json()})
    write_line(line, output)
    print(line if output.json else "\n\n".join(map(as_text, profile.tables(chosen.details))))
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
    flags = options_json(options, chosen)
    command = list(COMMAND)
    for name, value in flags.items():
        if value not in ("", None):
            command += [f"--{name.replace('_', '-')}", str(value)]
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
    problem, images = case.problem, case.problem.images
    wall, waited, python, system, faults = _typical_step(case, options)
    one_image = replace(case, problem=replace(problem, images=images[:1], labels=problem.labels[:1]))
    transfer = float(np.median([_seconds_of_transfer(images) for _ in range(options.rounds)]))
    return Undisturbed(wall, waited, python, system, faults, _typical_step(one_image, options)[0], transfer)


def _typical_step(case: Case, options: TrainingOptions) -> Tuple[float, ...]:
    """The first five fields of `Undisturbed`."""
    step = case.ready_step()
    steps: List[List[Tuple[float, ...]]] = [[] for _ in case.architectures]
    for number in range(options.warm_up + options.rounds):
        for own, architecture in zip(steps, case.architectures):
            threads, before = thread_times(), _clocks()
            step(architecture)
            wall, computed, *others = (after - old for after, old in zip(_clocks(), before))
            waited = _wait_of_busiest(threads, thread_times())
            if number >= options.warm_up:
                own.append((min(wall - waited, computed), waited, *others))
    return tuple(np.mean([np.median(own, axis=0) for own in steps], axis=0).tolist())


def _clocks() -> Tuple[float, ...]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), time.process_time(), time.thread_time(), used.ru_stime, used.ru_minflt


ThreadTimes = Dict[str, Tuple[float, float]]


def thread_times() -> ThreadTimes:
    """For each thread of this process the seconds in which it ran, and in which it waited for a processor (Linux)."""
    times = {}
    for stat in Path("/proc/self/task").glob("*/schedstat"):
        ran, waited, _ = stat.read_text(encoding="ascii").split()
        times[stat.parent.name] = int(ran) / 1e9, int(waited) / 1e9
    return times


def _wait_of_busiest(before: ThreadTimes, after: ThreadTimes) -> float:
    """What the thread that ran longest meanwhile has waited."""
    passed = [
        tuple(new - old for new, old in zip(times, before.get(thread, (0.0, 0.0)))) for thread, times in after.items()
    ]
    return max(passed)[1]


def _seconds_of_transfer(images: np.ndarray) -> float:
    start = time.perf_counter()
    mx.nd.array(images).wait_to_read()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(run_program(main))
