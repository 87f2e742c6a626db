"""The one exception that stands for bad input, and what the engine's exceptions say."""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import Iterator


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
    print(f"warning: {text}", file=sys.stderr, flush=True)


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
