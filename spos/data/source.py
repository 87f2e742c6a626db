"""Where a loader gets its encoded images from: a record file, or a folder. No MXNet.

A source has a length, `name(position)` for messages, and `open()`, which gives a reader for the time of one pass:
`read(position)` returns the labels (float32, shape (L,), normally L = 1) and the encoded image. Threads may share one.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import List, Tuple, Union

import numpy as np

from spos.core.errors import InputError
from spos.data.folder import ImageFolder
from spos.data.recordio import RecordFile, RecordReader, open_index, read_index

ImageList = Union[RecordFile, ImageFolder]


class RecordSource:
    """Images of a record file that its index lists."""

    def __init__(self, file: RecordFile) -> None:
        self.file = file
        self.index = open_index(file)

    def __len__(self) -> int:
        return len(self.index)

    def __str__(self) -> str:
        return self.file.idx

    def name(self, position: int) -> str:
        key, offset = self.index.keys[position], self.index.offsets[position]
        return f"{self.file.rec}: image with key {key} (byte {offset})"

    def open(self) -> RecordSourceReader:
        return RecordSourceReader(self)


class RecordSourceReader:
    """An open record file."""

    def __init__(self, source: RecordSource) -> None:
        self._offsets = source.index.offsets
        self._reader = RecordReader(source.file.rec)

    def __enter__(self) -> RecordSourceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def read(self, position: int) -> Tuple[np.ndarray, bytes]:
        """Raises: InputError if the record is damaged."""
        return self._reader.read_image(int(self._offsets[position]))


class FolderSource:
    """Files of a folder; its own reader, for nothing stays open."""

    def __init__(self, images: ImageFolder) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return self.images.root

    def name(self, position: int) -> str:
        return os.path.join(self.images.root, self.images.paths[position])

    def open(self) -> FolderSource:
        return self

    def __enter__(self) -> FolderSource:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, position: int) -> Tuple[np.ndarray, bytes]:
        """A file that is gone or cannot be read counts as an empty image."""
        label = self.images.labels[position : position + 1].astype(np.float32)
        try:
            with open(self.name(position), "rb", buffering=0) as file:
                return label, file.read()
        except OSError:
            return label, b""


def open_source(images: ImageList) -> Union[RecordSource, FolderSource]:
    """Raises: InputError if a record file cannot be used."""
    return RecordSource(images) if isinstance(images, RecordFile) else FolderSource(images)


def count_listed(images: ImageList) -> int:
    """Number of images, without looking at them."""
    return len(read_index(images.idx)) if isinstance(images, RecordFile) else len(images)


def summarize_list(images: ImageList) -> List[int]:
    """Numbers that differ between machines whose files do: checksum of the list, bytes of the record file."""
    if isinstance(images, RecordFile):
        return [zlib.crc32(Path(images.idx).read_bytes()), os.path.getsize(images.rec)]
    return [zlib.crc32(images.to_bytes()), len(images)]


def find_labels(file: RecordFile) -> np.ndarray:
    """The labels (N,) int64 of all listed images of a record file, in file order; a few microseconds each.

    Raises: InputError if an image has several, or one that is not a whole number from 0.
    """
    source = RecordSource(file)
    labels = np.empty(len(source), dtype=np.float64)
    with RecordReader(file.rec) as reader:
        for position, offset in enumerate(source.index.offsets.tolist()):
            found = reader.read_label(offset)
            labels[position] = found[0] if len(found) == 1 else np.nan
    wrong = np.flatnonzero(~((labels >= 0) & (labels == np.floor(labels))))
    if wrong.size:
        raise InputError(
            f"{source.name(wrong[0])} has label {labels[wrong[0]]:g}, expected one whole number from 0 for each image"
        )
    return labels.astype(np.int64)
