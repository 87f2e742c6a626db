"""The BatchNorm update (contract C2): pooled statistics, exactly, against NumPy in float64."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import VARIANTS, fill_parameters

import oneshot_nas_blocks as blocks
from oneshot_nas_network import Subnet, Supernet
from spos.engine.batch_norm import EPSILON, BatchNorm, Moments, recalibrate_batch_norm
from spos.engine.compat import mx

nn = mx.gluon.nn


class Float64:
    """A forward pass in float64 that normalises by the batch and collects moments of every BatchNorm layer."""

    def __init__(self):
        self.values = {}  # BatchNorm layer -> list of (N, C, H, W)

    def __call__(self, layer, x):
        if isinstance(layer, BatchNorm):
            self.values.setdefault(layer, []).append(x)
            mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
            gamma, beta = (p.data().asnumpy().astype(np.float64)[:, None, None] for p in (layer.gamma, layer.beta))
            return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta
        if isinstance(layer, nn.Conv2D):
            return self.convolve(layer, x)
        if isinstance(layer, nn.Activation):
            return np.maximum(x, 0)
        if isinstance(layer, blocks.HardSwish):
            return x * np.clip(x / 6 + 0.5, 0, 1)
        if isinstance(layer, blocks.HardSigmoid):
            return np.clip(x / 6 + 0.5, 0, 1)
        if isinstance(layer, nn.GlobalAvgPool2D):
            return x.mean((2, 3), keepdims=True)
        if isinstance(layer, blocks.SqueezeExcite):
            return x * self(layer.channel_attention, x)
        if isinstance(layer, blocks.ShuffleBlock):
            return self.shuffle_block(layer, x)
        if isinstance(layer, nn.HybridSequential):
            for child in getattr(layer, "_layers", layer._children.values()):
                x = self(child, x)
            return x
        if isinstance(layer, (nn.Dropout, nn.Flatten)):
            return x  # behind every BatchNorm
        raise TypeError(layer)

    def shuffle_block(self, block, x):
        kept = None
        if block.projects:
            kept = self(block.proj_branch, x)
        else:
            half = x.shape[1] // 2
            x = np.stack((x[:, :half], x[:, half:]), axis=2).reshape(x.shape)
            kept, x = x[:, :half], x[:, half:]
        return np.concatenate((kept, self(block.main_branch, x)), axis=1)

    @staticmethod
    def convolve(conv, x):
        k, s, groups = conv._kwargs["kernel"][0], conv._kwargs["stride"][0], conv._kwargs["num_group"]
        weight = conv.weight.data().asnumpy().astype(np.float64)
        padded = np.pad(x, ((0, 0), (0, 0), (k // 2,) * 2, (k // 2,) * 2))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), (2, 3))[:, :, ::s, ::s]
        if groups > 1:
            out = np.einsum("nchwij,cij->nchw", windows, weight[:, 0], optimize=True)
        else:
            out = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
        return out if conv.bias is None else out + conv.bias.data().asnumpy().astype(np.float64)[:, None, None]


def make_subnet(space, rng):
    net = Subnet(space, space.sample(rng))
    fill_parameters(net)
    return net


def make_batches(rng, sizes, pixels=32):
    images = [rng.normal(0, 1, (n, 3, pixels, pixels)).astype(np.float32) for n in sizes]
    return [(mx.nd.array(x), mx.nd.zeros(len(x))) for x in images], images


@pytest.mark.parametrize("name", ["plain", "se-last-conv", "se"])
def test_statistics_equal_a_float64_computation(name, rng):
    space = replace(VARIANTS[name], num_classes=10, strides=(1, 1, 2, 2, 2))
    net = make_subnet(space, rng)
    batches, images = make_batches(rng, (8, 8, 3))
    reference = Float64()
    for x in images:
        reference(net.features, x.astype(np.float64))
    assert recalibrate_batch_norm(net, batches, 19) == 19
    for layer, values in reference.values.items():
        pooled = np.concatenate([v.transpose(1, 0, 2, 3).reshape(v.shape[1], -1) for v in values], axis=1)
        mean, variance = pooled.mean(1), pooled.var(1)
        assert np.linalg.norm(layer.running_mean.data().asnumpy() - mean) < 1e-3 * np.linalg.norm(np.sqrt(variance))
        assert np.linalg.norm(layer.running_var.data().asnumpy() - variance) < 1e-3 * np.linalg.norm(variance)
    assert len(reference.values) == sum(isinstance(b, BatchNorm) for b in walk(net))


def walk(block):
    for child in block._children.values():
        yield child
        yield from walk(child)


def statistics(net):
    return {n: p.data().asnumpy() for n, p in net._collect_params_with_prefix().items() if "running" in n}


def first_layer_only():
    """One BatchNorm on the raw images, whose pooled moments NumPy gives directly."""
    net = nn.HybridSequential()
    net.add(BatchNorm(3))
    net.initialize()
    return net


def test_statistics_of_raw_images_are_exact(rng):
    net = first_layer_only()
    batches, images = make_batches(rng, (5, 8, 1))
    recalibrate_batch_norm(net, batches, 14)
    pooled = np.concatenate(images).astype(np.float64)
    assert np.allclose(net[0].running_mean.data().asnumpy(), pooled.mean((0, 2, 3)), atol=1e-6)
    assert np.allclose(net[0].running_var.data().asnumpy(), pooled.var((0, 2, 3)), rtol=1e-5)


def test_statistics_do_not_depend_on_order_within_a_batch(rng):
    space = replace(VARIANTS["small-images"], num_classes=10)
    net = make_subnet(space, rng)
    batches, images = make_batches(rng, (8, 8))
    recalibrate_batch_norm(net, batches, 16)
    before = statistics(net)
    reversed_batches = [(mx.nd.array(x[::-1].copy()), y) for x, (_, y) in zip(images, batches)]
    recalibrate_batch_norm(net, reversed_batches, 16)
    for name, value in statistics(net).items():
        assert np.linalg.norm(value - before[name]) < 1e-3 * np.linalg.norm(before[name]), name


def test_several_devices_pool_like_one_device_with_smaller_batches(rng):
    space = replace(VARIANTS["plain"], num_classes=10)
    supernet = Supernet(space)
    fill_parameters(supernet)
    architecture = space.sample(rng)
    ctx = [mx.cpu(0), mx.cpu(1)]
    batches, images = make_batches(rng, (8,))
    halves = [(mx.nd.array(images[0][i : i + 4]), mx.nd.zeros(4)) for i in (0, 4)]
    one, two = supernet.extract(architecture), supernet.extract(architecture, ctx)
    recalibrate_batch_norm(one, halves, 8)
    recalibrate_batch_norm(two, batches, 8, ctx)
    parameters = two._collect_params_with_prefix()
    for name, expected in statistics(one).items():
        for value in parameters[name].list_data():
            assert np.linalg.norm(value.asnumpy() - expected) < 1e-4 * np.linalg.norm(expected), name


def test_weights_and_supernet_are_unchanged(rng):
    space = replace(VARIANTS["se"], num_classes=10)
    supernet = Supernet(space)
    fill_parameters(supernet)
    before = {n: p.data().asnumpy() for n, p in supernet._collect_params_with_prefix().items()}
    net = supernet.extract(space.sample(rng))
    weights = {n: p.data().asnumpy() for n, p in net._collect_params_with_prefix().items() if "running" not in n}
    batches, _ = make_batches(rng, (4, 4))
    recalibrate_batch_norm(net, batches, 8)
    for name, parameter in net._collect_params_with_prefix().items():
        if name in weights:
            assert np.array_equal(parameter.data().asnumpy(), weights[name]), name
    for name, parameter in supernet._collect_params_with_prefix().items():
        assert np.array_equal(parameter.data().asnumpy(), before[name]), name


def test_update_changes_what_inference_gives(rng):
    """A forward pass alone would not: on CPU, MXNet changes running statistics in backward only."""
    space = replace(VARIANTS["plain"], num_classes=10)
    net = Subnet(space, space.sample(rng))
    net.initialize()
    batches, _ = make_batches(rng, (8,))
    before = net(batches[0][0]).asnumpy()
    recalibrate_batch_norm(net, batches, 8)
    assert not np.allclose(net(batches[0][0]).asnumpy(), before)


def test_last_batch_is_cut_to_the_number_asked_for(rng):
    net = first_layer_only()
    batches, images = make_batches(rng, (5, 5))
    assert recalibrate_batch_norm(net, batches, 7) == 7
    pooled = np.concatenate(images).astype(np.float64)[:7]
    assert np.allclose(net[0].running_mean.data().asnumpy(), pooled.mean((0, 2, 3)), atol=1e-6)


def test_too_few_images_are_an_error(rng):
    batches, _ = make_batches(rng, (5,))
    with pytest.raises(ValueError, match="needs 6 images, only 5 came"):
        recalibrate_batch_norm(first_layer_only(), batches, 6)


def test_merged_moments_equal_those_of_the_union(rng):
    values = [rng.normal(3, 2, (n, 4)) for n in (1, 7, 30)]
    merged = None
    for part in values:
        moments = Moments(len(part), part.mean(0), ((part - part.mean(0)) ** 2).sum(0))
        merged = moments if merged is None else merged.merge(moments)
    union = np.concatenate(values)
    assert np.allclose(merged.mean, union.mean(0), rtol=1e-12)
    assert np.allclose(merged.variance, union.var(0), rtol=1e-12)
