"""Image data sets and the loader that reads them: encoded images in, normalised batches out.

Every pass over the images is a function of (seed, epoch), so a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Deque, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError, warn
from spos.core.seeds import random_order
from spos.data.augmentation import NUM_DRAWS, Augmentation
from spos.data.dataset import IMAGENET_CROP_RATIO, DataSet
from spos.data.decoder import ImageDecoder, Scratch
from spos.data.flags import MAX_BAD_IMAGES, DataOptions
from spos.data.preprocessing import Triple
from spos.data.source import ImageList, open_source
from spos.engine.cluster import LOCAL, Cluster
from spos.engine.compat import mx

NDArray = mx.nd.NDArray

_BATCHES_AHEAD = 3
_IMAGES_PER_TASK = 16  # at most; decoding them takes long against handing a task to a thread
_MAX_SEED = 2**31 - 1
_NAMED_IN_AN_ERROR = 3


@dataclass(frozen=True)
class _Batch:
    """What one batch is made of: positions in the source, and the seed of its augmentation."""

    positions: np.ndarray
    seed: int
    first: int  # images of other parts that share the seed and come before


@dataclass(frozen=True)
class _Pending:
    """A batch in work. Tasks fill `pixels` (the memory of `images`) and `labels`, and return what is undecodable:
    (place in the batch, position in the source)."""

    batch: _Batch
    images: NDArray
    pixels: np.ndarray
    labels: np.ndarray
    tasks: List[Future]


class ImageLoader:
    """Reads the listed images of a record file or folder in batches, decoded and augmented by OpenCV in threads.

    Images that cannot be decoded are left out, so that a count of images stays true; a batch of which nothing is left
    is left out itself. In training the next image of the list takes the place of each, so that all batches have one
    size. Each is named in one warning, and `bad_images` lists them. What OpenCV decodes is accepted: a JPEG cut in the
    middle is (the rest grey), EXIF rotation is ignored.

    Args:
        images: which images (`RecordFile` or `ImageFolder`).
        augmentation: for training; also shuffles. None: in order, the centre of the image (`crop_ratio`).
        num_workers: decoding threads.
        drop_last: leave out the smaller last batch.
        part_index, num_parts: read a part of one order that all parts share. With `drop_last`, all parts have as many
            batches, and their k-th batches one after the other are the k-th batch of a loader without parts whose
            batches are num_parts times as large, augmentation included: what several workers train on is what one
            would. Without, a part is every num_parts-th image, and their sizes may differ by one.
        order_seed: without augmentation, read in a random order that is a function of this alone: lists are in file
            order, and files often class by class, so that a batch would not be like the whole. None: in order.
        as_pixels: yield 8-bit pixels as decoded, without normalising.
        reduced_scale: read only the first num_batches // reduced_scale batches of each epoch's order (at least one).
        max_bad_images: more undecodable images than this are an error.
    Raises: InputError from here if the file does not hold what it should, from `epoch` naming the image if its label is
        not in 0 .. num_classes - 1, or if too many cannot be decoded.
    """

    def __init__(
        self,
        images: ImageList,
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
        reduced_scale: int = 1,
        max_bad_images: int = MAX_BAD_IMAGES,
        order_seed: Optional[int] = None,
        as_pixels: bool = False,
    ) -> None:
        if min(batch_size, input_size, num_classes, num_workers, reduced_scale) < 1:
            raise ValueError("batch_size, input_size, num_classes, num_workers and reduced_scale must be at least 1")
        if not 0 < crop_ratio <= 1 or not 0 <= part_index < num_parts or seed < 0:
            raise ValueError(
                f"expected 0 < crop_ratio <= 1, 0 <= part_index < num_parts and seed >= 0, "
                f"got {crop_ratio}, {part_index} of {num_parts}, {seed}"
            )
        self.batch_size = batch_size
        self.input_size = input_size
        self.bad_images: List[str] = []
        self._max_bad_images = max_bad_images
        self._bad_positions: set = set()
        self._num_classes = num_classes
        self._seed = seed
        self._part = (part_index, num_parts)
        self._shuffle = augmentation is not None
        self._order_seed = order_seed
        self._dtype = np.uint8 if as_pixels else np.float32
        self._num_workers = num_workers
        self._source = open_source(images)
        self._local = threading.local()
        self._decoder = ImageDecoder(input_size, mean, std, augmentation, crop_ratio)
        self._drop_last = drop_last
        num_listed = len(range(part_index, len(self._source), num_parts))
        num_batches = math.ceil(num_listed / batch_size)
        if drop_last:
            num_batches = len(self._source) // (num_parts * batch_size)
        if num_batches == 0:
            raise InputError(
                f"{self._source}: the {len(self._source)} images make no batch of {batch_size} "
                f"for part {part_index} of {num_parts}. Use a smaller batch or fewer parts"
            )
        self.num_batches = max(1, num_batches // reduced_scale)
        self.num_images = min(num_listed, self.num_batches * batch_size)

    def positions(self, epoch: int) -> np.ndarray:
        """Return which images (positions in the list) this pass reads, in order."""
        num_listed = len(self._source)
        if self._shuffle:
            order = random_order(num_listed, self._seed, epoch)
        elif self._order_seed is not None:
            order = random_order(num_listed, self._order_seed)
        else:
            order = np.arange(num_listed)
        part, num_parts = self._part
        if not self._drop_last:
            return order[part::num_parts][: self.num_images]
        batches = order[: self.num_images * num_parts].reshape(self.num_batches, num_parts, self.batch_size)
        return batches[:, part].ravel()

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tuple[NDArray, NDArray]]:
        """Yield every image once, as (images, labels); a function of (seed, epoch) alone.

        images: (N, 3, S, S), RGB, float32, (x - mean) / std, or uint8 with `as_pixels`, on cpu; labels: (N,) float32.
        The last batch may be smaller. Batches are prepared ahead in threads, which end when the generator is exhausted
        or closed.

        Args:
            start: batches of this epoch to leave out; those that follow are the same as in a whole pass.
        """
        pending: Deque[_Pending] = deque()
        with self._source.open() as reader, ThreadPoolExecutor(self._num_workers) as pool:
            try:
                for batch in self._plan(epoch)[start:]:
                    pending.append(self._begin(reader, pool, batch))
                    if len(pending) > _BATCHES_AHEAD:
                        yield from self._finish(pending.popleft())
                while pending:
                    yield from self._finish(pending.popleft())
            finally:
                for unfinished in pending:
                    for task in unfinished.tasks:
                        task.cancel()

    def _plan(self, epoch: int) -> List[_Batch]:
        positions = self.positions(epoch)
        part, first = ((0, 1), self._part[0] * self.batch_size) if self._drop_last else (self._part, 0)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, epoch, *part))))
        seeds = (rng.random(self.num_batches) * _MAX_SEED).astype(np.int64).tolist()
        starts = range(0, self.num_images, self.batch_size)
        return [_Batch(positions[start : start + self.batch_size], seed, first) for start, seed in zip(starts, seeds)]

    def _begin(self, reader: Any, pool: ThreadPoolExecutor, batch: _Batch) -> _Pending:
        num_images, size = len(batch.positions), self._decoder.size
        images = mx.nd.empty((num_images, 3, size, size), dtype=self._dtype)
        pending = _Pending(batch, images, _memory_of(images), np.empty(num_images, np.float32), [])
        rng = np.random.Generator(np.random.PCG64(batch.seed))
        draws = rng.random((batch.first + num_images, NUM_DRAWS))[batch.first :].tolist()
        step = min(_IMAGES_PER_TASK, math.ceil(num_images / self._num_workers))
        for first in range(0, num_images, step):
            part = range(first, min(first + step, num_images))
            pending.tasks.append(pool.submit(self._decode, reader, pending, draws, part))
        return pending

    def _decode(self, reader: Any, pending: _Pending, draws: Sequence, part: range) -> List[Tuple[int, int]]:
        """Fill these images of a batch. Returns which were undecodable."""
        if not hasattr(self._local, "scratch"):
            self._local.scratch = Scratch(self._decoder.size)
        bad: List[Tuple[int, int]] = []
        for i in part:
            position, num_tries = int(pending.batch.positions[i]), 0
            while not self._decode_one(reader, pending, draws[i], i, position):
                bad.append((i, position))
                num_tries += 1
                if not self._shuffle or num_tries > self._max_bad_images:
                    break
                if num_tries == len(self._source):
                    raise InputError(f"{self._source}: no image can be decoded; the first is {self._source.name(0)}")
                position = (position + 1) % len(self._source)
        return bad

    def _decode_one(self, reader: Any, pending: _Pending, draws: Sequence[float], place: int, position: int) -> bool:
        labels, content = reader.read(position)
        pending.labels[place] = self._checked_label(position, labels)
        return self._decoder.decode(content, draws, pending.pixels[place], self._local.scratch)

    def _finish(self, pending: _Pending) -> Iterator[Tuple[NDArray, NDArray]]:
        """Yield the batch; without augmentation without what is undecodable, or nothing."""
        bad = [one for task in pending.tasks for one in task.result()]
        if bad:
            self._report([position for _, position in bad])
        if not bad or self._shuffle:
            yield pending.images, mx.nd.array(pending.labels)
            return
        keep = np.setdiff1d(np.arange(len(pending.labels)), [place for place, _ in bad])
        if keep.size:
            yield mx.nd.array(pending.pixels[keep], dtype=self._dtype), mx.nd.array(pending.labels[keep])

    def _report(self, positions: Sequence[int]) -> None:
        for position in positions:
            if position in self._bad_positions:
                continue
            self._bad_positions.add(position)
            self.bad_images.append(self._source.name(position))
            done = "another image takes its place" if self._shuffle else "it is left out"
            warn(f"{self.bad_images[-1]} cannot be decoded: it is not a picture, or damaged; {done}")
        if len(self.bad_images) > self._max_bad_images:
            names = "; ".join(self.bad_images[:_NAMED_IN_AN_ERROR])
            raise InputError(
                f"{len(self.bad_images)} images cannot be decoded, more than --max-bad-images {self._max_bad_images}; "
                f"the first: {names}. Repair the files or take them out (of the list or folder), or allow more"
            )

    def _checked_label(self, position: int, labels: np.ndarray) -> float:
        if len(labels) != 1:
            raise InputError(f"{self._source.name(position)} has {len(labels)} labels, expected one")
        label = float(labels[0])
        if not (0 <= label < self._num_classes and label.is_integer()):
            raise InputError(
                f"{self._source.name(position)} has label {label:g}, expected 0..{self._num_classes - 1} "
                f"for {self._num_classes} classes. Give the right number of classes"
            )
        return label


def _memory_of(array: NDArray) -> np.ndarray:
    """The memory of a new array on the CPU, to fill it without a copy before anything else uses it."""
    address = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    kind = np.ctypeslib.as_ctypes_type(array.dtype)
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), array.shape)


def make_loader(
    data: DataSet,
    split: str,
    options: DataOptions,
    num_devices: int = 1,
    training: bool = False,
    seed: int = 0,
    reduced_scale: int = 1,
    cluster: Cluster = LOCAL,
    order_seed: Optional[int] = None,
    as_pixels: bool = False,
) -> ImageLoader:
    """Batches of one split for all devices together; augmented, shuffled and without a short batch for training.

    Each worker of a cluster reads its own part.
    """
    batch_size = options.batch_size * num_devices
    return ImageLoader(
        data.splits[split],
        batch_size,
        data.input_size,
        data.num_classes,
        data.mean,
        data.std,
        augmentation=data.augmentation if training else None,
        crop_ratio=data.crop_ratio,
        seed=seed,
        num_workers=options.num_workers,
        drop_last=training,
        part_index=cluster.rank,
        num_parts=cluster.num_workers,
        reduced_scale=reduced_scale,
        max_bad_images=options.max_bad_images,
        order_seed=order_seed,
        as_pixels=as_pixels,
    )
