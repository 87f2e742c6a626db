"""Functions computed outside of MXNet: their gradients, how they are wanted, and what happens when they fail."""

import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT

from spos.engine import function
from spos.engine.compat import mx
from spos.engine.function import ADD, address, record_function

WRITE = 1


def values(array):
    """Those at the address of a CPU array, which may be written to."""
    pointer = function.ctypes.cast(address(array), function.ctypes.POINTER(function.ctypes.c_float))
    return np.ctypeslib.as_array(pointer, (array.size,)).reshape(array.shape)


class Product:
    """Recorded as the product of some arrays, by their addresses alone."""

    def __init__(self):
        self.wanted = []

    def __call__(self, *inputs):
        with mx.autograd.pause():
            output = mx.nd.empty(inputs[0].shape)
        mx.nd.waitall()
        arrays = [values(one).copy() for one in inputs]
        values(output)[...] = np.prod(arrays, axis=0)

        def backward(gradients, places, wanted):
            self.wanted.append(list(wanted))
            for i, (place, how) in enumerate(zip(places, wanted)):
                if how:
                    others = np.prod([one for j, one in enumerate(arrays) if j != i], axis=0)
                    own = values(gradients[0]) * others
                    values(place)[...] = values(place) + own if how == ADD else own

        record_function(inputs, output, backward)
        return output


def some_inputs(rng, *grad_reqs):
    arrays = [mx.nd.array(rng.normal(0, 1, (3, 4))) for _ in grad_reqs]
    for array, how in zip(arrays, grad_reqs):
        if how:
            array.attach_grad(how)
            array.grad[:] = 7
    return arrays


def gradients_of(inputs, head):
    """By MXNet's own product."""
    copies = [one.copy() for one in inputs]
    for one in copies:
        one.attach_grad()
    with mx.autograd.record():
        total = copies[0]
        for one in copies[1:]:
            total = total * one
        loss = (total**2 * head).sum()
    loss.backward()
    return [one.grad.asnumpy() for one in copies]


@pytest.mark.parametrize(
    "grad_reqs, expected",
    (
        (("write", "write"), [WRITE, WRITE]),
        (("write", "add", "write"), [WRITE, ADD, WRITE]),
        ((None, "write"), [0, WRITE]),  # the first input wants none, where mx.autograd.Function stops
        (("null", "add", None, "write"), [0, ADD, 0, WRITE]),
    ),
)
def test_gradients_are_given_as_they_are_wanted(grad_reqs, expected, rng):
    inputs, product, head = some_inputs(rng, *grad_reqs), Product(), mx.nd.array(rng.normal(0, 1, (3, 4)))
    with mx.autograd.record():
        loss = (product(*inputs) ** 2 * head).sum()
    loss.backward()
    wanted = gradients_of(inputs, head)
    for array, how, gradient in zip(inputs, grad_reqs, wanted):
        if how in ("write", "add"):
            np.testing.assert_allclose(array.grad.asnumpy(), gradient + 7 * (how == "add"), rtol=1e-5, atol=1e-5)
        elif how:
            assert (array.grad is None) or (array.grad.asnumpy() == 7).all()
    assert [[one if one in (0, ADD) else WRITE for one in how] for how in product.wanted] == [expected]


def test_functions_follow_one_another(rng):
    """Their inputs may be results, also of other such functions."""
    (x, y), product = some_inputs(rng, "write", "write"), Product()
    with mx.autograd.record():
        loss = product(product(x, y), y * 2).sum()  # 2 x y^2
    loss.backward()
    np.testing.assert_allclose(x.grad.asnumpy(), 2 * y.asnumpy() ** 2, rtol=1e-5)
    np.testing.assert_allclose(y.grad.asnumpy(), 4 * (x * y).asnumpy(), rtol=1e-5)


def test_nothing_is_kept_of_a_function_that_is_forgotten(rng):
    before = set(function._alive)
    (x, y), product = some_inputs(rng, "write", "write"), Product()
    for backward in (True, False):
        with mx.autograd.record():
            loss = product(x, y).sum()
        assert len(set(function._alive) - before) == 1
        if backward:
            loss.backward()
            x.grad.wait_to_read()
        del loss
        end = time.monotonic() + 10
        while set(function._alive) - before and time.monotonic() < end:  # MXNet forgets in a thread of its own
            time.sleep(0.01)
        assert not set(function._alive) - before


def test_what_fails_is_printed_and_ends_what_waits_for_the_gradient():
    """MXNet raises an error of its own there; then nothing else can be done in this process."""
    code = """
from spos.engine.compat import mx
from spos.engine.function import record_function
x = mx.nd.ones((2,))
x.attach_grad()
def fail(*_):
    raise ValueError("this is what went wrong")
with mx.autograd.record():
    y = x * 1
    out = mx.nd.ones((2,))
    record_function([y], out, fail)
try:
    out.backward()
    x.grad.asnumpy()
except Exception as error:
    print(type(error).__name__)
import os, sys
sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "MXNetError\n", done.stderr[-2000:]
    assert "ValueError: this is what went wrong" in done.stderr


def test_addresses_are_those_of_the_values(rng):
    array = mx.nd.array(rng.normal(0, 1, (5, 3)))
    mx.nd.waitall()
    np.testing.assert_array_equal(values(array), array.asnumpy())
    assert address(array[2:]) == address(array) + 2 * 3 * 4  # a view
    values(array)[1, 2] = 9
    assert array[1, 2].asscalar() == 9


def test_an_address_is_in_the_plain_layout(rng):
    """A convolution in inference leaves its weight in another one."""
    net = mx.gluon.nn.Conv2D(32, 3, in_channels=32, use_bias=False)
    net.initialize()
    weight = net.weight.data()
    wanted = weight.asnumpy()
    net(mx.nd.array(rng.normal(0, 1, (2, 32, 9, 9)))).wait_to_read()
    mx.nd.waitall()
    np.testing.assert_array_equal(values(weight), wanted)
