"""Data sets by the flags, and what the door of the room loads."""

from dataclasses import fields
from pathlib import Path

import pytest
from image_files import make_folders, make_pictures

from spos.core.errors import InputError
from spos.data import registry
from spos.data.flags import DataOptions
from spos.data.registry import held_out_sizes, imagenet_synsets, open_data, open_dataset, with_lists


def options(**changes):
    return DataOptions(**{"dataset": "folder", "input_size": 32, **changes})


@pytest.fixture
def pictures(tmp_path):
    return make_pictures(tmp_path)


def test_every_data_set_of_the_flag_can_be_opened():
    (dataset,) = (item for item in fields(DataOptions) if item.name == "dataset")
    assert dataset.metadata["choices"] == tuple(registry._OPENERS)


def test_held_out_lists_take_a_tenth_or_what_the_flags_say(pictures):
    flags = options(data_dir=str(pictures))
    data = open_data(flags)
    assert held_out_sizes(data, flags) == {"bn": 4, "search_val": 4}
    flags = options(data_dir=str(pictures), holdout=7, update_bn_images=3)
    data = with_lists(data, flags, pictures / "lists")
    assert {name: len(data.splits[name]) for name in ("train", "bn", "search_val")} == {
        "train": 30,
        "bn": 3,
        "search_val": 7,
    }


def test_lists_that_leave_nothing_to_train_on_are_refused_before_anything_is_written(pictures):
    with pytest.raises(InputError, match="train lists 40 images; holding out .* leaves none to train on"):
        open_data(options(data_dir=str(pictures), holdout=38, update_bn_images=2))


def test_the_flags_say_how_images_are_cut(pictures):
    data = open_data(options(data_dir=str(pictures), input_size=64, crop_ratio=0.5))
    assert (data.input_size, data.crop_ratio, data.strides) == (64, 0.5, (2, 1, 2, 2, 2))


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
