"""A data set: its images in disjoint lists, and how they are to be read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple

from spos.core.errors import InputError
from spos.data.augmentation import Augmentation, augmentation_for
from spos.data.folder import open_folders
from spos.data.image_list import ImageList
from spos.data.preprocessing import Preparation, Preprocessing, Triple
from spos.data.recordio import RecordFile, open_index
from spos.space.layers import stride_plan

LISTS_SEED = 20190401  # held-out lists and their order are the same for every run on the same files

IMAGENET_MEAN: Triple = (123.68, 116.779, 103.939)  # RGB, 0..255
IMAGENET_STD: Triple = (58.393, 57.12, 57.375)
IMAGENET_CROP_RATIO = 0.875  # 224 of 256


@dataclass(frozen=True)
class DataSet:
    """Images in disjoint lists, and how to read them.

    splits: "train", "bn" (images for the BatchNorm update), "search_val", "test"; "train_full" is the union of the
        first three, for training the final network. A list of size 0 is absent.
    strides: of the stem and the four stages, for networks on these images.
    augmentation: for training.    mean, std: RGB, 0..255.
    class_names: by label; empty if nothing says them.
    """

    name: str
    num_classes: int
    input_size: int
    strides: Tuple[int, int, int, int, int]
    mean: Triple
    std: Triple
    augmentation: Augmentation
    crop_ratio: float
    splits: Mapping[str, ImageList]
    class_names: Tuple[str, ...] = ()

    @property
    def preprocessing(self) -> Preprocessing:
        """What inference has to know of these images."""
        return Preprocessing(self.input_size, self.crop_ratio, self.mean, self.std, self.class_names)

    def contents(self) -> Dict[str, str]:
        """Checksums of the images that the held-out lists are drawn from, and of the test images, by name."""
        return {name: self.splits[name].contents() for name in ("train_full", "test")}

    def preparation(self, training: bool = False, as_pixels: bool = False) -> Preparation:
        """What a loader does to these images: augmented for training, else the centre."""
        augmentation = self.augmentation if training else None
        return Preparation(self.input_size, self.mean, self.std, self.crop_ratio, augmentation, as_pixels)


def open_record_dataset(
    rec_train: str,
    rec_train_idx: str,
    rec_val: str,
    rec_val_idx: str,
    num_classes: int,
    input_size: int,
    crop_ratio: float,
) -> DataSet:
    """Open a pair of record files: the training file as "train_full", the other one as "test".

    Nothing is written; `hold_out` draws the other lists.    Raises: InputError if a file cannot be used.
    """
    train, test = RecordFile(rec_train, rec_train_idx), RecordFile(rec_val, rec_val_idx)
    for file in (train, test):
        open_index(file)
    name = Path(rec_train).resolve().parent.name
    return make_dataset(name, train, test, num_classes, input_size, crop_ratio)


def open_folder_dataset(
    train: str, val: str, classes: Sequence[str], num_classes: int, input_size: int, crop_ratio: float
) -> DataSet:
    """Open two folders with one sub-folder per class, as "train_full" and "test".

    Args:
        classes: names by label (by default, sorted names of the folders).    num_classes: 0 for as many as named.
    Raises: InputError if a folder cannot be used, or holds more classes than `num_classes`.
    """
    train_images, test_images, names = open_folders(train, val, classes)
    check_num_classes(num_classes, len(names), train)
    name = Path(train).resolve().parent.name
    data = make_dataset(name, train_images, test_images, num_classes or len(names), input_size, crop_ratio)
    return replace(data, class_names=names) if data.num_classes == len(names) else data


def check_num_classes(given: int, found: int, where: str) -> None:
    """Raise InputError if a class count was given (not 0) that is smaller than what was found."""
    if 0 < given < found:
        raise InputError(
            f"--classes {given}: {where} has {found} classes. Leave the flag out, or give at least {found}"
        )


def make_dataset(
    name: str, train: ImageList, test: ImageList, num_classes: int, input_size: int, crop_ratio: float
) -> DataSet:
    """A data set without lists, normalised like ImageNet and augmented by size."""
    return DataSet(
        name=name,
        num_classes=num_classes,
        input_size=input_size,
        strides=stride_plan(input_size),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augmentation=augmentation_for(input_size),
        crop_ratio=crop_ratio,
        splits={"train_full": train, "test": test},
    )


def hold_out(data: DataSet, search_val: int, bn: int, lists_directory: str, seed: int) -> DataSet:
    """Draw "search_val" and "bn" from "train_full"; the rest is "train". Data that has its lists keeps them.

    Either way the lists are recorded in `lists_directory`: train.idx, bn.idx, search_val.idx, test.idx, or for folders
    train.lst and so on.

    Args:
        search_val, bn: images to draw.    lists_directory: where the lists are written, or found again.
    Raises: InputError if nothing is left to train on, or the directory holds lists drawn otherwise.
    """
    sizes = {"bn": bn, "search_val": search_val}
    data.splits["test"].record(lists_directory, "test")
    if "train" in data.splits:
        lists = {name: data.splits[name].record(lists_directory, name) for name in ("train", *sizes)}
    else:
        lists = data.splits["train_full"].hold_out(sizes, lists_directory, seed)
    return replace(data, splits={**data.splits, **lists})
