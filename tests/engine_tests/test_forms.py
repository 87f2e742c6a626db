"""Forms of execution: what they change, and that the function stays the same."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY

from oneshot_nas_blocks import build
from spos.engine.compat import mx
from spos.engine.forms import as_described, fit_to_size, fit_to_training
from spos.execution.parts import cut_idle_taps
from spos.space.blocks import BlockKind, ChoiceBlockGeometry
from spos.space.layer_specs import head
from spos.space.layers import Conv, Form, GlobalPool, SqueezeExcite, conv_size, depthwise, with_sizes
from spos.space.names import parameter_shapes

KINDS = {
    "shuffle": BlockKind("", "", "shuffle", (("kernel_size", 5),)),
    "xception": BlockKind("", "", "xception"),
    "mbconv": BlockKind("", "", "mbconv", (("kernel_size", 7), ("expand", 3.0), ("se", False))),
    "mbconv-se": BlockKind("", "", "mbconv", (("kernel_size", 5), ("expand", 3.0))),
    "mbconv-1": BlockKind("", "", "mbconv", (("kernel_size", 5), ("expand", 1.0))),
    "basic": BlockKind("", "", "basic", (("kernel_size", 5),)),
    "identity": BlockKind("", "", "identity"),
}


def chains_of(kind, act, stride, size):
    """The branches of a block of 16 channels, with squeeze-and-excite where its kind has it, of fast widths."""
    out_channels = 16 if stride == 1 else 32
    block = ChoiceBlockGeometry(0, 0, 16, out_channels, stride, stride == 2, True, act, size, width_multiple=16)
    return [specs for _, specs in KINDS[kind].describe(block).branches if specs]


def value_of(name, shape):
    rng = np.random.default_rng(len(name) + sum(map(ord, name)))
    if name.endswith("weight"):
        return rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
    return rng.uniform(0.5, 1.5, shape) if name.endswith(("gamma", "running_var")) else rng.normal(0, 0.5, shape)


def trained(specs, described, x):
    """Output and gradients by name of layers with the parameters of the layers that `described` means."""
    net, values = build(specs), parameter_shapes(described)
    net.initialize()
    named = net._collect_params_with_prefix()
    assert list(named) == list(values)
    for name, parameter in named.items():
        value = mx.nd.array(value_of(name, values[name]))
        parameter.set_data(cut_idle_taps(value, parameter.shape[2]) if len(parameter.shape) == 4 else value)
    x = x.copy()
    x.attach_grad()
    with mx.autograd.record():
        y = net(x)
    y.backward(mx.nd.array(np.random.default_rng(1).normal(0, 1, y.shape)))
    gradients = {name: parameter.grad() for name, parameter in named.items() if parameter.grad_req != "null"}
    return {"output": y, "input": x.grad, **gradients}


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel_size", (3, 5, 7))
@pytest.mark.parametrize("stride", (1, 2))
def test_idle_taps_meet_no_pixel(size, kernel_size, stride):
    whole = depthwise(4, kernel_size, stride)
    (cut,) = fit_to_size((whole,), size)
    rng = np.random.default_rng(size)
    x, weight = (mx.nd.array(rng.normal(size=s)) for s in ((2, 4, size, size), whole.weight_shape))
    border = (kernel_size - cut.kernel_size) // 2
    small = weight[:, :, border : kernel_size - border, border : kernel_size - border]
    one, other = (
        mx.nd.Convolution(
            x,
            w,
            kernel=(spec.kernel_size,) * 2,
            stride=(stride,) * 2,
            pad=(spec.kernel_size // 2,) * 2,
            num_filter=4,
            num_group=4,
            no_bias=True,
        ).asnumpy()
        for spec, w in ((whole, weight), (cut, small))
    )
    assert one.shape[2] == conv_size(size, stride)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert cut.kernel_size <= 2 * size - 1


def test_only_kernels_wider_than_their_map_are_cut_and_only_single_pixels_are_matrices():
    chain = (Conv(4, 4, 3, 2), depthwise(4, 7, 2), GlobalPool(4), Conv(4, 8))
    assert [getattr(spec, "kernel_size", None) for spec in fit_to_size(chain, 4)] == [3, 3, None, 1]
    assert fit_to_size(chain, 16) == (*chain[:3], replace(chain[3], form=Form(on_pixel=True)))


def test_forms_for_training_are_for_what_is_slow():
    chain = (
        Conv(4, 16, act="hard_swish"),
        depthwise(16, 3, 2),
        depthwise(16, 7, 1),
        depthwise(12, 7, 1),
        Conv(12, 8, bn=False, bias=True, act="hard_swish"),
        SqueezeExcite(8),
    )
    form = fit_to_training(chain, 16)
    assert [spec.form and spec.form.map_size for spec in form] == [None, None, 8, None, None, 8]
    assert [spec.form and spec.form.shifted for spec in form] == [True, None, False, None, None, False]


@pytest.mark.parametrize("act", ("relu6", "hard_swish"))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", (1, 2))
def test_chains_of_every_kind_of_block_give_the_same_and_have_the_same_gradients(act, kind, stride):
    for size in (1, 2, 7):
        for specs in chains_of(kind, act, stride, size):
            x = mx.nd.array(np.random.default_rng(0).normal(0, 1, (12, specs[0].in_channels, size, size)))
            wanted = trained(specs, specs, x)
            for fit in (fit_to_size, fit_to_training):
                assert_alike(trained(fit(specs, size), specs, x), wanted)


def assert_alike(got, wanted):
    """The same but for rounding. Some gradients are nothing else, like that of a beta before another BatchNorm."""
    largest = max(value.norm().asscalar() for name, value in wanted.items() if name not in ("output", "input"))
    for name, value in wanted.items():
        if value.shape != got[name].shape:
            value = cut_idle_taps(value, got[name].shape[2])
        scale = value.norm().asscalar() if name in ("output", "input") else largest
        assert (got[name] - value).norm().asscalar() < 1e-5 * scale, name


def test_hard_swish_is_shifted_behind_a_depthwise_convolution_of_its_own_form():
    ((_, spread, squeeze, _),) = chains_of("mbconv-se", "hard_swish", 1, 7)
    assert spread.is_depthwise and squeeze.squeezed
    form = fit_to_training((spread, squeeze), 7)
    assert (form[0].form, form[1].form) == (Form(map_size=7, shifted=True), Form(on_pixel=True, map_size=7))


def test_a_single_pixel_keeps_its_matrix_in_training():
    (conv,) = fit_to_training((Conv(4, 8, act="hard_swish"),), 1)
    assert conv.form == Form(on_pixel=True, shifted=True)


def test_nothing_but_the_form_changes_where_kernels_fit():
    chain = (Conv(4, 16, act="hard_swish"), depthwise(16, 7, 2), SqueezeExcite(16))
    for fit in (as_described, fit_to_size, fit_to_training):
        assert tuple(replace(spec, form=None) for spec in fit(chain, 32)) == chain


def test_sizes_follow_strides_and_pooling():
    assert [
        size for _, size, _ in with_sizes((Conv(3, 4, 3, 2), depthwise(4, 3, 2), GlobalPool(4), Conv(4, 5)), 32)
    ] == [
        32,
        16,
        8,
        1,
    ]
    assert [size for _, size, _ in with_sizes(head(TINY), TINY.out_size)] == [TINY.out_size, 1, 1]
