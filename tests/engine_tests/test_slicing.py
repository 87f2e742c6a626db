"""Corners of arrays: what NumPy gives, with the gradient of a copy, in any memory layout."""

import numpy as np
import pytest

from spos.engine.compat import mx
from spos.engine.slicing import assign_leading_corner, leading_corner

CASES = (
    ((6,), (4,)),
    ((6, 5), (6, 3)),
    ((6, 1, 3, 3), (4, 1, 3, 3)),
    ((6, 8, 1, 1), (6, 5, 1, 1)),
    ((6, 8, 1, 1), (4, 5, 1, 1)),
    ((6, 8, 3, 3), (4, 5, 3, 3)),
    ((6, 8, 3, 3), (4, 8, 2, 1)),
    ((6, 8, 3, 3), (6, 8, 3, 3)),
)


def corner(shape):
    return tuple(slice(0, length) for length in shape)


@pytest.mark.parametrize("full, shape", CASES)
def test_a_corner_is_a_differentiable_copy(full, shape, rng):
    value, grad = rng.normal(size=full).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    array = mx.nd.array(value)
    array.attach_grad()
    with mx.autograd.record():
        part = leading_corner(array, shape) * 2
    part.backward(mx.nd.array(grad))
    np.testing.assert_array_equal(part.asnumpy(), 2 * value[corner(shape)])
    wanted = np.zeros(full, np.float32)
    wanted[corner(shape)] = 2 * grad
    np.testing.assert_array_equal(array.grad.asnumpy(), wanted)


@pytest.mark.parametrize("full, shape", CASES)
def test_a_corner_is_assigned_and_nothing_else(full, shape, rng):
    value, part = rng.normal(size=full).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    array = mx.nd.array(value)
    assign_leading_corner(array, mx.nd.array(part))
    value[corner(shape)] = part
    np.testing.assert_array_equal(array.asnumpy(), value)


@pytest.mark.parametrize("shape", ((48, 40, 1, 1), (64, 24, 1, 1)))
def test_weights_in_the_layout_of_inference_are_cut_and_assigned(shape, rng):
    """A compiled convolution leaves its weight in blocks of channels."""
    value, part = rng.normal(size=(64, 64, 1, 1)).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    weight = mx.nd.array(value)
    symbol = mx.sym.Convolution(mx.sym.var("x"), mx.sym.var("weight"), kernel=(1, 1), num_filter=64, no_bias=True)
    images, run = mx.nd.array(rng.normal(size=(4, 64, 14, 14))), mx.nd.CachedOp(symbol)
    run(images, weight).wait_to_read()
    np.testing.assert_array_equal(leading_corner(weight, shape).asnumpy(), value[corner(shape)])
    run(images, weight).wait_to_read()
    assign_leading_corner(weight, mx.nd.array(part))
    value[corner(shape)] = part
    np.testing.assert_array_equal(weight.asnumpy(), value)
