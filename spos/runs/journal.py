"""Append-only journals of JSON rows."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

from spos.core.errors import InputError, naming, warn
from spos.runs.files import PathLike, flush, write_atomic


def read_rows(path: PathLike) -> List[Dict[str, Any]]:
    """The rows of a journal that another program may be writing: the file is left as it is, and may be missing.

    Raises: InputError if a line other than a last one that was cut short is damaged.
    """
    path = Path(path)
    if not path.exists():
        return []
    if not path.is_file():  # a pipe would never end
        raise InputError(f"{path} is no regular file")
    *complete, rest = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(complete, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number} is damaged; remove the line to go on")
        rows.append(row)
    if rest:
        warn(f"{path}: the last line was cut short when the program was killed; it is left out")
    return rows


class Journal:
    """An append-only file of JSON rows. A row is on disk when `append` returns.

    A last line cut short by a kill is dropped on opening, with a warning; any other damaged line is an InputError.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        if self.path.is_symlink():
            raise InputError(f"{path} is a link, which is not followed: put the file itself there")
        self.rows: List[Dict[str, Any]] = read_rows(path)
        content = self.path.read_bytes() if self.path.exists() else b""
        if not content.endswith(b"\n") and content:
            write_atomic(self.path, content[: content.rfind(b"\n") + 1])

    def append(self, row: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), open(self.path, "ab", opener=_open_regular) as file:
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            flush(file.fileno())
        self.rows.append(dict(row))

    def clear(self) -> None:
        """Drop all rows, and the file."""
        if self.path.exists():
            self.path.unlink()
        self.rows = []

    def keep(self, condition: Callable[[Dict[str, Any]], bool]) -> None:
        """Drop the rows for which `condition(row)` is false, from the file too."""
        kept = [row for row in self.rows if condition(row)]
        if len(kept) < len(self.rows):
            write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))
            self.rows = kept


def _open_regular(path: str, flags: int) -> int:
    """Neither a link to somewhere else nor a pipe, whatever has come there since. Raises: OSError, InputError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is no regular file")
    return descriptor
