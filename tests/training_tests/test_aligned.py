"""Aligned initial values: which layers begin as which, and that choices are one function then."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY

from oneshot_nas_network import Supernet
from spos.engine.compat import mx
from spos.space.architecture import Architecture
from spos.space.layers import Conv, SqueezeExcite, depthwise
from spos.space.space_file import load_space
from spos.training.aligned import align, identity, match, nested, reference_choice

BOTTLENECK = (Conv(8, 24, selects=True), depthwise(24, 3, 2, selects=True), Conv(24, 16))


@pytest.mark.parametrize(
    "specs, expected",
    (
        (BOTTLENECK, (0, 1, 2)),
        ((Conv(8, 48, selects=True), depthwise(48, 7, 2, selects=True), Conv(48, 16)), (0, 1, 2)),
        ((depthwise(8, 3, 1), *BOTTLENECK), (None, 0, 1, 2)),
        ((*BOTTLENECK, Conv(16, 16)), (0, 1, 2, None)),
        ((BOTTLENECK[0], depthwise(24, 3, 1, selects=True), *BOTTLENECK[1:]), (0, None, 1, 2)),  # the stride decides
        (
            (depthwise(8, 3, 1), Conv(8, 24, act="relu", selects=True), depthwise(24, 3, 2, selects=True))
            + (Conv(24, 24, act="relu", selects=True), depthwise(24, 3, 1, selects=True), Conv(24, 16)),
            (None, 0, 1, None, None, 2),
        ),
        ((Conv(8, 12, selects=True), depthwise(12, 3, 2, selects=True), Conv(12, 16)), None),  # narrower
        ((Conv(8, 24, selects=True), depthwise(24, 1, 2, selects=True), Conv(24, 16)), None),  # a smaller kernel
        ((*BOTTLENECK, SqueezeExcite(16)), None),  # a gate cannot begin as an identity
        ((Conv(8, 16),), None),
        ((), None),
    ),
)
def test_layers_are_matched_in_order(specs, expected):
    assert match(BOTTLENECK, specs) == expected


GROUPED = Conv(16, 16, 3, groups=4)


@pytest.mark.parametrize(
    "reference, spec, fits",
    (
        (Conv(16, 16, 3), GROUPED, False),
        (GROUPED, Conv(16, 16, 3), False),
        (GROUPED, replace(GROUPED, groups=2), False),
        (GROUPED, replace(GROUPED, kernel_size=5), True),
        (GROUPED, Conv(32, 32, 3, groups=4), False),  # its second group reads what the first one reads here
        (GROUPED, depthwise(16, 3, 1), False),
        (depthwise(16, 3, 1), GROUPED, False),
        (depthwise(16, 3, 1), depthwise(24, 3, 1), True),
    ),
)
def test_groups_are_those_of_the_reference(reference, spec, fits):
    assert match((reference,), (spec,)) == ((0,) if fits else None)


def test_the_reference_is_what_most_can_begin_as():
    space = load_space("mobilenet")
    layers = [space.block_layers(1, b, 2) for b in range(len(space.choices[1].blocks))]
    chosen, fitting = reference_choice(layers)
    assert space.choices[1].blocks[chosen].name == "MB3-3" and set(fitting) == set(range(6))
    assert reference_choice(layers[::-1])[0] == 5


def test_a_nested_weight_does_the_same_to_the_leading_channels():
    rng = np.random.default_rng(0)
    inner, own = rng.normal(size=(4, 3, 1, 1)), rng.normal(size=(6, 5, 3, 3))
    value = nested(own, inner)
    np.testing.assert_array_equal(value[:4, :3, 1, 1], inner[:, :, 0, 0])
    assert np.count_nonzero(value[:4]) == inner.size
    np.testing.assert_array_equal(value[4:], own[4:])


@pytest.mark.parametrize("shape, groups", (((6, 6, 3, 3), 1), ((6, 1, 5, 5), 6)))
def test_an_identity_gives_back_what_it_reads(shape, groups):
    x = mx.nd.random.normal(shape=(2, 6, 7, 7))
    pad = (shape[2] // 2,) * 2
    y = mx.nd.Convolution(
        x, mx.nd.array(identity(shape)), kernel=shape[2:], pad=pad, num_filter=6, num_group=groups, no_bias=True
    )
    assert (y == x).asnumpy().all()


def aligned(space):
    net = Supernet(space)
    net.initialize(mx.init.Uniform(), ctx=[mx.cpu(0), mx.cpu(1)])
    for name, parameter in net._collect_params_with_prefix().items():
        if name.endswith("weight"):  # the published ones are so small that everything would be equal
            parameter.set_data(mx.nd.random.normal(0, np.sqrt(2 / np.prod(parameter.shape[1:])), parameter.shape))
    return net, align(net)


def logits(net, block_choices):
    space = net.space
    images = mx.nd.array(np.random.default_rng(1).normal(0, 1, (4, 3, space.input_size, space.input_size)))
    return net(images, space.widest(block_choices)).asnumpy()


def test_choices_of_the_published_kinds_are_one_function():
    net, left = aligned(replace(TINY, use_se=False, num_classes=10, input_size=32))
    wanted = logits(net, (0, 0, 0, 0))
    assert not left
    for choice in (1, 2):
        assert np.abs(logits(net, (choice,) * 4) - wanted).max() <= 1e-6 * np.abs(wanted).max()
    values = {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items() if "weight" in name}
    for block in (f"features.{index}.block_" for index in range(3, 7)):
        ours, theirs = (f"{block}{name}_3x3.main_branch." for name in ("sx", "sn"))
        convs = [name for name in values if name.startswith(ours)]
        for own, other in zip(sorted(convs, key=lambda n: int(n.split(".")[-2])), (None, 0, 1, None, None, 2)):
            source = sorted((n for n in values if n.startswith(theirs)), key=lambda n: int(n.split(".")[-2]))
            wanted_value = identity(values[own].shape) if other is None else values[source[other]]
            np.testing.assert_array_equal(values[own], wanted_value, own)


def test_narrower_widths_of_aligned_choices_are_one_function_too():
    net, _ = aligned(replace(TINY, num_classes=10, input_size=32))
    images = mx.nd.array(np.random.default_rng(1).normal(0, 1, (4, 3, 32, 32)))
    wanted, got = (net(images, Architecture((choice,) * 4, (3, 0, 6, 2))).asnumpy() for choice in (0, 2))
    assert np.abs(got - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_choices_of_other_expansions_are_one_function_and_what_has_no_layers_is_named():
    space = load_space("nas-bench-macro")
    net, left = aligned(space)
    assert left == [f"I of choice block {index}" for index in range(8)]
    wanted, got = logits(net, (1,) * 8), logits(net, (2,) * 8)
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()
    before = logits(net, (0,) * 8)
    assert np.abs(before - wanted).max() > 0.1 * np.abs(wanted).max()


def test_all_devices_get_the_same_values():
    net, _ = aligned(TINY)
    for parameter in net.collect_params().values():
        one, other = (value.asnumpy() for value in parameter.list_data())
        np.testing.assert_array_equal(one, other)
