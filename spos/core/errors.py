"""The one exception that stands for bad input, what the engine's exceptions say, and how lines of text are shown.

Names of files and classes may hold any bytes, and a terminal may know few letters.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Match

# Control characters, line and paragraph separators, changes of the writing direction, bytes that are no UTF-8.
_STRANGE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(ValueError):
    """What the user gave cannot be used; the message says what came, what was expected and what to do.

    Programs print it as a single line and exit with code 2.
    """


class Stopped(Exception):
    """The user ended the program with Ctrl-C or SIGTERM; what was reached is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


def engine_reason(error: Exception) -> str:
    """The sentence of an MXNet error, which stands below a stack trace or in front of it."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip() and "Stack trace" not in line]
    return lines[-1].replace("MXNetError: ", "") if lines else type(error).__name__


def warn(text: str) -> None:
    """A line on standard error that does not stop the program."""
    print(f"warning: {printable(text)}", file=sys.stderr, flush=True)


@lru_cache(maxsize=None)
def warn_once(text: str) -> None:
    """The same, but a process says it only once."""
    warn(text)


def printable(text: str) -> str:
    """One line in which nothing acts on a terminal: what would is escaped as Python writes it, bytes as `\\xe9`."""
    return _STRANGE.sub(_escape, text)


def _escape(match: Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1]


def escape_missing_letters() -> None:
    """From now on standard output escapes what its encoding has no letters for, as standard error always does."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
