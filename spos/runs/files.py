"""Files that are written whole or not at all, digests, and readable JSON. Nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Iterator, Match, Union

from spos.core.errors import InputError
from spos.runs.schema import MOST_BYTES, parse_json

PathLike = Union[str, Path]
_STRING_OR_FLAT_LIST = re.compile(r'"(?:\\.|[^"\\])*"|\[[^\[\]{}"]*\]')


def write_once(path: Path, data: bytes) -> None:
    """Write a list of images, or find the same one there. Raises: InputError if another one is there."""
    if not path.exists():
        write_atomic(path, data)
    elif path.read_bytes() != data:
        raise InputError(
            f"{path}: holds another list than this data, sizes and seed give. "
            "Use the settings it was made with, or another directory"
        )


def write_atomic(path: PathLike, content: Union[str, bytes]) -> None:
    """Write a whole file or none."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A temporary name beside `path` to write to: flushed to disk and renamed, or removed if anything fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=str(path.parent))
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        if temporary.exists():
            temporary.unlink()
        raise
    sync_directory(path.parent)


def file_digest(path: PathLike) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_output(path: PathLike) -> None:
    """Raise InputError if no file can be written there; before work that takes long. Makes the folder."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(path.parent)):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}: {error.filename})") from None


def sync_directory(path: PathLike) -> None:
    """Make renames inside a directory survive a power cut."""
    _sync(path)


def _sync(path: PathLike) -> None:
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_text(record: Any) -> str:
    """Readable JSON: one key a line, but lists of numbers on one line."""
    return _STRING_OR_FLAT_LIST.sub(_on_one_line, json.dumps(record, indent=2))


def _on_one_line(match: Match[str]) -> str:
    text = match[0]
    return text if text.startswith('"') else re.sub(r"\s+", " ", text).replace("[ ", "[").replace(" ]", "]")


def write_json(path: PathLike, record: Any) -> None:
    """Write a record atomically as readable JSON."""
    write_atomic(path, to_text(record) + "\n")


def read_bytes(path: PathLike, most: int = MOST_BYTES) -> bytes:
    """The content of a file. Raises InputError if it is missing, no file, or larger than `most` bytes."""
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist")
    if not os.path.isfile(path):  # reading a pipe would wait for ever
        raise InputError(f"{path} is no file")
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path} has more than the {most >> 20} MB that such a file may have")
    return content


def read_text(path: PathLike) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark. Raises InputError as `read_bytes`."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8: {error}") from None


def read_json(path: PathLike, schema: Any = Any) -> Any:
    """A JSON file, as plain values. Raises InputError if it is missing, or as `parse_json`."""
    return parse_json(read_bytes(path), path, schema)
