"""RecordIO files and their indexes: read, check, split into disjoint lists. NumPy only, no MXNet.

MXNet packs images into one `.rec` file; an `.idx` text file lists `key<TAB>offset`. Here an `.idx` may list a
subset, which is how training, BN-update, search-validation and test images are kept apart without copying pictures.

MXNet's own `ImageRecordIter` must never be given such a subset: it takes everything up to the next listed offset
as one record, so it also yields the images that were left out, and can run for ever (measured, 1.9.1).
`spos.data.source` therefore reads the records itself.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.seeds import random_order
from spos.runs.files import write_atomic, write_once

_MAGIC = 0xCED7230A
_WORD = struct.Struct("<II")  # magic, then 3 bits of part flag and 29 bits of length
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)  # a record is split wherever its bytes happen to contain the magic number
_NEXT_PARTS = {_WHOLE: (), _FIRST: (_MIDDLE, _LAST), _MIDDLE: (_MIDDLE, _LAST), _LAST: ()}
_IMAGE_HEADER = struct.Struct("<IfQQ")  # number of extra labels, label, image id, second id
_RECORD_START = struct.Struct("<IIIfQQ")  # both


@dataclass(frozen=True)
class RecordFile:
    """Images in `rec`, of which those listed in `idx` count."""

    rec: str
    idx: str


@dataclass(frozen=True)
class Index:
    """The lines of an `.idx` file in file order, that is by rising offset: keys and offsets, int64, shape (N,)."""

    keys: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, positions: Sequence[int]) -> Index:
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


def count_images(file: RecordFile) -> int:
    """Return how many images the index lists, without looking at the `.rec`."""
    return len(read_index(file.idx))


def check(file: RecordFile) -> int:
    """Check a record file as `open_index` does and return the number of images."""
    return len(open_index(file))


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
            if head != struct.pack("<I", _MAGIC):
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
        position, expected = offset, (_WHOLE, _FIRST)
        while expected:
            header = self._pread(_WORD.size, position, offset)
            magic, word = _WORD.unpack(header)
            flag, length = word >> 29, word & (2**29 - 1)
            if magic != _MAGIC or flag not in expected:
                raise InputError(
                    f"{self.path}: no record at byte {offset}. The .rec is damaged, or its .idx belongs to another file"
                )
            parts += [header, self._pread((length + 3) // 4 * 4, position + _WORD.size, offset)]
            position, expected = position + len(parts[-1]) + _WORD.size, _NEXT_PARTS[flag]
        return b"".join(parts)

    def read_image(self, offset: int) -> Tuple[np.ndarray, bytes]:
        """Return the labels (float32, shape (L,), normally L = 1) and the encoded image of the record at `offset`.

        Raises: InputError if no whole record is there.
        """
        magic, word = _WORD.unpack(self._pread(_WORD.size, offset, offset))
        if magic != _MAGIC or word >> 29 != _WHOLE:
            return unpack_record(self.read(offset))
        return _unpack_payload(self._pread(word & (2**29 - 1), offset + _WORD.size, offset))

    def read_label(self, offset: int) -> np.ndarray:
        """Return the labels of the record at `offset` without reading its image."""
        size = _WORD.size + _IMAGE_HEADER.size
        magic, word, num_labels, label, _, _ = _RECORD_START.unpack(self._pread(size, offset, offset))
        if magic != _MAGIC or word >> 29 != _WHOLE or num_labels:
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
    pieces, position, magic = [], 0, struct.pack("<I", _MAGIC)
    while position < len(record):
        length = _WORD.unpack_from(record, position)[1] & (2**29 - 1)
        pieces.append(record[position + _WORD.size : position + _WORD.size + length])
        position += _WORD.size + (length + 3) // 4 * 4
    return _unpack_payload(magic.join(pieces))


def _unpack_payload(payload: bytes) -> Tuple[np.ndarray, bytes]:
    if len(payload) < _IMAGE_HEADER.size:
        return np.zeros(0, np.float32), b""
    num_labels, label, _, _ = _IMAGE_HEADER.unpack_from(payload)
    content = payload[_IMAGE_HEADER.size :]
    if num_labels == 0:
        return np.array([label], np.float32), content
    return np.frombuffer(content[: 4 * num_labels], np.float32), content[4 * num_labels :]


def write_index_subset(source_idx: str, positions: Sequence[int], target_idx: str) -> None:
    """Write the lines of `source_idx` at these positions (0 = first image in the file) to `target_idx`, atomically."""
    write_atomic(Path(target_idx), read_index(source_idx).take(positions).to_bytes())


def split_index(file: RecordFile, sizes: Mapping[str, int], directory: str, seed: int) -> Dict[str, RecordFile]:
    """Draw disjoint lists of `sizes` images, e.g. {"bn": 20000, "search_val": 50000}; the rest is "train".

    Writes `directory/<name>.idx`, each in file order; the same index, sizes and seed give the same bytes everywhere.
    Lists that are already there are the record of a run: they are kept if equal and never replaced.

    Raises: InputError if no training image is left, or the directory holds lists drawn otherwise.
    """
    index = read_index(file.idx)
    check_sizes(sizes, len(index), file.idx)
    lists: Dict[str, RecordFile] = {}
    for name, positions in draw_lists(len(index), sizes, seed).items():
        path = Path(directory) / f"{name}.idx"
        write_once(path, index.take(positions).to_bytes())
        lists[name] = RecordFile(file.rec, str(path))
    return lists


def draw_lists(num_images: int, sizes: Mapping[str, int], seed: int) -> Dict[str, np.ndarray]:
    """Positions of disjoint random lists of `sizes`; the rest is "train"."""
    order = random_order(num_images, seed)
    ends = np.cumsum(list(sizes.values()))
    return dict(zip([*sizes, "train"], np.split(order, ends)))


def record_list(file: RecordFile, directory: str, name: str) -> RecordFile:
    """Copy a list to `directory/<name>.idx`, unless it is there already. Raises InputError if another one is."""
    path = Path(directory) / f"{name}.idx"
    write_once(path, Path(file.idx).read_bytes())
    return RecordFile(file.rec, str(path))


def check_sizes(sizes: Mapping[str, int], num_images: int, source: str) -> None:
    """Raise InputError unless lists of these sizes leave an image to train on."""
    wrong = {name: size for name, size in sizes.items() if size < 1 or name == "train"}
    if wrong:
        raise InputError(f"cannot hold out {wrong}: list sizes are at least 1, and 'train' is what is left")
    if sum(sizes.values()) >= num_images:
        raise InputError(
            f"{source} lists {num_images} images; holding out {dict(sizes)} leaves none to train on. Hold out fewer"
        )
