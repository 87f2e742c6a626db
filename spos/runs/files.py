"""Files that are written whole or not at all, digests, and readable JSON. Nothing is pickled."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import stat
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Iterator, Match, Union

from spos.core.errors import InputError, naming, warn_once

PathLike = Union[str, Path]
PARTIAL = ".partial"  # how temporary names end
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}  # do this at all
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
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=str(path.parent))
    os.close(descriptor)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
            _sync(temporary)
            _set_permissions(temporary)
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


def remove_partial(directory: PathLike) -> None:
    """Remove temporary files that programs left in a directory, and one level below, when they were killed.

    Nobody else may be writing there.
    """
    for pattern in (f".*{PARTIAL}", f"*/.*{PARTIAL}"):
        for path in Path(directory).glob(pattern):
            path.unlink()


def flush(descriptor: int) -> None:
    """Have the disk keep what is written to an open file or folder. Some file systems cannot be asked to, of folders
    above all: then a power cut may cost the last results, and a kill does not."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        what = "folders" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "files"
        warn_once(f"this file system does not flush {what} on demand ({error.strerror}); a power cut may cost results")


def _sync(path: PathLike) -> None:
    try:
        descriptor = os.open(str(path), os.O_RDONLY)
    except PermissionError:  # a folder that may be written to, not read
        return
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def _set_permissions(path: Path) -> None:
    """Those of any new file, by the umask."""
    try:
        os.chmod(path, 0o666 & ~_umask())
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        warn_once(f"this file system does not change permissions ({error.strerror}); new files keep what they get")


@functools.lru_cache(maxsize=None)
def _umask() -> int:
    umask = os.umask(0o077)  # it can be read in no other way
    os.umask(umask)
    return umask


def to_text(record: Any) -> str:
    """Readable JSON: one key a line, but lists of numbers on one line."""
    return _STRING_OR_FLAT_LIST.sub(_on_one_line, json.dumps(record, indent=2))


def _on_one_line(match: Match[str]) -> str:
    text = match[0]
    return text if text.startswith('"') else re.sub(r"\s+", " ", text).replace("[ ", "[").replace(" ]", "]")


def write_json(path: PathLike, record: Any) -> None:
    """Write a record atomically as readable JSON."""
    write_atomic(path, to_text(record) + "\n")


def read_json(path: PathLike) -> Any:
    """Raises InputError if the file is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path} is not a JSON file: {error}") from None
