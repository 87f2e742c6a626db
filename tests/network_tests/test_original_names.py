"""Names and calls of the original project, each beside this network's own call."""

import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, TINY, fill_parameters

from oneshot_nas_blocks import (
    SE,
    ChoiceBlockGeometry,
    NasBatchNorm,
    ShuffleBlock,
    ShuffleNasBlock,
    ShuffleNetBlock,
    build,
)
from oneshot_nas_network import (
    ChoiceBlock,
    ShuffleNasOneShot,
    ShuffleNasOneShotFix,
    Subnet,
    Supernet,
    get_shufflenas_oneshot,
)
from spos.core.errors import InputError
from spos.engine.batch_norm import BatchNorm
from spos.engine.compat import mx
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.architecture_file import load_architecture
from spos.space.space_file import search_space

nd = mx.nd


def images(size=32, channels=3, num=2):
    return nd.array(np.random.default_rng(3).normal(0, 1, (num, channels, size, size)).astype(np.float32))


def equal(one, other):
    return np.array_equal(one.asnumpy(), other.asnumpy())


def test_the_calls_of_the_original_give_logits():
    n = get_shufflenas_oneshot(n_class=10)
    n._initialize()
    b = n.random_block_choices()
    m, _ = n.random_channel_mask(select_all_channels=True)
    assert n(nd.ones((1, 3, 64, 64)), b, m).shape == (1, 10)


@pytest.fixture(scope="module")
def tiny():
    net = Supernet(TINY)
    net._initialize()
    fill_parameters(net)
    return net


@pytest.mark.parametrize("seed", range(3))
def test_arrays_run_the_path_that_they_mean(tiny, seed):
    rng = np.random.default_rng(seed)
    blocks, listed = tiny.random_block_choices(return_choice_list=True, rng=rng)
    mask, channels = tiny.random_channel_mask(rng=rng)
    architecture = Architecture(listed, channels)
    assert blocks.asnumpy().tolist() == listed and mask.shape == (4, 48)
    widths = [TINY.mid_channels(i, c) for i, c in enumerate(channels)]
    assert mask.asnumpy().sum(1).tolist() == widths
    assert tiny.read_choices(blocks, mask) == architecture
    assert equal(tiny(images(), blocks, mask), tiny(images(), architecture))
    assert equal(tiny(images(), listed, mask.astype("float16")), tiny(images(), architecture))


def test_arrays_train_what_the_path_trains(tiny):
    blocks, mask = tiny.random_block_choices(), tiny.random_channel_mask()[0]
    gradients = []
    for arguments in ((blocks, mask), (tiny.read_choices(blocks, mask),)):
        tiny.collect_params().zero_grad()
        mx.random.seed(1)  # dropout
        with mx.autograd.record():
            loss = (tiny(images(), *arguments) ** 2).sum()
        loss.backward()
        parameters = tiny._collect_params_with_prefix().values()
        gradients.append([p.grad().asnumpy() for p in parameters if p.grad_req != "null"])
    assert all(np.array_equal(one, other) for one, other in zip(*gradients))
    assert any(np.abs(gradient).max() > 0 for gradient in gradients[0])


def test_masks_follow_the_schedule_and_the_flags():
    net = Supernet(search_space())
    lowest = [min(net.random_channel_mask(epoch_after_cs=epoch)[1]) for epoch in (0, 1, 2, 3, 4)]
    assert all(found >= bound for found, bound in zip(lowest, (8, 7, 6, 5, 4)))
    assert set(net.random_channel_mask(select_all_channels=True)[1]) == {9}
    many = [choice for _ in range(40) for choice in net.random_channel_mask(ignore_first_two_cs=True)[1]]
    assert set(many) == set(range(2, 10))
    assert set(choice for _ in range(40) for choice in net.random_channel_mask()[1]) == set(range(10))


def test_draws_follow_pythons_seed():
    net = Supernet(TINY)

    def draw():
        random.seed(7)
        return net.random_block_choices().asnumpy().tolist(), net.random_channel_mask()[1]

    assert draw() == draw()


def test_predefined_blocks_are_those_of_oneshot():
    blocks = Supernet(search_space()).random_block_choices(select_predefined_block=True, dtype="float16")
    assert tuple(blocks.asnumpy()) == load_architecture("oneshot").architecture.block_choices
    assert blocks.dtype == np.float16


@pytest.mark.parametrize(
    "change, message",
    (
        (lambda mask: mask[:3], "a channel mask has 4 rows, not the shape"),
        (lambda mask: mask[0], "a channel mask has 4 rows"),
        (lambda mask: np.concatenate([np.eye(1, 48), mask[1:]]), "of choice block 0 .* \\(3, 6, 9, 12, 16"),
        (lambda mask: mask[:, ::-1], "of choice block 0 must begin with as many ones"),
    ),
)
def test_masks_that_mean_no_choice_are_refused(change, message):
    net = Supernet(TINY)
    mask = net.random_channel_mask(rng=np.random.default_rng(0))[0].asnumpy()
    mask[0] = np.arange(48) < 6
    with pytest.raises(InputError, match=message):
        net.read_choices(net.random_block_choices(), change(mask))


@pytest.mark.parametrize("flags", ({}, {"use_se": True}, {"use_se": True, "last_conv_after_pooling": True}))
def test_classes_are_those_of_the_factory(flags):
    record = load_architecture("oneshot").architecture
    scales = [search_space().channel_scales[c] for c in record.channel_choices]
    pairs = (
        (ShuffleNasOneShot(n_class=7, **flags), get_shufflenas_oneshot(n_class=7, **flags), Supernet),
        (
            ShuffleNasOneShotFix(n_class=7, architecture=record.block_choices, channel_scales=scales, **flags),
            get_shufflenas_oneshot(record.block_choices, record.channel_choices, n_class=7, **flags),
            Subnet,
        ),
    )
    for named, made, kind in pairs:
        assert isinstance(named, kind) and named.space == made.space
        assert [p.shape for p in named.collect_params().values()] == [p.shape for p in made.collect_params().values()]
    with pytest.raises(InputError, match=r"channel scale 0\.3 is none of 0\.2, 0\.4"):
        ShuffleNasOneShotFix(architecture=[0] * 20, channel_scales=[0.3] * 20)


def test_initialize_gives_the_values_that_training_begins_with():
    net = Supernet(search_space(use_se=True, last_conv_after_pooling=True))
    net._initialize()
    values = {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}
    for name, value in values.items():
        if name.endswith(("bias", "running_mean")):
            assert not value.any(), name
        elif name.endswith("beta"):
            assert np.allclose(value, 1e-4), name
        elif name.endswith(("gamma", "running_var")):
            assert (value == 1).all(), name
    widest = values["features.16.block_sn_3x3.main_branch.5.weight"]
    assert widest.std() == pytest.approx(1 / widest.shape[1], rel=0.02)
    before = values["output.0.weight"]
    net._initialize(force_reinit=True, dtype="float16")
    again = net.output[0].weight.data()
    assert again.dtype == np.float16 and not np.array_equal(again.asnumpy(), before)


@pytest.mark.parametrize("stride, in_channels", ((1, 32), (2, 16)))
@pytest.mark.parametrize("use_se", (False, True))
@pytest.mark.parametrize("kind", search_space().blocks, ids=[kind.name for kind in search_space().blocks])
def test_a_block_by_its_channels_is_the_block_of_the_network(kind, use_se, stride, in_channels):
    mode = {"shuffle": "ShuffleNetV2", "xception": "ShuffleXception"}[kind.family]
    block = ShuffleNetBlock(in_channels, 32, 22, kind.kernel_size, stride, mode, "hard_swish", use_se)
    place = (0, 0, in_channels, 32, stride, stride == 2, use_se, "hard_swish", 16)
    geometry = ChoiceBlockGeometry(*place, scale=22 / 16)
    own = ShuffleBlock(geometry.in_channels, kind.describe(geometry))
    for net in (block, own):
        net.initialize()
        fill_parameters(net)
    x = images(16, in_channels)
    mask = (nd.arange(22) < 9).reshape((1, 22, 1, 1))
    assert equal(block(x), own(x)) and equal(block(x, mask), own(x, mask))


@pytest.mark.parametrize("use_all_blocks", (False, True))
def test_all_choices_by_their_channels_are_a_choice_block(use_all_blocks):
    space = replace(TINY, use_se=False)
    own = ChoiceBlock(space, 0)
    geometry = space.choice_blocks[0]
    block = ShuffleNasBlock(geometry.in_channels, geometry.out_channels, 2, use_all_blocks=use_all_blocks)
    for net in (block, own):
        net.initialize()
        fill_parameters(net)
    x, width = images(16, geometry.in_channels), space.mid_channels(0, 4)
    mask = (nd.arange(48) < width).reshape((1, 48))
    for choice in range(4):
        chosen = None if use_all_blocks else choice
        expected = own(x, chosen, 4, "mask")
        assert equal(block(x, nd.array([choice]), mask), expected)
        assert equal(block(x, choice, mask.astype("float16")), expected)


def test_squeeze_and_excite_by_its_channels():
    gate = SE(20)
    own = build((layer_specs.SqueezeExcite(20),))[0]
    for net in (gate, own):
        net.initialize()
        fill_parameters(net)
    assert equal(gate(images(8, 20)), own(images(8, 20)))
    assert gate.channel_attention[1].weight.shape == (8, 20, 1, 1)  # 20 / 4, rounded up to a multiple of 8


def test_batch_norm_is_the_networks_own_unless_it_follows_batches():
    layer, own = NasBatchNorm(in_channels=4), BatchNorm(4)
    for net in (layer, own):
        net.initialize()
        fill_parameters(net)
    x = images(8, 4)
    assert equal(layer(x), own(x))
    before = layer.running_mean.data().asnumpy(), layer.running_var.data().asnumpy()
    layer.inference_update_stat = True
    y, array = layer(x).asnumpy(), x.asnumpy().astype(np.float64)
    mean, var = array.mean((0, 2, 3)), array.var((0, 2, 3))
    assert np.allclose(layer.running_mean.data().asnumpy(), 0.9 * before[0] + 0.1 * mean, atol=1e-6)
    assert np.allclose(layer.running_var.data().asnumpy(), 0.9 * before[1] + 0.1 * var, atol=1e-6)
    gamma, beta = (own.params.get(name).data().asnumpy() for name in ("gamma", "beta"))
    normalised = (array - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
    assert np.allclose(y, gamma[:, None, None] * normalised + beta[:, None, None], atol=1e-5)
    assert not np.allclose(y, own(x).asnumpy(), atol=1e-2)


@pytest.mark.parametrize("module", ("oneshot_nas_network.py", "oneshot_nas_blocks.py"))
def test_modules_say_in_one_line_what_to_run(module):
    done = subprocess.run([sys.executable, module], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert "is a module: `" in done.stdout
