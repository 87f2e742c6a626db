"""Facts: what the images are, and what the disk has left. No MXNet."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping

import numpy as np
from msgspec import Struct

from spos.core.errors import InputError
from spos.data.flags import HELD_OUT_SHARE, MAX_BAD_IMAGES, MAX_BN_IMAGES, MAX_HOLDOUT
from spos.data.pictures import held_out_shares
from spos.data.split import quota

DIGITS, RECORD, PICTURES = "digits", "record", "pictures"
IMAGES_PER_BAD = 1000  # of many images, so that one may be undecodable
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
        counts, scoring: of pictures, training images of each class, and those of them that their owner chose to score.
        lists: of images that are packed, how many are in each list that is held out.
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
    counts: List[int] = []
    scoring: List[int] = []
    lists: Dict[str, int] = {}

    @property
    def num_images(self) -> int:
        return self.num_train + self.num_test


def bad_images_allowed(num_images: int, given: Mapping[str, Any]) -> int:
    """Of so many images, how many may be undecodable. Args: given: values that the user decided."""
    return int(given.get("max_bad_images", max(MAX_BAD_IMAGES, num_images // IMAGES_PER_BAD)))


@dataclass(frozen=True)
class ListSizes:
    """How many images networks are trained on, the supernet is, score candidates, and test."""

    full: int
    train: int
    holdout: int
    test: int


def sizes_of(facts: Facts, test_share: float) -> ListSizes:
    """What packing gives every list if no images are near-duplicates; of packed images, what is there.

    Args: test_share: of each class, where nobody has set test images aside.
    """
    if facts.counts and not facts.lists:
        return _stratified_sizes(facts, test_share)
    test = facts.num_test or round(facts.num_train * test_share)
    full = facts.num_train if facts.num_test else facts.num_train - test
    most = {"search_val": MAX_HOLDOUT, "bn": MAX_BN_IMAGES}
    tenths = {name: max(1, min(round(full * HELD_OUT_SHARE), count)) for name, count in most.items()}
    lists = {**tenths, **facts.lists}
    return ListSizes(full, full - sum(lists.values()), lists["search_val"], max(1, test))


def _stratified_sizes(facts: Facts, test_share: float) -> ListSizes:
    counts = np.array(facts.counts)
    tested = np.zeros_like(counts) if facts.num_test else quota(counts, test_share, 1)
    full, scoring = counts - tested, np.array(facts.scoring)
    shares = held_out_shares(int(full.sum()), MAX_HOLDOUT, MAX_BN_IMAGES)
    if facts.scoring:
        bn = quota(full - scoring, shares["bn"], 1)
    else:
        scoring, bn = (quota(full, shares[name], len(shares)) for name in ("search_val", "bn"))
    train = int((full - scoring - bn).sum())
    return ListSizes(int(full.sum()), train, int(scoring.sum()), facts.num_test or int(tested.sum()))


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
