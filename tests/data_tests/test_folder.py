"""Images in one folder per class: numbering, lists, loader, and the programs on them."""

import json

import numpy as np
import pytest
from image_files import loader, make_folders, make_pictures, random_images, read_pass

import train_imagenet
from spos.core.errors import InputError
from spos.data.dataset import hold_out, open_folder_dataset
from spos.data.flags import DataOptions
from spos.data.folder import list_folder, open_folders
from spos.data.loader import make_loader
from spos.data.order import Order
from spos.data.registry import open_dataset


def options(**changes):
    return DataOptions(**{"dataset": "folder", "input_size": 32, **changes})


@pytest.fixture
def pictures(tmp_path):
    return make_pictures(tmp_path)


def test_class_is_the_position_of_the_sorted_folder_name(pictures):
    train, val, names = open_folders(str(pictures / "train"), str(pictures / "val"))
    assert names == ("ant", "bee", "cow")
    assert np.bincount(train.labels).tolist() == [12, 12, 16] and val.labels.tolist() == [1] * 3 + [2] * 4


def test_an_empty_class_of_the_training_images_keeps_its_number(tmp_path):
    make_folders(tmp_path, "train", {"a": 0, "b": 2})
    assert list_folder(str(tmp_path / "train"), ["a", "b"]).labels.tolist() == [1, 1]
    assert open_folder_dataset(str(tmp_path / "train"), str(tmp_path / "train"), (), 0, 32, 1.0).num_classes == 2


def test_images_one_level_deeper_are_found_and_other_files_are_not(tmp_path):
    make_folders(tmp_path, "n1", {"images": 2})
    (tmp_path / "n1" / "boxes.txt").write_text("0 0 1 1")
    (tmp_path / "n1" / ".hidden.png").write_text("")
    (tmp_path / "n1" / "A.JPEG").write_bytes(b"x")
    assert list_folder(str(tmp_path), ["n1"]).paths == ("n1/A.JPEG", "n1/images/000.png", "n1/images/001.png")


def test_flat_folder_is_refused_with_advice(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    with pytest.raises(InputError, match="one for each class.*50,000"):
        open_folders(str(tmp_path / "val"), str(tmp_path / "val"))


def test_lists_of_a_folder_are_disjoint_and_written_as_im2rec_reads_them(pictures):
    opened = open_dataset(options(data_dir=str(pictures)))
    data = hold_out(opened, 8, 4, str(pictures / "lists"), seed=0)
    rows = {
        name: [line.split("\t") for line in (pictures / "lists" / f"{name}.lst").read_text().splitlines()]
        for name in ("train", "bn", "search_val", "test")
    }
    assert {name: len(part) for name, part in rows.items()} == {"train": 28, "bn": 4, "search_val": 8, "test": 7}
    training = [path for name in ("train", "bn", "search_val") for _, _, path in rows[name]]
    assert sorted(training) == sorted(data.splits["train_full"].paths)
    assert all((pictures / "train" / path).is_file() for path in training)
    assert hold_out(opened, 8, 4, str(pictures / "lists"), seed=0).splits["bn"].paths == data.splits["bn"].paths
    with pytest.raises(InputError, match="holds another list"):
        hold_out(opened, 8, 4, str(pictures / "lists"), seed=1)


def test_folder_is_read_with_its_pixels_and_labels(pictures):
    images = list_folder(str(pictures / "train"), ["bee", "ant", "cow"])  # in the order they were made
    pixels, labels = read_pass(loader(images, num_classes=3))
    np.testing.assert_array_equal(pixels, random_images(40).transpose(0, 3, 1, 2))
    assert labels.tolist() == [0] * 12 + [1] * 12 + [2] * 16


def test_a_file_that_is_gone_is_left_out(pictures):
    images = list_folder(str(pictures / "train"), ["ant", "bee", "cow"])
    (pictures / "train" / "bee" / "003.png").unlink()
    images = loader(images, num_classes=3)
    assert len(read_pass(images)[1]) == 39 and images.bad_images == [str(pictures / "train" / "bee" / "003.png")]


def test_the_flag_limits_undecodable_images(pictures):
    (pictures / "train" / "ant" / "bad.jpg").write_text("<html>")
    flags = options(data_dir=str(pictures), max_bad_images=0)
    with pytest.raises(InputError, match="more than --max-bad-images 0; the first: .*train/ant/bad.jpg"):
        data = open_dataset(flags)
        read_pass(make_loader(data, "train_full", flags, data.preparation(), Order()))


def test_training_on_a_raw_folder(pictures, capsys):
    (pictures / "train" / "ant" / "bad.jpg").write_text("<html>")
    flags = "--dataset folder --input-size 32 --strides 2,2,2,2,2 --num-epochs 2 --batch-size 8 --val-architectures 1"
    paths = ["--data-dir", str(pictures), "--save-dir", str(pictures / "run")]
    assert train_imagenet.main([*flags.split(), *paths, "--reduced-dataset-scale", "2"]) == 0
    rows = [json.loads(line) for line in (pictures / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1] and 0 <= rows[-1]["val_top1"] <= 1
    assert capsys.readouterr().err.count("bad.jpg") <= 1
