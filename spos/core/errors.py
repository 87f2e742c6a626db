"""The one exception that stands for bad input, and what the engine's exceptions say."""

import sys
from functools import lru_cache

from spos.core.terminal import printable


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
