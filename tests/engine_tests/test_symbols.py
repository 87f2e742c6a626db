"""Symbols: shapes without noise, and graphs as functions."""

import numpy as np
import pytest

from spos.engine.compat import mx
from spos.engine.symbols import compile_symbol, infer_shapes


def dense():
    return mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, no_bias=True, name="dense")


def test_shapes_follow_from_the_input():
    assert infer_shapes(dense(), data=(2, 5)) == [(2, 3)]
    assert infer_shapes(mx.sym.var("a") + mx.sym.var("b")) is None


def test_shapes_that_do_not_fit_raise_without_printing(capfd):
    with pytest.raises(mx.base.MXNetError):
        infer_shapes(dense(), data=(2, 5), dense_weight=(3, 4))
    assert capfd.readouterr().out == ""


def test_a_compiled_graph_is_the_graph_for_every_batch(rng):
    weight = mx.nd.array(rng.normal(size=(3, 5)))
    run = compile_symbol(dense(), {"dense_weight": weight, "other": None})
    for num in (2, 4, 2):
        x = mx.nd.array(rng.normal(size=(num, 5)))
        np.testing.assert_allclose(run(x).asnumpy(), x.asnumpy() @ weight.asnumpy().T, rtol=1e-5)
