"""Layer by layer: names and parameters of the Gluon network, and sums that are the counts."""

from math import prod

import numpy as np
import pytest
from conftest import TINY
from ragged_spaces import SPACES

from oneshot_nas_network import Subnet, Supernet
from spos.counting.layers import subnet_layers, supernet_branches
from spos.engine.compat import mx
from spos.space.cost import ZERO, cost_table, count_architecture


def test_layers_add_up_to_the_count(space, rng):
    architecture = space.sample(rng)
    layers = subnet_layers(space, architecture)
    assert sum((layer.cost for layer in layers), ZERO) == count_architecture(space, architecture)
    assert len({layer.name for layer in layers}) == len(layers)


@pytest.mark.parametrize("name", SPACES)
def test_layers_add_up_to_the_count_in_every_space(name):
    space, rng = SPACES[name], np.random.default_rng(3)
    for _ in range(200):
        architecture = space.sample(rng)
        layers = subnet_layers(space, architecture)
        assert sum((layer.cost for layer in layers), ZERO) == count_architecture(space, architecture), architecture


@pytest.mark.parametrize("name", SPACES)
def test_branches_of_every_space_are_all_of_its_choices(name):
    space = SPACES[name]
    branches = iter(supernet_branches(space))
    for index, choices in enumerate(space.choices):
        for b, kind in enumerate(choices.blocks):
            branch, widths = next(branches), cost_table(space).blocks[index][b]
            assert branch.kind == kind.name
            assert (branch.narrowest, branch.widest) == (widths[0], widths[-1])
            assert (branch.narrowest == branch.widest) == (not space.has_middle(index, b) or len(widths) == 1)
    assert next(branches, None) is None


def test_names_and_params_are_those_of_the_network(space, rng):
    architecture = space.sample(rng)
    params = {}
    for name, parameter in Subnet(space, architecture)._collect_params_with_prefix().items():
        layer, _, kind = name.rpartition(".")
        if not kind.startswith("running"):
            params[layer] = params.get(layer, 0) + prod(parameter.shape)
    assert {
        layer.name: layer.cost.params for layer in subnet_layers(space, architecture) if layer.cost.params
    } == params


def test_output_shapes_are_those_of_the_network(rng):
    """Every layer's output, by hooks on a real forward pass."""
    architecture = TINY.sample(rng)
    net = Subnet(TINY, architecture)
    net.initialize()
    shapes = {}
    _watch(net, "", shapes)
    net(mx.nd.zeros((1, 3, TINY.input_size, TINY.input_size)))
    for layer in subnet_layers(TINY, architecture):
        assert shapes[layer.name] == layer.out_shape, layer.name


def _watch(block, prefix, shapes):
    for name, child in block._children.items():
        child.register_forward_hook(lambda _, __, out, path=prefix + name: shapes.update({path: tuple(out.shape[1:])}))
        _watch(child, f"{prefix}{name}.", shapes)


def test_branches_are_what_the_cost_table_sums(space):
    blocks = cost_table(space).blocks
    branches = supernet_branches(space)
    expected = [(kind[space.min_channel_choice], kind[space.max_channel_choice]) for block in blocks for kind in block]
    assert [(branch.narrowest, branch.widest) for branch in branches] == expected


def test_branches_have_the_params_of_the_supernet():
    params = {}
    for name, parameter in Supernet(TINY)._collect_params_with_prefix().items():
        branch = name.split(".main_branch")[0].split(".proj_branch")[0]
        if "block_s" in name and "running" not in name:
            params[branch] = params.get(branch, 0) + prod(parameter.shape)
    assert {branch.name: branch.widest.params for branch in supernet_branches(TINY)} == params
