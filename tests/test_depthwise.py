"""The matrix form of depthwise convolution is the plain operator, gradients included, and stays out of graphs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import VARIANTS

from oneshot_nas_network import Subnet
from spos.compat import mx
from spos.depthwise import DepthwiseConv2D, convolve_as_matrices, trains_as_matrices


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
def test_matrices_equal_the_plain_operator(size, kernel_size, stride, rng):
    channels = 13
    x = mx.nd.array(rng.normal(0, 1, (3, channels, size, size)))
    weight = mx.nd.array(rng.normal(0, 1, (channels, 1, kernel_size, kernel_size)))
    results = []
    for convolve in (plain, convolve_as_matrices):
        for value in (x, weight):
            value.attach_grad()
        with mx.autograd.record():
            y = convolve(x, weight, stride)
        y.backward(mx.nd.array(np.random.default_rng(1).normal(0, 1, y.shape)))
        results.append([value.asnumpy() for value in (y, x.grad, weight.grad)])
    for expected, got in zip(*results):
        assert got.shape == expected.shape
        assert np.allclose(got, expected, rtol=1e-4, atol=1e-4)


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


def test_the_form_is_for_recorded_small_images_only():
    small, large = mx.nd.zeros((1, 4, 8, 8)), mx.nd.zeros((1, 4, 9, 9))
    assert not trains_as_matrices(small, 5)
    with mx.autograd.record():
        assert trains_as_matrices(small, 5)
        assert not trains_as_matrices(small, 3)
        assert trains_as_matrices(mx.nd.zeros((1, 4, 2, 2)), 3)
        assert not trains_as_matrices(large, 5)
        assert not trains_as_matrices(small.astype("float64"), 5)


def test_layer_gives_the_same_in_training_and_inference(rng):
    layer = DepthwiseConv2D(6, 5, 1, padding=2, groups=6, use_bias=False, in_channels=6)
    layer.initialize(mx.init.Normal(1))
    x = mx.nd.array(rng.normal(0, 1, (2, 6, 4, 4)))
    with mx.autograd.record():
        trained = layer(x)
    assert np.allclose(trained.asnumpy(), layer(x).asnumpy(), atol=1e-5)


def test_graphs_keep_one_convolution_for_each(rng):
    space = replace(VARIANTS["small-images"], num_classes=10)
    net = Subnet(space, space.sample(rng))
    nodes = json.loads(net(mx.sym.var("data")).tojson())["nodes"]
    weights = [name for name in net._collect_params_with_prefix() if name.endswith("weight")]
    assert sum(node["op"] == "Convolution" for node in nodes) == len(weights)
    assert not any(node["op"] == "batch_dot" for node in nodes)
