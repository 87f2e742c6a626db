"""Time of a candidate's BatchNorm update: plain, the extracted subnet, ours and PyTorch, in turns.

    OMP_NUM_THREADS=2 python -m benchmarks.bn_update --torch-python PATH/TO/python
    OMP_NUM_THREADS=2 python -m benchmarks.bn_update --space mobilenet

One candidate, random weights, images in memory. Each way begins with the supernet's weights; what a search keeps from
one candidate to the next is made before, so the first rounds are not counted. Before, the statistics of one batch of
each way must give the same logits; with several batches, moving averages are other numbers than pooled moments.

plain    channel masks, imperative, moving averages, which MXNet updates on a CPU in backward
subnet   extracted, hybridized, moments pooled (spos/engine/batch_norm.py)
ours     what a search does (spos/execution/scored.py)
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from benchmarks.measure import OTHER, OURS, PLAIN, PYTORCH, OutputOptions, Result, Way, check_close, rows_of, take_turns
from benchmarks.plain import clip_and_divide, update_by_backward
from benchmarks.supernet_step import make_space
from benchmarks.torch_process import NETWORK, WITHOUT, TorchOptions, TorchProcess
from benchmarks.training import Problem, TrainingOptions, described, make_problem
from oneshot_nas_network import Supernet
from spos.core.flags import OneLineParser, flag, pick, positive, run_program
from spos.deploy.parity import random_images
from spos.engine.batch_norm import MOMENTUM, recalibrate_batch_norm
from spos.engine.compat import mx
from spos.execution.scored import PathExecutor
from spos.space.architecture import Architecture
from spos.space.flags import SpaceOptions

TOLERANCE = 1e-2  # of the logits: random weights multiply rounding, layer after layer
TORCH_EXECUTIONS = ("slice", "mask")
Logits = np.ndarray


@dataclass(frozen=True)
class UpdateOptions(TrainingOptions):
    """What to measure."""

    batches: int = flag(8, "batches of an update (a search: 1,250 of 16)", type=positive)
    rounds: int = flag(7, "counted updates of every way", type=positive)
    warm_up: int = flag(1, "updates of every way that are not counted", type=positive)


GROUPS = (UpdateOptions, SpaceOptions, TorchOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options, flags, torch, output = (pick(group, args) for group in GROUPS)
    output.check()
    space = make_space(options.input_size, options.classes, flags)
    architecture = space.sample(np.random.default_rng(options.seed))
    problem = make_problem(space, options)
    images = np.stack([random_images(space.input_size, options.batch_size, i) for i in range(options.batches)])
    notes: List[str] = []
    if torch.torch_python:
        with TorchProcess(torch.torch_python) as process:
            rows = measure(problem, images, architecture, options, process, notes)
            process.check_idle()
            extra: Dict[str, Any] = {"torch": process.version, "idle_cpu": process.idle_shares()}
    else:
        rows, extra = measure(problem, images, architecture, options, None, notes), {}
        notes.append(WITHOUT)
    about = {**described(options, flags, space), "architecture": str(architecture)}
    unit = f"an update on {options.batches * options.batch_size} images"
    Result("bn_update", unit, about, rows, notes, extra).report(output)
    return 0


def measure(
    problem: Problem,
    images: np.ndarray,
    architecture: Architecture,
    options: UpdateOptions,
    torch: Optional[TorchProcess],
    notes: List[str],
) -> List[Any]:
    """Rows of all ways; what was compared before is added to the notes."""
    ways = {
        ("plain: masks, imperative, moving averages by backward", PLAIN): PlainUpdate(problem),
        ("the extracted subnet, hybridized", OTHER): SubnetUpdate(problem),
        ("ours", OURS): OurUpdate(problem),
    }
    batches = [mx.nd.array(batch) for batch in images]
    logits = {name: way.logits(architecture, batches[0]) for (name, _), way in ways.items()}
    timed = [Way(name, role, partial(way.update, batches=batches)) for (name, role), way in ways.items()]
    if torch:
        torch.load(problem.space, problem.arrays, is_supernet=True)
        for execution in TORCH_EXECUTIONS:
            torch.give_data(images[:1], problem.labels)
            torch.seconds("update_batch_norm", architecture, key=NETWORK, execution=execution)
            logits[f"PyTorch, {execution}"] = torch.logits(architecture)
            run = partial(torch.seconds, "update_batch_norm", key=NETWORK, execution=execution)
            timed.append(Way(f"PyTorch, {execution}", PYTORCH, run, True))
        torch.give_data(images, problem.labels)
    expected = next(iter(logits.values()))
    for name, found in list(logits.items())[1:]:
        difference = check_close(expected, found, TOLERANCE, f"logits after the update of plain and {name}")
        notes.append(f"{name}: logits after an update on one batch within {difference:.0e} of plain's.")
    rng = np.random.default_rng(options.seed)
    rounds = [architecture] * (options.warm_up + options.rounds)
    return rows_of(timed, take_turns(timed, rounds, options.warm_up, rng))


class PlainUpdate:
    """The supernet by masks; statistics are written into it."""

    def __init__(self, problem: Problem) -> None:
        self.net: Supernet = problem.network("mask")

    def update(self, architecture: Architecture, batches: Sequence[Any], momentum: float = MOMENTUM) -> None:
        update_by_backward(self.net, architecture, batches, momentum)

    def logits(self, architecture: Architecture, images: Any) -> Logits:
        self.update(architecture, [images], momentum=0.0)
        with clip_and_divide():
            return self.net(images, architecture).asnumpy()


class SubnetUpdate:
    """The extracted subnet, which a search would make for every candidate."""

    def __init__(self, problem: Problem) -> None:
        self.net: Supernet = problem.network()

    def update(self, architecture: Architecture, batches: Sequence[Any]) -> Callable:
        subnet = self.net.extract(architecture)
        recalibrate_batch_norm(subnet, ((images, None) for images in batches), None)
        mx.nd.waitall()
        return subnet

    def logits(self, architecture: Architecture, images: Any) -> Logits:
        return self.update(architecture, [images])(images).asnumpy()


class OurUpdate:
    """Compiled choice blocks on corners of the supernet's parameters."""

    def __init__(self, problem: Problem) -> None:
        self.executor = PathExecutor(problem.network(), (mx.cpu(),))

    def update(self, architecture: Architecture, batches: Sequence[Any]) -> Any:
        path = self.executor.path(architecture)
        path.update_batch_norm([(images, None)] for images in batches)
        mx.nd.waitall()
        return path

    def logits(self, architecture: Architecture, images: Any) -> Logits:
        return self.update(architecture, [images]).logits(images).asnumpy()


if __name__ == "__main__":
    sys.exit(run_program(main))
