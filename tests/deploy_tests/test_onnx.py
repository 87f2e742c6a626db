"""ONNX models of subnets: the same logits in ONNX Runtime, float32 and INT8."""

import numpy as np
import pytest
from conftest import SPACES, VARIANTS
from deployed_subnets import every_subnet, info_of, published_subnet, random_subnet

from spos.core.errors import InputError
from spos.deploy.calibration import Calibration
from spos.deploy.model_info import ModelInfo
from spos.deploy.onnx import OnnxSession, import_library, quantize_onnx, to_onnx
from spos.deploy.parity import (
    RUNTIME_TOLERANCE,
    check_equal,
    random_images,
    relative_difference,
    rms_error,
    tolerance_of,
)
from spos.deploy.subnet import as_function, merge_batch_norm, pad_widths
from spos.space.architecture_file import published_architectures

for library in ("onnx", "onnxruntime"):
    pytest.importorskip(library, reason=f"{library} is not installed (sh scripts/setup.sh --deploy)")

# What is left of a subnet; anything else would be a detour of the exporter.
OPERATORS = {"Conv", "Relu", "HardSigmoid", "Mul", "Concat", "Gather", "GlobalAveragePool", "Flatten"}
OPERATORS |= {"Cast", "Identity"}  # of constants; dropout
WIRED = {"Add", "Clip"}  # of blocks that add, and of ReLU6
ROUNDED = 0.1  # RMS error of INT8 logits with these weights
NUM_RANDOM = (1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)]))


def exported(subnet, size=32, pad_to=8, shuffle="gather"):
    net = pad_widths(merge_batch_norm(subnet), pad_to).network(shuffle)
    return to_onnx(net, info_of(subnet, size, pad_to))


def calibration_images(size=32):
    return [random_images(size, 4, seed) for seed in range(1, 4)]


@pytest.mark.parametrize("num_random", NUM_RANDOM)
@pytest.mark.parametrize("variant", VARIANTS)
def test_onnx_runtime_gives_the_logits_of_mxnet(variant, num_random, rng):
    images = random_images(32)
    for _ in range(num_random):
        subnet = random_subnet(variant, rng)
        model = exported(subnet)
        assert {node.op_type for node in model.graph.node} <= OPERATORS
        expected = as_function(subnet.network())(images)
        assert relative_difference(expected, OnnxSession(model)(images)) < RUNTIME_TOLERANCE, subnet.architecture


@pytest.mark.parametrize("name", SPACES)
def test_blocks_of_every_kind_give_the_logits_of_mxnet_and_nearly_so_in_int8(name, rng):
    images = random_images(16)
    for subnet in every_subnet(name, rng):
        model = exported(subnet, 16)
        assert {node.op_type for node in model.graph.node} <= OPERATORS | WIRED
        expected, got = as_function(subnet.network())(images), OnnxSession(model)(images)
        assert relative_difference(expected, got) < RUNTIME_TOLERANCE, subnet.architecture
        quantized = quantize_onnx(model, info_of(subnet, 16), calibration_images(16))
        assert 0 < rms_error(got, OnnxSession(quantized)(images)) < 3 * ROUNDED, subnet.architecture


@pytest.mark.parametrize("name", published_architectures())
def test_published_networks_give_the_logits_of_mxnet_at_any_batch(name):
    subnet, images = published_subnet(name), random_images(64)
    network, session = as_function(subnet.network()), OnnxSession(exported(subnet, 64))
    tolerance = tolerance_of(network, images, RUNTIME_TOLERANCE)
    for count in (1, 3):
        check_equal(network(images[:count]), session(images[:count]), tolerance, f"logits of {count} images")


@pytest.mark.parametrize(
    "calibration", ("naive", *(pytest.param(name, marks=pytest.mark.slow) for name in ("entropy", "percentile")))
)
def test_int8_of_every_calibration(calibration, rng):
    subnet, images = random_subnet("se-last-conv", rng), random_images(32, 16)
    model, info = exported(subnet), info_of(subnet)
    quantized = quantize_onnx(
        model, info, calibration_images(), Calibration(calibration), exclude=("features.0", "output.0")
    )
    expected = OnnxSession(model)(images)
    assert 0 < rms_error(expected, OnnxSession(quantized)(images)) < 3 * ROUNDED
    assert quantized.ByteSize() < 0.4 * model.ByteSize()
    weights = {tensor.name: tensor for tensor in quantized.graph.initializer}
    assert {"features.0.weight", "output.0.weight"} <= set(weights)  # those of others are named ..._quantized
    assert "features.2.main_branch.0.weight" not in weights
    assert "features.2.main_branch.0.weight" in {tensor.name for tensor in model.graph.initializer}  # not changed


def test_a_model_says_what_it_is(rng):
    subnet = random_subnet("small-images", rng)
    model, info = exported(subnet), info_of(subnet, 32, pad_to=8)
    assert ModelInfo.from_strings({item.key: item.value for item in model.metadata_props}, "model") == info
    (data,), (logits,) = model.graph.input, model.graph.output
    assert [dim.dim_param or dim.dim_value for dim in data.type.tensor_type.shape.dim] == ["N", 3, 32, 32]
    assert [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim] == ["N", 10]
    padded = pad_widths(merge_batch_norm(subnet), 8)
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    numpy_helper = import_library("onnx.numpy_helper")
    for name, value in padded.arrays.items():
        np.testing.assert_array_equal(numpy_helper.to_array(arrays[name]), value)
    assert not [node.name for node in model.graph.node if node.name.startswith("subnet")]


def test_shuffle_by_convolution_needs_no_other_operator(rng):
    subnet = random_subnet("plain", rng)
    model = exported(subnet, shuffle="conv")
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Gather", "Reshape", "Transpose"}
    images = random_images(32)
    expected = as_function(subnet.network())(images)
    assert relative_difference(expected, OnnxSession(model)(images)) < RUNTIME_TOLERANCE


def test_bad_models_and_missing_libraries_are_one_line(rng):
    model = exported(random_subnet("plain", rng))
    with pytest.raises(InputError, match="cannot load the model"):
        OnnxSession(model.SerializeToString()[:-1000])
    with pytest.raises(InputError, match="no layer of the network is called 'features.99'"):
        quantize_onnx(model, info_of(random_subnet("plain", rng)), calibration_images(), exclude=("features.99",))
    with pytest.raises(InputError, match="run sh scripts/setup.sh --deploy"):
        import_library("onnx_that_is_not_there")
