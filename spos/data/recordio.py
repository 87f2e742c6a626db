"""RecordIO files and their indexes: read, check, split into disjoint lists. NumPy only, no MXNet.

MXNet packs images into one `.rec` file; an `.idx` text file lists `key<TAB>offset`. Here an `.idx` may list a
subset, which is how training, BN-update, search-validation and test images are kept apart without copying pictures.

MXNet's own `ImageRecordIter` must never be given such a subset: it takes everything up to the next listed offset
as one record, so it also yields the images that were left out, and can run for ever (measured, 1.9.1).
A loader therefore reads the records itself.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from spos.core.errors import InputError
from spos.data.image_list import (
    MAX_LABELS,
    SAMPLED_LABELS,
    Drawn,
    ImageList,
    check_sizes,
    checksum_of,
    draw_covering_lists,
    draw_lists,
)
from spos.runs.files import write_once

Positions = Union[Sequence[int], np.ndarray]

MAGIC = 0xCED7230A
WORD = struct.Struct("<II")  # magic, then 3 bits of part flag and 29 bits of length
WHOLE, FIRST, MIDDLE, LAST = range(4)  # a record is split wherever its bytes happen to contain the magic number
_Flags = Tuple[int, ...]
_NEXT_PARTS: Mapping[int, _Flags] = {WHOLE: (), FIRST: (MIDDLE, LAST), MIDDLE: (MIDDLE, LAST), LAST: ()}
IMAGE_HEADER = struct.Struct("<IfQQ")  # number of extra labels, label, image id, second id
_RECORD_START = struct.Struct("<IIIfQQ")  # both


@dataclass(frozen=True)
class RecordFile:
    """Images in `rec`, of which those listed in `idx` count."""

    rec: str
    idx: str

    def __len__(self) -> int:
        return len(read_index(self.idx))

    @property
    def where(self) -> str:
        return self.idx

    def digest(self) -> List[int]:
        """Checksum of the index, bytes of the record file."""
        return [zlib.crc32(Path(self.idx).read_bytes()), os.path.getsize(self.rec)]

    def contents(self) -> str:
        """Of all labels, or of a sample if there are too many."""
        source = self.open()
        num_labels = len(source) if len(source) <= MAX_LABELS else SAMPLED_LABELS
        chosen = np.linspace(0, len(source) - 1, num_labels).astype(int)
        with RecordReader(self.rec) as reader:
            labels = [reader.read_label(offset).tobytes() for offset in source.index.offsets[chosen].tolist()]
        return checksum_of(self, Path(self.idx).read_bytes() + b"".join(labels))

    def find_labels(self) -> np.ndarray:
        """See `find_labels`."""
        return find_labels(self)

    def hold_out(self, sizes: Mapping[str, int], directory: str, seed: int) -> Dict[str, ImageList]:
        """Writes `directory/<name>.idx`. Whether a class is missing is not looked at above MAX_LABELS images."""
        index = read_index(self.idx)
        check_sizes(sizes, len(index), self.idx)

        def is_recorded(drawn: Drawn) -> bool:
            lists = {Path(directory) / f"{name}.idx": index.take(drawn[name]) for name in sizes}
            return all(path.is_file() and path.read_bytes() == lines.to_bytes() for path, lines in lists.items())

        if len(index) > MAX_LABELS:
            drawn: Drawn = draw_lists(len(index), sizes, seed)
        else:
            drawn = draw_covering_lists(sizes, seed, find_labels(self), self.rec, is_recorded)
        lines = {name: index.take(positions) for name, positions in drawn.items()}
        return {name: self._write(lines[name].to_bytes(), directory, name) for name in lines}

    def record(self, directory: str, name: str) -> RecordFile:
        """Copies the index to `directory/<name>.idx`."""
        return self._write(Path(self.idx).read_bytes(), directory, name)

    def open(self) -> RecordSource:
        return RecordSource(self)

    def _write(self, index: bytes, directory: str, name: str) -> RecordFile:
        path = Path(directory) / f"{name}.idx"
        write_once(path, index)
        return RecordFile(self.rec, str(path))


@dataclass(frozen=True)
class Index:
    """The lines of an `.idx` file in file order, that is by rising offset: keys and offsets, int64, shape (N,)."""

    keys: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, positions: Positions) -> Index:
        """Return the lines at these positions, kept in file order."""
        chosen = np.sort(np.asarray(positions, dtype=np.int64))
        return Index(self.keys[chosen], self.offsets[chosen])

    def to_bytes(self) -> bytes:
        """Return the lines as MXNet writes them."""
        pairs = zip(self.keys.tolist(), self.offsets.tolist())
        return "".join(f"{key}\t{offset}\n" for key, offset in pairs).encode("ascii")


def read_index(path: str) -> Index:
    """Read an `.idx` file (1.3 million lines: about a second).

    Raises: InputError if it is missing, empty, holds anything but two whole numbers a line, or lists an offset twice.
    """
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such index file. Make one from the .rec with MXNet's tools/rec2idx.py (in MXNet's source "
            "tree) or pack the images again with `python -m mxnet.tools.im2rec`, which writes both"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot read this index file ({error.strerror})") from None
    try:
        numbers = np.array(text.split(), dtype=np.int64)
        whole = all(len(line.split()) == 2 for line in text.splitlines()) and numbers.min(initial=0) >= 0
    except (ValueError, OverflowError):
        whole = False
    if not whole:
        raise InputError(_first_bad_line(path, text))
    if numbers.size == 0:
        raise InputError(f"{path}: this index lists no image. Was the writing of it interrupted?")
    pairs = numbers.reshape(-1, 2)
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    twice = np.flatnonzero(np.diff(pairs[:, 1]) == 0)
    if twice.size:
        raise InputError(f"{path}: offset {pairs[twice[0], 1]} is listed twice; every image must be listed once")
    return Index(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))


def _first_bad_line(path: str, text: bytes) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if len(fields) != 2 or not all(field.isdigit() and int(field) < 2**63 for field in fields):
            return f"{path}, line {number}: expected 'key<TAB>offset' (two whole numbers), got {line[:60]!r}"
    return f"{path}: expected 'key<TAB>offset' (two whole numbers) on every line"


def open_index(file: RecordFile) -> Index:
    """Read the index after checking that it fits the `.rec` and that the `.rec` is not cut short.

    Looks at the first and last listed record only, so it is fast for any size. A damaged record in between is
    reported when it is read.    Raises: InputError.
    """
    index = read_index(file.idx)
    with RecordReader(file.rec) as reader:
        last = int(index.offsets[-1])
        if last >= reader.size:
            raise InputError(
                f"{file.rec}: has {reader.size} bytes, but {file.idx} lists an image at byte {last}. "
                "The .rec is cut short, or the index belongs to another file"
            )
        for offset in (int(index.offsets[0]), last):
            reader.read(offset)
    return index


class RecordReader:
    """Reads raw records at byte offsets; several threads may share one reader.

    Raises: InputError if the file is missing, empty or no RecordIO file.
    """

    def __init__(self, path: str) -> None:
        self.path = str(path)
        try:
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115  closed by close()
        except FileNotFoundError:
            raise InputError(f"{path}: no such .rec file; `python -m utils.im2rec` packs images (README.md)") from None
        except OSError as error:
            raise InputError(f"{path}: cannot read this .rec file ({error.strerror})") from None
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            if self.size == 0:
                raise InputError(f"{path}: this .rec file is empty. Was the writing of it interrupted?")
            head = self._file.read(4)
            if head != struct.pack("<I", MAGIC):
                raise InputError(f"{path}: not a RecordIO file (starts with {head!r}, not the RecordIO magic number)")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, offset: int) -> bytes:
        """Return the whole record at `offset`: headers, all its parts, padding (a multiple of 4 bytes).

        Raises: InputError if no whole record is there.
        """
        parts: List[bytes] = []
        position = offset
        expected: _Flags = (WHOLE, FIRST)
        while expected:
            header = self._pread(WORD.size, position, offset)
            magic, word = WORD.unpack(header)
            flag, length = word >> 29, word & (2**29 - 1)
            if magic != MAGIC or flag not in expected:
                raise InputError(
                    f"{self.path}: no record at byte {offset}. The .rec is damaged, or its .idx belongs to another file"
                )
            parts += [header, self._pread((length + 3) // 4 * 4, position + WORD.size, offset)]
            position, expected = position + len(parts[-1]) + WORD.size, _NEXT_PARTS[flag]
        return b"".join(parts)

    def read_image(self, offset: int) -> Tuple[np.ndarray, bytes]:
        """Return the labels (float32, shape (L,), normally L = 1) and the encoded image of the record at `offset`.

        Raises: InputError if no whole record is there.
        """
        magic, word = WORD.unpack(self._pread(WORD.size, offset, offset))
        if magic != MAGIC or word >> 29 != WHOLE:
            return unpack_record(self.read(offset))
        return _unpack_payload(self._pread(word & (2**29 - 1), offset + WORD.size, offset))

    def read_label(self, offset: int) -> np.ndarray:
        """Return the labels of the record at `offset` without reading its image."""
        size = WORD.size + IMAGE_HEADER.size
        magic, word, num_labels, label, _, _ = _RECORD_START.unpack(self._pread(size, offset, offset))
        if magic != MAGIC or word >> 29 != WHOLE or num_labels:
            return self.read_image(offset)[0]
        return np.array([label], np.float32)

    def _pread(self, size: int, position: int, record: int) -> bytes:
        data = os.pread(self._file.fileno(), size, position)
        if len(data) < size:
            raise InputError(
                f"{self.path}: cut short at {self.size} bytes, inside the record that starts at byte {record}. "
                "Copy or pack the file again"
            )
        return data


def unpack_record(record: bytes) -> Tuple[np.ndarray, bytes]:
    """Split a raw record into its labels (float32, shape (L,), normally L = 1) and the encoded image."""
    pieces, position, magic = [], 0, struct.pack("<I", MAGIC)
    while position < len(record):
        length = WORD.unpack_from(record, position)[1] & (2**29 - 1)
        pieces.append(record[position + WORD.size : position + WORD.size + length])
        position += WORD.size + (length + 3) // 4 * 4
    return _unpack_payload(magic.join(pieces))


def _unpack_payload(payload: bytes) -> Tuple[np.ndarray, bytes]:
    if len(payload) < IMAGE_HEADER.size:
        return np.zeros(0, np.float32), b""
    num_labels, label, _, _ = IMAGE_HEADER.unpack_from(payload)
    content = payload[IMAGE_HEADER.size :]
    if num_labels == 0:
        return np.array([label], np.float32), content
    if 4 * num_labels > len(content):
        return np.zeros(0, np.float32), b""
    return np.frombuffer(content[: 4 * num_labels], np.float32), content[4 * num_labels :]


class RecordSource:
    """Images of a record file that its index lists."""

    def __init__(self, file: RecordFile) -> None:
        self.file = file
        self.index = open_index(file)

    def __len__(self) -> int:
        return len(self.index)

    def name(self, position: int) -> str:
        key, offset = self.index.keys[position], self.index.offsets[position]
        return f"{self.file.rec}: image with key {key} (byte {offset})"

    def reader(self) -> RecordSourceReader:
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


def find_labels(file: RecordFile) -> np.ndarray:
    """The labels (N,) int64 of all listed images of a record file, in file order; a few microseconds each.

    Raises: InputError if an image has several, or one that is not a whole number from 0.
    """
    source = file.open()
    labels = np.empty(len(source), dtype=np.float64)
    with RecordReader(file.rec) as reader:
        for position, offset in enumerate(source.index.offsets.tolist()):
            found = reader.read_label(offset)
            if len(found) != 1:
                raise InputError(
                    f"{source.name(position)} has {len(found)} labels, expected one whole number from 0 for each image"
                )
            labels[position] = found[0]
    wrong = np.flatnonzero(~((labels >= 0) & (labels < 2**31) & (labels == np.floor(labels))))
    if wrong.size:
        raise InputError(
            f"{source.name(wrong[0])} has label {labels[wrong[0]]:g}, expected one whole number from 0 for each image"
        )
    return labels.astype(np.int64)
