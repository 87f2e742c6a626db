"""Time of a training step of the supernet: plain, ours and PyTorch, in turns.

    OMP_NUM_THREADS=2 python -m benchmarks.supernet_step --torch-python PATH/TO/python

Blocks uniform, channel scales 0.6 to 2.0, squeeze-and-excite, last conv after pooling. Every step trains a new
architecture, the same for all ways. Before, one step of each must give the same loss and the same changes of everything
that the architecture selects. Ours has compiled the graphs of these architectures before, as a training of many
thousand steps finds them.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from dataclasses import replace
from typing import List, Optional

import numpy as np

from benchmarks.measure import OTHER, OutputOptions, Result
from benchmarks.torch_process import TorchOptions
from benchmarks.training import (
    OUR_SUPERNET,
    PLAIN_SUPERNET,
    TrainingOptions,
    make_problem,
    measure,
    options_json,
)
from spos.core.flags import OneLineParser, pick, run_program
from spos.space.layers import stride_plan
from spos.space.space import STABLE_CHANNEL_CHOICE, SearchSpace
from spos.space.space_file import search_space

WAYS = (PLAIN_SUPERNET, replace(OUR_SUPERNET, name="ours, but by masks", role=OTHER, execution="mask"), OUR_SUPERNET)
TORCH_EXECUTIONS = ("slice", "mask")
GROUPS = (TrainingOptions, TorchOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    options, torch, output = (pick(group, OneLineParser(__doc__, GROUPS).parse_args(argv)) for group in GROUPS)
    output.check()
    space = make_space(options.input_size, options.classes)
    rng = np.random.default_rng(options.seed)
    architectures = [space.sample(rng) for _ in range(options.warm_up + options.rounds)]
    problem = make_problem(space, options)
    rows, notes, extra = measure(WAYS, TORCH_EXECUTIONS, problem, architectures, options, torch)
    Result("supernet_step", "a step", options_json(options), rows, notes, extra).report(output)
    return 0


def make_space(input_size: int, classes: int) -> SearchSpace:
    """The space of OneShot-S+ without the two narrowest scales."""
    return search_space(
        use_se=True,
        last_conv_after_pooling=True,
        min_channel_choice=STABLE_CHANNEL_CHOICE,
        input_size=input_size,
        strides=stride_plan(input_size),
        num_classes=classes,
    )


if __name__ == "__main__":
    sys.exit(run_program(main))
