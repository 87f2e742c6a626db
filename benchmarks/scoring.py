"""Time of scoring one batch by a candidate whose statistics are known: plain, the extracted subnet, ours and PyTorch.

    OMP_NUM_THREADS=2 python -m benchmarks.scoring --torch-python PATH/TO/python
    OMP_NUM_THREADS=1 python -m benchmarks.scoring --input-size 32 --batch-size 64

One candidate, random weights, images in memory. Every way has updated the statistics on the same batch before, which is
not timed, and must then give the same logits.

plain    channel masks, imperative, with BatchNorm
subnet   extracted, hybridized, with BatchNorm
ours     what a search does (spos/execution/scored.py), BatchNorm folded
PyTorch  a path of the supernet with BatchNorm; and a subnet of its own, with BatchNorm folded into the convolutions
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from benchmarks.bn_update import TOLERANCE, Logits, OurUpdate, PlainUpdate, SubnetUpdate
from benchmarks.measure import (
    OTHER,
    OURS,
    PLAIN,
    PYTORCH,
    OutputOptions,
    Result,
    Row,
    Way,
    check_close,
    rows_of,
    take_turns,
)
from benchmarks.plain import clip_and_divide
from benchmarks.supernet_step import make_space
from benchmarks.torch_process import NETWORK, WITHOUT, TorchOptions, TorchProcess
from benchmarks.training import Problem, TrainingOptions, described, make_problem
from spos.core.flags import OneLineParser, flag, pick, positive, run_program
from spos.deploy.subnet import DeployedSubnet, merge_batch_norm
from spos.engine.compat import mx
from spos.space.architecture import Architecture
from spos.space.flags import SpaceOptions

FOLDED = "folded"  # key of PyTorch's second network
TORCH_NETWORKS = {"PyTorch, slice": NETWORK, "PyTorch, BatchNorm folded": FOLDED}


@dataclass(frozen=True)
class ScoringOptions(TrainingOptions):
    """What to measure."""

    rounds: int = flag(11, "counted batches of every way", type=positive)
    warm_up: int = flag(2, "batches of every way that are not counted", type=positive)


GROUPS = (ScoringOptions, SpaceOptions, TorchOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options, flags, torch, output = (pick(group, args) for group in GROUPS)
    output.check()
    space = make_space(options.input_size, options.classes, flags)
    architecture = space.sample(np.random.default_rng(options.seed))
    problem = make_problem(space, options)
    notes: List[str] = []
    extra: Dict[str, Any] = {}
    if torch.torch_python:
        with TorchProcess(torch.torch_python) as process:
            rows = measure(problem, architecture, options, process, notes)
            process.check_idle()
            extra = {"torch": process.version, "idle_cpu": process.idle_shares()}
    else:
        rows = measure(problem, architecture, options, None, notes)
        notes.append(WITHOUT)
    about = {**described(options, flags, space), "architecture": str(architecture)}
    Result("scoring", f"a batch of {options.batch_size}", about, rows, notes, extra).report(output)
    return 0


def measure(
    problem: Problem,
    architecture: Architecture,
    options: ScoringOptions,
    torch: Optional[TorchProcess],
    notes: List[str],
) -> List[Row]:
    """Rows of all ways; what was compared before is added to the notes."""
    images = mx.nd.array(problem.images)
    subnet = SubnetUpdate(problem).update(architecture, [images])
    values = {name: value.data().asnumpy() for name, value in subnet._collect_params_with_prefix().items()}
    subnet.hybridize()
    ways: Dict[str, Callable[[Any], Any]] = {
        "plain: masks, imperative": plain_path(problem, architecture, images),
        "the extracted subnet, hybridized": subnet,
        "ours": OurUpdate(problem).update(architecture, [images]).logits,
    }
    timed = [
        Way(name, role, partial(_run, forward, images))
        for (name, forward), role in zip(ways.items(), (PLAIN, OTHER, OURS))
    ]
    logits: Dict[str, Logits] = {name: forward(images).asnumpy() for name, forward in ways.items()}
    if torch:
        load_torch(torch, problem, DeployedSubnet(problem.space, architecture, values))
        for name, key in TORCH_NETWORKS.items():
            logits[name] = torch.logits(architecture, key)
            timed.append(Way(name, PYTORCH, partial(torch.seconds, "infer", key=key), True))
    (_, expected), *others = logits.items()
    for name, found in others:
        difference = check_close(expected, found, TOLERANCE, f"logits of plain and {name}")
        notes.append(f"{name}: logits within {difference:.0e} of plain's.")
    rounds = [architecture] * (options.warm_up + options.rounds)
    rng = np.random.default_rng(options.seed)
    return rows_of(timed, take_turns(timed, rounds, options.warm_up, rng, twice=True))


def plain_path(problem: Problem, architecture: Architecture, images: Any) -> Callable[[Any], Any]:
    """The path of the supernet by masks, whose statistics are those of these images."""
    plain = PlainUpdate(problem)
    plain.update(architecture, [images], momentum=0.0)

    def logits(batch: Any) -> Any:
        with clip_and_divide():
            return plain.net(batch, architecture)

    return logits


def load_torch(torch: TorchProcess, problem: Problem, subnet: DeployedSubnet) -> None:
    """A supernet, whose statistics are updated there, and the subnet with them, BatchNorm folded."""
    torch.load(problem.space, problem.arrays, is_supernet=True)
    torch.give_data(problem.images[None], problem.labels)
    torch.seconds("update_batch_norm", subnet.architecture, key=NETWORK, execution="slice")
    torch.load(problem.space, merge_batch_norm(subnet).arrays, is_supernet=False, bn=False, key=FOLDED)


def _run(forward: Callable[[Any], Any], images: Any, architecture: Architecture) -> None:
    forward(images).wait_to_read()


if __name__ == "__main__":
    sys.exit(run_program(main))
