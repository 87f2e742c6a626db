"""Parameter files: arrays by structural name, checked before they are loaded. No pickle is ever loaded."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError, engine_reason
from spos.engine.compat import mx
from spos.runs.files import PathLike, replacing
from spos.space.original import ORIGINAL_PERMUTATION, has_selectors, without_selectors

PICKLE = b"\x80"  # first byte of every pickle since protocol 2; MXNet's own files start with 0x12
CLASSIFIER = "output.0.weight"  # of a network of ours
FLOAT32 = "float32", np.float32  # a dtype, as arrays and parameters have it
STATISTICS = ("running_mean", "running_var")  # ends of parameter names
Shapes = Mapping[str, Tuple[int, ...]]  # by name
# The format of files (src/ndarray/ndarray.cc of MXNet 1.9.1), little-endian: magic number, a reserved word and the
# number of arrays; each array as its own magic number, storage type, number of dimensions, dimensions, device, type and
# data; then the number of names, each as its length and its bytes.
LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA  # of an array; V3 is written under NumPy's rules of shapes
DENSE = 0  # storage type
MOST_DIMENSIONS = 32  # of MXNet; an array from before V1 begins with their number instead of a magic number
LONGEST_NAME = 1000  # bytes
BYTES_OF_TYPE = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1}  # float32, 64, 16, uint8, int32, int8, int64, bool
INPUT = "data"  # what `export` calls the input of a network with one input


def save_arrays(path: PathLike, arrays: Mapping[str, Any]) -> None:
    """Write named NDArrays in MXNet's own format, atomically."""
    try:
        with replacing(path) as temporary:
            mx.nd.save(str(temporary), dict(arrays))
            mx.nd.load(str(temporary))  # MXNet does not see that the last bytes found no room on a full disk
    except mx.base.MXNetError as error:
        raise OSError(f"cannot write {path}: {engine_reason(error)}") from None


def load_arrays(path: PathLike) -> Dict[str, Any]:
    """Read named NDArrays, by the names of this project if the file has those of the original project.

    Raises: as `load_named_arrays`.
    """
    arrays = load_named_arrays(path)
    if has_selectors(arrays):
        return {without_selectors(name): value for name, value in arrays.items()}
    return {name: value for name, value in arrays.items() if not name.endswith(ORIGINAL_PERMUTATION)}


def load_named_arrays(path: PathLike) -> Dict[str, Any]:
    """Read named NDArrays; the prefixes `arg:` and `aux:` of exported files are dropped.

    Raises: InputError if the file is missing, truncated or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    with open(path, "rb") as file:
        if file.read(1) == PICKLE:
            raise InputError(f"{path} is a pickle (Gluon's Trainer.save_states writes them), which could run any code")
    check_array_file(path)
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError as error:
        raise InputError(f"{path} is damaged or no MXNet parameter file: {engine_reason(error)}") from None
    if not isinstance(arrays, dict):
        raise InputError(f"{path} holds arrays without names, so it is no parameter file")
    return {re.sub(r"^(arg|aux):", "", name): value for name, value in arrays.items()}


def structural_names(net: mx.gluon.Block) -> Dict[str, str]:
    """What every parameter is called in files, by its name in graphs."""
    return {parameter.name: own for own, parameter in net._collect_params_with_prefix().items()}


def parameters_of(net: mx.gluon.Block) -> Dict[str, Any]:
    """Every parameter and statistic by structural name; those on several devices averaged."""
    return {name: parameter._reduce() for name, parameter in net._collect_params_with_prefix().items()}


def save_parameters(path: PathLike, net: mx.gluon.Block) -> None:
    """Write a network's parameters atomically. The file is one that Gluon's `load_parameters` reads."""
    save_arrays(path, parameters_of(net))


def load_parameters(path: PathLike, net: mx.gluon.Block, ctx: Sequence[mx.Context] = ()) -> None:
    """Set a network's parameters from a file, after checking all names and shapes.

    Args:
        ctx: where to put the parameters of a network without values, which is faster than initializing it first.
    Raises: InputError that says what kind of other network the file belongs to; `net` is unchanged then.
    """
    set_parameters(net, read_parameters(path, net), ctx)


def set_parameters(net: mx.gluon.Block, arrays: Mapping[str, Any], ctx: Sequence[mx.Context] = ()) -> None:
    """Set a network's parameters to arrays that fit, in its own precision.

    Args:
        ctx: as for `load_parameters`.
    """
    for name, parameter in net._collect_params_with_prefix().items():
        value = arrays[name].astype(parameter.dtype, copy=False)
        if ctx:
            parameter._load_init(value, list(ctx))  # as Gluon's own load_parameters does
        else:
            parameter.set_data(value)


def not_finite(arrays: Mapping[str, Any]) -> List[str]:
    """Names of arrays that hold NaN or infinite values."""
    return [name for name, array in arrays.items() if not np.isfinite(array.asnumpy()).all()]


def read_parameters(path: PathLike, net: mx.gluon.Block) -> Dict[str, Any]:
    """The arrays of a network's file. `net` needs no values.

    Raises: InputError that says what kind of other network the file belongs to.
    """
    arrays = load_arrays(path)
    check_parameters(arrays, net, path)
    return arrays


def check_parameters(arrays: Mapping[str, Any], net: mx.gluon.Block, path: PathLike) -> None:
    """Raise InputError if the arrays of a file are not the network's, saying what kind of other it belongs to."""
    own = {name: parameter.shape for name, parameter in net._collect_params_with_prefix().items()}
    check_shapes(path, {name: array.shape for name, array in arrays.items()}, own)


def check_shapes(path: PathLike, given: Shapes, own: Shapes) -> None:
    """Raise InputError unless a file's shapes are a network's `own`, saying what kind of other network it is of."""
    if CLASSIFIER in own and CLASSIFIER in given and given[CLASSIFIER][0] != own[CLASSIFIER][0]:
        raise InputError(f"{path} has {given[CLASSIFIER][0]} classes, the network has {own[CLASSIFIER][0]} (--classes)")
    differing = sorted(set(own) ^ set(given)) + [name for name in own if name in given and own[name] != given[name]]
    if differing:
        name = differing[0]
        here = f"shape {own[name]}" if name in own else "no such parameter"
        there = f"shape {given[name]}" if name in given else "no such parameter"
        raise InputError(
            f"{path} belongs to another network: {len(differing)} parameters differ, the first is {name} "
            f"(file: {there}; network: {here}). Was it trained in another space?"
        )


def check_array_file(path: PathLike) -> None:
    """Read all headers and names of a file of NDArrays, and no data. MXNet trusts them: wrong ones end the process.

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
