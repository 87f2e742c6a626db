"""Graphs of latency tables: copies of choice blocks that do work, in every precision."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import SPACES, TINY, VARIANTS

from spos.deploy.quantization import QuantizedBlock, quantize
from spos.engine.compat import mx
from spos.latency import graphs
from spos.latency.graphs import GraphMaker, fill, repeated_block
from spos.latency.measurements import alike

SPACE = replace(TINY, min_channel_choice=7)


@pytest.mark.parametrize("block_choice", range(4))
def test_copies_run_one_behind_the_other_where_the_map_keeps_its_shape(block_choice):
    net = repeated_block(SPACE, 1, block_choice, 8, copies=2)
    fill(net, mx.cpu())
    block = SPACE.choice_blocks[1]
    x = mx.nd.random.normal(shape=(2, block.in_channels, block.in_size, block.in_size))
    first, second = net.copies
    assert not np.array_equal(
        first.main_branch[0].weight.data().asnumpy(), second.main_branch[0].weight.data().asnumpy()
    )
    assert np.array_equal(net(x).asnumpy(), second(first(x)).asnumpy())


@pytest.mark.parametrize("name, dtype", (*((name, "float32") for name in SPACES), ("mixed", "int8")))
def test_copies_of_every_kind_of_block(name, dtype):
    """In series where the map keeps its shape, which some blocks may where a stage begins."""
    space = SPACES[name]
    for positions in alike(space).values():
        block = space.choice_blocks[positions[0]]
        for choice in range(len(space.choices[block.index].blocks)):
            net = repeated_block(space, block.index, choice, -1, copies=2)
            fill(net, mx.cpu())
            x = mx.nd.random.normal(shape=(2, block.in_channels, block.in_size, block.in_size))
            first, second = net.copies
            expected = [second(first(x))] if block.keeps_shape else [first(x), second(x)]
            got = quantize(net, [x])(x) if dtype == "int8" else net(x)
            got = got if isinstance(got, (list, tuple)) else [got]
            assert len(got) == len(expected)
            for own, wanted in zip(got, expected):
                difference = np.linalg.norm((own - wanted).asnumpy()) / np.linalg.norm(wanted.asnumpy())
                assert difference < (0.12 if dtype == "int8" else 1e-6), (block.index, choice)


def test_copies_of_a_block_that_projects_run_beside_each_other():
    net = repeated_block(SPACE, 2, 3, 8, copies=3)
    fill(net, mx.cpu())
    net.hybridize()
    block = SPACE.choice_blocks[2]
    x = mx.nd.random.normal(shape=(2, block.in_channels, block.in_size, block.in_size))
    outputs = net(x)
    assert [out.shape for out in outputs] == [(2, block.out_channels, block.in_size // 2, block.in_size // 2)] * 3
    assert np.array_equal(outputs[2].asnumpy(), net.copies[2](x).asnumpy())


@pytest.mark.parametrize("variant", ("plain", "se-last-conv"))
def test_activations_neither_vanish_nor_explode(variant, monkeypatch, rng):
    """Denormal numbers would make a network slower than it is in use."""
    space = replace(VARIANTS[variant], input_size=32)
    calls = []
    compile_net = GraphMaker._compile
    monkeypatch.setattr(
        graphs.GraphMaker, "_compile", lambda self, net, x: calls.append((net, x)) or compile_net(self, net, x)
    )
    GraphMaker(space, mx.cpu()).network(space.sample(rng))
    ((net, x),) = calls
    assert 1e-3 < np.abs(net(x).asnumpy()).mean() < 1e6


@pytest.mark.parametrize("dtype, kind", (("float32", mx.gluon.HybridBlock), ("int8", QuantizedBlock)))
def test_everything_runs_in_every_precision(dtype, kind, monkeypatch, rng):
    """Each call computes: on a batch of two, in the precision asked for, finite numbers that are not all 0."""
    made = []
    compile_net = GraphMaker._compile

    def noted(self, net, x):
        made.append((compile_net(self, net, x), x))
        return lambda images: results.append(made[-1][0](images))

    results = []
    monkeypatch.setattr(graphs.GraphMaker, "_compile", noted)
    maker = GraphMaker(SPACE, mx.cpu(), dtype, batch_size=2)
    makers = [maker.stem, maker.tail, lambda: maker.network(SPACE.sample(rng))]
    makers += [
        lambda index=index, choice=choice: maker.block(index, choice, 7, copies=2)
        for index in (0, 3)
        for choice in (1, 3)
    ]
    for make in makers:
        run = make()
        assert len(results) == 1  # once, so that kernels are ready
        run()
        first, again = (result if isinstance(result, (list, tuple)) else [result] for result in results)
        for one, other in zip(first, again):
            assert one.shape[0] == 2 and np.isfinite(one.asnumpy()).all() and np.abs(one.asnumpy()).max() > 0
            np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())
        results.clear()
    assert len(made) == 7 and all(isinstance(call, kind) and x.shape[0] == 2 for call, x in made)
