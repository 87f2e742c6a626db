"""Images that are evaluated again and again: decoded once, kept as 8-bit pixels, normalised on the device.

They are kept in memory, or, where they take too much of it, in a file that is mapped into memory and that all
processes of a machine share.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from spos.core.errors import InputError, warn
from spos.core.machine import available_memory
from spos.core.progress import progress_bar
from spos.data.dataset import LISTS_SEED, DataSet
from spos.data.decoder import normalisation
from spos.data.flags import DataOptions
from spos.data.loader import ImageLoader, make_loader
from spos.data.order import Order
from spos.engine.compat import mx
from spos.runs.files import file_digest, replacing, write_atomic
from spos.runs.run import PIXELS_FOLDER

DeviceBatch = List[Tuple[Any, Any]]  # (images (N, 3, S, S) float32, normalised; labels (N,)) for every device
Kept = Tuple[np.ndarray, np.ndarray]  # images, labels
MEMORY_SHARE = 0.5  # of the memory that is available
#: files of `load_images`, and what is left of one that was not written to its end
_KEPT = re.compile(r"(?P<partial>\.)?(?P<name>\w+-[0-9a-f]{16}(\.labels\.npy|\.npy|\.json))(?(partial)\..+)")
_BLOCK = 1 << 20
_WITHOUT_RESERVATION = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


class Pixels:
    """Decoded images of one list with their labels.

    Args:
        images: (N, 3, S, S) uint8, RGB.    labels: (N,) float32.
        mean, std: RGB, 0..255.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> None:
        self._images = images
        self._labels = labels
        self._constants = normalisation(mean, std)
        self._on_device: dict = {}
        self.num_images = len(labels)

    def batches(
        self, batch_size: int, ctx: Sequence[mx.Context], start: int = 0, stop: Optional[int] = None
    ) -> Iterator[DeviceBatch]:
        """Images `start` to `stop` in order, each batch shared among the devices; the last may be smaller."""
        stop = self.num_images if stop is None else stop
        for first in range(start, stop, batch_size):
            end = min(first + batch_size, stop)
            ends = np.linspace(first, end, min(len(ctx), end - first) + 1).astype(int).tolist()
            yield [self._load(slice(*ends[i : i + 2]), device) for i, device in enumerate(ctx[: len(ends) - 1])]

    def _load(self, part: slice, ctx: mx.Context) -> Tuple[Any, Any]:
        if ctx not in self._on_device:
            self._on_device[ctx] = [mx.nd.array(value[None], ctx=ctx) for value in self._constants]
        scale, shift = self._on_device[ctx]
        pixels, labels = mx.nd.array(self._images[part], dtype=np.uint8), mx.nd.array(self._labels[part])
        images = pixels.as_in_context(ctx).astype("float32")  # does not wait; `mx.nd.array(..., ctx=gpu)` would
        images = mx.nd.broadcast_sub(mx.nd.broadcast_mul(images, scale), shift)  # as the loader rounds
        return images, labels.as_in_context(ctx)


def load_pixels(loader: ImageLoader, folder: Path, name: str, shared: bool = False) -> Pixels:
    """All images of a loader that prepares them as pixels.

    Args:
        folder, name: where they are kept when they take more than MEMORY_SHARE of the available memory, or when
            they are `shared` with other processes. A whole file with this name is taken for the same images, so the
            name has to say which they are.
    Raises: InputError if no image can be decoded, if the disk has no room for them, or as the loader does.
    """
    look = loader.preparation
    shape = (loader.num_images, 3, look.size, look.size)
    if not shared and np.prod(shape) <= MEMORY_SHARE * available_memory():
        images = np.empty(shape, np.uint8)
        labels = _decode(loader, images, name)
        return Pixels(images[: len(labels)], labels, look.mean, look.std)
    file, labels_file = folder / f"{name}.npy", folder / f"{name}.labels.npy"
    kept = _kept(file, labels_file, shape)
    if kept is None:
        remove_leftovers(file)
        try:
            _write(loader, file, labels_file, name, shape)
        except OSError as error:
            raise InputError(
                f"{folder}: the decoded images of the list '{name}' need {np.prod(shape) / 1e6:.0f} MB, which cannot "
                f"be written ({error.strerror}). Free space there, make it a link to a folder on another disk, or let "
                "one process keep them in memory (one device)"
            ) from None
        kept = _open(file, labels_file, shape)
    return Pixels(*kept, look.mean, look.std)


def _write(loader: ImageLoader, file: Path, labels_file: Path, name: str, shape: Tuple[int, ...]) -> None:
    """Decode into the files, and last write their checksums, which say that both are complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary, open(temporary, "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # nobody takes it for a leftover
        held.write(_header(np.uint8, shape))
        held.flush()
        start = held.tell()
        _reserve(held.fileno(), start + int(np.prod(shape)))
        mapped = np.memmap(temporary, np.uint8, "r+", start, shape)
        labels = _decode(loader, mapped, name)
        mapped.flush()
    content = io.BytesIO()
    np.save(content, labels)
    write_atomic(labels_file, content.getvalue())
    write_sums(file, labels_file)


def write_sums(file: Path, labels_file: Path) -> None:
    """Say that both files are complete as they are."""
    sums = {part.name: file_digest(part) for part in (file, labels_file)}
    write_atomic(_sums_of(file), json.dumps(sums, indent=2) + "\n")


def _reserve(descriptor: int, size: int) -> None:
    """Take the space of a file, for writing to a mapped page that finds none ends the process (SIGBUS)."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in _WITHOUT_RESERVATION:
            raise
        for start in range(os.fstat(descriptor).st_size, size, _BLOCK):
            os.pwrite(descriptor, bytes(min(_BLOCK, size - start)), start)


def _sums_of(file: Path) -> Path:
    return file.with_suffix(".json")


def _kept(file: Path, labels_file: Path, shape: Tuple[int, ...]) -> Optional[Kept]:
    """What both files hold; None if they are not there, or not with the content they were written with."""
    try:
        sums = json.loads(_sums_of(file).read_bytes())
        if sums != {part.name: file_digest(part) for part in (file, labels_file)}:
            raise ValueError("other checksums")
        return _open(file, labels_file, shape)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        warn(f"{file} is damaged; its images are decoded again")
        return None


def _open(file: Path, labels_file: Path, shape: Tuple[int, ...]) -> Kept:
    """Raises: ValueError if the files are not those of at most as many images of this shape."""
    num_labels = (labels_file.stat().st_size - len(_header(np.float32, shape[:1]))) // np.float32().itemsize
    if not 0 < num_labels <= shape[0]:
        raise ValueError(f"{num_labels} labels")
    labels = np.array(_mapped(labels_file, np.float32, (num_labels,)))
    return _mapped(file, np.uint8, shape)[:num_labels], labels


def _mapped(file: Path, kind: Any, shape: Tuple[int, ...]) -> np.ndarray:
    """The array of a `.npy` file. Its header is compared, not parsed: NumPy's parser may fail in any way.

    Raises: ValueError if it is not an array of this type and shape.
    """
    header = _header(kind, shape)
    with open(file, "rb") as stream:
        if stream.read(len(header)) != header:
            raise ValueError(f"{file} has another header")
    if file.stat().st_size != len(header) + np.dtype(kind).itemsize * int(np.prod(shape)):
        raise ValueError(f"{file} has another size")
    return np.memmap(file, kind, "r", len(header), shape)


def _header(kind: Any, shape: Tuple[int, ...]) -> bytes:
    content = io.BytesIO()
    description = np.lib.format.dtype_to_descr(np.dtype(kind))
    np.lib.format.write_array_header_1_0(content, {"descr": description, "fortran_order": False, "shape": shape})
    return content.getvalue()


def remove_leftovers(file: Path) -> None:
    """Remove what processes that were killed left of a file, but nothing that one is still writing."""
    for leftover in file.parent.glob(f".{file.name}.*"):
        with suppress(OSError), open(leftover, "r+b") as held:  # another one may have removed it
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _decode(loader: ImageLoader, images: np.ndarray, name: str) -> np.ndarray:
    """Fill `images` from the front with those that can be decoded. Returns their labels."""
    labels: List[np.ndarray] = [np.empty(0, np.float32)]
    done = 0
    with progress_bar(total=loader.num_images, desc=f"decoding {name}", unit="img", leave=True) as bar:
        for batch in loader.epoch(0):
            num_images = len(batch.positions)
            images[done : done + num_images] = batch.images.asnumpy()
            labels.append(batch.labels.asnumpy())
            done += num_images
            bar.update(num_images)
    if not done:
        raise InputError(f"none of the {loader.num_images} images of the list '{name}' can be decoded")
    return np.concatenate(labels)


def load_images(data: DataSet, split: str, options: DataOptions, folder: Path, shared: bool = False) -> Pixels:
    """The images of one split for repeated evaluation, in a random order that is the same for every run.

    Args:
        folder: for those that take too much memory, or that other processes of this machine use too (`shared`).
    """
    loader = make_loader(data, split, options, data.preparation(as_pixels=True), Order(LISTS_SEED))
    look = json.dumps([data.splits[split].digest(), data.input_size, data.crop_ratio, cv2.__version__, "upright"])
    name = f"{split}-{hashlib.sha256(look.encode()).hexdigest()[:16]}"
    return load_pixels(loader, folder / PIXELS_FOLDER, name, shared)


def load_first_images(data: DataSet, split: str, options: DataOptions, num_images: int) -> Pixels:
    """The first images of `load_images`, or all if there are fewer; no others are decoded."""
    few = replace(options, batch_size=min(options.batch_size, num_images))
    parts, count = [], 0
    loader = make_loader(data, split, few, data.preparation(as_pixels=True), Order(LISTS_SEED))
    with closing(loader.epoch(0)) as batches:
        for batch in batches:
            parts.append((batch.images.asnumpy(), batch.labels.asnumpy()))
            count += len(batch.positions)
            if count >= num_images:
                break
    images, labels = (np.concatenate(part)[:num_images] for part in zip(*parts))
    return Pixels(images, labels, data.mean, data.std)


def remove_images(folder: Path) -> None:
    """Remove what `load_images` kept in a run that has ended; gigabytes for ImageNet.

    `pixels` may be a link to a folder on another disk: what is kept there is removed, the link and other files stay.
    """
    pixels = folder / PIXELS_FOLDER
    if not pixels.is_dir():
        return
    for file in pixels.iterdir():
        kept = _KEPT.fullmatch(file.name)
        if kept and kept["partial"]:
            remove_leftovers(file.with_name(kept["name"]))
        elif kept:
            file.unlink()
    if not pixels.is_symlink():
        with suppress(OSError):  # something else lies in it
            pixels.rmdir()
