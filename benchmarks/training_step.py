"""Time of a supernet training step by slice, by slice without the matrix form of depthwise convolutions, and by mask.

The variants take turns on the same architectures, so a machine whose speed drifts does not favour one.

    python -m benchmarks.training_step --input-size 32 --batch-size 64 --steps 10
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from typing import Any, Dict, List, Optional

import numpy as np

from oneshot_nas_network import Supernet
from spos import depthwise, trainer
from spos.command_line import OneLineParser, positive, run_program
from spos.compat import mx
from spos.losses import Objective
from spos.path_trainer import PathTrainer, make_optimizer
from spos.search_space import Architecture, SearchSpace, search_space
from spos.strategies import UniformStrategy

VARIANTS = {"slice": ("slice", True), "slice, plain depthwise": ("slice", False), "mask": ("mask", True)}
MATRIX_MAX_SIZE = depthwise.MATRIX_MAX_SIZE


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    for name, default in (("--input-size", 32), ("--batch-size", 64), ("--steps", 10)):
        parser.add_argument(name, type=positive, default=default)
    args = parser.parse_args(argv)
    space = search_space(use_se=True, last_conv_after_pooling=True, num_classes=10)
    space = replace(space, input_size=args.input_size)
    times = measure(space, args.batch_size, args.steps)
    base = np.median(times["slice"])
    for name, seconds in times.items():
        median = np.median(seconds)
        print(
            f"{name:24s} median {median:.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})  {median / base:.2f} x slice"
        )
    return 0


def measure(space: SearchSpace, batch_size: int, steps: int) -> Dict[str, List[float]]:
    """Seconds of every counted step of every variant; the first two steps of each are not counted."""
    rng = np.random.default_rng(0)
    images = mx.nd.random.normal(shape=(batch_size, 3, space.input_size, space.input_size))
    labels = mx.nd.array(np.arange(batch_size) % space.num_classes)
    jobs = {name: make_job(space, execution) for name, (execution, _) in VARIANTS.items()}
    times: Dict[str, List[float]] = {name: [] for name in VARIANTS}
    for step in range(steps + 2):
        strategy = UniformStrategy(partial(_always, space.sample(rng)))
        for name, (_, matrices) in VARIANTS.items():
            depthwise.MATRIX_MAX_SIZE = MATRIX_MAX_SIZE if matrices else 0
            jobs[name].strategy = strategy
            start = time.perf_counter()
            trainer.train_step(jobs[name], images, labels, 0, step)
            mx.nd.waitall()
            if step >= 2:
                times[name].append(time.perf_counter() - start)
    return times


def _always(architecture: Architecture, *_: object) -> Architecture:
    return architecture


def make_job(space: SearchSpace, execution: str) -> Any:
    """A training job on a fresh supernet, without data and without end."""
    net = Supernet(space, execution)
    net.initialize()
    return trainer.TrainingJob(
        net=net,
        trainer=PathTrainer(net, make_optimizer(0.05, 0.9, 3e-5, "float32"), no_wd=True),
        loader=None,
        objective=Objective(space.num_classes, 0.1),
        schedule=lambda step: 0.05,
        num_epochs=1,
        ctx=(mx.cpu(),),
        run="",
    )


if __name__ == "__main__":
    sys.exit(run_program(main))
