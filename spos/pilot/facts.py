"""Facts: what the images are, and what the disk has left. No MXNet."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from msgspec import Struct

from spos.core.errors import InputError

DIGITS, RECORD, PICTURES = "digits", "record", "pictures"
FEWEST_IMAGES = 5  # of a class: one that tests, one that scores, one for the BatchNorm update, two to learn from


class Facts(Struct, frozen=True):
    """What the images are.

    Args:
        kind: digits; record: packed files; pictures: to be packed.
        layout: how they lie, in words.
        num_train, num_test: images; of pictures without a split, num_test is 0.
        smallest, largest: images of the smallest and of the largest class.
        side: shorter side of a typical image (their median), px.    num_bytes: of a typical file.
        num_bad: of `num_sampled` images, those that cannot be decoded.
    """

    kind: str
    layout: str
    where: str
    num_train: int
    num_test: int
    num_classes: int
    smallest: int
    largest: int
    side: int
    num_bytes: int
    num_bad: int
    num_sampled: int


def check_counts(counts: np.ndarray, where: str) -> None:
    """Raise InputError for fewer than two classes, or too few images of one."""
    if len(counts) < 2:
        raise InputError(
            f"{where} has one class only, so there is nothing to tell apart; give a folder for each of two classes "
            "at least. Do the folders lie one level deeper, or higher?"
        )
    few = np.flatnonzero(counts < FEWEST_IMAGES)
    if len(few):
        raise InputError(
            f"{where}: {len(few)} of {len(counts)} classes have fewer than {FEWEST_IMAGES} training images, the "
            f"smallest {counts.min()}; add images or take these classes out. Each needs two to learn from, "
            "one to score by, one for the BatchNorm update and one to test on"
        )


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
