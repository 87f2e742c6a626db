"""Spaces whose input size is a choice, for tests."""

from dataclasses import replace
from itertools import product

from conftest import TINY
from sampling_tests import test_exact

from spos.space.architecture import Architecture
from spos.space.space_file import parse_space

SIZED = replace(TINY, input_sizes=(12, 16))  # 4 choice blocks of 40 choices
FEW = replace(test_exact.TINY, input_sizes=(24, 32))  # 2 x (4 x 3)^2 = 288 architectures
FEW = replace(FEW, stages=(replace(FEW.stages[0], num_blocks=1), FEW.stages[1]))
FILE = {
    "schema": 1,
    "name": "sized",
    "input_sizes": [24, 32],
    "num_classes": 10,
    "stem": {"channels": 8, "stride": 2},
    "blocks": {
        "A": {"kind": "mbconv", "kernel_size": 3, "expand": 2},
        "B": {"kind": "shuffle", "kernel_size": 5},
        "I": {"kind": "identity"},
    },
    "channel_scales": [0.5, 1.0],
    "stages": [{"num_blocks": 2, "out_channels": 16, "stride": 2}, {"num_blocks": 2, "out_channels": 32, "stride": 2}],
    "head": {"before_pooling": 32},
}
DIGITS = parse_space(FILE, "sized.json")


def everything(space):
    """Every architecture at every input size."""
    places = [space.pairs(index) for index in range(space.num_choice_blocks)]
    return [Architecture(*zip(*pairs), size) for size in space.input_sizes or (None,) for pairs in product(*places)]
