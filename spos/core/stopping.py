"""Ctrl-C and SIGTERM as a request: a program ends where nothing is lost."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from spos.core.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
            self._handlers = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _handle(self, signum: int, _frame: object) -> None:
        again = self.signum is not None
        self.signum = signum
        if again or self._at_once:
            raise Stopped(signum)
        if self.answer:
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
