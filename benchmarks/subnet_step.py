"""Time of a training step of a subnet: plain, ours and PyTorch, in turns.

    OMP_NUM_THREADS=2 python -m benchmarks.subnet_step --architecture oneshot-s+ --torch-python PATH/TO/python

The plain subnet is hybridized, as a user would do it. Before, one step of each way must give the same loss and the same
changes of all parameters and statistics.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from typing import List, Optional

from benchmarks.measure import OTHER, OURS, PLAIN, OutputOptions, Result
from benchmarks.torch_process import TorchOptions
from benchmarks.training import MXNetWay, TrainingOptions, make_problem, measure, options_json, our_step, plain_step
from spos.core.flags import OneLineParser, pick, run_program
from spos.space.flags import ArchitectureOptions, SpaceOptions, fit, named_architecture

WAYS = (
    MXNetWay("plain: hybridized, whole parameters", PLAIN, plain_step, hybridize={}),
    MXNetWay("plain, imperative", OTHER, plain_step),
    MXNetWay("ours", OURS, our_step),
)
TORCH_EXECUTIONS = ("slice",)  # there is nothing to slice
DEFAULT = "oneshot-s+"
GROUPS = (TrainingOptions, ArchitectureOptions, SpaceOptions, TorchOptions, OutputOptions)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options, named, space_options, torch, output = (pick(group, args) for group in GROUPS)
    output.check()
    record = named_architecture(named, space_options) or named_architecture(ArchitectureOptions(DEFAULT), space_options)
    space = fit(record.space, space_options, options.input_size, options.classes)
    problem = make_problem(space, options, record.architecture)
    architectures = [record.architecture] * (options.warm_up + options.rounds)
    rows, notes, extra = measure(WAYS, TORCH_EXECUTIONS, problem, architectures, options, torch)
    described = {**options_json(options), "architecture": str(record.architecture)}
    Result("subnet_step", "a step", described, rows, notes, extra).report(output)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
