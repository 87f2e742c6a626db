"""INT8: every kind of block becomes a graph of 8-bit kernels that computes nearly the same, however it is called."""

import gc
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from conftest import SPACES, TINY, VARIANTS, all_choices, fill_parameters
from exported_files import INFO

from oneshot_nas_blocks import HardSwish, build, build_block
from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.deploy.calibration import Calibration
from spos.deploy.exported import write_mxnet
from spos.deploy.quantization import quantize
from spos.engine.compat import mx
from spos.engine.forms import fit_to_size
from spos.space.blocks import BlockLayers
from spos.space.layers import ACTIVATIONS, Conv
from spos.space.names import float_layers
from spos.space.space_file import load_space

nn = mx.gluon.nn

TINY_NETS = {
    "mobilenetv3-head": TINY,
    "v2plus-head": replace(TINY, last_conv_after_pooling=False),
    "relu": replace(TINY, use_se=False, last_conv_after_pooling=False),
}


def images(rng, *shape):
    return mx.nd.array(rng.normal(0, 1, shape))


def in_default_layout(x):
    return mx.nd.array(x.asnumpy())


def error(got, expected):
    """Length of the difference, relative to what was expected."""
    assert got.shape == expected.shape
    return np.linalg.norm(got.asnumpy() - expected.asnumpy()) / np.linalg.norm(expected.asnumpy())


def make_block(space, index, block_choice, channel_choice):
    block = space.choice_blocks[index]
    result = build_block(block.in_channels, space.block_layers(index, block_choice, channel_choice))
    result.initialize()
    fill_parameters(result)
    return result


def tiny_net(space=TINY):
    net = Subnet(space, space.sample(np.random.default_rng(3)))
    net.initialize()
    fill_parameters(net)
    return net


def merged_net(space):
    net = Subnet(space, space.sample(np.random.default_rng(3)), bn=False)
    net.initialize()
    fill_parameters(net)
    return net


def nodes(quantized):
    return json.loads(quantized.symbol.tojson())["nodes"]


def float_nodes(quantized):
    """The convolutions that stayed in float32."""
    convolutions = [node for node in nodes(quantized) if node["op"] == "_sg_mkldnn_conv"]
    return [
        node for node in convolutions if node.get("attrs", {}).get("quantized", "false") not in ("true", "True", "1")
    ]


def float_convolutions(quantized):
    return len(float_nodes(quantized))


def float_weights(quantized, net):
    """What the weights of convolutions in float32 are called in the network."""
    own_names = {parameter.name: own for own, parameter in net._collect_params_with_prefix().items()}
    everything = nodes(quantized)
    return {own_names[everything[node["inputs"][1][0]]["name"]] for node in float_nodes(quantized)}


@pytest.mark.parametrize("variant", ("plain", "se", "multiple-of-8"))
@pytest.mark.parametrize("index", (1, 4, 13))  # stride 1 in stage 1, stride 2 in stage 2, stride 1 in stage 3
def test_every_block_kind_is_nearly_the_same_in_int8(rng, variant, index):
    space = VARIANTS[variant]
    for block_choice in range(space.num_block_choices):
        channel_choice = int(rng.integers(space.max_channel_choice + 1))
        block = make_block(space, index, block_choice, channel_choice)
        for batch, size in ((1, 8), (3, 7)):
            x = images(rng, batch, space.choice_blocks[index].in_channels, size, size)
            quantized = quantize(block, [x])
            assert error(quantized(x), block(x)) < 0.12, (block_choice, channel_choice)
        # every convolution is an 8-bit one, with its BatchNorm inside
        assert "BatchNorm" not in quantized.operators and "Convolution" not in quantized.operators
        assert "_contrib_quantized_elemwise_mul" not in quantized.operators
        assert float_convolutions(quantized) == 0


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_every_kind_of_block_is_nearly_the_same_in_int8(rng, space):
    for index, choices in enumerate(space.choices):
        for block_choice in range(len(choices.blocks)):
            channel_choice = int(rng.choice(space.channel_choices(index)))
            block = make_block(space, index, block_choice, channel_choice)
            x = images(rng, 3, space.choice_blocks[index].in_channels, 7, 7)
            quantized = quantize(block, [x])
            assert error(quantized(x), block(x)) < 0.12, (index, block_choice, channel_choice)
            assert "BatchNorm" not in quantized.operators and "Convolution" not in quantized.operators
            assert float_convolutions(quantized) == 0


@pytest.mark.parametrize("before", (None, *ACTIVATIONS))
@pytest.mark.parametrize("act", (None, *ACTIVATIONS))
@pytest.mark.parametrize("projects", (False, True), ids=("added", "projected"))
def test_sums_lose_no_sign_and_no_range(rng, before, act, projects):
    """MXNet writes a sum over one of its terms, in the type of that: unsigned behind a ReLU, whatever comes out."""
    main = (Conv(16, 24, 3, act="relu"), Conv(24, 16, 3))
    described = BlockLayers("residual", main, (Conv(16, 16),) if projects else (), act)
    nothing = BlockLayers("chain")
    net = nn.HybridSequential(prefix="")
    net.add(build((Conv(3, 16, act=before),)), *(build_block(16, one) for one in (nothing, described, described)))
    net.initialize()
    fill_parameters(net)
    x = images(rng, 3, 3, 7, 7)
    quantized = quantize(net, [x])
    assert error(quantized(x), net(x)) < 0.06
    assert float_convolutions(quantized) == 0 and quantized.operators.get("elemwise_add", 0) == 0


def test_residual_networks_stay_in_8_bits_from_block_to_block(rng):
    space = replace(load_space("mobilenet"), input_size=32, num_classes=5)
    left_out = [len(choices.blocks) - 1 if i % 3 == 2 else 0 for i, choices in enumerate(space.choices)]
    net = Subnet(space, space.widest(left_out))
    net.initialize()
    fill_parameters(net)
    x = images(rng, 4, 3, 32, 32)
    quantized = quantize(net, [x])
    assert error(quantized(x), net(x)) < 0.35  # 0.22 also with all sums in float32
    assert (quantized.operators["_contrib_quantize_v2"], quantized.operators["_contrib_dequantize"]) == (1, 1)


def test_squeeze_and_excite_in_the_middle_can_be_left_in_float32(rng):
    space = SPACES["mobilenet-se"]
    net = Subnet(space, space.widest((2, 1, 0, 2, 1)))
    net.initialize()
    fill_parameters(net)
    names = list(net._collect_params_with_prefix())
    squeezes = {name for name in names if ".channel_attention." in name and name.endswith("weight")}
    assert len(squeezes) == 2 * 5  # four blocks, and the head
    x = images(rng, 2, 3, 16, 16)
    quantized = quantize(net, [x], exclude=float_layers(names))
    assert float_weights(quantized, net) == {"features.0.weight", *squeezes}
    assert error(quantized(x), net(x)) < 0.35


@pytest.mark.parametrize("merged", (False, True), ids=("bn", "merged"))
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_networks_of_every_kind_of_block(rng, space, merged):
    for architecture in all_choices(space, rng):
        net = Subnet(space, architecture, bn=not merged)
        net.initialize()
        fill_parameters(net)
        x = images(rng, 8, 3, 16, 16)
        quantized, logits = quantize(net, [x]), net(x)
        assert error(quantized(x), logits) < 0.35, architecture
        assert np.corrcoef(quantized(x).asnumpy().ravel(), logits.asnumpy().ravel())[0, 1] > 0.95, architecture


@pytest.mark.parametrize("space", TINY_NETS.values(), ids=TINY_NETS)
def test_networks_with_every_head(rng, space):
    net = tiny_net(space)
    x = images(rng, 8, 3, 32, 32)
    quantized, logits = quantize(net, [x]), net(x)
    assert error(quantized(x), logits) < 0.35
    assert np.corrcoef(quantized(x).asnumpy().ravel(), logits.asnumpy().ravel())[0, 1] > 0.95


def test_shuffle_by_convolution_is_an_8_bit_convolution(rng):
    space, x = TINY_NETS["relu"], images(rng, 2, 3, 32, 32)
    net = tiny_net(space)
    other = Subnet(space, net.architecture, shuffle="conv")
    other.initialize()
    for name, parameter in net._collect_params_with_prefix().items():
        other._collect_params_with_prefix()[name].set_data(parameter.data())
    quantized = quantize(other, [x])
    assert error(quantized(x), net(x)) < 0.2
    assert "SwapAxis" not in quantized.operators and float_convolutions(quantized) == 0


def test_matrix_products_stay_in_float32(rng):
    """Pixel convolutions run as such; in 8 bits they saturate on a CPU without VNNI, whatever the sign."""
    chain = build(fit_to_size((Conv(24, 40, act="relu"), Conv(40, 16, bn=False, bias=True)), 1))
    chain.initialize()
    for parameter in chain.collect_params().values():
        parameter.set_data(mx.nd.array(rng.uniform(0.5, 1, parameter.shape)))
    x = images(rng, 4, 24, 1, 1)
    assert error(quantize(chain, [x])(x), chain(x)) < 1e-5


def test_layout_of_the_input_does_not_matter(rng):
    """A convolution gives its result in a layout of its own; quantizing once took the first input's for all others."""
    before = nn.Conv2D(32, 1, in_channels=32)
    before.initialize()
    x = before(images(rng, 2, 32, 8, 8))  # in the layout of a convolution
    block = make_block(TINY, 2, 0, 5)  # its input is quantized as it comes
    for first, second in ((x, in_default_layout(x)), (in_default_layout(x), x)):
        quantized = quantize(block, [in_default_layout(x)])
        assert np.array_equal(quantized(first).asnumpy(), quantized(second).asnumpy())


def test_other_batches_and_sizes_than_in_calibration(rng):
    block = make_block(VARIANTS["se"], 5, 1, 4)
    channels = VARIANTS["se"].choice_blocks[5].in_channels
    quantized = quantize(block, [images(rng, 4, channels, 8, 8)])
    for batch, size in ((1, 8), (5, 8), (2, 12), (4, 8)):
        x = images(rng, batch, channels, size, size)
        assert error(quantized(x), block(x)) < 0.12


def test_other_channels_and_types_are_refused(rng):
    x = images(rng, 2, 32, 8, 8)
    block = make_block(TINY, 1, 0, 5)
    quantized = quantize(block, [x])
    for other in (images(rng, 2, 34, 8, 8), images(rng, 32, 8, 8), x.astype("float16")):
        with pytest.raises(InputError, match=r"float32 images of 32 channels, \(N, 32, H, W\)"):
            quantized(other)
    with pytest.raises(InputError, match="do not fit the block"):
        quantize(block, [images(rng, 2, 34, 8, 8)])


def test_results_are_not_overwritten_by_the_next_call(rng):
    block = make_block(TINY, 1, 0, 5)
    x = images(rng, 2, 32, 8, 8)
    quantized = quantize(block, [x])
    first = quantized(x)
    kept = first.asnumpy()
    quantized(x * 0.5).wait_to_read()
    assert np.array_equal(first.asnumpy(), kept)


def test_quantizing_changes_nothing_and_follows_nothing(rng):
    net = tiny_net()
    x = images(rng, 2, 3, 32, 32)
    logits = net(x).asnumpy()
    quantized = quantize(net, [x])
    assert np.array_equal(net(x).asnumpy(), logits)
    for parameter in net.collect_params().values():
        parameter.set_data(parameter.data() * 3)
    other = quantize(tiny_net(), [x])
    assert np.array_equal(quantized(x).asnumpy(), other(x).asnumpy())


def test_ranges_are_those_of_all_batches(rng):
    net = tiny_net()
    x = images(rng, 6, 3, 32, 32)
    whole, parts, few = quantize(net, [x]), quantize(net, iter((x[4:] * 1, x[:4] * 1))), quantize(net, [x[4:] * 0.3])
    assert np.array_equal(whole(x).asnumpy(), parts(x).asnumpy())
    assert not np.array_equal(whole(x).asnumpy(), few(x).asnumpy())


def with_outlier(rng):
    """A convolution, its input, and the same input with one value that is much too large."""
    chain = build((Conv(4, 8, act="relu"),))
    chain.initialize()
    fill_parameters(chain)
    x = images(rng, 2, 4, 16, 16)
    outlier = x * 1
    outlier[0, 0, 0, 0] = 300
    return chain, x, outlier


def test_entropy_cuts_outliers(rng):
    chain, x, outlier = with_outlier(rng)
    naive, entropy = (quantize(chain, [outlier], Calibration(method))(x) for method in ("naive", "entropy"))
    assert error(entropy, chain(x)) < 0.1 < error(naive, chain(x))


def test_percentile_cuts_outliers(rng):
    chain, x, outlier = with_outlier(rng)
    naive, cut, whole = (
        quantize(chain, [outlier[:1], outlier[1:]], Calibration(*options))(x)
        for options in (("naive",), ("percentile", 99.7), ("percentile", 100))
    )
    assert error(cut, chain(x)) < 0.1 < error(naive, chain(x))
    assert error(whole, naive) < 0.02  # the largest value too, to within a bin


def test_entropy_with_a_relu_between_convolutions(rng):
    chain = build((Conv(4, 8, act="relu"), Conv(8, 8, 3, groups=8, act="relu"), Conv(8, 8)))
    chain.initialize()
    fill_parameters(chain)
    x = mx.nd.relu(images(rng, 2, 4, 8, 8))
    assert error(quantize(chain, [x], Calibration("entropy"))(x), chain(x)) < 0.3


def test_excluded_layers_stay_in_float32(rng):
    net = tiny_net()
    x = images(rng, 2, 3, 32, 32)
    assert float_convolutions(quantize(net, [x])) == 0
    assert float_convolutions(quantize(net, [x], exclude=["output.0"])) == 1
    assert float_convolutions(quantize(net, [x], exclude=("features.0", "output"))) == 2
    with pytest.raises(InputError, match="output.00"):
        quantize(net, [x], exclude=["output.00"])


@pytest.mark.parametrize("merged", (False, True), ids=("bn", "merged"))
def test_first_convolution_and_squeeze_and_excite_in_float32(rng, merged):
    space, x = TINY_NETS["v2plus-head"], images(rng, 2, 3, 32, 32)
    net = merged_net(space) if merged else tiny_net(space)
    names = list(net._collect_params_with_prefix())
    squeezes = {name for name in names if ".channel_attention." in name and name.endswith("weight")}
    assert len(squeezes) == 2 * 3  # two blocks of the second stage, and the head
    for options, expected in (
        ((True, True), {"features.0.weight", *squeezes}),
        ((True, False), {"features.0.weight"}),
        ((False, True), squeezes),
        ((False, False), set()),
    ):
        quantized = quantize(net, [x], exclude=float_layers(names, *options))
        assert float_weights(quantized, net) == expected
        assert error(quantized(x), net(x)) < 0.35


def test_networks_without_squeeze_and_excite_have_none_to_leave_out():
    assert float_layers(["features.0.weight", "output.0.weight"], first_conv=False, se=True) == []


@pytest.mark.parametrize("space", TINY_NETS.values(), ids=TINY_NETS)
def test_merged_networks(rng, space):
    net = merged_net(space)
    x = images(rng, 8, 3, 32, 32)
    quantized = quantize(net, [x])
    assert error(quantized(x), net(x)) < 0.35
    assert float_convolutions(quantized) == 0 and "Convolution" not in quantized.operators


def test_weights_are_rounded_by_channel(rng):
    """A channel of large weights, whose products cancel, does not take the others' precision."""
    chain = build((Conv(8, 16, bn=False),))
    chain.initialize()
    weight = rng.normal(0, 0.1, (16, 8, 1, 1))
    weight[0, :2, 0, 0] = 100, -100
    chain[0].weight.set_data(mx.nd.array(weight))
    x = images(rng, 2, 8, 6, 6)
    x[:, 1] = x[:, 0]
    others = [mx.nd.slice_axis(y, 1, 1, None) for y in (quantize(chain, [x])(x), chain(x))]
    assert error(*others) < 0.03  # 1 if all were rounded to multiples of 100 / 127


@pytest.mark.parametrize("kind", (Conv(64, 64, bn=False), Conv(64, 64, 3, bn=False)), ids=("pointwise", "3x3"))
def test_positive_numbers_do_not_saturate(rng, kind):
    """Products of unsigned inputs are added in 16 bits on a CPU without VNNI; signed ones are not."""
    chain = build((kind,))
    chain.initialize()
    chain[0].weight.set_data(mx.nd.array(rng.uniform(0.5, 1, chain[0].weight.shape)))
    x = mx.nd.array(rng.uniform(0.5, 1, (2, 64, 8, 8)))
    assert error(quantize(chain, [x])(x), chain(x)) < 0.01


def test_silent_layers_stay_finite(rng):
    chain = build((Conv(4, 8, act="relu"), Conv(8, 8, 3, groups=8)))
    chain.initialize()
    fill_parameters(chain)
    x = images(rng, 2, 4, 8, 8)
    chain[1].gamma.set_data(mx.nd.zeros(8))
    chain[1].beta.set_data(-mx.nd.ones(8))  # behind the ReLU everything is 0
    chain[3].weight.set_data(mx.nd.zeros((8, 1, 3, 3)))
    assert error(quantize(chain, [x])(x), chain(x)) < 0.02


@pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning")
def test_exported_files_compute_the_same_bits(rng, tmp_path):
    net = tiny_net()
    x = images(rng, 2, 3, 32, 32)
    quantized = quantize(net, [x])
    symbol, parameters = write_mxnet(tmp_path / "int8" / "net", quantized.symbol, quantized.arrays, INFO)
    read = mx.gluon.SymbolBlock.imports(str(symbol), ["data"], str(parameters))
    assert np.array_equal(read(x).asnumpy(), quantized(x).asnumpy())


def test_hard_swish_alone_has_nothing_to_quantize(rng):
    x = images(rng, 2, 3, 4, 4)
    assert np.array_equal(quantize(HardSwish(), [x])(x).asnumpy(), HardSwish()(x).asnumpy())


def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_memory_is_freed(rng):
    block = make_block(VARIANTS["se"], 13, 0, 5)  # 0.3 MB of parameters
    x = images(rng, 1, VARIANTS["se"].choice_blocks[13].in_channels, 14, 14)

    def repeat(times):
        for _ in range(times):
            quantize(block, [x])(x).wait_to_read()
        gc.collect()
        return resident_megabytes()

    before = repeat(10)
    assert repeat(60) - before < 12  # 60 MB if the tensors seen in calibration are kept


@pytest.mark.parametrize(
    "change, batches, words",
    (
        ({}, lambda x: [], "at least one batch"),
        ({}, lambda x: [x.astype("float16")], "calibration images are float16"),
        ({}, lambda x: [mx.nd.zeros((2, 4, 32, 32))], "(2, 4, 32, 32) do not fit the block"),
        ({}, lambda x: [x[0]], "(3, 32, 32), INT8 needs (N, C, H, W)"),
        ({}, lambda x: [x * float("nan")], "not finite"),
        ({}, lambda x: [x * 5e37], "cannot be quantized by these images"),
        ({"dtype": "float16"}, lambda x: [x], "features.0.weight is float16 on cpu(0)"),
    ),
)
def test_bad_input(rng, capfd, change, batches, words):
    change, net = dict(change), tiny_net()
    if "dtype" in change:
        net.cast(change.pop("dtype"))
    with pytest.raises(InputError) as caught:
        quantize(net, batches(images(rng, 2, 3, 32, 32)), **change)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert "".join(capfd.readouterr()) == ""
