"""Whether processes of tests are still there."""

import time

import psutil


def is_alive(pid):
    """Not so for one that has ended and is waited for."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # also if it ends between two readings of its files
        return False


def assert_ended(*pids):
    """All of them, within some seconds: a killed process takes a moment."""
    end = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))
