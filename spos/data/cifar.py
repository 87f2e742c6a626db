"""CIFAR-10 and CIFAR-100 as Gluon reads them, packed once into record files without loss."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.data.augmentation import augmentation_for
from spos.data.dataset import DataSet
from spos.data.prepared import encode_png, is_complete, pack_images, write_prepared
from spos.data.preprocessing import Triple
from spos.data.recordio import RecordFile
from spos.engine.compat import mx
from spos.space.layers import stride_plan

IMAGE_SIZE = 32
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}
# RGB of the training images, 0..255.
MEAN: Mapping[str, Triple] = {"cifar10": (125.3, 123.0, 113.9), "cifar100": (129.3, 124.1, 112.4)}
STD: Mapping[str, Triple] = {"cifar10": (63.0, 62.1, 66.7), "cifar100": (68.2, 65.4, 70.4)}
CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": (),  # a hundred names that stand in the original archive only
}

_FILES = ("train.rec", "train.idx", "val.rec", "val.idx")


def prepare_cifar(name: str, directory: str, root: str = "") -> Tuple[RecordFile, RecordFile]:
    """Pack Gluon's copy of the data set into `directory`, unless it is there whole, and return train and test.

    Args:
        name: cifar10 or cifar100.
        root: folder of the original binary files; Gluon's own by default. Gluon downloads them if they are missing.
    Raises: InputError if they are neither there nor can be downloaded, or the directory cannot be written.
    """
    folder = Path(directory)
    if not is_complete(folder, name, _FILES):
        contents = {}
        for split, is_train in (("train", True), ("val", False)):
            images, labels = read_gluon(name, root or default_root(name), is_train)
            record, index = pack_images(map(encode_png, images), labels)
            contents.update({f"{split}.rec": record, f"{split}.idx": index.to_bytes()})
        try:
            write_prepared(folder, name, contents, {"num_classes": NUM_CLASSES[name], "image_size": IMAGE_SIZE})
        except OSError as error:
            raise InputError(f"{directory}: cannot write {name} here ({error})") from error
    train, val = (RecordFile(str(folder / f"{split}.rec"), str(folder / f"{split}.idx")) for split in ("train", "val"))
    return train, val


def default_root(name: str) -> str:
    """Where Gluon keeps the original files."""
    return os.path.join(mx.base.data_dir(), "datasets", name)


def read_gluon(name: str, root: str, is_train: bool) -> Tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) uint8 RGB and labels (N,), the 100 fine ones for CIFAR-100."""
    datasets = mx.gluon.data.vision
    try:
        if name == "cifar10":
            data: Any = datasets.CIFAR10(root=root, train=is_train)
        else:
            data = datasets.CIFAR100(root=root, fine_label=True, train=is_train)
    except Exception as error:  # whatever a network or a damaged archive raises
        raise InputError(
            f"{name} is not in {root} and could not be downloaded ({type(error).__name__}). Put "
            "the files of its 'binary version' there, or give record files by --rec-train and --rec-val"
        ) from error
    return data._data.asnumpy(), np.asarray(data._label)


def describe_cifar(name: str, train: RecordFile, test: RecordFile, input_size: int = 0) -> DataSet:
    """The data set of these record files, with the constants of CIFAR."""
    size = input_size or IMAGE_SIZE
    return DataSet(
        name=name,
        num_classes=NUM_CLASSES[name],
        input_size=size,
        strides=stride_plan(size),
        mean=MEAN[name],
        std=STD[name],
        augmentation=augmentation_for(size),
        crop_ratio=1.0,
        splits={"train_full": train, "test": test},
        class_names=CLASS_NAMES[name],
    )
