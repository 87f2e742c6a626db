"""The one exception that stands for bad input, what the engine's exceptions say, and how lines of text are shown.

Names of files and classes may hold any bytes, and a terminal may know few letters.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from typing import Iterator, List, Match, Optional

WARNING = "warning: "  # how a line begins that does not stop a program
TRACEBACK = "SPOS_TRACEBACK"  # environment variable; 1: errors of the engine are shown whole

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


OUT_OF_MEMORY = re.compile(
    r"failed to allocate|out of memory|bad_alloc|cannot allocate memory|insufficient memory|unable to allocate", re.I
)
MEMORY_ADVICE = (
    "--low-memory, a smaller --batch-size, fewer workers (-j) or processes need less, and so does another folder where "
    "this one lies in memory"
)


def explain(error: BaseException) -> Optional[str]:
    """One line for an error of the engine or of a library that ran out of memory; None for any other."""
    chain = causes(error)
    for one in chain:
        if is_out_of_memory(one):
            return f"there is not enough memory ({engine_reason(one)}). {MEMORY_ADVICE}"
    engine = [one for one in chain if type(one).__name__ == "MXNetError"]  # this room does not import MXNet
    if engine:
        return f"MXNet cannot do this: {engine_reason(engine[0])} ({TRACEBACK}=1 shows where)"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or bool(OUT_OF_MEMORY.search(str(error)))


def causes(error: Optional[BaseException]) -> List[BaseException]:
    """An exception and what led to it."""
    found: List[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def engine_reason(error: BaseException) -> str:
    """The sentence of an MXNet error, which stands below a stack trace or in front of it."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip() and "Stack trace" not in line]
    return lines[-1].replace("MXNetError: ", "") if lines else type(error).__name__


def warn(text: str) -> None:
    """A line on standard error that does not stop the program."""
    tell(f"{WARNING}{printable(text)}")


def tell(line: str) -> None:
    """Print a line on standard error, if anybody is there to read it."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


@functools.lru_cache(maxsize=None)
def warn_once(text: str) -> None:
    """The same, the first time that this process says it."""
    warn(text)


@contextlib.contextmanager
def naming(path: object) -> Iterator[None]:
    """Add the name of a file to an OSError of the block that has none: a full disk names nothing by itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


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
