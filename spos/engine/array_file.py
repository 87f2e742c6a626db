"""Files of NDArrays, walked before MXNet reads them: it trusts their headers, and ends the process by a wrong one.

The format (src/ndarray/ndarray.cc of MXNet 1.9.1), little-endian: the magic number, a reserved word and the number of
arrays; each array as its own magic number, storage type, number of dimensions, dimensions, device, type and data; then
the number of names, each as its length and its bytes.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Tuple

from spos.core.errors import InputError
from spos.runs.files import PathLike

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA  # of an array; V3 is written under NumPy's rules of shapes
DENSE = 0  # storage type
MOST_DIMENSIONS = 32  # of MXNet; an array from before V1 begins with their number instead of a magic number
LONGEST_NAME = 1000  # bytes
BYTES_OF_TYPE = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1}  # float32, 64, 16, uint8, int32, int8, int64, bool


def check_array_file(path: PathLike) -> None:
    """Read all headers and names of a file of NDArrays, and no data.

    Raises: InputError if they are not those of dense arrays with names that fill the file.
    """
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as file:
            _Walk(file, size).all()
    except _Damaged as error:
        raise InputError(f"{path} is damaged or no MXNet parameter file: {error}") from None


class _Damaged(Exception):
    """What is wrong with a file."""


class _Walk:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def all(self) -> None:
        magic, _, count = self._read("<QQQ")
        if magic != LIST_MAGIC:
            raise _Damaged(f"it begins with {magic:#x}, not {LIST_MAGIC:#x}")
        if count * 8 > self._size:
            raise _Damaged(f"it says that it holds {count} arrays")
        for number in range(count):
            self._array(number)
        (num_names,) = self._read("<Q")
        if num_names not in (0, count):
            raise _Damaged(f"it names {num_names} of its {count} arrays")
        names = {self._name() for _ in range(num_names)}
        if len(names) < num_names:
            raise _Damaged("two of its arrays have one name")
        if self._file.tell() != self._size:
            raise _Damaged(f"{self._size - self._file.tell()} bytes follow its end")

    def _array(self, number: int) -> None:
        (magic,) = self._read("<I")
        what = f"array {number} "
        if magic in (V2, V3):
            (storage,) = self._read("<i")
            if storage != DENSE:
                raise _Damaged(f"{what}has storage type {storage}, not that of a dense array")
        if magic in (V1, V2, V3):
            (num_dimensions,) = self._read("<i")
            letter = "q"
        else:
            num_dimensions, letter = magic, "I"
        if not 1 <= num_dimensions <= MOST_DIMENSIONS:
            raise _Damaged(f"{what}has {num_dimensions} dimensions")
        shape = self._read(f"<{num_dimensions}{letter}")
        device, place, kind = self._read("<iii")
        if not (1 <= device <= 6 and 0 <= place <= 1000):
            raise _Damaged(f"{what}lies on device {place} of kind {device}")
        if kind not in BYTES_OF_TYPE:
            raise _Damaged(f"{what}has type {kind}")
        length = BYTES_OF_TYPE[kind]
        for dimension in shape:
            length *= dimension
            if dimension < 1 or length > self._size:
                raise _Damaged(f"{what}has shape {shape}, more than the file holds")
        self._file.seek(length, os.SEEK_CUR)
        if self._file.tell() > self._size:
            raise _Damaged(f"it ends inside of array {number}")

    def _name(self) -> str:
        (length,) = self._read("<Q")
        if not 1 <= length <= LONGEST_NAME:
            raise _Damaged(f"a name has {length} bytes")
        content = self._file.read(length)
        if len(content) < length:
            raise _Damaged("it ends inside of a name")
        try:
            name = content.decode()
        except UnicodeDecodeError:
            raise _Damaged(f"a name is no UTF-8: {content[:40]!r}") from None
        if not name.isprintable():
            raise _Damaged(f"a name cannot be printed: {name[:40]!r}")
        return name

    def _read(self, form: str) -> Tuple[int, ...]:
        content = self._file.read(struct.calcsize(form))
        if len(content) < struct.calcsize(form):
            raise _Damaged("it ends inside of a header")
        return struct.unpack(form, content)
