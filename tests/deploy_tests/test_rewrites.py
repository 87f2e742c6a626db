"""Rewritten graphs compute the same by other operators, and leave alone what they do not know."""

import json
from collections import Counter

import numpy as np
import pytest
from conftest import SPACES, TINY, VARIANTS, all_choices, fill_parameters

from oneshot_nas_blocks import HardSwish, build, build_block
from oneshot_nas_network import Subnet
from spos.deploy.rewrites import output_shapes, rewrite
from spos.engine.compat import mx
from spos.space import layer_specs
from spos.space.blocks import BlockLayers
from spos.space.layers import Conv, fold_batch_norm

nn = mx.gluon.nn


def rewritten(block, x):
    """(operators, what they give for x) of the rewritten graph of a block."""
    output = block(mx.sym.var("data"))
    symbol = mx.sym.Group(output) if isinstance(output, list) else output
    arrays = {parameter.name: parameter.data() for parameter in block.collect_params().values()}
    before = {name: array.asnumpy() for name, array in arrays.items()}
    symbol, arrays = rewrite(symbol, arrays, output_shapes(symbol, arrays, data=x.shape))
    assert all(np.array_equal(block.collect_params()[name].data().asnumpy(), before[name]) for name in before)
    inputs = [x if name == "data" else arrays[name] for name in symbol.list_inputs()]
    operators = Counter(node["op"] for node in json.loads(symbol.tojson())["nodes"])
    return operators, mx.nd.CachedOp(symbol)(*inputs)


def filled(block):
    block.initialize()
    fill_parameters(block)
    return block


def images(rng, *shape):
    return mx.nd.array(rng.normal(0, 3, shape))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("index", (1, 4, 13))
def test_blocks_compute_the_same(rng, variant, index):
    space = VARIANTS[variant]
    block = space.choice_blocks[min(index, space.num_choice_blocks - 1)]
    net = filled(build_block(block.in_channels, space.block_layers(block.index, int(rng.integers(4)), 5)))
    for batch, size in ((1, 6), (3, 5)):
        x = images(rng, batch, block.in_channels, size, size)
        _, got = rewritten(net, x)
        expected = net(x).asnumpy()
        assert np.abs(got.asnumpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_networks_of_the_space_have_no_slow_operators_left(rng):
    net = filled(Subnet(TINY, TINY.sample(rng)))
    x = images(rng, 2, 3, 16, 16)
    operators, got = rewritten(net, x)
    assert np.abs(got.asnumpy() - net(x).asnumpy()).max() < 1e-5 * np.abs(net(x).asnumpy()).max()
    num_gates = sum(isinstance(spec, layer_specs.SqueezeExcite) for spec in layer_specs.subnet(TINY, net.architecture))
    assert operators["hard_sigmoid"] == num_gates + 1  # no hard-swish but that of the means
    # the shuffle behind a block that projects may have parts of different widths
    shuffles = sum(not block.projects for block in TINY.choice_blocks)
    unequal = sum(block.projects and block.out_channels != 2 * block.in_channels for block in TINY.choice_blocks)
    assert operators["SwapAxis"] == unequal and operators["stack"] == shuffles - unequal > 0


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_networks_of_every_kind_of_block_compute_the_same(rng, space):
    for architecture in all_choices(space, rng):
        net = filled(Subnet(space, architecture))
        x = images(rng, 2, 3, 16, 16)
        _, got = rewritten(net, x)
        assert np.abs(got.asnumpy() - net(x).asnumpy()).max() < 1e-5 * np.abs(net(x).asnumpy()).max(), architecture


def test_other_sizes_than_the_graph_was_made_for(rng):
    net = filled(Subnet(TINY, TINY.sample(rng)))
    output = net(mx.sym.var("data"))
    arrays = {parameter.name: parameter.data() for parameter in net.collect_params().values()}
    symbol, arrays = rewrite(output, arrays, output_shapes(output, arrays, data=(1, 3, 16, 16)))
    for shape in ((5, 3, 16, 16), (2, 3, 24, 32)):
        x = images(rng, *shape)
        got = mx.nd.CachedOp(symbol)(*(x if name == "data" else arrays[name] for name in symbol.list_inputs()))
        assert np.abs(got.asnumpy() - net(x).asnumpy()).max() < 1e-5 * np.abs(net(x).asnumpy()).max()


@pytest.mark.parametrize("merged", (False, True), ids=("bn", "merged"))
def test_hard_swish_at_every_part_of_its_range(rng, merged):
    chain = (Conv(4, 8, act="hard_swish"),)
    net = filled(build(fold_batch_norm(chain) if merged else chain))
    x = images(rng, 2, 4, 40, 40)
    y = net[0](x) if merged else net[1](net[0](x))
    y = y.asnumpy()
    assert (y < -3).any() and (np.abs(y) < 3).any() and (y > 3).any()
    operators, got = rewritten(net, x)
    assert np.abs(got.asnumpy() - net(x).asnumpy()).max() < 2e-6 * np.abs(y).max()
    assert operators["hard_sigmoid"] == 0 and operators["Activation"] == 1


@pytest.mark.parametrize("act, expected", ((None, 0), ("relu", 1), ("relu6", 0)))
def test_a_relu_behind_a_sum_is_a_maximum_and_one_before_is_reshaped(rng, act, expected):
    net = nn.HybridSequential(prefix="")
    described = BlockLayers("residual", (Conv(4, 4),), act=act)
    net.add(build((Conv(4, 4, act="relu"),)), build_block(4, described))
    x = images(rng, 2, 4, 5, 5)
    operators, got = rewritten(filled(net), x)
    assert np.array_equal(got.asnumpy(), net(x).asnumpy())
    assert (operators["_maximum_scalar"], operators["Reshape"], operators["Activation"]) == (expected, 1, 1)


def test_terms_of_a_sum_that_no_relu_gave_stay(rng):
    net = filled(build_block(4, BlockLayers("residual", (Conv(4, 4, act="relu"), Conv(4, 4)), (Conv(4, 4),), act=None)))
    x = images(rng, 2, 4, 5, 5)
    operators, got = rewritten(net, x)
    assert np.array_equal(got.asnumpy(), net(x).asnumpy())
    assert operators["Reshape"] == 0 and operators["elemwise_add"] == 1


class Pair(mx.gluon.HybridBlock):
    """Two parts of the input, concatenated and shuffled."""

    def __init__(self, first, groups=2, dim=1):
        super().__init__()
        self.first, self.groups, self.dim = first, groups, dim

    def hybrid_forward(self, F, x):
        parts = F.slice_axis(x, 1, 0, self.first), F.slice_axis(x, 1, self.first, None)
        x = F.concat(*parts, dim=self.dim)
        x = F.reshape(x, shape=(-1, self.groups, 12 // self.groups, 0, 0), reverse=True)
        return F.reshape(F.swapaxes(x, 1, 2), shape=(-1, 12, 0, 0), reverse=True)


@pytest.mark.parametrize(
    "pair, stacks", ((Pair(6), 1), (Pair(4), 0), (Pair(6, groups=3), 0), (Pair(6, dim=0), 0)), ids=range(4)
)
def test_only_pairs_of_the_same_shape_are_stacked(rng, pair, stacks):
    x = images(rng, 2, 12, 3, 5)
    operators, got = rewritten(pair, x)
    assert np.array_equal(got.asnumpy(), pair(x).asnumpy())
    assert operators["stack"] == stacks and operators["SwapAxis"] == 1 - stacks


class Joined(mx.gluon.HybridBlock):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def hybrid_forward(self, F, x):
        return F.concat(x, x * 2, dim=self.dim)


@pytest.mark.parametrize("dim", (-1, 0, 1, 2, 3))
@pytest.mark.parametrize("shape", ((2, 3, 4, 5), (2, 3, 4), (1, 6, 2, 2)))
def test_concatenated_along_any_axis(rng, dim, shape):
    x = images(rng, *shape)
    if dim < len(shape):
        _, got = rewritten(Joined(dim), x)
        assert np.array_equal(got.asnumpy(), Joined(dim)(x).asnumpy())


class TwoOutputs(mx.gluon.HybridBlock):
    """A convolution and its hard-swish."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.conv, self.act = nn.Conv2D(4, 1, in_channels=4), HardSwish()

    def hybrid_forward(self, F, x):
        y = self.conv(x)
        return [y, self.act(y)]


def test_an_output_of_the_block_is_not_changed(rng):
    net, x = filled(TwoOutputs()), images(rng, 2, 4, 5, 5)
    operators, got = rewritten(net, x)
    assert operators["hard_sigmoid"] == 1
    assert all(np.array_equal(a.asnumpy(), b.asnumpy()) for a, b in zip(got, net(x)))


class Twice(mx.gluon.HybridBlock):
    """Hard-swish of a convolution that is also read by something else, or whose parameters are."""

    def __init__(self, shares_weight):
        super().__init__()
        self.shares_weight = shares_weight
        with self.name_scope():
            self.conv = nn.Conv2D(4, 1, in_channels=4)
            self.other = nn.Conv2D(4, 1, in_channels=4, params=self.conv.params)
            self.act = HardSwish()

    def hybrid_forward(self, F, x):
        y = self.conv(x)
        return self.act(y) + (self.other(x) if self.shares_weight else y)


@pytest.mark.parametrize(
    "block",
    (
        HardSwish(),
        Twice(True),
        Twice(False),
        build((Conv(4, 8, bn=False, act="hard_swish"),)),  # without a bias, there is nothing to shift
    ),
    ids=("alone", "shared weight", "two readers", "no bias"),
)
def test_hard_swish_that_cannot_be_folded_stays(rng, block):
    block = filled(block)
    x = images(rng, 2, 4, 5, 5)
    operators, got = rewritten(block, x)
    assert np.array_equal(got.asnumpy(), block(x).asnumpy()) and operators["hard_sigmoid"] == 1


def test_hard_swish_of_means_stays(rng):
    """Of one pixel there is nothing to gain, and in INT8 the shift would take the range of small values."""
    net = filled(build((Conv(4, 8, bn=False, bias=True, act="hard_swish"),)))
    for size, stays in ((1, 1), (2, 0)):
        operators, _ = rewritten(net, images(rng, 2, 4, size, size))
        assert operators["hard_sigmoid"] == stays


def test_a_batch_norm_without_gamma_stays(rng):
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=4, scale=False), HardSwish())
    x = images(rng, 2, 4, 5, 5)
    operators, got = rewritten(filled(net), x)
    assert np.array_equal(got.asnumpy(), net(x).asnumpy()) and operators["hard_sigmoid"] == 1
