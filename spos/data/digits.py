"""The handwritten digits of scikit-learn as a data set: small, real, and there without a download.

1,797 digits of 8x8 pixels (UCI, Alpaydin and Kaynak 1998), enlarged to 32x32 so that they pass through a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.seeds import random_order
from spos.data.augmentation import DIGITS_AUGMENTATION
from spos.data.dataset import DataSet
from spos.data.prepared import encode_png, is_complete, pack_images, write_prepared
from spos.data.recordio import RecordFile

IMAGE_SIZE = 32
NUM_CLASSES = 10
STRIDES = (2, 2, 2, 2, 2)  # the images are 8x8 enlarged, so nothing is lost by halving early
MEAN = (77.9, 77.9, 77.9)  # of "train_full", 0..255
STD = (82.5, 82.5, 82.5)
SPLIT_SIZES = {"train": 1077, "bn": 180, "search_val": 180, "test": 360}
FULL_TRAINING_SPLITS = ("train", "bn", "search_val")

_SEED = 20190401
CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def prepare_digits(directory: str) -> DataSet:
    """Write the digits as record files with fixed lists, unless they are there already, and open them.

    Every file appears whole or not at all, and always with the same bytes, so a second call, two processes at once
    and a kill in between are harmless. A file that does not match its checksum is written again.

    Raises: InputError if scikit-learn is missing or the directory cannot be written.
    """
    folder = Path(directory)
    if not is_complete(folder, "digits", _file_names()):
        try:
            _write(folder)
        except OSError as error:
            raise InputError(f"{directory}: cannot write the digits here ({error})") from error
    splits = {name: RecordFile(str(folder / "digits.rec"), str(folder / f"{name}.idx")) for name in SPLIT_SIZES}
    splits["train_full"] = RecordFile(str(folder / "digits.rec"), str(folder / "train_full.idx"))
    return DataSet("digits", NUM_CLASSES, IMAGE_SIZE, STRIDES, MEAN, STD, DIGITS_AUGMENTATION, 1.0, splits, CLASS_NAMES)


def load_images() -> Tuple[np.ndarray, np.ndarray]:
    """Return the enlarged digits (1797, 32, 32) uint8 with ink 255 on 0, and their labels (1797,) int64."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            f"the digits come with scikit-learn, which cannot be imported ({error}); "
            "install it under the project's constraints"
        ) from error
    from PIL import Image

    small, labels = load_digits(return_X_y=True)
    grey = np.round(small.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # stored as 0..16
    size = (IMAGE_SIZE, IMAGE_SIZE)
    large = [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in grey]
    return np.stack(large), labels.astype(np.int64)


def split_positions(labels: np.ndarray) -> Dict[str, np.ndarray]:
    """Draw the fixed lists, each with every class in its share (to within one or two images).

    The members of a class, in random order, are spread evenly over 0..1; any stretch of the merged sequence then
    holds all classes in proportion.
    """
    place = np.empty(len(labels))
    for label in range(NUM_CLASSES):
        members = np.flatnonzero(labels == label)
        order = random_order(len(members), _SEED, label)
        place[members[order]] = (np.arange(len(members)) + 0.5) / len(members)
    sequence = np.argsort(place, kind="stable")
    ends = np.cumsum(list(SPLIT_SIZES.values()))
    return dict(zip(SPLIT_SIZES, np.split(sequence, ends[:-1])))


def _write(folder: Path) -> None:
    images, labels = load_images()
    record, index = pack_images((encode_png(np.stack([image] * 3, axis=-1)) for image in images), labels)
    files = {"digits.rec": record, "digits.idx": index.to_bytes()}
    lists = split_positions(labels)
    lists["train_full"] = np.concatenate([lists[name] for name in FULL_TRAINING_SPLITS])
    files.update({f"{name}.idx": index.take(positions).to_bytes() for name, positions in lists.items()})
    rows = [f"{label}\t{name}\n" for label, name in enumerate(CLASS_NAMES)]
    files["classes.tsv"] = ("label\tname\n" + "".join(rows)).encode("ascii")
    description = {
        "source": "sklearn.datasets.load_digits (UCI Optical Recognition of Handwritten Digits)",
        "num_images": len(labels),
        "num_classes": NUM_CLASSES,
        "image_size": IMAGE_SIZE,
        "splits": SPLIT_SIZES,
        "mean": MEAN,
        "std": STD,
    }
    write_prepared(folder, "digits", files, description)


def _file_names() -> List[str]:
    lists = [f"{name}.idx" for name in (*SPLIT_SIZES, "train_full")]
    return ["digits.rec", "digits.idx", "classes.tsv", *lists]
