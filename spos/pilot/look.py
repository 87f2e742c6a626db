"""A look at the images: what they are, and a sample of them. Nothing is trained, written or decided here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

import cv2
import numpy as np
from msgspec.structs import replace

from spos.core.errors import InputError
from spos.data.decoder import decode_upright
from spos.data.flags import DataOptions
from spos.data.image_list import ImageList, UnreadableImage
from spos.data.pictures import find_pictures
from spos.data.registry import held_out_sizes, open_data
from spos.pilot.facts import DIGITS, PICTURES, RECORD, Facts, bad_images_allowed, check_counts

NUM_SAMPLED = 400  # images that are looked at
LARGEST_SAMPLE = 256  # px of what is kept of them: no network that is planned reads more


@dataclass(frozen=True)
class Sample:
    """Some of the images, to measure by.

    Args:
        images: (S, side, side, 3) uint8 RGB, the middles of images, of 256 px at most.    labels: (S,).
        decode_seconds: of one thread for an image as it lies there.
    """

    images: np.ndarray
    labels: np.ndarray
    decode_seconds: float


def look_at(data_dir: str, given: Mapping[str, Any]) -> Tuple[Facts, Sample]:
    """What lies there, and a sample of it.

    Args: given: values that the user decided.
    Raises: InputError if there are too few images, classes or readable files, with what would do.
    """
    source = Path(data_dir)
    if data_dir == DIGITS and not source.exists():
        return _packed(DIGITS, "the digits of the installation", data_dir, DataOptions(dataset=DIGITS), given)
    if (source / "train.rec").is_file():
        options = DataOptions(dataset=RECORD, data_dir=data_dir)
        return _packed(RECORD, "train.rec and val.rec", data_dir, options, given)
    found = find_pictures(source)
    facts, sample = _facts(PICTURES, found.layout, data_dir, found.train, found.test, len(found.classes), given)
    labels, count = found.train.labels, partial(np.bincount, minlength=len(found.classes))
    scoring = [] if found.scoring is None else count(labels[found.scoring]).tolist()
    return replace(facts, counts=count(labels).tolist(), scoring=scoring), sample


def _packed(
    kind: str, layout: str, data_dir: str, options: DataOptions, given: Mapping[str, Any]
) -> Tuple[Facts, Sample]:
    data = open_data(options)
    facts, sample = _facts(
        kind, layout, data_dir, data.splits["train_full"], data.splits["test"], data.num_classes, given
    )
    sizes = held_out_sizes(data, options)
    lists = {name: len(data.splits[name]) if name in data.splits else size for name, size in sizes.items()}
    return replace(facts, lists=lists), sample


def _facts(
    kind: str,
    layout: str,
    where: str,
    train: ImageList,
    test: Optional[ImageList],
    num_classes: int,
    given: Mapping[str, Any],
) -> Tuple[Facts, Sample]:
    labels = train.find_labels()
    counts = np.bincount(labels, minlength=num_classes)
    check_counts(counts, where)
    sample = np.linspace(0, len(labels) - 1, min(len(labels), NUM_SAMPLED)).astype(int)
    images, kept, sizes, sides, first = [], [], [], [], ""
    source, started = train.open(), time.perf_counter()
    with source.reader() as reader:
        for position in sample.tolist():
            try:
                _, content = reader.read(position)
                image = decode_upright(content)
            except UnreadableImage as error:
                first = first or f"{source.name(position)} {error}"
                continue
            images.append(_middle(image, min(*image.shape[:2], LARGEST_SAMPLE)))  # photos would fill the memory
            kept.append(position)
            sizes.append(len(content))
            sides.append(min(image.shape[:2]))
    seconds, num_bad = (time.perf_counter() - started) / len(sample), len(sample) - len(kept)
    allowed = bad_images_allowed(len(labels) + len(test or ()), given)
    if not images or num_bad * len(labels) > allowed * len(sample) and num_bad > 1:
        raise InputError(
            f"{where}: {num_bad} of {len(sample)} images that were looked at cannot be decoded, like {first}. Take "
            f"such files out, repair them, or allow more than {allowed} in all by --max-bad-images"
        )
    side = int(np.median(sides))
    common = min(side, LARGEST_SAMPLE)
    facts = Facts(
        kind=kind,
        layout=layout,
        where=where,
        num_train=len(labels),
        num_test=len(test) if test is not None else 0,
        num_classes=num_classes,
        smallest=int(counts.min()),
        largest=int(counts.max()),
        side=side,
        num_bytes=int(np.mean(sizes)),
        num_bad=num_bad,
        num_sampled=len(sample),
    )
    return facts, Sample(np.stack([_middle(image, common) for image in images])[..., ::-1], labels[kept], seconds)


def _middle(image: np.ndarray, size: int) -> np.ndarray:
    """The middle of an image as a square, (size, size, 3)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.ascontiguousarray(image[top : top + side, left : left + side])
    return cv2.resize(middle, (size, size), interpolation=cv2.INTER_AREA) if side != size else middle
