"""Ctrl-C, SIGTERM and a terminal that goes away as a request: a program ends where nothing is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Dict, Iterator, List, Optional

from spos.core.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_SECONDS = 0.01


def heard_signals() -> List[int]:
    """Those of SIGNALS that ask this program to stop: under nohup a terminal that goes away does not."""
    under_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if not (under_nohup and number == signal.SIGHUP)]


def note_signals() -> List[int]:
    """A list that signals are put in from now on, for a program that watches others."""
    noted: List[int] = []
    for number in heard_signals():
        signal.signal(number, lambda number, _: noted.append(number))
    return noted


class StopRequest:
    """Notes a signal while it is entered (`with request:`); a second signal raises Stopped at once.

    Outside the main thread, where Python delivers no signals, entering changes nothing.

    Args:
        answer: shown when a signal was noted.
    """

    def __init__(self, answer: str = "stopping after this batch; once more stops at once") -> None:
        self.answer = answer
        self.signum: Optional[int] = None
        self._at_once = False
        self._handlers: Dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._handle) for number in heard_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _handle(self, signum: int, frame: Optional[FrameType]) -> None:
        again = self.signum is not None
        if (again or self._at_once) and _is_in_destructor(frame):
            threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signum)).start()
            return
        self.signum = signum
        if again or self._at_once:
            raise Stopped(signum)
        if self.answer:
            with suppress(OSError):  # the terminal is gone
                print(f"\n{self.answer}", file=sys.stderr, flush=True)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this block a signal raises Stopped where it arrives, and one that came before raises it now."""
        self._at_once = True
        try:
            if self.signum is not None:
                raise Stopped(self.signum)
            yield
        finally:
            self._at_once = False


def _is_in_destructor(frame: Optional[FrameType]) -> bool:
    """Whether an exception raised here would be lost: Python prints those of `__del__` and goes on."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
