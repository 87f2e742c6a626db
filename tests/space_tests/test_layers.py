"""Layers as data: sizes along chains, squeeze-and-excite as convolutions, BatchNorm folded."""

import pytest

from spos.space.layers import (
    Conv,
    Dropout,
    GlobalPool,
    SqueezeExcite,
    conv_size,
    depthwise,
    fold_batch_norm,
    out_size,
    round_up,
    squeezed_channels,
    with_bn,
    with_sizes,
)

CHAIN = (Conv(3, 8, 3, 2, act="relu"), depthwise(8, 5, 2), SqueezeExcite(8), Conv(8, 16), GlobalPool(16), Dropout(0.1))


@pytest.mark.parametrize("value, multiple, expected", ((0, 8, 0), (1, 8, 8), (8, 8, 8), (9, 8, 16), (7, 1, 7)))
def test_rounding_is_upwards(value, multiple, expected):
    assert round_up(value, multiple) == expected


@pytest.mark.parametrize("kernel_size", (1, 3, 5, 7))
@pytest.mark.parametrize("stride", (1, 2))
def test_sizes_are_those_of_a_convolution_padded_by_half_its_kernel(kernel_size, stride):
    for size in range(1, 20):
        padded = size + 2 * (kernel_size // 2)
        assert conv_size(size, stride) == (padded - kernel_size) // stride + 1


def test_sizes_follow_along_a_chain():
    sizes = [(before, after) for _, before, after in with_sizes(CHAIN, 33)]
    assert sizes == [(33, 17), (17, 9), (9, 9), (9, 9), (9, 1), (1, 1)]
    assert all(out_size(spec, before) == after for spec, before, after in with_sizes(CHAIN, 33))


def test_a_depthwise_convolution_has_a_kernel_for_each_channel():
    layer = depthwise(12, 5, 2, act="relu6", selects=True)
    assert layer.weight_shape == (12, 1, 5, 5) and layer.is_depthwise and layer.selects
    assert not Conv(12, 12, 5).is_depthwise and not Conv(1, 1, 3, groups=1).is_depthwise


@pytest.mark.parametrize("channels, squeezed", ((16, 8), (32, 8), (36, 16), (64, 16), (640, 160)))
def test_squeeze_and_excite_are_two_convolutions_of_a_pixel(channels, squeezed):
    squeeze, excite = SqueezeExcite(channels).convs
    assert squeezed_channels(channels) == squeeze.out_channels == excite.in_channels == squeezed
    assert (squeeze.in_channels, excite.out_channels) == (channels, channels)
    assert not squeeze.bn and not excite.bn and squeeze.bias and excite.bias


def test_a_squeezed_width_can_be_given():
    assert SqueezeExcite(48, squeezed=6).convs[0].weight_shape == (6, 48, 1, 1)
    assert SqueezeExcite(48, squeezed=6).gate[0] == GlobalPool(48)


def test_a_folded_chain_has_biases_in_place_of_batch_norm():
    folded = fold_batch_norm(CHAIN)
    for before, after in zip(CHAIN, folded):
        if isinstance(before, Conv):
            assert (after.bn, after.bias, after.weight_shape) == (False, True, before.weight_shape)
        else:
            assert after == before
    assert fold_batch_norm(folded) == folded
    assert with_bn(CHAIN, True) == CHAIN and with_bn(CHAIN, False) == folded
