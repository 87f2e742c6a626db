"""What the layers of a block must be to fit their place."""

from dataclasses import replace

import pytest

from spos.core.errors import InputError
from spos.space.blocks import WIRINGS, BlockLayers, ChoiceBlockGeometry
from spos.space.checks import check_layers
from spos.space.layers import Conv, GlobalPool, SqueezeExcite, depthwise
from spos.space.space_file import load_space

PLACE = ChoiceBlockGeometry(0, 0, 16, 16, 1, False, False, "relu", 8)
CHANGES = replace(PLACE, out_channels=32, stride=2, projects=True)


@pytest.mark.parametrize("place", (PLACE, CHANGES), ids=("keeps", "changes"))
def test_branches_fit_their_place(place):
    """Each wiring, as it is described and with its BatchNorm folded."""
    main = (Conv(16, 24, 3, place.stride, act="relu", selects=True), Conv(24, place.out_channels))
    projection = () if place.keeps_shape else (Conv(16, place.out_channels, 1, place.stride),)
    for layers in (BlockLayers("chain", main), BlockLayers("residual", main, projection, "relu6")):
        check_layers(place, layers)
        assert layers.middle == 24 and not layers.shuffles
        assert all(not spec.bn and spec.bias for _, branch in layers.without_bn().branches for spec in branch)
    assert set(WIRINGS) == {"shuffle", "residual", "chain"}


IN, OUT = Conv(16, 24, selects=True), Conv(24, 16)


@pytest.mark.parametrize(
    "layers, message",
    (
        ([IN, OUT], "describes itself by list"),
        (BlockLayers("parallel", (IN, OUT)), "has the wiring 'parallel'; known: shuffle, residual, chain"),
        (BlockLayers("chain", [IN, OUT]), "has a main_branch of type list"),
        (
            BlockLayers("chain", (IN, OUT), act="relu"),
            "has the activation relu behind a sum, and its wiring 'chain' has",
        ),
        (BlockLayers("residual"), "has no main branch, which its wiring 'residual' needs"),
        (BlockLayers("residual", (IN, OUT), act="gelu"), "the sum has the activation 'gelu'; known: relu"),
        (BlockLayers("chain", (IN, Conv(24, 16, act="swish"))), "layer 1 has the activation 'swish'"),
        (BlockLayers("chain", (IN, Conv(24, 16, bias=True))), "layer 1 has a bias, which its BatchNorm takes away"),
        (BlockLayers("chain", (IN, Conv(23, 16))), "layer 1 reads 23 channels, 24 come in"),
        (BlockLayers("chain", (IN, Conv(24, 20))), "gives 20 channels of 8 x 8 but 16 of 8 x 8 are due"),
        (BlockLayers("chain", (IN, Conv(24, 16, 1, 2))), "gives 16 channels of 4 x 4 but 16 of 8 x 8"),
        (
            BlockLayers("chain", (IN, Conv(24, 16, 4))),
            "layer 1 has kernel 4, stride 1 and 16 channels; it needs an odd",
        ),
        (BlockLayers("chain", (IN, Conv(24, 16, 1, 3))), "stride 3"),
        (BlockLayers("chain", (Conv(16, 0, selects=True), OUT)), "and 0 channels"),
        (BlockLayers("chain", (IN, GlobalPool(24), OUT)), "layer 1 is a global pooling"),
        (BlockLayers("chain", (IN, "pool", OUT)), "layer 1 is str"),
        (BlockLayers("chain", (IN, SqueezeExcite(16), OUT)), "squeeze-and-excite of 16 channels, 24 come in"),
        (BlockLayers("chain", (IN, SqueezeExcite(24), OUT)), "needs a width `squeezed` of its own"),
        (BlockLayers("chain", (IN,)), "gives 24 channels"),
        (BlockLayers("chain", (Conv(16, 16, selects=True),)), "its middle reaches the end"),
        (
            BlockLayers("chain", (Conv(16, 24, bn=False, selects=True), OUT)),
            "layer 0 is of the middle: it needs BatchNorm",
        ),
        (BlockLayers("chain", (IN, Conv(24, 12, selects=True), Conv(12, 16))), "the same width as the others"),
        (BlockLayers("chain", (IN, Conv(24, 24, 3, groups=4, selects=True), OUT)), "layer 1 has groups in the middle"),
        (BlockLayers("chain", (IN, depthwise(24, 3, 1), OUT)), "layer 1 has groups in the middle"),
        (BlockLayers("chain", (IN, OUT), (Conv(16, 16),)), "is a chain, and yet has a projection"),
        (BlockLayers("residual", (IN, OUT), (Conv(16, 8),)), "adds branches of different shapes"),
        (BlockLayers("shuffle", (Conv(16, 8),), (Conv(16, 8, 1, 2),)), "has branches of different sizes"),
    ),
)
def test_layers_that_cannot_be_are_refused(layers, message):
    with pytest.raises(InputError, match=message):
        check_layers(PLACE, layers)


def test_a_shuffle_needs_an_even_number_and_the_shape_of_its_input():
    layers = BlockLayers("shuffle", (Conv(8, 8),))
    check_layers(PLACE, layers)
    assert layers.shuffles and layers.middle == 0
    for place in (replace(PLACE, in_channels=15, out_channels=15), CHANGES):
        with pytest.raises(InputError, match="it needs an even number, stride 1, and as many going out"):
            check_layers(place, layers)


def test_every_block_of_the_spaces_that_ship_passes():
    for name in ("tiny", "mobilenet", "small"):
        space = load_space(name)
        for block in space.choice_blocks:
            for b, c in space.pairs(block.index, 0):
                check_layers(block, space.block_layers(block.index, b, c))
