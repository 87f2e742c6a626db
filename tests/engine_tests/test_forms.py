"""Forms of execution: what they change, and that the function stays the same."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY

from spos.engine.compat import mx
from spos.engine.forms import as_described, fit_to_size, fit_to_training, with_sizes
from spos.space.layer_specs import head
from spos.space.layers import Conv, Form, GlobalPool, SqueezeExcite, conv_size, depthwise


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


def test_a_single_pixel_keeps_its_matrix_in_training():
    (conv,) = fit_to_training((Conv(4, 8, act="hard_swish"),), 1)
    assert conv.form == Form(on_pixel=True, shifted=True)


def test_nothing_but_the_form_changes_where_kernels_fit():
    chain = (Conv(4, 16, act="hard_swish"), depthwise(16, 7, 2), SqueezeExcite(16))
    for fit in (as_described, fit_to_size, fit_to_training):
        assert tuple(replace(spec, form=None) for spec in fit(chain, 32)) == chain


def test_sizes_follow_strides_and_pooling():
    assert [size for _, size in with_sizes((Conv(3, 4, 3, 2), depthwise(4, 3, 2), GlobalPool(4), Conv(4, 5)), 32)] == [
        32,
        16,
        8,
        1,
    ]
    assert [size for _, size in with_sizes(head(TINY), TINY.out_size)] == [TINY.out_size, 1, 1]
