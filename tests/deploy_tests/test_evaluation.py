"""Evaluation of a network on a list: what it counts, on several devices, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY
from deployed_subnets import drawn_subnet
from exported_files import INFO, NAMES, SIZE, exported, logits_of, matrix, mxnet_pair
from image_files import loader, pack, png, random_images

from spos.core.errors import InputError
from spos.data.dataset import make_dataset
from spos.data.flags import DataOptions
from spos.deploy.evaluation import Subject, summed_loss
from spos.deploy.exported import open_model
from spos.deploy.trained import TrainedSubnet
from spos.engine.compat import mx
from spos.engine.flags import DeviceOptions
from spos.space.architecture_file import ArchitectureRecord

NUM_CLASSES = len(NAMES)
OPTIONS = DataOptions(batch_size=7, num_workers=2)


@pytest.fixture
def contents():
    return [png(image) for image in random_images(len(NAMES), SIZE + 5, SIZE + 9)]


def dataset(folder, contents, size=SIZE, num_classes=NUM_CLASSES):
    """Image i has label i modulo `num_classes`; training and test images are the same."""
    file = pack(folder, contents, [i % num_classes for i in range(len(contents))])
    return make_dataset("noise", file, file, num_classes, size, 1.0)


def subject_of(model, **flags):
    return Subject.of_exported(model, replace(OPTIONS, **flags))


def test_the_loss_is_that_of_the_formula(rng):
    logits, labels = rng.normal(0, 3, (9, 5)), rng.integers(0, 5, 9)
    powers = np.exp(logits)
    expected = -np.log(powers[np.arange(9), labels] / powers.sum(axis=1)).sum()
    found = summed_loss(mx.nd.array(logits), mx.nd.array(labels)).asscalar()
    assert abs(found - expected) < 1e-5 * expected


@pytest.mark.parametrize("kind", ("mxnet", "onnxruntime"))
def test_an_exported_network_takes_images_as_its_file_says(kind, contents, tmp_path):
    """Not as the data set does, which has another crop, mean and deviation."""
    model, data = open_model(exported(kind, tmp_path)), dataset(tmp_path, contents)
    how = INFO.preprocessing
    look = {"size": SIZE, "mean": how.mean, "std": how.std, "crop_ratio": how.crop_ratio}
    (batch,) = loader(data.splits["test"], batch_size=50, **look).epoch(0)
    logits = logits_of(batch.images.asnumpy())
    ranks = np.argsort(np.argsort(-logits, axis=1), axis=1)[np.arange(len(NAMES)), np.arange(len(NAMES))]
    found = subject_of(model).evaluate(data, "val").accuracy
    assert (found.top1_hits, found.top5_hits) == ((ranks < 1).sum(), (ranks < 5).sum())
    assert found.num_images == len(NAMES)


def test_several_devices_and_small_batches_count_the_same(contents, tmp_path, rng):
    subnet = drawn_subnet(TINY, TINY.sample(rng), rng)
    record = ArchitectureRecord(TINY, subnet.architecture, {})
    trained = TrainedSubnet(tmp_path / "any.params", None, {}, subnet, record)
    data = dataset(tmp_path, contents * 3, TINY.input_size, TINY.num_classes)
    found = []
    for devices, batch_size in ((1, 18), (2, 4), (3, 1)):
        options = replace(OPTIONS, batch_size=batch_size)
        found.append(Subject.of_subnet(trained, options, DeviceOptions(num_cpus_ctx=devices)).evaluate(data, "val"))
    assert len({one.accuracy for one in found}) == 1
    np.testing.assert_allclose([one.loss for one in found], found[0].loss, rtol=1e-5)


def test_images_that_cannot_be_decoded_are_left_out_of_both(contents, tmp_path, capsys):
    model = open_model(exported("mxnet", tmp_path))
    whole = subject_of(model).evaluate(dataset(tmp_path, contents[:5]), "val")
    found = subject_of(model).evaluate(dataset(tmp_path, [*contents[:5], b"noise"]), "val")
    assert found == whole and found.accuracy.num_images == 5
    assert "cannot be decoded" in capsys.readouterr().err
    with pytest.raises(InputError, match="none of the 6 images of .* can be decoded"):
        subject_of(model).evaluate(dataset(tmp_path, [b"noise"] * 6), "val")


@pytest.mark.parametrize("value", (np.inf, np.nan))
def test_logits_that_are_not_finite_are_refused(value, contents, tmp_path):
    path, _ = mxnet_pair(tmp_path / "tiny", weights=np.full_like(matrix(), value))
    with pytest.raises(InputError, match="gives logits that are not finite"):
        subject_of(open_model(path)).evaluate(dataset(tmp_path, contents), "val")


def test_a_label_that_the_network_does_not_have_is_refused(contents, tmp_path):
    model = open_model(exported("mxnet", tmp_path))
    with pytest.raises(InputError, match=r"label 6, expected 0\.\.5 for 6 classes"):
        subject_of(model).evaluate(dataset(tmp_path, [*contents, contents[0]], num_classes=7), "val")


def test_another_crop_is_taken_and_another_size_is_not(tmp_path):
    model = open_model(exported("mxnet", tmp_path))
    assert subject_of(model, crop_ratio=0.5).preprocessing == replace(INFO.preprocessing, crop_ratio=0.5)
    with pytest.raises(InputError, match=f"takes images of {SIZE} px, not --input-size 32"):
        subject_of(model, input_size=32)
