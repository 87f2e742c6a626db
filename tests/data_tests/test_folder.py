"""Images in one folder per class: numbering, lists, loader, and the programs on them."""

import json
from pathlib import Path

import numpy as np
import pytest
from image_files import ONE, ZERO, png, random_images, read_pass

import train_imagenet
from spos.core.errors import InputError
from spos.data.dataset import hold_out, open_folder_dataset
from spos.data.flags import DataOptions
from spos.data.folder import list_folder, open_folders, split_by_class
from spos.data.loader import ImageLoader, make_loader
from spos.data.registry import imagenet_synsets, open_dataset


def make_folders(root, split, counts):
    """`counts` images of noise, 32x32, in each class folder of `root / split`."""
    pixels = iter(random_images(sum(counts.values())))
    for name, count in counts.items():
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i:03d}.png").write_bytes(png(next(pixels)))


def options(**changes):
    return DataOptions(**{"dataset": "folder", "input_size": 32, **changes})


@pytest.fixture
def pictures(tmp_path):
    """Three classes, one of them empty in val."""
    make_folders(tmp_path, "train", {"bee": 12, "ant": 12, "cow": 16})
    make_folders(tmp_path, "val", {"bee": 3, "cow": 4, "ant": 0})
    return tmp_path


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


def test_imagenet_classes_count_missing_folders(tmp_path):
    synsets = imagenet_synsets()
    assert len(set(synsets)) == 1000 and list(synsets) == sorted(synsets)
    for split in ("train", "val"):
        make_folders(tmp_path, split, {synsets[7]: 20, synsets[998]: 1, synsets[0]: 0})
    data = open_dataset(options(dataset="imagenet", data_dir=str(tmp_path)))
    assert data.num_classes == 1000 and sorted(set(data.splits["train_full"].labels.tolist())) == [7, 998]


REFUSED = {
    "a class that only val has": (lambda root: make_folders(root, "val", {"dog": 1}), {}, "val/dog"),
    "too few classes": (lambda root: None, {"classes": 2}, "--classes 2.* has 3 classes"),
    "not ImageNet": (lambda root: None, {"dataset": "imagenet"}, "ant is no class of ImageNet.*--dataset folder"),
    "record files": (lambda root: None, {"use_rec": True}, "--dataset record"),
    "no record files": (lambda root: None, {"dataset": "record"}, "train.rec does not exist"),
    "no folders": (lambda root: None, {"data_dir": "gone"}, "gone/train.*prepare_folder.sh"),
    "record files insisted on": (lambda root: None, {"dataset": "imagenet", "use_rec": True}, "train.rec does not"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_do_not_fit_are_refused(pictures, case):
    change, flags, message = REFUSED[case]
    change(pictures)
    with pytest.raises(InputError, match=message):
        open_dataset(options(**{"data_dir": str(pictures), **flags}))


def test_flat_folder_is_refused_with_advice(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    with pytest.raises(InputError, match="one for each class.*50,000"):
        open_folders(str(tmp_path / "val"), str(tmp_path / "val"))


def test_more_classes_than_found_are_accepted(pictures):
    assert open_dataset(options(data_dir=str(pictures), classes=7)).num_classes == 7


def test_record_files_are_preferred_to_folders(pictures, noise_file):
    for split in ("train", "val"):
        for suffix in ("rec", "idx"):
            (pictures / f"{split}.{suffix}").write_bytes(Path(getattr(noise_file, suffix)).read_bytes())
    data = open_dataset(options(dataset="imagenet", data_dir=str(pictures)))
    assert data.splits["test"].rec == str(pictures / "val.rec")


def test_classes_of_record_files_are_found(noise_file):
    named = {"rec_train": noise_file.rec, "rec_val": noise_file.rec}
    assert open_dataset(options(dataset="record", **named)).num_classes == 50
    with pytest.raises(InputError, match="has 50 classes"):
        open_dataset(options(dataset="record", classes=49, **named))


def test_lists_of_a_folder_are_disjoint_and_written_as_im2rec_reads_them(pictures):
    data = open_dataset(options(data_dir=str(pictures)))
    data = hold_out(data, 8, 4, str(pictures / "lists"), seed=0)
    rows = {
        name: [line.split("\t") for line in (pictures / "lists" / f"{name}.lst").read_text().splitlines()]
        for name in ("train", "bn", "search_val", "test")
    }
    assert {name: len(part) for name, part in rows.items()} == {"train": 28, "bn": 4, "search_val": 8, "test": 7}
    training = [path for name in ("train", "bn", "search_val") for _, _, path in rows[name]]
    assert sorted(training) == sorted(data.splits["train_full"].paths)
    assert all((pictures / "train" / path).is_file() for path in training)
    assert hold_out(data, 8, 4, str(pictures / "lists"), seed=0).splits["bn"].paths == data.splits["bn"].paths
    with pytest.raises(InputError, match="holds another list"):
        hold_out(data, 8, 4, str(pictures / "lists"), seed=1)


def test_folder_is_read_with_its_pixels_and_labels(pictures):
    images = list_folder(str(pictures / "train"), ["bee", "ant", "cow"])  # in the order they were made
    pixels, labels = read_pass(ImageLoader(images, 8, 32, 3, ZERO, ONE, crop_ratio=1.0))
    np.testing.assert_array_equal(pixels, random_images(40).transpose(0, 3, 1, 2))
    assert labels.tolist() == [0] * 12 + [1] * 12 + [2] * 16


def test_a_file_that_is_gone_is_left_out(pictures):
    images = list_folder(str(pictures / "train"), ["ant", "bee", "cow"])
    (pictures / "train" / "bee" / "003.png").unlink()
    loader = ImageLoader(images, 8, 32, 3, ZERO, ONE, crop_ratio=1.0)
    assert len(read_pass(loader)[1]) == 39 and loader.bad_images == [str(pictures / "train" / "bee" / "003.png")]


def test_split_by_class_takes_a_share_of_each(pictures):
    images = list_folder(str(pictures / "train"), ["ant", "bee", "cow"])
    train, val = split_by_class(images, 0.25, seed=3)
    assert np.bincount(val.labels).tolist() == [3, 3, 4]
    assert sorted(train.paths + val.paths) == sorted(images.paths)
    assert split_by_class(images, 0.25, seed=3)[1].paths == val.paths != split_by_class(images, 0.25, seed=4)[1].paths


def test_the_flag_limits_undecodable_images(pictures):
    (pictures / "train" / "ant" / "bad.jpg").write_text("<html>")
    flags = options(data_dir=str(pictures), max_bad_images=0)
    with pytest.raises(InputError, match="more than --max-bad-images 0; the first: .*train/ant/bad.jpg"):
        read_pass(make_loader(open_dataset(flags), "train_full", flags))


def test_training_on_a_raw_folder(pictures, capsys):
    (pictures / "train" / "ant" / "bad.jpg").write_text("<html>")
    flags = "--dataset folder --input-size 32 --strides 2,2,2,2,2 --num-epochs 2 --batch-size 8 --val-architectures 1"
    paths = ["--data-dir", str(pictures), "--save-dir", str(pictures / "run")]
    assert train_imagenet.main([*flags.split(), *paths, "--reduced-dataset-scale", "2"]) == 0
    rows = [json.loads(line) for line in (pictures / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1] and 0 <= rows[-1]["val_top1"] <= 1
    assert capsys.readouterr().err.count("bad.jpg") <= 1
