"""Peak memory of a supernet's training and of a search, each measured in a process of its own.

    OMP_NUM_THREADS=1 python -m benchmarks.memory
    OMP_NUM_THREADS=1 python -m benchmarks.memory --part training --batch-sizes 16,64 --input-sizes 224

training  after some steps of random paths: batch, input size, and one or two CPU contexts that share the batch
search    after candidates that together use every block and channel choice of every choice block, so that nothing is
          left that a search could still keep; the images are made up and few
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import ctypes
import gc
import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from benchmarks.candidate_ways import covering
from benchmarks.inference import positive_list
from benchmarks.measure import OutputOptions, where_and_when, write_line
from benchmarks.supernet_step import make_space
from benchmarks.training import make_trainer, on_paths
from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, not_negative, pick, positive, run_program
from spos.core.tables import Column, Table, as_text
from spos.data.pixels import Pixels
from spos.engine.compat import mx
from spos.execution.scored import PathExecutor
from spos.scoring.candidate import CandidateEvaluator
from spos.space.space import SearchSpace

MIB = 2**20
NUM_CLASSES = 1000


def count_list(text: str) -> Tuple[int, ...]:
    """Integers of at least 0."""
    return tuple(not_negative(part) for part in text.split(","))


@dataclass(frozen=True)
class MemoryOptions:
    """What to measure."""

    part: str = flag("all", "what to measure", choices=("all", "training", "search"))
    batch_sizes: Tuple[int, ...] = flag((4, 16, 64), "images in a step, of all contexts together", type=positive_list)
    input_sizes: Tuple[int, ...] = flag((64, 224), "heights and widths of the input", type=positive_list)
    contexts: Tuple[int, ...] = flag((1, 2), "numbers of CPU contexts in training", type=positive_list)
    candidates: Tuple[int, ...] = flag((0, 8, 32), "candidates in a search; 32 cover the space", type=count_list)
    steps: int = flag(3, "training steps", type=positive)


@dataclass(frozen=True)
class Case:
    """One measurement.

    Args:
        number: steps of a training, candidates of a search.
    """

    part: str
    input_size: int
    batch_size: int
    contexts: int
    number: int


def main(argv: Optional[List[str]] = None) -> int:
    groups = (MemoryOptions, OutputOptions)
    parser = OneLineParser(__doc__, groups)
    parser.add_argument("--child", default="", help="a case as JSON: measure it in this process and print it")
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(measure(Case(**json.loads(args.child)))))
        return 0
    options, output = (pick(group, args) for group in groups)
    output.check()
    rows = [{**asdict(case), **in_a_child(case)} for case in cases(options)]
    line = json.dumps({"stage": "memory", "rows": rows, **where_and_when()})
    write_line(line, output)
    print(line if output.json else as_text(table(rows)))
    return 0


def cases(options: MemoryOptions) -> List[Case]:
    """What a program run measures, in the order of its table."""
    found = []
    for size in options.input_sizes:
        for batch_size in options.batch_sizes:
            if options.part != "search":
                found += [Case("training", size, batch_size, n, options.steps) for n in options.contexts]
            if options.part != "training":
                found += [Case("search", size, batch_size, 1, n) for n in options.candidates]
    return found


def in_a_child(case: Case) -> Dict[str, float]:
    """Raises: InputError with the child's last words if it fails, for example for want of memory."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", json.dumps(asdict(case))]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["it was killed; there may be too little memory"])[-1]
        raise InputError(f"{case} ended with code {done.returncode}: {words}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: Case) -> Dict[str, float]:
    """Bytes: peak of this process before the network is made, with the network, and after the work. Of a search also
    how many graphs are kept, and what memory they free when they are dropped."""
    space = make_space(case.input_size, NUM_CLASSES)
    found: Dict[str, float] = {"start": peak_bytes()}
    run = WORK[case.part](case, space, found)
    mx.nd.waitall()
    found["network"] = peak_bytes()
    run()
    mx.nd.waitall()
    found["peak"] = peak_bytes()
    return found


def prepare_training(case: Case, space: SearchSpace, found: Dict[str, float]) -> Callable[[], Any]:
    ctx = tuple(mx.cpu(i) for i in range(case.contexts))
    net = Supernet(space)
    net.initialize(ctx=list(ctx))
    rng = np.random.default_rng(0)
    trainer = on_paths(make_trainer(net, ctx, 1e-3), lambda *_: space.sample(rng))
    images = mx.nd.zeros((case.batch_size, 3, space.input_size, space.input_size))
    labels = mx.nd.zeros((case.batch_size,))

    def run() -> None:
        for step in range(case.number):
            trainer.step(images, labels, 0, step)
            mx.nd.waitall()

    return run


def prepare_search(case: Case, space: SearchSpace, found: Dict[str, float]) -> Callable[[], Any]:
    net = Supernet(space)
    net.collect_params().setattr("grad_req", "null")
    net.initialize()
    shape = (2 * case.batch_size, 3, space.input_size, space.input_size)
    pixels = Pixels(np.zeros(shape, np.uint8), np.zeros(shape[0], np.float32), (120.0,) * 3, (60.0,) * 3)

    def run() -> None:
        executor = PathExecutor(net, (mx.cpu(),))
        score = CandidateEvaluator(executor.path, pixels, pixels, case.batch_size, (mx.cpu(),))
        for architecture in covering(space)[: case.number]:
            score(architecture)
        found["graphs"] = 2 * executor.num_parts
        before = resident_bytes()
        del executor, score
        found["graphs_bytes"] = before - resident_bytes()

    return run


WORK: Mapping[str, Callable] = {"training": prepare_training, "search": prepare_search}


def peak_bytes() -> int:
    """Of this process, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    """Of this process now, without what was freed and kept for later (spos.engine.compat.keep_freed_memory)."""
    mx.nd.waitall()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def table(rows: List[Dict[str, Any]]) -> Table:
    columns = (
        Column("part"),
        Column("input_size", "size", "px"),
        Column("batch_size", "batch"),
        Column("contexts"),
        Column("number", "steps or candidates"),
        Column("graphs", "graphs kept"),
        Column("graphs_bytes", "their memory", "MiB", MIB, ",.0f"),
        Column("network", "with the network", "MiB", MIB, ",.0f"),
        Column("peak", "peak", "MiB", MIB, ",.0f"),
    )
    values = tuple(tuple(row.get(column.name) for column in columns) for row in rows)
    before = min(row["start"] for row in rows) / MIB
    return Table("", columns, values, notes=(f"Before the network, with all libraries loaded: {before:,.0f} MiB.",))


if __name__ == "__main__":
    sys.exit(run_program(main))
