"""Spaces whose networks others have counted: NAS-Bench-Macro and MobileNetV2, to the last digit."""

import json

import pytest
from conftest import SHARED

from spos.space.architecture import Architecture
from spos.space.cost import cost_table, count_architecture
from spos.space.space_file import load_space

MACRO = load_space("nas-bench-macro")
# Rows of the published table (arXiv:2103.11922): block choices, FLOPs, params.
ROWS = (
    ("00000000", 7_713_280, 387_882),
    ("22222222", 105_660_928, 2_932_586),
    ("02012100", 47_327_744, 890_666),
    ("11111221", 65_012_224, 2_181_386),
    ("00011110", 31_390_208, 1_118_378),
    ("10000000", 12_128_768, 396_298),
    ("00200000", 17_240_576, 464_554),
    ("00000001", 14_115_328, 791_594),
)


def of_digits(digits):
    return Architecture(tuple(map(int, digits)), (0,) * len(digits))


@pytest.mark.parametrize("digits, flops, params", ROWS)
def test_rows_of_nas_bench_macro(digits, flops, params):
    assert count_architecture(MACRO, of_digits(digits)) == (flops, params)


def test_the_ends_of_nas_bench_macro_are_its_smallest_and_largest_rows():
    assert [tuple(end) for end in cost_table(MACRO).range()] == [row[1:] for row in ROWS[:2]]


def test_every_network_of_nas_bench_macro():
    file = SHARED / "data" / "nas_bench" / "nas_bench_macro_cifar10.json"
    if not file.is_file():
        pytest.skip("needs nas_bench in ../shared/data")
    published = json.loads(file.read_text("utf-8"))
    assert len(published) == MACRO.num_architectures == 6561
    differing = {
        digits: row
        for digits, row in published.items()
        if count_architecture(MACRO, of_digits(digits)) != (row["flops"], row["params"])
    }
    assert differing == {}


def test_mobilenetv2():
    """Params of torchvision's model; multiply-adds of convolutions and the classifier."""
    space = load_space("mobilenetv2")
    assert space.num_architectures == 1
    blank = (0,) * space.num_choice_blocks
    assert count_architecture(space, Architecture(blank, blank)) == (300_774_272, 3_504_872)
