"""CIFAR as Gluon keeps it on disk, made up here, and as record files."""

import json

import numpy as np
import pytest
from image_files import loader, pack, png, random_images, read_pass, shared_file

import train_imagenet
from spos.data import cifar
from spos.data.flags import DataOptions
from spos.data.registry import held_out_sizes, open_dataset
from spos.engine.compat import mx

NUM = 12  # images in each of the made-up files


def binary_file(num_label_bytes, seed):
    """Rows of label bytes, then 32x32 pixels of red, green and blue."""
    rows = np.random.default_rng(seed).integers(0, 256, (NUM, num_label_bytes + 3072), dtype=np.uint8)
    rows[:, :num_label_bytes] = np.arange(NUM)[:, None] % 10
    rows[:, num_label_bytes - 1] = (np.arange(NUM) * 7) % (100 if num_label_bytes == 2 else 10)
    return rows


@pytest.fixture
def gluon_files(tmp_path, monkeypatch):
    """Original files of both data sets, of which Gluon would otherwise check the checksums."""
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    monkeypatch.setattr(mx.gluon.data.vision.datasets, "check_sha1", lambda path, sha1: True)
    for name, num_label_bytes, files in (
        ("cifar10", 1, [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]),
        ("cifar100", 2, ["train.bin", "test.bin"]),
    ):
        folder = tmp_path / "mxnet" / "datasets" / name
        folder.mkdir(parents=True)
        for seed, file in enumerate(files):
            (folder / file).write_bytes(binary_file(num_label_bytes, seed).tobytes())
    return tmp_path


@pytest.mark.parametrize("name, num_label_bytes, num_train", [("cifar10", 1, 5 * NUM), ("cifar100", 2, NUM)])
def test_original_files_are_packed_without_loss(gluon_files, name, num_label_bytes, num_train):
    data = open_dataset(DataOptions(dataset=name, data_dir=str(gluon_files)))
    assert (data.num_classes, data.input_size, data.strides) == (cifar.NUM_CLASSES[name], 32, (1, 1, 2, 2, 2))
    pixels, labels = read_pass(loader(data.splits["train_full"], 64, num_classes=data.num_classes))
    assert len(labels) == num_train
    rows = binary_file(num_label_bytes, 0)
    np.testing.assert_array_equal(pixels[:NUM], rows[:, num_label_bytes:].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(labels[:NUM], rows[:, num_label_bytes - 1])


def test_packed_files_are_written_once_and_mended(gluon_files):
    first, _ = cifar.prepare_cifar("cifar10", str(gluon_files / "cifar10"))
    record, inode = (gluon_files / "cifar10" / "train.rec"), (gluon_files / "cifar10" / "train.rec").stat().st_ino
    content = record.read_bytes()
    cifar.prepare_cifar("cifar10", str(gluon_files / "cifar10"))
    assert record.stat().st_ino == inode
    record.write_bytes(content[:-8])
    cifar.prepare_cifar("cifar10", str(gluon_files / "cifar10"))
    assert record.read_bytes() == content


def test_named_record_files_are_read_with_the_constants_of_cifar(tmp_path):
    file = pack(tmp_path, [png(image) for image in random_images(10)])
    data = open_dataset(DataOptions(dataset="cifar100", rec_train=file.rec, rec_val=file.rec))
    assert (data.num_classes, data.mean, data.crop_ratio) == (100, cifar.MEAN["cifar100"], 1.0)
    assert (data.augmentation.pad, data.augmentation.mirror, data.augmentation.area) == (4, True, None)


def test_real_cifar_holds_out_five_thousand_twice():
    train, val = shared_file("cifar10", "train"), shared_file("cifar10", "val")
    options = DataOptions(dataset="cifar10", rec_train=train.rec, rec_val=val.rec)
    assert held_out_sizes(open_dataset(options), options) == {"bn": 5000, "search_val": 5000}


def test_training_on_cifar(gluon_files):
    flags = "--dataset cifar10 --strides 2,2,2,2,2 --num-epochs 1 --batch-size 16 --val-architectures 1"
    train_imagenet.main([*flags.split(), "--data-dir", str(gluon_files), "--save-dir", str(gluon_files / "run")])
    (row,) = [json.loads(line) for line in (gluon_files / "run" / "log.jsonl").read_text().splitlines()]
    assert row["val_images"] == 6
