"""Data sets: their lists, and how they say that images are to be read."""

import pytest
from image_files import loader, read_pass, shared_file

from spos.core.errors import InputError
from spos.data.augmentation import IMAGENET_AUGMENTATION
from spos.data.dataset import check_num_classes, hold_out, make_dataset, open_record_dataset
from spos.data.recordio import read_index
from spos.space.layers import stride_plan


def test_a_data_set_is_augmented_for_training_only(noise_file):
    data = make_dataset("noise", noise_file, noise_file, 50, 224, 0.875)
    training, other = data.preparation(training=True), data.preparation(as_pixels=True)
    assert training.augmentation == IMAGENET_AUGMENTATION and not training.as_pixels
    assert other.augmentation is None and other.as_pixels
    assert (other.size, other.crop_ratio, other.mean) == (224, 0.875, data.mean)
    assert data.preprocessing.preparation == data.preparation()


def test_lists_that_are_there_are_kept(noise_file, tmp_path):
    data = make_dataset("noise", noise_file, noise_file, 50, 32, 1.0)
    first = hold_out(data, 12, 5, str(tmp_path / "lists"), seed=0)
    assert {name: len(images) for name, images in first.splits.items()} == {
        "train_full": 50,
        "test": 50,
        "train": 33,
        "bn": 5,
        "search_val": 12,
    }
    assert hold_out(first, 1, 1, str(tmp_path / "lists"), seed=9) == first
    with pytest.raises(InputError, match="holds another list"):
        hold_out(data, 12, 5, str(tmp_path / "lists"), seed=1)


@pytest.mark.parametrize("given, found", ((0, 5), (5, 5), (9, 5)))
def test_a_class_count_may_be_larger_than_what_was_found(given, found):
    check_num_classes(given, found, "train")


def test_a_class_count_that_is_too_small_is_refused():
    with pytest.raises(InputError, match="--classes 4: train has 5 classes"):
        check_num_classes(4, 5, "train")


def test_cifar_opens_as_a_data_set_without_leaks(tmp_path):
    train, val = shared_file("cifar10", "train"), shared_file("cifar10", "val")
    data = open_record_dataset(train.rec, train.idx, val.rec, val.idx, 10, 32, 1.0)
    data = hold_out(data, 5000, 2000, str(tmp_path / "lists"), seed=0)
    offsets = {name: set(read_index(file.idx).offsets.tolist()) for name, file in data.splits.items()}
    parts = [offsets[name] for name in ("train", "bn", "search_val")]
    assert [len(part) for part in parts] == [43000, 2000, 5000]
    assert set.union(*parts) == offsets["train_full"] and sum(map(len, parts)) == 50000
    assert data.splits["test"] == val and data.strides == (1, 1, 2, 2, 2) and data.name == "cifar10"


def test_held_out_images_of_imagenette_never_reach_training(tmp_path):
    train, val = shared_file("imagenette224", "train"), shared_file("imagenette224", "val")
    data = open_record_dataset(train.rec, train.idx, val.rec, val.idx, 10, 224, 0.875)
    data = hold_out(data, 3800, 100, str(tmp_path / "lists"), seed=0)
    seen = []
    for name in ("train", "bn"):
        images = loader(data.splits[name], 25, num_classes=10, size=16)
        seen += [array.tobytes() for array in read_pass(images)[0]]
    held = loader(data.splits["search_val"], 100, num_classes=10, size=16)
    first = next(held.epoch(0)).images.asnumpy()
    assert len(seen) == 200 and not {array.tobytes() for array in first} & set(seen)


@pytest.mark.parametrize(
    "size, strides", [(32, (1, 1, 2, 2, 2)), (64, (2, 1, 2, 2, 2)), (160, (2, 2, 2, 2, 2)), (224, (2, 2, 2, 2, 2))]
)
def test_stride_plan(size, strides):
    assert stride_plan(size) == strides
