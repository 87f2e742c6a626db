"""INT8 of whole subnets in both runtimes: near float32, for any architecture."""

from dataclasses import replace
from functools import lru_cache

import pytest
from conftest import VARIANTS
from deployed_subnets import drawn_subnet, info_of, random_subnet

from spos.core.errors import InputError
from spos.deploy.calibration import COLLECTORS, Calibration
from spos.deploy.exported import open_model
from spos.deploy.flags import CALIBRATIONS, FORMATS
from spos.deploy.formats import FORMAT_CLASSES, publish
from spos.deploy.parity import check_int8, random_images, rms_error
from spos.deploy.subnet import as_function, merge_batch_norm, pad_widths
from spos.space.architecture_file import load_architecture, published_architectures
from spos.space.names import float_layers

SIZE = 64
ERROR = 0.1  # RMS, of logits; a wrong shuffle changes them by 0.1 to 0.6


@lru_cache(maxsize=None)
def images():
    return [random_images(SIZE, 8, seed) for seed in range(1, 4)]


def maker_of(subnet, form, pad_to=8):
    if form == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed (sh scripts/setup.sh --deploy)")
    return FORMAT_CLASSES[form](pad_widths(merge_batch_norm(subnet), pad_to), info_of(subnet, SIZE, pad_to))


def int8_error(subnet, form):
    network = maker_of(subnet, form).int8(images(), Calibration(), ())
    expected = as_function(subnet.network())
    return max(rms_error(expected(batch), network.logits(batch)) for batch in images())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("num_random", (3, 20), ids=("few", "many"))
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_int8_of_random_architectures_stays_near_float32(variant, form, num_random, rng):
    for _ in range(num_random):
        subnet = random_subnet(variant, rng)
        assert 0 < int8_error(subnet, form) < ERROR, subnet.architecture


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", published_architectures())
def test_int8_of_published_architectures_stays_near_float32(name, form, rng):
    record = load_architecture(name)
    subnet = drawn_subnet(replace(record.space, num_classes=10), record.architecture, rng)
    assert 0 < int8_error(subnet, form) < ERROR


@pytest.mark.parametrize("form", FORMATS)
def test_files_that_fail_are_not_left_and_old_ones_stay(form, rng, tmp_path):
    maker = maker_of(random_subnet("small-images", rng), form)
    name = tmp_path / "net"
    measured, files = publish(maker.float32(), name, lambda logits: 0.5)
    assert measured == 0.5 and sorted(files) == sorted(tmp_path.iterdir())
    contents = [file.read_bytes() for file in files]
    other = maker_of(random_subnet("small-images", rng), form)
    expected = open_model(files[0])(images()[0])
    with pytest.raises(InputError, match="above --int8-error-max 0.01; nothing is written"):
        publish(other.float32(), name, lambda logits: check_int8(expected, logits(images()[0]), 0.01))
    assert [file.read_bytes() for file in files] == contents and sorted(files) == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMATS)
def test_layers_are_left_in_float32(form, rng):
    """The less is rounded the smaller the error. ONNX Runtime still rounds what is between convolutions."""
    subnet = random_subnet("se", rng)
    maker = maker_of(subnet, form)
    names = [name.rpartition(".")[0] for name in merge_batch_norm(subnet).arrays if name.endswith("weight")]
    network = maker.int8(images(), Calibration(), names)
    expected = maker.float32().logits(images()[0])
    error = rms_error(expected, network.logits(images()[0]))
    assert error < (1e-4 if form == "mxnet" else 0.005)
    some = maker.int8(images(), Calibration(), float_layers(merge_batch_norm(subnet).arrays))
    assert rms_error(expected, some.logits(images()[0])) > error


def test_what_flags_offer_is_there():
    assert set(FORMAT_CLASSES) == set(FORMATS) and set(COLLECTORS) == set(CALIBRATIONS)
