"""What tests send to other processes: functions of a module that loads quickly."""

import os
import signal
import time
from pathlib import Path

from spos.core.errors import InputError
from spos.core.executors import device_index


def who():
    time.sleep(0.2)  # so that every process gets some of these
    return device_index(), os.getpid(), os.environ["OMP_NUM_THREADS"]


def die_once(file):
    """The first process that does this dies of it."""
    if not Path(file).exists():
        Path(file).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail(kind):
    raise kind("bad input")


def refuse():
    fail(InputError)


def sleep(seconds=60):
    time.sleep(seconds)
