"""Image data sets and the loader that reads them: encoded images in, normalised batches out.

Every pass over the images is a function of (seed, epoch), so a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Deque, Generator, Iterator, List, NamedTuple, Sequence

import numpy as np

from spos.core.errors import InputError, warn
from spos.data.augmentation import NUM_DRAWS
from spos.data.dataset import DataSet
from spos.data.decoder import ImageDecoder, Scratch
from spos.data.flags import MAX_BAD_IMAGES, DataOptions
from spos.data.image_list import ImageList, ImageReader, UnreadableImage
from spos.data.order import Order
from spos.data.preprocessing import Preparation
from spos.engine.compat import mx

_BATCHES_AHEAD = 3
_IMAGES_PER_TASK = 16  # at most; decoding them takes long against handing a task to a thread
_MAX_SEED = 2**31 - 1
_NAMED_IN_AN_ERROR = 3


class Batch(NamedTuple):
    """Images (N, 3, S, S) as prepared, RGB, on cpu; labels (N,) float32; the positions (N,) of both in the list."""

    images: mx.nd.NDArray
    labels: mx.nd.NDArray
    positions: np.ndarray


@dataclass(frozen=True)
class _Bad:
    """An image that cannot be used: its place in the batch, its position in the list, and why."""

    place: int
    position: int
    reason: str


@dataclass(frozen=True)
class _Plan:
    """What one batch is made of: positions in the list, and the seed of its augmentation."""

    positions: np.ndarray
    seed: int
    first: int  # images of other parts that share the seed and come before


@dataclass(frozen=True)
class _Pending:
    """A batch in work. Tasks fill `pixels` (the memory of `images`), `labels` and `positions`, and return what
    cannot be used."""

    images: mx.nd.NDArray
    pixels: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    tasks: List[Future]


class ImageLoader:
    """Reads the listed images of a record file or folder in batches, decoded and augmented by OpenCV in threads.

    Images that cannot be decoded are left out, so that a count of images stays true; a batch of which nothing is left
    is left out itself. With augmentation the next image of the list takes the place of each, so that all batches have
    one size. Each is named in one warning, and `bad_images` lists them. What OpenCV decodes is accepted: a JPEG cut in
    the middle is (the rest grey). Images are turned as their EXIF orientation says.

    Args:
        num_workers: decoding threads.
        max_bad_images: more undecodable images than this are an error.
    Raises: InputError from here if the file does not hold what it should, from `epoch` naming the image if its label is
        not in 0 .. num_classes - 1, or if too many cannot be decoded.
    """

    def __init__(
        self,
        images: ImageList,
        preparation: Preparation,
        order: Order,
        batch_size: int,
        num_workers: int = 2,
        *,
        num_classes: int,
        max_bad_images: int = MAX_BAD_IMAGES,
    ) -> None:
        if min(batch_size, num_classes, num_workers) < 1:
            raise ValueError("batch_size, num_classes and num_workers must be at least 1")
        self.batch_size = batch_size
        self.preparation = preparation
        self.bad_images: List[str] = []
        self._max_bad_images = max_bad_images
        self._bad_positions: set = set()
        self._num_classes = num_classes
        self._order = order
        self._replaces = preparation.augmentation is not None
        self._dtype = np.uint8 if preparation.as_pixels else np.float32
        self._num_workers = num_workers
        self._where = images.where
        self._source = images.open()
        self._local = threading.local()
        self._decoder = ImageDecoder(preparation)
        self.num_batches = order.num_batches(len(self._source), batch_size)
        if self.num_batches == 0:
            raise InputError(
                f"{self._where}: the {len(self._source)} images make no batch of {batch_size} "
                f"for part {order.part} of {order.num_parts}. Use a smaller batch or fewer parts"
            )
        self.num_images = order.num_images(len(self._source), batch_size)

    def positions(self, epoch: int) -> np.ndarray:
        """Return which images (positions in the list) this pass reads, in order."""
        return self._order.positions(len(self._source), self.batch_size, epoch)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """Yield every image once; a function of (seed, epoch) alone.

        The last batch may be smaller. Batches are prepared ahead in threads, which end when the generator is exhausted
        or closed.

        Args:
            start: batches of this epoch to leave out; those that follow are the same as in a whole pass.
        """
        pending: Deque[_Pending] = deque()
        with self._source.reader() as reader, ThreadPoolExecutor(self._num_workers) as pool:
            try:
                for plan in self._plan(epoch)[start:]:
                    pending.append(self._begin(reader, pool, plan))
                    if len(pending) > _BATCHES_AHEAD:
                        yield from self._finish(pending.popleft())
                while pending:
                    yield from self._finish(pending.popleft())
            finally:
                for unfinished in pending:
                    for task in unfinished.tasks:
                        task.cancel()

    def _plan(self, epoch: int) -> List[_Plan]:
        positions = self.positions(epoch)
        first = self._order.part * self.batch_size if self._order.drop_last else 0
        seeds = (self._order.rng(epoch).random(self.num_batches) * _MAX_SEED).astype(np.int64).tolist()
        starts = range(0, self.num_images, self.batch_size)
        return [_Plan(positions[start : start + self.batch_size], seed, first) for start, seed in zip(starts, seeds)]

    def _begin(self, reader: ImageReader, pool: ThreadPoolExecutor, plan: _Plan) -> _Pending:
        num_images, size = len(plan.positions), self._decoder.size
        images = mx.nd.empty((num_images, 3, size, size), dtype=self._dtype)
        labels = np.empty(num_images, np.float32)
        pending = _Pending(images, _memory_of(images), labels, plan.positions.copy(), [])
        draws = self._draws(plan.seed, plan.first, num_images).tolist()
        step = min(_IMAGES_PER_TASK, math.ceil(num_images / self._num_workers))
        for first in range(0, num_images, step):
            part = range(first, min(first + step, num_images))
            pending.tasks.append(pool.submit(self._decode, reader, pending, draws, part))
        return pending

    def _draws(self, seed: int, first: int, num_images: int) -> np.ndarray:
        """(images, numbers): the first numbers of an image are the same whether it has more or not."""
        augmentation = self.preparation.augmentation
        more = augmentation.num_draws - NUM_DRAWS if augmentation else 0
        parts = [
            np.random.Generator(np.random.PCG64(own)).random((first + num_images, count))[first:]
            for own, count in ((seed, NUM_DRAWS), ([seed, 1], more))
            if count
        ]
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    def _decode(self, reader: ImageReader, pending: _Pending, draws: Sequence, part: range) -> List[_Bad]:
        """Fill these images of a batch. Returns which were undecodable."""
        if not hasattr(self._local, "scratch"):
            self._local.scratch = Scratch(self._decoder.size)
        bad: List[_Bad] = []
        for i in part:
            position, num_tries = int(pending.positions[i]), 0
            while True:
                try:
                    self._decode_one(reader, pending, draws[i], i, position)
                    break
                except UnreadableImage as error:
                    bad.append(_Bad(i, position, str(error)))
                num_tries += 1
                if not self._replaces or num_tries > self._max_bad_images:
                    break
                if num_tries == len(self._source):
                    raise InputError(f"{self._where}: no image can be decoded; the first is {self._source.name(0)}")
                position = (position + 1) % len(self._source)
            pending.positions[i] = position
        return bad

    def _decode_one(
        self, reader: ImageReader, pending: _Pending, draws: Sequence[float], place: int, position: int
    ) -> None:
        labels, content = reader.read(position)
        pending.labels[place] = self._checked_label(position, labels)
        self._decoder.decode(content, draws, pending.pixels[place], self._local.scratch)

    def _finish(self, pending: _Pending) -> Iterator[Batch]:
        """Yield the batch; without augmentation without what is undecodable, or nothing."""
        bad = [one for task in pending.tasks for one in task.result()]
        if bad:
            self._report(bad)
        if not bad or self._replaces:
            yield Batch(pending.images, mx.nd.array(pending.labels), pending.positions)
            return
        keep = np.setdiff1d(np.arange(len(pending.labels)), [one.place for one in bad])
        if keep.size:
            images = mx.nd.array(pending.pixels[keep], dtype=self._dtype)
            yield Batch(images, mx.nd.array(pending.labels[keep]), pending.positions[keep])

    def _report(self, bad: Sequence[_Bad]) -> None:
        for one in bad:
            if one.position in self._bad_positions:
                continue
            self._bad_positions.add(one.position)
            self.bad_images.append(self._source.name(one.position))
            done = "another image takes its place" if self._replaces else "it is left out"
            warn(f"{self.bad_images[-1]} {one.reason}; {done}")
        if len(self.bad_images) > self._max_bad_images:
            names = "; ".join(self.bad_images[:_NAMED_IN_AN_ERROR])
            raise InputError(
                f"{len(self.bad_images)} images cannot be decoded, more than --max-bad-images {self._max_bad_images}; "
                f"the first: {names} (it {bad[0].reason}). Repair the files or take them out (of the list or folder), "
                "or allow more"
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


def _memory_of(array: mx.nd.NDArray) -> np.ndarray:
    """The memory of a new array on the CPU, to fill it without a copy before anything else uses it."""
    address = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    kind = np.ctypeslib.as_ctypes_type(array.dtype)
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), array.shape)


def make_loader(
    data: DataSet, split: str, options: DataOptions, preparation: Preparation, order: Order, num_devices: int = 1
) -> ImageLoader:
    """Batches of one split for all devices together."""
    return ImageLoader(
        data.splits[split],
        preparation,
        order,
        options.batch_size * num_devices,
        options.num_workers,
        num_classes=data.num_classes,
        max_bad_images=options.max_bad_images,
    )


def decode_pixels(images: ImageList, preparation: Preparation, positions: Sequence[int]) -> List[np.ndarray]:
    """Some images of a list, without augmentation: (S, S, 3) RGB each, 8 bits.

    Raises: InputError naming the first that cannot be decoded.
    """
    decoder, scratch = ImageDecoder(replace(preparation, augmentation=None)), Scratch(preparation.size)
    source, found = images.open(), []
    with source.reader() as reader:
        for position in positions:
            planes = np.empty((3, preparation.size, preparation.size), np.uint8)
            try:
                decoder.decode(reader.read(position)[1], (), planes, scratch)
            except UnreadableImage as error:
                raise InputError(f"{source.name(position)} {error}") from None
            found.append(planes.transpose(1, 2, 0))
    return found
