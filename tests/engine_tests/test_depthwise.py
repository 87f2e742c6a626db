"""The form of depthwise convolution that trains fast is the plain operator, gradients included."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import VARIANTS

from oneshot_nas_network import Subnet
from spos.engine.compat import mx
from spos.engine.depthwise import DepthwiseConv2D, added_rows, column_groups, convolve_by_columns

CHANNELS = 16


def plain(x, weight, stride):
    channels, _, kernel_size, _ = weight.shape
    return mx.nd.Convolution(
        x,
        weight,
        kernel=(kernel_size,) * 2,
        stride=(stride,) * 2,
        pad=(kernel_size // 2,) * 2,
        num_filter=channels,
        num_group=channels,
        no_bias=True,
    )


def by_columns(x, weight, stride):
    return convolve_by_columns(mx.nd, x, weight, CHANNELS, weight.shape[2], stride, x.shape[2])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9, 11])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 14, 15])
def test_columns_equal_the_plain_operator(size, kernel_size, stride, rng):
    x = mx.nd.array(rng.normal(0, 1, (3, CHANNELS, size, size)))
    weight = mx.nd.array(rng.normal(0, 1, (CHANNELS, 1, kernel_size, kernel_size)))
    results = []
    for convolve in (plain, by_columns):
        for value in (x, weight):
            value.attach_grad()
        with mx.autograd.record():
            y = convolve(x, weight, stride)
        y.backward(mx.nd.array(np.random.default_rng(1).normal(0, 1, y.shape)))
        results.append([value.asnumpy() for value in (y, x.grad, weight.grad)])
    (y, x_grad, weight_grad), (got_y, got_x_grad, got_weight_grad) = results
    np.testing.assert_array_equal(got_y, y)
    np.testing.assert_array_equal(got_x_grad, x_grad)
    np.testing.assert_allclose(got_weight_grad, weight_grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel_size", range(3, 16, 2))
def test_groups_cover_every_column_and_stay_inside(kernel_size):
    covered = []
    for centre, fresh in column_groups(kernel_size):
        first = kernel_size // 2 + centre - 1
        assert 0 <= first <= fresh < first + 3 <= kernel_size
        covered += range(fresh, first + 3)
    assert covered == list(range(kernel_size))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9])
@pytest.mark.parametrize("size", range(1, 15))
def test_rows_are_added_where_the_fast_kernel_needs_them_only(size, kernel_size, stride):
    rows, half = added_rows(kernel_size, stride, size), kernel_size // 2
    assert 0 <= rows <= half
    assert size + 2 * rows >= kernel_size or rows == half
    if size >= kernel_size + stride and stride == 1:
        assert rows == 0


def test_the_layer_is_the_function(rng):
    layer = DepthwiseConv2D(
        CHANNELS, 5, 2, padding=2, groups=CHANNELS, use_bias=False, in_channels=CHANNELS, map_size=9
    )
    layer.initialize(mx.init.Normal(1))
    x = mx.nd.array(rng.normal(0, 1, (2, CHANNELS, 9, 9)))
    wanted = plain(x, layer.weight.data(), 2).asnumpy()
    np.testing.assert_array_equal(layer(x).asnumpy(), wanted)
    layer.hybridize()
    np.testing.assert_array_equal(layer(x).asnumpy(), wanted)


def test_networks_keep_one_convolution_for_each(rng):
    space = replace(VARIANTS["small-images"], num_classes=10)
    net = Subnet(space, space.sample(rng))
    nodes = json.loads(net(mx.sym.var("data")).tojson())["nodes"]
    weights = [name for name in net._collect_params_with_prefix() if name.endswith("weight")]
    assert sum(node["op"] == "Convolution" for node in nodes) == len(weights)
