"""Compiled blocks: the function of the block for any weights, and its moments."""

import numpy as np

from oneshot_nas_blocks import build
from spos.engine.batch_norm import EPSILON
from spos.engine.compat import mx
from spos.execution.graphs import Graph, unread_statistic
from spos.space.layers import Conv

CHAIN = (Conv(3, 4, 3, act="relu"), Conv(4, 5))


def filled(rng):
    net = build(CHAIN)
    net.initialize(mx.init.Normal(1), ctx=mx.cpu())
    return net, {name: parameter.data() for name, parameter in net._collect_params_with_prefix().items()}


def test_one_graph_serves_many_weights(rng):
    net, arrays = filled(rng)
    graph, x = Graph(build(CHAIN)), mx.nd.array(rng.normal(size=(2, 3, 8, 8)))
    for factor in (1, 2):
        arrays["0.weight"] *= factor
        np.testing.assert_allclose(graph(x, arrays).asnumpy(), net(x).asnumpy(), rtol=1e-5, atol=1e-6)
    assert set(graph.inputs) == {None, *arrays} and not graph.collects


def test_moments_are_those_of_the_batch_layer_by_layer(rng):
    net, arrays = filled(rng)
    graph, x = Graph(build(CHAIN), collects=True), mx.nd.array(rng.normal(size=(2, 3, 8, 8)))
    assert graph.norms == ["1.", "4."]
    with mx.autograd.train_mode():
        _, moments = graph(x, arrays)
    means, inv_stds = np.split(moments.asnumpy(), 2)
    first = mx.nd.Convolution(x, arrays["0.weight"], kernel=(3, 3), pad=(1, 1), num_filter=4, no_bias=True).asnumpy()
    np.testing.assert_allclose(means[:4], first.mean(axis=(0, 2, 3)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(inv_stds[:4] ** -2 - EPSILON, first.var(axis=(0, 2, 3)), rtol=1e-3)
    assert len(means) == 9


def test_statistics_that_nobody_reads_are_kept_by_name():
    mean, variance = (unread_statistic(name, (4,), mx.cpu()) for name in ("running_mean", "running_var"))
    assert mean is unread_statistic("running_mean", (4,), mx.cpu()) and mean is not variance
