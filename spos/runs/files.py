"""Files that are written whole or not at all, digests, and JSON. Nothing is pickled.

JSON is read strictly: of bounded length, depth and numbers, and of the shape that a schema says. A schema is a type: a
`msgspec.Struct` whose fields are the keys, beside the noun whose file it describes. Keys that it does not name are
allowed, unless the struct forbids them. What is read stays plain dicts, lists, numbers and text.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import math
import os
import re
import stat
import tempfile
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Match, Tuple, Union

import msgspec

from spos.core.errors import InputError, naming, warn_once

PathLike = Union[str, Path]
PARTIAL = ".partial"  # how temporary names end
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}  # do this at all
MOST_BYTES = 1 << 24  # of a text
MOST_LEVELS = 32  # of lists and objects in each other
MOST_DIGITS = 100  # of an integer; a schema says less where it matters
SHOWN = 300  # characters of what is wrong, in a message
SHOWN_VALUE = 60  # and of a value in it

_HALF = re.compile("\\\\ud[89ab]|\\\\udc[0-7]|[\\ud800-\\udc7f]")  # not U+DC80 to U+DCFF: bytes of file names
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


def without_nan(record: Any) -> Any:
    """Plain JSON with null for every NaN, which is no JSON: readers of the project refuse it."""
    if isinstance(record, dict):
        return {key: without_nan(value) for key, value in record.items()}
    if isinstance(record, list):
        return [without_nan(value) for value in record]
    return None if isinstance(record, float) and math.isnan(record) else record


def write_json(path: PathLike, record: Any) -> None:
    """Write a record atomically as readable JSON."""
    write_atomic(path, to_text(record) + "\n")


def read_bytes(path: PathLike, most: int = MOST_BYTES) -> bytes:
    """The content of a file. Raises InputError if it is missing, no file, or larger than `most` bytes."""
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist")
    if not os.path.isfile(path):  # reading a pipe would wait for ever
        raise InputError(f"{path} is no regular file")
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


def parse_json(content: Union[str, bytes], source: object, schema: Any = Any) -> Any:
    """The value of a JSON text, in UTF-8 with or without a byte order mark.

    Args:
        source: where it stands, for errors.
    Raises: InputError if it is no JSON, too long or nested too deeply, has a number that is none or too large, says
            something twice, or has another shape.
    """
    if len(content) > MOST_BYTES:
        raise InputError(f"{source} has more than {MOST_BYTES >> 20} MB of JSON")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        _check_depth(text)
        value = json.loads(
            text, parse_int=_integer, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_object
        )
        if "\\ud" in text.lower() and _HALF.search(str(value)):
            raise ValueError("a text has half a character, which nothing can print")
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{source} is not a JSON file: {shortened(error)}") from None
    except ValueError as error:  # of this and the functions below
        raise InputError(f"{source}: {shortened(error)}") from None
    return check_shape(value, source, schema)


def check_shape(value: Any, source: object, schema: Any) -> Any:
    """Return plain JSON that has the shape of a schema. Raises: InputError that says where it has not."""
    try:
        try:
            msgspec.convert(value, schema)
        except UnicodeEncodeError:  # names of files may have bytes that are no text
            msgspec.convert(_printable(value), schema)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InputError(f"{source}: {shortened(with_value(error, value))}") from None
    return value


def with_value(error: Exception, value: Any) -> str:
    """What msgspec says of a value, and what stands where it points to, as far as that is one place."""
    message = str(error)
    place = re.search(r" - at `\$((?:\.\w+|\[\d+\])*)`$", message)
    if place is None or not message.startswith(("Expected", "Invalid")):
        return message
    for name, number in re.findall(r"\.(\w+)|\[(\d+)\]", place[1]):
        value = value[int(number)] if number else value[name]
    text = json.dumps(value)
    return f"{message}, not {text if len(text) <= SHOWN_VALUE else f'{text[:SHOWN_VALUE]} ...'}"


def _printable(value: Any) -> Any:
    """Plain JSON with a question mark for every byte that is no text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def shortened(error: object) -> str:
    """What an error says, in one line of bounded length."""
    text = " ".join(str(error).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """An object; raises ValueError if a key stands in it twice, of which JSON's readers keep the last."""
    value = dict(pairs)
    if len(value) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"has '{shortened(twice)}' twice in one object")
    return value


def _check_depth(text: str) -> None:
    """Raise ValueError if brackets outside of texts are nested too deeply, before a parser recurses into them."""
    if text.count("[") + text.count("{") <= MOST_LEVELS:
        return
    depth = 0
    for number, part in enumerate(text.replace("\\\\", "").replace('\\"', "").split('"')):
        if number % 2 or not ("[" in part or "{" in part or "]" in part or "}" in part):
            continue  # a text, or nothing that opens or closes
        for character in part:
            if character in "[{":
                depth += 1
                if depth > MOST_LEVELS:
                    raise ValueError(f"lists and objects in each other, more than {MOST_LEVELS} levels deep")
            elif character in "]}":
                depth -= 1


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text) if text != "-Infinity" else -math.inf
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value
