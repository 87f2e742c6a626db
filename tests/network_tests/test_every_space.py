"""Contracts that hold in every space, for every kind of block: one function, one count, whichever way it is run."""

from math import prod

import numpy as np
import pytest
from conftest import fill_parameters
from random_spaces import EVERY_SPACE, shipped

from oneshot_nas_network import Subnet, Supernet
from spos.counting.layers import subnet_layers
from spos.counting.symbol import count_symbol
from spos.engine.compat import mx
from spos.engine.parameters import STATISTICS
from spos.execution.scored import PathExecutor
from spos.execution.trained import TrainingGraphs
from spos.space.checks import check_space
from spos.space.cost import ZERO, cost_table
from spos.space.names import parameter_shapes, subnet_chains
from spos.space.space import SearchSpace
from spos.space.space_file import shipped_spaces

NUM_ARCHITECTURES = 2
TOLERANCE = 1e-5
# Of gradients by other operators: one ReLU that flips changes those of whole networks by percents.
GRADIENT_TOLERANCE = 0.1
LOGITS_TOLERANCE = (
    5e-4  # in training: BatchNorm over few values, 22 blocks deep; seen 1.4e-4 on a processor without AVX-512
)


@pytest.fixture(params=EVERY_SPACE, ids=str)
def space(request):
    return EVERY_SPACE[request.param]()


def some_images(space, rng, count=12):
    return mx.nd.array(rng.normal(0, 1, (count, 3, space.input_size, space.input_size)))


def filled(net):
    fill_parameters(net)
    return net


def gradients(net, forward, images):
    """By name, of a loss that weighs the classes; statistics stay."""
    named = net._collect_params_with_prefix()
    statistics = {name: p.data().copy() for name, p in named.items() if "running" in name}
    trained = {name: p for name, p in named.items() if p.grad_req != "null"}
    for parameter in trained.values():
        parameter.zero_grad()
    with mx.autograd.record():
        logits = forward(images)
    logits.backward(mx.nd.array(np.random.default_rng(2).normal(0, 1, logits.shape)))
    for name, value in statistics.items():
        named[name].set_data(value)
    return {name: p.grad().asnumpy() for name, p in trained.items()}


def in_training(forward, images, architecture):
    with mx.autograd.train_mode():
        return forward(images, architecture).asnumpy()


def norm(arrays):
    return sum(float((array.astype(np.float64) ** 2).sum()) for array in arrays) ** 0.5


def test_json_gives_the_space_back(space):
    check_space(space)
    again = SearchSpace.from_json(space.to_json())
    assert again == space and again.fingerprint == space.fingerprint


def test_mask_slice_and_subnet_are_one_function(space, rng):
    """C1: logits in inference, and the gradients of the selected weights in training."""
    sliced, masked = filled(Supernet(space)), filled(Supernet(space, "mask"))
    images = some_images(space, rng)
    for _ in range(NUM_ARCHITECTURES):
        architecture = space.sample(rng)
        subnet = sliced.extract(architecture, grad_req="write")
        logits = [net.asnumpy() for net in (subnet(images), sliced(images, architecture), masked(images, architecture))]
        for one in logits[1:]:
            np.testing.assert_allclose(one, logits[0], rtol=0, atol=TOLERANCE * np.abs(logits[0]).max())
        own = gradients(subnet, subnet, images)
        of_path = gradients(sliced, lambda x: sliced(x, architecture), images)  # noqa: B023  called at once
        path = {mine: (theirs, shape) for mine, theirs, shape in sliced._path(architecture, False)}
        for name, gradient in of_path.items():
            if name not in path:
                assert not gradient.any(), name
                continue
            theirs, shape = path[name]
            corner = tuple(slice(0, length) for length in shape)
            np.testing.assert_allclose(gradient[corner], own[theirs], rtol=1e-4, atol=TOLERANCE * norm(own.values()))
            outside = gradient.copy()
            outside[corner] = 0
            assert not outside.any(), name


def test_fast_training_is_the_network(space, rng):
    net, images = filled(Supernet(space)), some_images(space, rng)
    graphs = TrainingGraphs(net)
    for _ in range(NUM_ARCHITECTURES):
        architecture = space.sample(rng)
        wanted = gradients(net, lambda x: net(x, architecture), images)  # noqa: B023
        got = gradients(net, lambda x: graphs(x, architecture), images)  # noqa: B023
        assert norm(got[name] - wanted[name] for name in wanted) <= GRADIENT_TOLERANCE * norm(wanted.values())
        logits = [in_training(forward, images, architecture) for forward in (graphs, net)]
        np.testing.assert_allclose(*logits, rtol=0, atol=LOGITS_TOLERANCE * np.abs(logits[1]).max())
        unused = [name for name, value in wanted.items() if not value.any()]
        assert not any(got[name].any() for name in unused)


def test_fast_scoring_is_the_subnet(space, rng):
    """C2 too: the statistics of the update are those of the images."""
    net, images = filled(Supernet(space)), some_images(space, rng, 8)
    executor = PathExecutor(net, [mx.cpu()])
    for _ in range(NUM_ARCHITECTURES):
        architecture = space.sample(rng)
        path = executor.path(architecture)
        path.update_batch_norm([[(images, None)]])
        subnet = net.extract(architecture)
        with mx.autograd.train_mode():
            wanted = subnet(images).asnumpy()  # normalised by the same batch
        np.testing.assert_allclose(path.logits(images).asnumpy(), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_there_is_one_count(space, rng):
    """C3: closed form, layer by layer, and the parameter arrays."""
    table = cost_table(space)
    for _ in range(50):
        architecture = space.sample(rng)
        assert sum((layer.cost for layer in subnet_layers(space, architecture)), ZERO) == table.cost(architecture)
        shapes = [
            shape
            for chain in subnet_chains(space, architecture)
            for name, shape in parameter_shapes(chain.specs, chain.first).items()
            if "running" not in name
        ]
        assert sum(map(prod, shapes)) == table.cost(architecture).params
    net = Subnet(space, architecture)
    arrays = {name: p.shape for name, p in net._collect_params_with_prefix().items()}
    chains = subnet_chains(space, architecture)
    assert arrays == {c.prefix + n: s for c in chains for n, s in parameter_shapes(c.specs, c.first).items()}


def test_supernet_and_subnet_have_the_parameters_of_the_paths(space, rng):
    net, seen = Supernet(space), set()
    for _ in range(60):
        seen |= {own for own, _, _ in net._path(space.sample(rng), False)}
    names = {name for name, p in net._collect_params_with_prefix().items()}
    assert seen <= names
    assert {own for own, _, _ in net._path(space.sample(rng), True)} == names


def test_architectures_have_one_canonical_form(space, rng):
    for _ in range(50):
        architecture = space.sample(rng)
        assert space.validate(architecture) == architecture == space.canonical(architecture)
        for index, pair in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
            assert pair in space.pairs(index)
            assert space.has_middle(index, pair[0]) == (space.mid_channels(index, pair[1], pair[0]) > 0)
    assert space.num_architectures == prod(len(space.pairs(index)) for index in range(space.num_choice_blocks))


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_spaces())
def test_two_hundred_architectures_of_a_space_that_ships(name, rng):
    """Mask, slice and subnet are one function; closed form, graph walk and parameter arrays one count."""
    space = shipped(name)
    sliced, masked = filled(Supernet(space)), filled(Supernet(space, "mask"))
    images, table = some_images(space, rng, 2), cost_table(space)
    for _ in range(200):
        architecture = space.sample(rng)
        subnet = sliced.extract(architecture)
        logits = [net.asnumpy() for net in (subnet(images), sliced(images, architecture), masked(images, architecture))]
        for one in logits[1:]:
            np.testing.assert_allclose(one, logits[0], rtol=0, atol=10 * TOLERANCE * np.abs(logits[0]).max())
        shape = (1, *images.shape[1:])
        walked = count_symbol(subnet(mx.sym.var("data")), shape, additions=space.count_additions)
        # a supernet does not train BatchNorm around the choice blocks, which the extracted subnet keeps
        arrays = {n: p for n, p in subnet._collect_params_with_prefix().items() if not n.endswith(STATISTICS)}
        assert walked == table.cost(architecture)
        assert sum(prod(p.shape) for p in arrays.values()) == walked.params
