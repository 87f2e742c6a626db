"""Agent that runs one command for `utils.launch_cluster`, on this machine or behind ssh, and ends with it.

The launcher holds the other end of standard input: a line `stop` asks the command to end (SIGTERM), and the end of
the input, however the launcher went away, kills the command and all it started. So nothing is left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from typing import List

STOP = b"stop\n"
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def main(argv: List[str]) -> int:
    """Run `argv`. Returns its exit code, or 128 + the signal that killed it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher decides, and it does not send signals
    command = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=end_with_parent)
    threading.Thread(target=_obey, args=(command.pid,), daemon=True).start()
    code = command.wait()
    _signal_group(command.pid, signal.SIGKILL)
    return 128 - code if code < 0 else code


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """In a child before it becomes another program: it gets this signal when its parent dies, however that does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _obey(group: int) -> None:
    while True:
        order = os.read(0, len(STOP))
        _signal_group(group, signal.SIGTERM if order else signal.SIGKILL)
        if not order:
            return


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
