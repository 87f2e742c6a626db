"""Paths in training against the networks they stand for: the same logits, gradients and statistics.

Natively, and some of them by graphs.
"""

from dataclasses import replace

import numpy as np
import pytest
from conftest import OTHER_VARIANTS, SPACES, TINY, VARIANTS, all_choices, in_both_ways

from oneshot_nas_network import Subnet, Supernet
from spos.engine.compat import mx
from spos.execution import trained
from spos.execution.graphs import Graph
from spos.execution.trained import TrainingGraphs
from spos.native.build import SWITCH
from spos.space.architecture import Architecture
from spos.space.layers import round_up

CPU = [mx.cpu()]
TWO = [mx.cpu(0), mx.cpu(1)]
IMAGES = 5  # a seed of images that bring no ReLU of the networks below so near to 0 that rounding flips it


def filled(net, rng, ctx=CPU):
    """With weights that keep signals at their size, and any BatchNorm."""
    net.initialize(ctx=ctx)
    for name, parameter in net._collect_params_with_prefix().items():
        shape = parameter.shape
        if name.endswith(("gamma", "running_var")):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(0, np.prod(shape[1:]) ** -0.5 if name.endswith("weight") else 0.1, shape)
        parameter.set_data(mx.nd.array(value))
    return net


def some_images(space, rng, num_images=6):
    return mx.nd.array(rng.normal(0, 1, (num_images, 3, space.input_size, space.input_size)))


def state(net):
    return {name: p.data(p.list_ctx()[0]).asnumpy() for name, p in net._collect_params_with_prefix().items()}


def trained_parameters(net):
    return {name: p for name, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}


DRAWS = 3


def one_pass(net, forward, images):
    """(logits, gradients, statistics) of a forward and backward pass; the net is as it was before."""
    named = net._collect_params_with_prefix()
    statistics = {name: p.data().copy() for name, p in named.items() if "running" in name}
    mx.random.seed(1)
    for parameter in trained_parameters(net).values():
        parameter.zero_grad()
    with mx.autograd.record():
        logits = forward(images)
    logits.backward(mx.nd.array(np.random.default_rng(2).normal(0, 1, logits.shape)))
    gradients = {name: p.grad().asnumpy() for name, p in trained_parameters(net).items()}
    moved = {name: named[name].data().asnumpy() for name in statistics}
    for name, value in statistics.items():
        named[name].set_data(value)
    return {"": logits.asnumpy()}, gradients, moved


def norm(arrays, kind):
    return sum(float((array.astype(np.float64) ** 2).sum()) for n, array in arrays.items() if n.endswith(kind)) ** 0.5


def disturbed(images, seed):
    """With rounding errors, which are not all alike: BatchNorm would undo that."""
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), images.shape)
    return images * (1 + 2**-21 * mx.nd.array(signs))


def assert_alike(net, forward, images, wanted_forward):
    """The same but for rounding: no further than a few times what the network makes of it.

    By the norm of a kind, because some gradients are 0 but for rounding, like that of a beta before another BatchNorm.
    In whole networks with few images a ReLU that flips changes all gradients before it by percents, and processors
    round differently: so images are drawn anew, twice at most. What computes something else does so for all of them.
    """
    faults = []
    for draw in range(DRAWS):
        anew = mx.nd.array(np.random.default_rng(draw).normal(0, 1, images.shape))
        faults.append(_difference(net, forward, anew if draw else images, wanted_forward))
        if not faults[-1]:
            return
    raise AssertionError("; ".join(faults))


def _difference(net, forward, images, wanted_forward):
    """What differs by more than rounding, in words; empty if nothing does."""
    got, wanted = (one_pass(net, each, images) for each in (forward, wanted_forward))
    noisy = [one_pass(net, wanted_forward, disturbed(images, seed)) for seed in range(3)]
    for part, (ours, theirs) in enumerate(zip(got, wanted)):
        assert set(ours) == set(theirs)
        for kind in ("weight", "gamma", "beta", "bias", "running_mean", "running_var", ""):
            noise = max(norm({name: one[part][name] - theirs[name] for name in theirs}, kind) for one in noisy)
            error = norm({name: ours[name] - theirs[name] for name in theirs}, kind)
            size = norm(theirs, kind)
            if error > max(1e-5 * size, 3 * noise) or error > 0.1 * size:
                return f"{kind}: {error} of {size}, noise {noise}"
    return ""


@in_both_ways("variant", VARIANTS, ("se-last-conv", "small"), slow=("plain", "multiple-of-8", *OTHER_VARIANTS))
def test_a_path_trains_as_the_supernet_does(variant, way, rng):
    space = replace(VARIANTS[variant], num_classes=10, input_size=32 if variant == "small-images" else 64)
    net, images = filled(Supernet(space), rng), some_images(space, np.random.default_rng(IMAGES), 12)
    architecture, graphs = space.sample(rng), TrainingGraphs(net)
    assert_alike(net, lambda x: graphs(x, architecture), images, lambda x: net(x, architecture))


@in_both_ways(
    "choice, width",
    [(choice, width) for choice in range(4) for width in (0, 3, 6, 9)],
    ((0, 0), (1, 3), (2, 6), (3, 9), (3, 0)),
)
def test_every_choice_trains_as_the_supernet_does(choice, width, way, rng):
    net, images = filled(Supernet(TINY), rng), some_images(TINY, rng)
    architecture, graphs = Architecture((choice,) * 4, (width,) * 4), TrainingGraphs(net)
    assert_alike(net, lambda x: graphs(x, architecture), images, lambda x: net(x, architecture))


@in_both_ways("name", SPACES, ("mobilenet-se", "mixed"))
def test_every_kind_of_block_trains_as_the_supernet_does(name, way, rng):
    space = SPACES[name]
    net, images = filled(Supernet(space), rng), some_images(space, rng, 12)
    graphs = TrainingGraphs(net)
    for architecture in all_choices(space, rng):
        assert_alike(
            net, lambda x, path=architecture: graphs(x, path), images, lambda x, path=architecture: net(x, path)
        )


@in_both_ways("variant", ("plain", "se-last-conv", "v2plus"), ("v2plus",))
def test_a_subnet_trains_as_itself(variant, way, rng):
    space = replace(VARIANTS[variant], num_classes=10, input_size=64)
    net, images = filled(Subnet(space, space.sample(rng)), rng), some_images(space, rng)
    assert_alike(net, TrainingGraphs(net), images, net)


@in_both_ways("name", ("mobilenet-se", "mixed"), ("mobilenet-se", "mixed"))
def test_stochastic_depth_leaves_out_what_the_subnet_leaves_out(name, way, rng):
    space = SPACES[name]
    for architecture in list(all_choices(space, rng))[:2]:
        net = filled(Subnet(space, architecture, stochastic_depth=0.6), rng)
        images = some_images(space, rng, 12)
        whole = filled(Subnet(space, architecture), rng)
        for parameter, value in zip(whole._collect_params_with_prefix().values(), state(net).values()):
            parameter.set_data(mx.nd.array(value))
        assert_alike(net, TrainingGraphs(net), images, net)
        assert np.abs(one_pass(net, net, images)[0][""] - one_pass(whole, whole, images)[0][""]).max() > 0.01


def test_what_is_not_selected_keeps_its_statistics_and_has_no_gradient(way, rng):
    net, images = filled(Supernet(TINY), rng), some_images(TINY, rng)
    architecture, graphs = Architecture((0, 3, 1, 2), (4, 0, 6, 2)), TrainingGraphs(net)
    before = state(net)
    _, gradients, statistics = one_pass(net, lambda x: graphs(x, architecture), images)
    selected = {parameter.name: shape for parameter, shape in net.selected_parameters(architecture)}
    norms = {
        own.rpartition(".")[0]: shape
        for own, _, shape in net._path(architecture, use_all_blocks=False)
        if own.endswith("running_mean")
    }
    for name, parameter in trained_parameters(net).items():
        gradient = gradients[name]
        gradient[tuple(slice(0, n) for n in selected.get(parameter.name, (0,)))] = 0
        assert not gradient.any(), name
    for name, value in statistics.items():
        (used,) = norms.get(name.rpartition(".")[0], (0,))
        np.testing.assert_array_equal(value[used:], before[name][used:], err_msg=name)
        assert used == 0 or (value[:used] != before[name][:used]).all(), name


def test_without_fast_forms_a_path_is_that_of_the_supernet_bit_by_bit(rng):
    """What runs on GPUs, and in half precision."""
    net, images, architecture = filled(Supernet(TINY), rng), some_images(TINY, rng), TINY.sample(rng)
    graphs = TrainingGraphs(net, fast=False)
    got = one_pass(net, lambda x: graphs(x, architecture), images)
    wanted = one_pass(net, lambda x: net(x, architecture), images)
    np.testing.assert_array_equal(got[0][""], wanted[0][""])
    for one, other in zip(got[1:], wanted[1:]):
        for name, value in other.items():
            np.testing.assert_allclose(one[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_fast_forms_are_for_float32_on_a_cpu(rng):
    net = filled(Supernet(TINY), rng)
    assert TrainingGraphs(net).fast
    net.cast("float16")
    assert not TrainingGraphs(net).fast


def test_devices_train_their_own_images(way, rng):
    net, images, architecture = filled(Supernet(TINY), rng, TWO), some_images(TINY, rng), TINY.sample(rng)
    graphs = TrainingGraphs(net)
    halves = [images[:3].as_in_context(TWO[0]), images[3:].as_in_context(TWO[1])]
    results = []
    for forward in (graphs, net):
        for parameter in trained_parameters(net).values():
            parameter.zero_grad()
        mx.random.seed(1)
        with mx.autograd.record():
            logits = [forward(half, architecture) for half in halves]
        mx.autograd.backward(logits)
        results.append([[g.asnumpy() for g in p.list_grad()] for p in trained_parameters(net).values()])
    scale = max(np.abs(g).max() for pair in results[1] for g in pair)
    for got, wanted in zip(*results):
        for one, other in zip(got, wanted):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * scale)


def test_paths_follow_changes_of_the_network(way, rng):
    """Parameters that were loaded or cast are other arrays."""
    net, images, architecture = filled(Supernet(TINY), rng), some_images(TINY, rng), TINY.sample(rng)
    graphs = TrainingGraphs(net)
    first = one_pass(net, lambda x: graphs(x, architecture), images)
    net.cast("float32")
    for parameter in net.collect_params(".*weight").values():
        parameter.set_data(parameter.data() ** 2)
    assert_alike(net, lambda x: graphs(x, architecture), images, lambda x: net(x, architecture))
    assert np.abs(one_pass(net, lambda x: graphs(x, architecture), images)[0][""] - first[0][""]).max() > 0.1


def test_inference_is_refused(rng):
    """The statistics that it would use are those of the network, which graphs of padded widths do not read."""
    net = filled(Subnet(TINY, TINY.sample(rng)), rng)
    with pytest.raises(ValueError, match="training"):
        TrainingGraphs(net)(some_images(TINY, rng))


def kinds_of(architecture):
    """What tells a path's choice blocks apart: geometry, block choice, executed width, and whether it is padded."""
    for block, choice, channels in zip(TINY.choice_blocks, architecture.block_choices, architecture.channel_choices):
        width = TINY.mid_channels(block.index, channels)
        yield replace(block, index=0), choice, round_up(width, 16), width % 16 != 0


def test_graphs_are_made_once_for_a_kind_of_choice_block(rng, monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    net, made = filled(Supernet(TINY), rng), []
    monkeypatch.setattr(trained, "Graph", lambda *args, **kwargs: made.append(Graph(*args, **kwargs)) or made[-1])
    graphs, images = TrainingGraphs(net), some_images(TINY, rng)
    architectures = [TINY.sample(rng) for _ in range(10)]
    for architecture in architectures:
        with mx.autograd.train_mode():
            graphs(images, architecture)
    kinds = {key for one in architectures for key in kinds_of(one)}
    assert len(made) == 2 + len(kinds)  # and stem and tail
    for architecture in architectures:
        with mx.autograd.train_mode():
            graphs(images, architecture)
    assert len(made) == 2 + len(kinds)


def test_images_of_another_size_are_refused(rng):
    graphs = TrainingGraphs(filled(Subnet(TINY, TINY.sample(rng)), rng))
    with pytest.raises(ValueError, match="images of 17 x 17, compiled for 16 x 16"), mx.autograd.train_mode():
        graphs(mx.nd.zeros((1, 3, 17, 17)))
