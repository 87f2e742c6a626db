"""Contract C3: closed form == walk over the symbol graph == parameter arrays, for random architectures everywhere."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from conftest import VARIANTS
from ragged_spaces import SPACES

from oneshot_nas_network import Subnet
from spos.counting.symbol import count_symbol
from spos.engine.compat import mx
from spos.space.cost import count_architecture

NUM_ARCHITECTURES = 200  # in all variants together, and with -m slow in each


def quick_shares():
    """(variant, how many architectures of it) of the quick suite."""
    cuts = [NUM_ARCHITECTURES * i // len(VARIANTS) for i in range(len(VARIANTS) + 1)]
    return [(name, end - start) for name, start, end in zip(VARIANTS, cuts, cuts[1:])]


def trained_size(net):
    """Numbers that training changes: no running statistics, no constants."""
    return sum(prod(parameter.shape) for parameter in net.collect_params().values() if parameter.grad_req != "null")


def check(variant, num_architectures, seed):
    check_space(replace(VARIANTS[variant], num_classes=10), num_architectures, seed)


def check_space(space, num_architectures, seed):
    """At the space's own input size: nothing is computed, so that size costs no time."""
    rng = np.random.default_rng(seed)
    for _ in range(num_architectures):
        architecture = space.sample(rng)
        net = Subnet(space, architecture)
        expected = count_architecture(space, architecture)
        shape = (1, 3, space.input_size, space.input_size)
        counted = count_symbol(net(mx.sym.var("data")), shape, space.count_additions)
        assert (counted, trained_size(net)) == (expected, expected.params), (seed, architecture)


def test_the_quick_suite_counts_200():
    assert sum(count for _, count in quick_shares()) == NUM_ARCHITECTURES


@pytest.mark.parametrize("variant, num_architectures", quick_shares())
def test_three_counts_are_one(variant, num_architectures):
    check(variant, num_architectures, seed=20190401)


@pytest.mark.parametrize("name", SPACES)
def test_three_counts_are_one_in_every_space(name):
    check_space(SPACES[name], 12, seed=20190401)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_three_counts_are_one_in_every_variant(variant):
    check(variant, NUM_ARCHITECTURES, seed=5)


def test_the_arrays_have_the_declared_sizes(space, rng):
    net = Subnet(space, space.sample(rng))
    net.initialize()
    arrays = [parameter for parameter in net.collect_params().values() if parameter.grad_req != "null"]
    assert sum(parameter.data().size for parameter in arrays) == trained_size(net)
    assert sum(parameter.grad().size for parameter in arrays) == trained_size(net)
