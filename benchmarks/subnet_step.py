"""Time of a training step of a subnet: plain, ours and PyTorch, in turns.

    OMP_NUM_THREADS=2 python -m benchmarks.subnet_step --architecture oneshot-s+ --torch-python PATH/TO/python
    OMP_NUM_THREADS=2 python -m benchmarks.subnet_step --space nas-bench-macro --batch-size 64

Without an architecture it is oneshot-s+, or one drawn from the space of the flags, if they name one. The plain subnet
is hybridized, as a user would do it. Before, one step of each way must give the same loss and the same changes of all
parameters and statistics.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from typing import List, Optional, Tuple

import numpy as np

from benchmarks.measure import OURS, PLAIN, OutputOptions, Result
from benchmarks.supernet_step import make_space, name_a_space
from benchmarks.torch_process import TorchOptions
from benchmarks.training import (
    BY_GRAPHS,
    MXNetWay,
    TrainingOptions,
    described,
    make_problem,
    measure,
    our_step,
    plain_step,
)
from spos.core.flags import OneLineParser, pick, run_program
from spos.space.architecture import Architecture
from spos.space.flags import ArchitectureOptions, SpaceOptions, fit, named_architecture
from spos.space.space import SearchSpace

WAYS = (
    MXNetWay("plain: hybridized, whole parameters", PLAIN, plain_step, hybridize={}),
    BY_GRAPHS,
    MXNetWay("ours", OURS, our_step),
)
TORCH_EXECUTIONS = ("slice",)  # there is nothing to slice
DEFAULT = "oneshot-s+"
GROUPS = (TrainingOptions, ArchitectureOptions, SpaceOptions, TorchOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options, named, flags, torch, output = (pick(group, args) for group in GROUPS)
    output.check()
    space, architecture = find_subnet(options, named, flags)
    problem = make_problem(space, options, architecture)
    architectures = [architecture] * (options.warm_up + options.rounds)
    rows, notes, extra = measure(WAYS, TORCH_EXECUTIONS, problem, architectures, options, torch)
    about = {**described(options, flags, space), "architecture": str(architecture)}
    Result("subnet_step", "a step", about, rows, notes, extra).report(output)
    return 0


def find_subnet(
    options: TrainingOptions, named: ArchitectureOptions, flags: SpaceOptions
) -> Tuple[SearchSpace, Architecture]:
    """The named one; without a name DEFAULT, or one drawn from the space of the flags."""
    if name_a_space(flags) and named == ArchitectureOptions():
        space = make_space(options.input_size, options.classes, flags)
        return space, space.sample(np.random.default_rng(options.seed))
    record = named_architecture(named, flags) or named_architecture(ArchitectureOptions(DEFAULT), flags)
    return fit(record.space, flags, options.input_size, options.classes), record.architecture


if __name__ == "__main__":
    sys.exit(run_program(main))
