"""Append-only journals of JSON rows.

Rows of a journal `with_check` end with `"check"`, the CRC-32 of the rest of their line in hex digits: a digit that
changed on disk or by hand is noticed. Rows in memory do not have it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set

from spos.core.errors import InputError, naming, warn
from spos.runs.files import PathLike, check_shape, flush, parse_json, read_bytes, shortened, write_atomic

CHECK = "check"
MOST_BYTES = 1 << 30  # of a journal
_CHECKED = re.compile(rb', "check": "([0-9a-f]{8})"\}$')
_said: Set[str] = set()  # journals without check values that this process has warned of


def read_rows(path: PathLike, schema: Any = Dict[str, Any], with_check: bool = False) -> List[Dict[str, Any]]:
    """The rows of a journal that another program may be writing: the file is left as it is, and may be missing.

    Rows from before there were check values have none, and stand in front of those that have one.

    Args:
        schema: of a row.
        with_check: its rows have check values, and one that has none is damaged or old. Else those that have one are
            compared with it all the same.
    Raises: InputError if a line other than a last one that was cut short is damaged or of another shape.
    """
    path = Path(path)
    if not path.exists():
        return []
    *complete, rest = read_bytes(path, MOST_BYTES).split(b"\n")
    rows = [_parse(line, f"{path} line {number}", schema, with_check) for number, line in enumerate(complete, 1)]
    if with_check:
        _check_all(path, [_CHECKED.search(line) is not None for line in complete])
    if rest:
        warn(f"{path}: the last line was cut short when the program was killed; it is left out")
    return rows


def _parse(line: bytes, source: str, schema: Any, with_check: bool) -> Dict[str, Any]:
    try:
        row = parse_json(line, "the row", Dict[str, Any])
        found = _CHECKED.search(line)
        if found or (with_check and CHECK in row):
            del row[CHECK]
            if found is None or int(found[1], 16) != zlib.crc32(line[: found.start()]):
                raise InputError("it has changed since it was written")
        return check_shape(row, "the row", schema)
    except InputError as error:
        # the rows of such a journal are numbered: the search writes what follows the last good one again
        remedy = "it and all lines after it to go on" if with_check else "the line to go on"
        raise InputError(f"{source} is damaged; remove {remedy} ({error})") from None


def _check_all(path: Path, have_check: List[bool]) -> None:
    first = have_check.index(True) if True in have_check else len(have_check)
    if not all(have_check[first:]):
        number = have_check.index(False, first) + 1
        raise InputError(
            f"{path} line {number} is damaged; remove it and all lines after it to go on (it has no check value)"
        )
    if first and str(path) not in _said:
        _said.add(str(path))
        warn(f"{path}: {first} rows are of an earlier version, which wrote no check values; changes go unnoticed")


def as_lines(rows: Iterable[Mapping[str, Any]], with_check: bool = False) -> bytes:
    """Rows as a journal holds them."""
    return b"".join(_as_line(row, with_check) for row in rows)


def _as_line(row: Mapping[str, Any], with_check: bool) -> bytes:
    try:
        text = json.dumps(row, allow_nan=False).encode()
    except ValueError:
        raise InputError(f"a row has a number that is none, so it is not written: {shortened(row)}") from None
    if with_check:
        text = text[:-1]
        text += b', "%s": "%08x"}' % (CHECK.encode(), zlib.crc32(text))
    return text + b"\n"


class _Place(NamedTuple):
    """A file as it was left."""

    device: int
    inode: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Place:
        return cls(status.st_dev, status.st_ino, status.st_size)


class Journal:
    """An append-only file of JSON rows. A row is on disk when `append` returns.

    A last line cut short by a kill is dropped on opening, with a warning; any other damaged line is an InputError. So
    is a file that was removed, replaced or written to by another program since it was opened.

    Args:
        schema, with_check: as for `read_rows`.
    """

    def __init__(self, path: PathLike, schema: Any = Dict[str, Any], with_check: bool = False) -> None:
        self.path = Path(path)
        if self.path.is_symlink():
            raise InputError(f"{path} is a link, which is not followed: put the file itself there")
        self._with_check = with_check
        self.rows: List[Dict[str, Any]] = read_rows(path, schema, with_check)
        content = read_bytes(path, MOST_BYTES) if self.path.exists() else b""
        if not content.endswith(b"\n") and content:
            write_atomic(self.path, content[: content.rfind(b"\n") + 1])
        self._has_folder = self.path.parent.is_dir()
        self._place: Optional[_Place] = self._found()

    def append(self, row: Mapping[str, Any]) -> None:
        if not self._has_folder:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._has_folder = True
        self.check_place()
        with naming(self.path), open(self.path, "ab", opener=_open_regular) as file:
            file.write(_as_line(row, self._with_check))
            file.flush()
            flush(file.fileno())
            self._place = _Place.of(os.fstat(file.fileno()))
        self.rows.append(dict(row))

    def check_place(self) -> None:
        """Raise InputError if the path does not name the file any more that this journal has read and written."""
        if self.path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self.path))
        found = self._found()
        if found == self._place and self.path.parent.is_dir():
            return
        if found is None:
            raise InputError(f"{self.path} was removed while the program ran; what it held is lost. Start it again")
        raise InputError(
            f"{self.path} was replaced, or written to by another program, while this one ran; nothing is added to it"
        )

    def clear(self) -> None:
        """Drop all rows, and the file."""
        if self.path.exists():
            self.path.unlink()
        self.rows, self._place = [], None

    def keep(self, condition: Callable[[Dict[str, Any]], bool]) -> None:
        """Drop the rows for which `condition(row)` is false, from the file too."""
        kept = [row for row in self.rows if condition(row)]
        if len(kept) < len(self.rows):
            write_atomic(self.path, as_lines(kept, self._with_check))
            self.rows, self._place = kept, self._found()

    def _found(self) -> Optional[_Place]:
        """Where its file is now; None if there is none."""
        try:
            return _Place.of(os.stat(str(self.path)))
        except FileNotFoundError:
            return None


def _open_regular(path: str, flags: int) -> int:
    """Neither a link to somewhere else nor a pipe, whatever has come there since. Raises: OSError, InputError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is no regular file")
    return descriptor
