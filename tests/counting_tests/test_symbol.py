"""The count of exported networks, operator by operator, and what cannot be counted."""

from dataclasses import replace

import pytest
from conftest import VARIANTS

from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.counting.symbol import count_nodes, count_symbol
from spos.engine.compat import mx
from spos.engine.graph_file import load_symbol
from spos.space.cost import (
    count_architecture,
)

nn = mx.gluon.nn


def test_closed_form_equals_an_exported_file(tmp_path, rng):
    space = replace(VARIANTS["small-images"], num_classes=10)
    architecture = space.sample(rng)
    net = Subnet(space, architecture)
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.export(str(tmp_path / "subnet"))
    assert count_symbol(load_symbol(tmp_path / "subnet-symbol.json"), (1, 3, 32, 32)) == count_architecture(
        space, architecture
    )


def test_shuffle_by_convolution_costs_multiply_adds_but_no_parameters(rng):
    space = VARIANTS["plain"]
    architecture = space.sample(rng)
    symbol = Subnet(space, architecture, shuffle="conv")(mx.sym.var("data"))
    cost, plain = count_symbol(symbol, (1, 3, 224, 224)), count_architecture(space, architecture)
    assert cost.params == plain.params and cost.macs > plain.macs


def small_net(*layers):
    net = mx.gluon.nn.HybridSequential()
    net.add(*layers)
    return net(mx.sym.var("data"))


@pytest.mark.parametrize(
    "make, macs, params",
    (
        (lambda: nn.Conv2D(4, 3, groups=2, in_channels=6), 4 * 36 * 27 + 4 * 36, 4 * 27 + 4),
        (lambda: nn.Conv2D(4, 3, in_channels=6, use_bias=False, layout="NCHW"), 4 * 36 * 54, 4 * 54),
        (lambda: nn.Conv2DTranspose(4, 2, 2, in_channels=6, use_bias=False), 6 * 64 * 16, 6 * 16),
        (lambda: nn.Dense(5), 5 * 384 + 5, 5 * 384 + 5),
        (lambda: nn.Dense(5, use_bias=False), 5 * 384, 5 * 384),
        (lambda: nn.GlobalAvgPool2D(), 384, 0),
        (lambda: nn.GlobalMaxPool2D(), 384, 0),
        (lambda: nn.AvgPool2D(8), 384, 0),
        (lambda: nn.MaxPool2D(2), 0, 0),
        (lambda: nn.BatchNorm(in_channels=6), 0, 12),
        (lambda: nn.BatchNorm(in_channels=6, scale=False), 0, 6),
        (lambda: nn.LayerNorm(in_channels=8), 0, 16),
        (lambda: nn.PReLU(), 0, 1),
        (lambda: nn.HybridLambda(lambda F, x: F.mean(x, axis=(2, 3))), 384, 0),
        (lambda: nn.HybridLambda(lambda F, x: F.mean(x, axis=(-2, -1), keepdims=True)), 384, 0),
        (lambda: nn.HybridLambda(lambda F, x: F.mean(x, axis=(0, 1), exclude=True)), 384, 0),
        (lambda: nn.HybridLambda(lambda F, x: F.sum(x, axis=1)), 0, 0),
        (lambda: nn.HybridLambda(lambda F, x: F.contrib.AdaptiveAvgPooling2D(x, output_size=1)), 384, 0),
        (lambda: nn.HybridLambda(lambda F, x: F.contrib.AdaptiveAvgPooling2D(x, output_size=2)), 0, 0),
        (lambda: nn.HybridLambda(lambda F, x: F.concat(*F.split(x, 2), dim=1) + 1), 0, 0),
    ),
)
def test_layers_of_an_exported_network(make, macs, params):
    assert count_symbol(small_net(make()), (1, 6, 8, 8)) == (macs, params)


@pytest.mark.parametrize(
    "make, macs, params",
    (
        (lambda: nn.Conv2D(4, 3, groups=2, in_channels=6), 4 * 36 * 27, 4 * 27 + 4),
        (lambda: nn.Conv2DTranspose(4, 2, 2, in_channels=6), 6 * 64 * 16, 6 * 16 + 4),
        (lambda: nn.Dense(5), 5 * 384, 5 * 384 + 5),
        (lambda: nn.GlobalAvgPool2D(), 0, 0),
        (lambda: nn.AvgPool2D(8), 0, 0),
        (lambda: nn.HybridLambda(lambda F, x: F.mean(x, axis=(2, 3))), 0, 0),
        (lambda: nn.HybridLambda(lambda F, x: F.contrib.AdaptiveAvgPooling2D(x, output_size=1)), 0, 0),
    ),
)
def test_without_additions_biases_and_poolings_are_free(make, macs, params):
    assert count_symbol(small_net(make()), (1, 6, 8, 8), additions=False) == (macs, params)


def test_a_layer_used_twice_computes_twice_with_one_set_of_parameters():
    conv = nn.Conv2D(6, 1, in_channels=6, use_bias=False)
    assert count_symbol(small_net(conv, conv), (1, 6, 8, 8)) == (2 * 36 * 64, 36)


def test_names_that_contain_each_other_are_told_apart():
    """Outputs are known by name: `a` has `a_output`, and beside it stands a variable `a_weight`."""
    x = mx.sym.relu(mx.sym.var("data"), name="a")
    first, second = mx.sym.split(mx.sym.relu(x, name="a_b"), 2, name="a_b_c")
    x = mx.sym.FullyConnected(first + second, weight=mx.sym.var("a_weight"), num_hidden=5, no_bias=True, name="a_b_c_d")
    assert count_symbol(x, (1, 6, 8, 8)) == (5 * 192, 5 * 192)


def test_symbols_written_by_hand_are_counted_too():
    """Variables of the Module API have no declared shape; the label of a loss is no parameter."""
    x = mx.sym.FullyConnected(mx.sym.flatten(mx.sym.BatchNorm(mx.sym.var("data"))), num_hidden=5)
    assert count_symbol(mx.sym.SoftmaxOutput(x), (1, 6, 8, 8)) == (5 * 384 + 5, 6 + 5 * 384 + 5)  # gamma is fixed


def test_nodes_say_where_the_cost_lies():
    nodes = count_nodes(small_net(nn.Conv2D(4, 3, in_channels=6), nn.Activation("relu")), (1, 6, 8, 8))
    assert [(node.op, node.out_shape, node.cost.params) for node in nodes] == [
        ("Convolution", (1, 4, 6, 6), 220),
        ("Activation", (1, 4, 6, 6), 0),
    ]


def refused_symbols():
    data = mx.sym.var("data")
    shape = (1, 6, 8, 8)
    return (
        (
            mx.sym.sort(data, name="order"),
            shape,
            "operator 'sort' of node 'order' is not known.*Counted are Convolution",
        ),
        (mx.sym.relu(mx.sym.var("image")), shape, "no input 'data'; its inputs are: image"),
        (small_net(nn.Conv2D(4, 3, in_channels=3)), shape, r"does not fit an input of shape \(1, 6, 8, 8\).*conv"),
        (small_net(nn.Conv2D(4, 9, in_channels=6)), shape, "does not fit"),
        (data * mx.sym.var("other").reshape((-1,)), shape, "has it other inputs"),
    )


@pytest.mark.parametrize("symbol, shape, message", refused_symbols())
def test_graphs_that_cannot_be_counted_are_refused(symbol, shape, message, capsys):
    with pytest.raises(InputError, match=message):
        count_symbol(symbol, shape)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content, message",
    (
        (None, "does not exist"),
        ("", "not a JSON file"),
        ('{"nodes": [', "not a JSON file"),
        ("[1, 2]", "no list of nodes"),
        ('{"nodes": []}', "damaged, or not of this MXNet"),
        ('{"nodes": [{"op": "null"}], "arg_nodes": [0], "heads": [[0, 0, 0]]}', "damaged, or not of this MXNet"),
        (
            '{"nodes": [{"op": "null", "name": "data", "inputs": []},'
            '{"op": "Fold", "name": "f", "inputs": [[0, 0, 0]]}], "arg_nodes": [0], "heads": [[1, 0, 0]]}',
            "Fold",
        ),
    ),
)
def test_damaged_symbol_files_are_refused(content, message, tmp_path):
    path = tmp_path / "net-symbol.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_symbol(path)
