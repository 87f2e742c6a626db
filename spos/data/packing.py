"""Packing of images into record files, by threads of this process: nothing is left running, whatever ends it. No MXNet.

The bytes are those of MXNet's im2rec, whose processes wait for ever when one of them dies (a full disk, no memory).
"""

from __future__ import annotations

import os
import struct
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Callable, Deque, Generator, Iterable, Optional, Tuple, Type, TypeVar, Union

import cv2
import numpy as np

from spos.data.decoder import decode_upright
from spos.data.folder import read_file
from spos.data.header import MAX_PIXELS
from spos.data.image_list import UnreadableImage
from spos.data.recordio import FIRST, IMAGE_HEADER, LAST, MAGIC, MIDDLE, WHOLE, WORD

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 4  # images that wait to be written, for each thread
_MAX_SIDE = 65_500  # of a JPEG, in libjpeg
_MAX_RECORD = 2**29 - 1  # bytes


class RecordWriter:
    """Writes records one behind the other, and their index. To be entered; on leaving all is on the disk."""

    def __init__(self, rec: str, idx: str) -> None:
        self._rec = open(rec, "wb")  # noqa: SIM115  closed by __exit__
        self._idx = open(idx, "w", encoding="ascii", newline="\n")  # noqa: SIM115
        self.num_records = 0

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            if kind is None:
                for file in (self._rec, self._idx):
                    file.flush()
                    os.fsync(file.fileno())
        finally:
            for file in (self._rec, self._idx):
                with suppress(OSError):  # a full disk has been said
                    file.close()

    def write(self, key: int, payload: bytes) -> None:
        """Add a record. Raises: UnreadableImage if it is longer than a record may be, OSError if the disk is full."""
        check_length(payload)
        self._idx.write(f"{key}\t{self._rec.tell()}\n")
        self._rec.write(frame(payload))
        self.num_records += 1


def check_length(payload: bytes) -> None:
    """Raise UnreadableImage if it is longer than a record may be."""
    if len(payload) > _MAX_RECORD:
        raise UnreadableImage(f"has {len(payload)} bytes, more than a record may have ({_MAX_RECORD})")


def frame(payload: bytes) -> bytes:
    """A record as it stands in the file: split where aligned bytes of it are the magic number, padded to four bytes."""
    magic, pieces, start = struct.pack("<I", MAGIC), [], 0
    at = payload.find(magic)
    while at >= 0:
        if at % 4 == 0:
            pieces.append(payload[start:at])
            start = at + 4
        at = payload.find(magic, at + (4 if at % 4 == 0 else 1))
    pieces.append(payload[start:])
    framed = []
    for number, piece in enumerate(pieces):
        flag = WHOLE if len(pieces) == 1 else FIRST if number == 0 else LAST if number == len(pieces) - 1 else MIDDLE
        framed += [WORD.pack(MAGIC, flag << 29 | len(piece)), piece]
    return b"".join(framed) + bytes(-len(payload) % 4)


@dataclass(frozen=True)
class Packing:
    """How images are packed. resize: shorter side; 0: files as they are.    quality: of the JPEG files made anew."""

    resize: int
    quality: int

    def record(self, path: str, key: int, label: int) -> bytes:
        """The record of an image file. Raises: UnreadableImage, also if it stays as it is and is no picture."""
        content = read_file(path)
        image = decode_upright(content)
        record = IMAGE_HEADER.pack(0, label, key, 0) + (self._encode(image) if self.resize else content)
        check_length(record)
        return record

    def _encode(self, image: np.ndarray) -> bytes:
        height, width = image.shape[:2]
        if height > width:
            size = self.resize, height * self.resize // width
        else:
            size = width * self.resize // height, self.resize
        if max(size) > _MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
            raise UnreadableImage(f"is too long for --resize {self.resize}: {width} x {height} pixels")
        _, encoded = cv2.imencode(".jpg", cv2.resize(image, size), [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return encoded.tobytes()


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], num_threads: int
) -> Generator[Tuple[Item, Union[Result, UnreadableImage]], None, None]:
    """What `work` makes of the items, computed in threads, in their order; or why an image cannot be used."""
    cv2.setNumThreads(1)
    pending: Deque[Tuple[Item, Future]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(work, item)))
                if len(pending) >= _AHEAD * num_threads:
                    yield _result(*pending.popleft())
            while pending:
                yield _result(*pending.popleft())
        finally:
            for _, task in pending:
                task.cancel()


def _result(item: Item, task: Future[Result]) -> Tuple[Item, Union[Result, UnreadableImage]]:
    try:
        return item, task.result()
    except UnreadableImage as error:
        return item, error
