"""Image data sets and the loader that reads them: RecordIO in, normalised batches out.

Every pass over the images is a function of (seed, epoch), so a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Deque, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.batch_decoder import BatchDecoder
from spos.compat import mx
from spos.errors import InputError
from spos.record_file import (
    Index,
    RecordFile,
    RecordReader,
    open_index,
    random_order,
    record_list,
    split_index,
    unpack_record,
)
from spos.search_space import stride_plan

NDArray = mx.nd.NDArray
Triple = Tuple[float, float, float]

IMAGENET_MEAN: Triple = (123.68, 116.779, 103.939)  # RGB, 0..255
IMAGENET_STD: Triple = (58.393, 57.12, 57.375)
IMAGENET_CROP_RATIO = 0.875  # 224 of 256

_CONCURRENT_BATCHES = 2  # while one is read from disk, another is decoded; they share the decoding threads
_BATCHES_AHEAD = 3
_MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image, in the terms of MXNet's ImageRecordIter.

    With `area` a random part of that share of the image, of that `aspect` (width / height), is resized to the input
    size. Without, the shorter side is resized to the input size, `pad` black pixels are put around, and a random
    window is cut.
    """

    area: Optional[Tuple[float, float]] = None
    aspect: Tuple[float, float] = (3 / 4, 4 / 3)
    pad: int = 0
    mirror: bool = False
    jitter: float = 0.0  # brightness, contrast and saturation, each by a factor of 1 - jitter .. 1 + jitter
    pca_noise: float = 0.0

    def iterator_arguments(self, input_size: int) -> Dict[str, object]:
        """Return the arguments of ImageRecordIter that mean this augmentation."""
        color = {name: self.jitter for name in ("brightness", "contrast", "saturation")}
        common = {"rand_mirror": self.mirror, "pca_noise": self.pca_noise, **color}
        if self.area is None:
            return {"resize": input_size, "pad": self.pad, "fill_value": 0, "rand_crop": True, **common}
        return {
            "random_resized_crop": True,
            "min_random_area": self.area[0],
            "max_random_area": self.area[1],
            "min_aspect_ratio": self.aspect[0],
            "max_aspect_ratio": self.aspect[1],
            **common,
        }


# The recipe of GluonCV's train_imagenet.py for .rec files.
IMAGENET_AUGMENTATION = Augmentation(area=(0.08, 1.0), mirror=True, jitter=0.4, pca_noise=0.1)
SMALL_IMAGE_AUGMENTATION = Augmentation(pad=4, mirror=True)
DIGITS_AUGMENTATION = Augmentation(pad=2)  # a mirrored digit is another sign


@dataclass(frozen=True)
class _Batch:
    """What one batch is made of: positions in the index, and the seed of its augmentation."""

    positions: np.ndarray
    seed: int


class ImageLoader:
    """Reads the listed images of a record file in batches, decoded and augmented by MXNet's ImageRecordIter.

    Each batch is handed to an ImageRecordIter of its own, as a small in-memory record file, because one iterator
    over the whole file is not exact (measured, 1.9.1): it also yields images that a shorter `.idx` leaves out, fails
    below one batch of images, fills the last batch with repeated images, overwrites batches that the caller still
    holds after five more, and seeds augmentation by position in the batch, so all batches of a pass are augmented
    alike. Here the seed is drawn per batch, and ImageRecordIter adds the position in the batch for every image:
    the result does not depend on threads.

    An undecodable image ends the whole process (SIGFPE) where ImageRecordIter resizes by the shorter side. Images
    are therefore decoded once more without resizing the first time they are seen, unless the augmentation has no
    such step. What MXNet decodes is accepted: a JPEG cut in the middle is (the rest grey), EXIF rotation is ignored.

    Args:
        augmentation: for training; also shuffles. None: file order, shorter side resized to
            ceil(input_size / crop_ratio), centre crop.
        num_workers: decoding threads.
        part_index, num_parts: read a part of one order that all parts share. With `drop_last`, all parts have as many
            batches, and their k-th batches one after the other are the k-th batch of a loader without parts whose
            batches are num_parts times as large, augmentation included: what several workers train on is what one
            would. Without, a part is every num_parts-th image, and their sizes may differ by one.
    Raises: InputError from here if the file does not hold what it should, from `epoch` naming the image if one
        cannot be decoded or its label is not in 0 .. num_classes - 1.
    """

    def __init__(
        self,
        file: RecordFile,
        batch_size: int,
        input_size: int,
        num_classes: int,
        mean: Triple,
        std: Triple,
        augmentation: Optional[Augmentation] = None,
        crop_ratio: float = IMAGENET_CROP_RATIO,
        seed: int = 0,
        num_workers: int = 2,
        drop_last: bool = False,
        part_index: int = 0,
        num_parts: int = 1,
    ) -> None:
        if min(batch_size, input_size, num_classes, num_workers) < 1:
            raise ValueError("batch_size, input_size, num_classes and num_workers must be at least 1")
        if not 0 < crop_ratio <= 1 or not 0 <= part_index < num_parts or seed < 0:
            raise ValueError(
                f"expected 0 < crop_ratio <= 1, 0 <= part_index < num_parts and seed >= 0, "
                f"got {crop_ratio}, {part_index} of {num_parts}, {seed}"
            )
        self.file = file
        self.batch_size = batch_size
        self._num_classes = num_classes
        self._seed = seed
        self._part = (part_index, num_parts)
        self._shuffle = augmentation is not None
        self._index: Index = open_index(file)
        self._drop_last = drop_last
        num_listed = len(range(part_index, len(self._index), num_parts))
        if drop_last:
            self.num_batches = len(self._index) // (num_parts * batch_size)
        else:
            self.num_batches = math.ceil(num_listed / batch_size)
        self.num_images = min(num_listed, self.num_batches * batch_size)
        if self.num_images == 0:
            raise InputError(
                f"{file.idx}: the {len(self._index)} images make no batch of {batch_size} "
                f"for part {part_index} of {num_parts}. Use a smaller batch or fewer parts"
            )
        if augmentation is None:
            transform: Dict[str, object] = {"resize": math.ceil(round(input_size / crop_ratio, 6))}
        else:
            transform = augmentation.iterator_arguments(input_size)
        self._concurrent = min(_CONCURRENT_BATCHES, num_workers)
        self._decoder = BatchDecoder(input_size, mean, std, transform, math.ceil(num_workers / self._concurrent))
        self._known_good = np.zeros(len(self._index), dtype=bool)
        if "resize" not in transform:
            self._known_good[:] = True  # ImageRecordIter reports an undecodable image by itself

    def positions(self, epoch: int) -> np.ndarray:
        """Return which images (positions in the index) this pass reads, in order."""
        num_listed = len(self._index)
        order = random_order(num_listed, self._seed, epoch) if self._shuffle else np.arange(num_listed)
        part, num_parts = self._part
        if not self._drop_last:
            return order[part::num_parts]
        batches = order[: self.num_images * num_parts].reshape(self.num_batches, num_parts, self.batch_size)
        return batches[:, part].ravel()

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tuple[NDArray, NDArray]]:
        """Yield every image once, from batch `start` on, as (images, labels); a function of (seed, epoch) alone.

        images: (N, 3, S, S) float32, (x - mean) / std, RGB, on cpu; labels: (N,) float32. The last batch may be
        smaller. Batches are prepared ahead in threads, which end when the generator is exhausted or closed.
        """
        pending: Deque[Future] = deque()
        with RecordReader(self.file.rec) as reader, ThreadPoolExecutor(self._concurrent) as pool:
            try:
                for batch in self._plan(epoch)[start:]:
                    pending.append(pool.submit(self._load, reader, batch))
                    if len(pending) > _BATCHES_AHEAD:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _plan(self, epoch: int) -> List[_Batch]:
        positions = self.positions(epoch)
        part, first = ((0, 1), self._part[0] * self.batch_size) if self._drop_last else (self._part, 0)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, epoch, *part))))
        seeds = ((rng.random(self.num_batches) * _MAX_SEED).astype(np.int64) + first) % _MAX_SEED
        starts = range(0, self.num_images, self.batch_size)
        return [_Batch(positions[start : start + self.batch_size], seed) for start, seed in zip(starts, seeds.tolist())]

    def _load(self, reader: RecordReader, batch: _Batch) -> Tuple[NDArray, NDArray]:
        records = [reader.read(int(self._index.offsets[position])) for position in batch.positions]
        for position, record in zip(batch.positions, records):
            self._check_label(position, unpack_record(record)[0])
        self._check_decodable(batch, records)
        try:
            return self._decoder.decode(records, batch.seed)
        except mx.MXNetError as error:
            self._raise_undecodable(batch, records)
            raise InputError(f"{self.file.rec}: MXNet cannot read a batch of images ({_last_line(error)})") from error

    def _check_label(self, position: int, labels: np.ndarray) -> None:
        if len(labels) != 1:
            raise InputError(f"{self._name(position)} has {len(labels)} labels, expected one")
        label = float(labels[0])
        if not (0 <= label < self._num_classes and label.is_integer()):
            raise InputError(
                f"{self._name(position)} has label {label:g}, expected 0..{self._num_classes - 1} "
                f"for {self._num_classes} classes. Give the right number of classes"
            )

    def _check_decodable(self, batch: _Batch, records: Sequence[bytes]) -> None:
        new = np.flatnonzero(~self._known_good[batch.positions])
        if new.size and not self._decoder.can_decode([records[i] for i in new]):
            self._raise_undecodable(batch, records)
        self._known_good[batch.positions] = True

    def _raise_undecodable(self, batch: _Batch, records: Sequence[bytes]) -> None:
        bad = [p for p, record in zip(batch.positions, records) if not self._decoder.can_decode([record])]
        if bad:
            more = f" ({len(bad)} such images in this batch)" if len(bad) > 1 else ""
            raise InputError(
                f"{self._name(bad[0])} cannot be decoded{more}. It is not a picture, or damaged: "
                f"pack the file again without it, or take its line out of {self.file.idx}"
            )

    def _name(self, position: int) -> str:
        key, offset = self._index.keys[position], self._index.offsets[position]
        return f"{self.file.rec}: image with key {key} (byte {offset})"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


class CachedLoader:
    """The batches of a loader without augmentation, decoded once and kept in memory."""

    def __init__(self, loader: ImageLoader) -> None:
        self.num_images = loader.num_images
        self.num_batches = loader.num_batches
        self._batches = list(loader.epoch(0))

    def epoch(self, epoch: int) -> Iterator[Tuple[NDArray, NDArray]]:
        """The same batches for every `epoch`."""
        return iter(self._batches)


@dataclass(frozen=True)
class DataSet:
    """Images in disjoint lists, and how to read them.

    splits: "train", "bn" (images for the BatchNorm update), "search_val", "test"; "train_full" is the union of the
        first three, for training the final network. A list of size 0 is absent.
    strides: of the stem and the four stages, for networks on these images.
    augmentation: for training.    mean, std: RGB, 0..255.
    """

    name: str
    num_classes: int
    input_size: int
    strides: Tuple[int, int, int, int, int]
    mean: Triple
    std: Triple
    augmentation: Augmentation
    crop_ratio: float
    splits: Mapping[str, RecordFile]


def open_record_dataset(
    rec_train: str,
    rec_train_idx: str,
    rec_val: str,
    rec_val_idx: str,
    num_classes: int,
    input_size: int,
    crop_ratio: float,
) -> DataSet:
    """Open an ImageNet-style pair of record files: the training file as "train_full", the other one as "test".

    Nothing is written; `hold_out` draws the other lists.    Raises: InputError if a file cannot be used.
    """
    train, test = RecordFile(rec_train, rec_train_idx), RecordFile(rec_val, rec_val_idx)
    for file in (train, test):
        open_index(file)
    small = input_size < 48
    return DataSet(
        name=Path(rec_train).resolve().parent.name,
        num_classes=num_classes,
        input_size=input_size,
        strides=stride_plan(input_size),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augmentation=SMALL_IMAGE_AUGMENTATION if small else IMAGENET_AUGMENTATION,
        crop_ratio=crop_ratio,
        splits={"train_full": train, "test": test},
    )


def hold_out(data: DataSet, search_val: int, bn: int, lists_directory: str, seed: int) -> DataSet:
    """Draw "search_val" and "bn" from "train_full"; the rest is "train". Data that has its lists keeps them.

    Either way the lists are recorded in `lists_directory`: train.idx, bn.idx, search_val.idx, test.idx.

    Args:
        search_val, bn: images to draw.    lists_directory: where the lists are written, or found again.
    Raises: InputError if nothing is left to train on, or the directory holds lists drawn otherwise.
    """
    record_list(data.splits["test"], lists_directory, "test")
    if "train" in data.splits:
        lists = {name: record_list(data.splits[name], lists_directory, name) for name in ("train", "bn", "search_val")}
    else:
        lists = split_index(data.splits["train_full"], {"bn": bn, "search_val": search_val}, lists_directory, seed)
    return replace(data, splits={**data.splits, **lists})
