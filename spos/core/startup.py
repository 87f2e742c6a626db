"""What a program does before it loads anything. Importing this module does it, so programs alone do, and first.

    if __name__ == "__main__":
        import spos.core.startup  # noqa: F401

The environment that a program is started from is meant for other things than this project: a notebook's backend of
matplotlib, warnings as errors, standard streams that are closed. And while MXNet loads, which takes seconds, Ctrl-C
ends the program without a traceback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from types import FrameType
from typing import MutableMapping, Optional

STANDARD_STREAMS = (("stdin", 0, os.O_RDONLY), ("stdout", 1, os.O_WRONLY), ("stderr", 2, os.O_WRONLY))
IGNORED_BY_DEFAULT = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def open_closed_streams() -> None:
    """Give closed standard streams the null device: another file would get their numbers, and what is printed."""
    for name, number, mode in STANDARD_STREAMS:
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, mode)
            if descriptor != number:  # an earlier one is closed too, or something has begun to use the number
                os.dup2(descriptor, number)
                os.close(descriptor)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if mode == os.O_RDONLY else "w", encoding="utf-8", closefd=False))


def forgive_warnings(environ: MutableMapping[str, str]) -> None:
    """Undo `-W error`, for the processes that this one starts too: MXNet and GluonCV warn when they are imported."""
    if not any(option.startswith("e") for option in sys.warnoptions):
        return
    environ.pop("PYTHONWARNINGS", None)
    sys.warnoptions.clear()
    warnings.resetwarnings()
    for category in IGNORED_BY_DEFAULT:
        warnings.simplefilter("ignore", category)


def end_quietly(number: int, _frame: Optional[FrameType]) -> None:
    """End at once, as the shell expects of a signal."""
    with contextlib.suppress(OSError):
        os.write(2, b"\nstopped before it began\n")
    os._exit(128 + number)


def begin() -> None:
    open_closed_streams()
    forgive_warnings(os.environ)
    os.environ["MPLBACKEND"] = "agg"  # figures are files
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored
        signal.signal(signal.SIGINT, end_quietly)


begin()
