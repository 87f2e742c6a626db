"""Text for terminals: names of files and classes may hold any bytes, and a terminal may know few letters."""

from __future__ import annotations

import re
import sys
from typing import Match

# Control characters, line and paragraph separators, changes of the writing direction, bytes that are no UTF-8.
_STRANGE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


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
