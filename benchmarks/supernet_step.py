"""Time of a training step of the supernet: plain, ours and PyTorch, in turns.

    OMP_NUM_THREADS=2 python -m benchmarks.supernet_step --torch-python PATH/TO/python
    OMP_NUM_THREADS=1 python -m benchmarks.supernet_step --input-size 32 --batch-size 64
    OMP_NUM_THREADS=2 python -m benchmarks.supernet_step --space nas-bench-macro --batch-size 64

Without flags of a space it is that of OneShot-S+: channel scales 0.6 to 2.0, squeeze-and-excite, last conv after
pooling. Choices are drawn uniformly. Every step trains a new architecture, the same for all ways. Before, one
step of each must give the same loss and the same changes of everything that the architecture selects. Ours has
compiled the graphs of these architectures before, as a training of many thousand steps finds them.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from dataclasses import replace
from typing import List, Optional

import numpy as np

from benchmarks.measure import OutputOptions, Result
from benchmarks.torch_process import TorchOptions
from benchmarks.training import (
    BY_GRAPHS,
    OUR_SUPERNET,
    PLAIN_SUPERNET,
    TrainingOptions,
    described,
    make_problem,
    measure,
)
from spos.core.flags import OneLineParser, pick, run_program
from spos.space.flags import SpaceOptions, fit, space_of
from spos.space.space import SearchSpace

WAYS = PLAIN_SUPERNET, BY_GRAPHS, OUR_SUPERNET
TORCH_EXECUTIONS = ("slice", "mask")
GROUPS = (TrainingOptions, SpaceOptions, TorchOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options, flags, torch, output = (pick(group, args) for group in GROUPS)
    output.check()
    space = make_space(options.input_size, options.classes, flags)
    rng = np.random.default_rng(options.seed)
    architectures = [space.sample(rng) for _ in range(options.warm_up + options.rounds)]
    problem = make_problem(space, options)
    rows, notes, extra = measure(WAYS, TORCH_EXECUTIONS, problem, architectures, options, torch)
    Result("supernet_step", "a step", described(options, flags, space), rows, notes, extra).report(output)
    return 0


def make_space(input_size: Optional[int], classes: Optional[int], flags: Optional[SpaceOptions] = None) -> SearchSpace:
    """The space of the flags for such images, or for its own.

    Without flags it is that of OneShot-S+ without the two narrowest scales. Where the input size is a choice and none
    is said, it is the largest.
    """
    flags = flags or SpaceOptions()
    if not name_a_space(flags):
        flags = replace(flags, use_se=True, last_conv_after_pooling=True, ignore_first_two_cs=True)
    space = fit(space_of(flags), flags, input_size, classes)
    return space.at(space.input_size)


def name_a_space(flags: SpaceOptions) -> bool:
    """Whether flags say more than a stride plan and where blocks are described."""
    return replace(flags, strides="", blocks="") != SpaceOptions()


if __name__ == "__main__":
    sys.exit(run_program(main))
