"""Supernet, subnet and their equality (contract C1), the reference logits, and the file format of parameters."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import SPACES, TINY, VARIANTS, fill_parameters

from oneshot_nas_blocks import ChannelShuffle, build_block
from oneshot_nas_network import Subnet, Supernet, get_shufflenas_oneshot
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.space.architecture import Architecture
from spos.space.blocks import BlockLayers
from spos.space.layers import Conv
from spos.space.original import with_selectors

REFERENCE_SUBNETS = ("oneshot", "oneshot+", "oneshot-s+", "oneshot-s+_shufflenetv2+_layout")
REFERENCE_SUPERNETS = ("supernet_se", "supernet_plain")


def reference_input():
    return mx.nd.array(np.random.RandomState(20190401).normal(0, 1, (2, 3, 64, 64)).astype(np.float32))


def relative_difference(a, b):
    a, b = (value.asnumpy() if hasattr(value, "asnumpy") else value for value in (a, b))
    return np.abs(a - b).max() / np.abs(b).max()


def make_supernet(space, **kwargs):
    net = Supernet(space, **kwargs)
    fill_parameters(net)
    return net


def random_input(rng, space, num_images=2):
    size = 32 if space.input_size == 32 else 64
    return mx.nd.array(rng.normal(0, 1, (num_images, 3, size, size)).astype(np.float32))


@pytest.mark.parametrize("name", REFERENCE_SUBNETS)
def test_subnet_gives_the_reference_logits_and_file_names(name, reference):
    case = json.loads((reference / "cases.json").read_text())["subnets"][name]
    shapes = json.loads((reference / "parameter_shapes.json").read_text())[name]
    net = get_shufflenas_oneshot(
        case["block_choices"],
        case["channel_choices"],
        use_se=case["use_se"],
        last_conv_after_pooling=case["last_conv_after_pooling"],
        channels_layout=case["channels_layout"],
    )
    fill_parameters(net)
    assert {n: list(p.shape) for n, p in net._collect_params_with_prefix().items()} == shapes
    assert relative_difference(net(reference_input()), np.load(reference / f"logits_{name}.npy")) < 1e-4
    net.hybridize()
    assert relative_difference(net(reference_input()), np.load(reference / f"logits_{name}.npy")) < 1e-4


@pytest.mark.parametrize("name", REFERENCE_SUPERNETS)
def test_supernet_gives_the_reference_logits_through_the_converter(name, reference):
    case = json.loads((reference / "cases.json").read_text())["supernets"][name]
    shapes = json.loads((reference / "parameter_shapes.json").read_text())[name]
    net = get_shufflenas_oneshot(use_se=case["use_se"], last_conv_after_pooling=case["last_conv_after_pooling"])
    fill_parameters(net, with_selectors)
    own = {with_selectors(n): list(p.shape) for n, p in net._collect_params_with_prefix().items()}
    assert own == shapes
    logits = net(reference_input(), Architecture(case["block_choices"], case["channel_choices"]))
    assert relative_difference(logits, np.load(reference / f"logits_{name}.npy")) < 1e-4


def test_mask_slice_and_subnet_give_the_same_logits(space, rng):
    net = make_supernet(space)
    x = random_input(rng, space)
    for architecture in (space.sample(rng), space.sample(rng)):
        net.execution = "slice"
        sliced = net(x, architecture)
        net.execution = "mask"
        masked = net(x, architecture)
        subnet = net.extract(architecture)(x)
        assert relative_difference(masked, sliced) < 1e-4
        assert relative_difference(subnet, sliced) < 1e-4


def gradients(net, forward, x, seed=7):
    """Loss gradients and running statistics after one backward pass in training mode, by structural name."""
    weights = mx.nd.array(np.random.default_rng(seed).normal(0, 1, (x.shape[0], 10)).astype(np.float32))
    with mx.autograd.record():
        loss = (forward(x) * weights).sum()
    loss.backward()
    parameters = net._collect_params_with_prefix()
    grads = {n: p.grad().asnumpy() for n, p in parameters.items() if p.grad_req != "null"}
    statistics = {n: p.data().asnumpy() for n, p in parameters.items() if "running" in n}
    return grads, statistics


def without_dropout(net):
    for _, child in _walk(net):
        if isinstance(child, mx.gluon.nn.Dropout):
            child._rate = 0
    return net


def _walk(block):
    for name, child in block._children.items():
        yield name, child
        yield from _walk(child)


def shortened(space, num_blocks=2):
    """The space with fewer blocks in a stage: gradients through 20 blocks amplify rounding too much to compare."""
    return replace(space, stages=tuple(replace(stage, num_blocks=num_blocks) for stage in space.stages))


def test_mask_slice_and_subnet_give_the_same_gradients_on_selected_weights(space, rng):
    """And the same running statistics. Beta before another BatchNorm has a gradient of rounding errors only, so
    differences are related to the largest gradient of the network and to all gradients together. On CPUs with AVX-512
    they are up to 3.4e-3 of it."""
    space = shortened(space)
    x, architecture = random_input(rng, space, num_images=8), space.sample(rng)
    net = without_dropout(make_supernet(space))
    subnet = without_dropout(net.extract(architecture, grad_req="write"))
    expected = gradients(subnet, subnet, x)
    before = {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}
    for execution in ("slice", "mask"):
        fill_parameters(net)
        net.execution = execution
        got = gradients(net, lambda x: net(x, architecture), x)
        for kind in (0, 1):  # gradients, then running statistics
            rows = [row for row in net._path(architecture, False) if row[0] in got[kind] and row[1] in expected[kind]]
            wanted = [expected[kind][theirs] for _, theirs, _ in rows]
            errors = [
                got[kind][own][tuple(slice(0, n) for n in shape)] - value
                for (own, _, shape), value in zip(rows, wanted)
            ]
            largest = max(np.abs(value).max() for value in wanted)
            assert max(np.abs(error).max() for error in errors) < 5e-3 * largest, (execution, kind)
            assert norm(errors) < 2e-3 * norm(wanted), (execution, kind)
        if execution == "slice":
            selected = {own: shape for own, _, shape in net._path(architecture, False)}
            for own, value in got[1].items():
                value = value.copy()
                corner = tuple(slice(0, n) for n in selected.get(own, (0,)))
                value[corner] = before[own][corner]
                assert np.array_equal(value, before[own]), f"unselected statistics of {own} moved"


def norm(arrays):
    return np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in arrays))


def test_unselected_weights_get_no_gradient(rng):
    space = shortened(replace(VARIANTS["se-last-conv"], num_classes=10))
    architecture = space.sample(rng)
    for execution in ("slice", "mask"):
        net = make_supernet(space, execution=execution)
        grads, _ = gradients(net, lambda x, net=net: net(x, architecture), random_input(rng, space))
        selected = {own: shape for own, _, shape in net._path(architecture, use_all_blocks=False)}
        for name, grad in grads.items():
            grad = grad.copy()
            grad[tuple(slice(0, n) for n in selected.get(name, (0,)))] = 0
            assert not grad.any(), (execution, name)


def test_use_all_blocks_is_the_mean_of_the_block_choices(rng):
    space = shortened(replace(VARIANTS["se"], num_classes=10))
    net = make_supernet(space)
    block = net.features[net._first_choice_block]
    x = mx.nd.array(rng.normal(0, 1, (2, space.stem_channels, 16, 16)).astype(np.float32))
    for channel_choice in (3, space.max_channel_choice):
        outputs = [block(x, b, channel_choice, "slice") for b in range(space.num_block_choices)]
        mean = block(x, None, channel_choice, "slice")
        assert relative_difference(mean, sum(outputs) / len(outputs)) < 1e-6
    net.use_all_blocks = True
    selected = net.selected_parameters(space.sample(rng))
    assert len(selected) == sum(p.grad_req != "null" for p in net.collect_params().values())


@pytest.mark.parametrize("act", (None, "relu"))
def test_stochastic_depth_leaves_out_whole_branches_of_images_and_keeps_the_mean(act, rng):
    """Each image's branch is there, divided by what is left of the chance, or not at all; inference has all of them."""
    rate, num_images = 0.25, 4000
    layers = BlockLayers("residual", (Conv(2, 2),), act=act)
    block = build_block(2, replace(layers, drop_rate=rate))
    fill_parameters(block)
    x = mx.nd.array(rng.normal(0, 1, (num_images, 2, 3, 3)))
    mx.random.seed(3)
    with mx.autograd.train_mode():
        main, got = block.main_branch(x), block(x)
    kept, left_out = (x + scale * main for scale in (1 / (1 - rate), 0))
    if act:
        kept, left_out = mx.nd.relu(kept), mx.nd.relu(left_out)
    is_kept, is_left_out = (np.abs((got - wanted).asnumpy()).max(axis=(1, 2, 3)) < 1e-5 for wanted in (kept, left_out))
    assert (is_kept ^ is_left_out).all()
    assert abs(is_left_out.mean() - rate) < 4 * (rate * (1 - rate) / num_images) ** 0.5
    whole = build_block(2, layers)
    fill_parameters(whole)
    np.testing.assert_array_equal(block(x).asnumpy(), whole(x).asnumpy())


def test_extraction_leaves_the_supernet_unchanged(rng):
    space = shortened(replace(VARIANTS["plain"], num_classes=10))
    net = make_supernet(space)
    before = {n: p.data().asnumpy() for n, p in net._collect_params_with_prefix().items()}
    subnet = net.extract(space.sample(rng))
    for parameter in subnet.collect_params().values():
        parameter.set_data(parameter.data() * 0 - 1)
    for name, parameter in net._collect_params_with_prefix().items():
        assert np.array_equal(parameter.data().asnumpy(), before[name]), name


def test_hybridized_supernet_still_routes(rng):
    space = shortened(replace(VARIANTS["se-last-conv"], num_classes=10))
    net = make_supernet(space)
    x = random_input(rng, space)
    architectures = [space.sample(rng) for _ in range(3)]
    plain = [net(x, a) for a in architectures]
    for execution in ("slice", "mask"):
        net.execution = execution
        net.hybridize()
        for architecture, expected in zip(architectures, plain):
            assert relative_difference(net(x, architecture), expected) < 1e-4
        net.hybridize(False)


def test_exported_subnet_gives_the_same_logits(tmp_path, rng):
    space = replace(VARIANTS["se-last-conv"], num_classes=10)
    net = Subnet(space, space.sample(rng))
    fill_parameters(net)
    x = random_input(rng, space)
    expected = net(x)
    net.hybridize()
    net(x)
    net.export(str(tmp_path / "net"))
    loaded = mx.gluon.SymbolBlock.imports(
        str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params")
    )
    assert relative_difference(loaded(x), expected) < 1e-6


@pytest.mark.parametrize("channels", [16, 64])
def test_channel_shuffle_interleaves_halves(channels, rng):
    x = mx.nd.array(rng.normal(0, 1, (2, channels, 3, 3)).astype(np.float32))
    order = np.arange(channels).reshape(2, channels // 2).T.ravel()
    for by_conv in (False, True):
        shuffle = ChannelShuffle(channels, by_conv)
        shuffle.initialize()
        assert np.array_equal(shuffle(x).asnumpy(), x.asnumpy()[:, order])


def test_initial_values_follow_the_published_rule():
    net = get_shufflenas_oneshot([0] * 20, [9] * 20, use_se=True, last_conv_after_pooling=True)
    mx.random.seed(0)
    net.initialize()
    parameters = net._collect_params_with_prefix()
    std = {name: float(p.data().asnumpy().std()) for name, p in parameters.items() if name.endswith("weight")}
    assert std["features.0.weight"] == pytest.approx(0.01, rel=0.1)
    assert std["features.22.main_branch.0.weight"] == pytest.approx(1 / 320, rel=0.05)
    assert std["features.22.main_branch.3.weight"] == pytest.approx(1, rel=0.05)
    assert std["features.22.main_branch.8.channel_attention.1.weight"] == pytest.approx(0.01, rel=0.05)
    assert std["output.0.weight"] == pytest.approx(0.01, rel=0.05)
    assert set(parameters["features.1.gamma"].data().asnumpy()) == {1.0}
    assert set(parameters["features.1.beta"].data().asnumpy()) == {np.float32(1e-4)}
    assert set(parameters["features.1.running_mean"].data().asnumpy()) == {0.0}
    assert set(parameters["features.1.running_var"].data().asnumpy()) == {1.0}


@pytest.mark.parametrize(
    "kwargs, words",
    [
        (dict(architecture=[0] * 20), "needs both"),
        (dict(architecture=[0] * 19, scale_ids=[9] * 20), "19 block choices"),
        (dict(architecture=[0] * 20, scale_ids=[10] * 20), "channel choice 10"),
        (dict(architecture=[0] * 20, scale_ids=[9] * 20, use_all_blocks=True), "use_all_blocks"),
        (dict(channels_layout="Oneshot"), "unknown channels layout 'Oneshot'"),
    ],
)
def test_factory_refuses(kwargs, words):
    with pytest.raises(InputError, match=words):
        get_shufflenas_oneshot(**kwargs)


def test_subnet_of_a_small_image_space_keeps_resolution(rng):
    space = replace(VARIANTS["small-images"], num_classes=10)
    net = Subnet(space, space.sample(rng))
    net.initialize()
    x = random_input(rng, space)
    for layer in net.features[: net.features.__len__()]:
        x = layer(x)
        if x.shape[2] == 1:
            break
        last = x.shape[2]
    assert last == space.out_size == 4


@pytest.mark.parametrize("make", (Supernet, lambda space: Subnet(space, space.sample(np.random.default_rng(0)))))
def test_half_precision_leaves_batch_norm_in_float32(make):
    """float16 has 11 bits: a running mean that moves by a tenth of a batch's would stand still."""
    net = make(TINY)
    net.cast("float16")
    names = ("gamma", "beta", "running_mean", "running_var")
    found = {name: np.dtype(p.dtype) for name, p in net._collect_params_with_prefix().items()}
    assert {dtype for name, dtype in found.items() if name.endswith(names)} == {np.dtype("float32")}
    assert {dtype for name, dtype in found.items() if not name.endswith(names)} == {np.dtype("float16")}


def test_corners_of_a_half_precision_supernet_are_float32():
    """Statistics of a candidate are collected in float32, whatever the supernet was trained in."""
    net = Supernet(TINY)
    fill_parameters(net)
    net.cast("float16")
    assert net.corner("features.0.weight", (16, 3, 3, 3), mx.cpu()).dtype == np.float32


@pytest.mark.parametrize("static", (False, True))
def test_a_compiled_subnet_trains_where_halves_do_not_fill_a_layout(static, rng):
    space = SPACES["mixed"]  # halves of 24 channels in front of a convolution
    widest = tuple(len(choices.channel_scales) - 1 for choices in space.choices)
    net = Subnet(space, space.canonical(Architecture((3, 3, 3, 3, 0, 0), widest)))
    net.initialize()
    images = mx.nd.array(rng.normal(0, 1, (4, 3, space.input_size, space.input_size)))
    gradients = []
    for compiled in (False, True):
        if compiled:
            net.hybridize(static_alloc=static)
        mx.random.seed(0)
        with mx.autograd.record():
            loss = (net(images) ** 2).sum()
        loss.backward()
        gradients.append(net.features[0].weight.grad().asnumpy())
    assert np.allclose(*gradients, rtol=1e-3, atol=1e-3 * np.abs(gradients[0]).max())
