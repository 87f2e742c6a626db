"""The lock of a directory that one program at a time may write to.

It is a record lock (`fcntl.lockf`) on a file in the directory. The kernel gives it up when the process ends, however
that happens; network file systems hand it to their server; processes that the holder started do not inherit it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Sequence, Set

from spos.core.errors import InputError, warn
from spos.runs.files import PathLike, remove_partial
from spos.runs.run import LOCK_FILE, open_run

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_HELD_BY_OTHERS = {errno.EACCES, errno.EAGAIN}
_MOST_BYTES = 4096  # of what a holder says about itself
_POLL_SECONDS = 0.2

_held: Set[Path] = set()  # by this process: a record lock does not keep its own process out


@contextlib.contextmanager
def locked(directory: PathLike) -> Iterator[None]:
    """Keep other programs out of a directory, which is made if it is not there, within this block.

    Temporary files of programs that were killed in it are removed, and a directory that was made for nothing is too.
    On a file system without locks the block runs all the same, after a warning.

    Raises: InputError that names the host and the process of whoever holds the lock.
    """
    directory = Path(directory)
    is_new = not directory.exists()
    path = directory.resolve() / LOCK_FILE
    if path in _held:
        raise InputError(f"{directory} is in use by this very process")
    descriptor = _acquire(path, directory)
    _held.add(path)
    try:
        if descriptor is not None:
            _say_who(descriptor)
            remove_partial(directory)
        yield
    finally:
        _held.discard(path)
        if descriptor is not None:
            with contextlib.suppress(FileNotFoundError):  # removed with its directory
                path.unlink()  # while it is held: nobody can have locked this file meanwhile
            os.close(descriptor)
        if is_new:
            with contextlib.suppress(OSError):  # it holds something, or is gone
                directory.rmdir()


@contextlib.contextmanager
def entered(
    directory: PathLike, config: Mapping[str, Any], must_resume: bool = False, may_change: Sequence[str] = ()
) -> Iterator[Path]:
    """As `open_run`, and no other program can enter the directory within this block."""
    with locked(directory):
        yield open_run(directory, config, must_resume, may_change)


def wait_until_free(directory: PathLike, seconds: float) -> None:
    """Wait for whoever holds the lock of a directory, if it is there at all, but not longer. Says so if it takes time.

    Raises: InputError that names who holds it still.
    """
    end, said = time.monotonic() + seconds, False
    while (Path(directory) / LOCK_FILE).exists():
        try:
            with locked(directory):
                return
        except InputError as error:
            if time.monotonic() > end:
                raise
            if not said:
                warn(f"{error}; waiting for it")
                said = True
        time.sleep(_POLL_SECONDS)


def _acquire(path: Path, directory: Path) -> Any:
    """The descriptor that holds the lock; None where the file system has no locks."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # who made the directory has just ended and removed it
            continue
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
            os.close(descriptor)  # its holder has just ended and removed it
        except OSError as error:
            holder = _holder(descriptor) if error.errno in _HELD_BY_OTHERS else {}
            os.close(descriptor)
            if error.errno in _HELD_BY_OTHERS:
                raise InputError(
                    f"{directory} is in use by {_describe(holder)}. Wait until it has ended, or give another directory"
                ) from None
            if error.errno in _WITHOUT_LOCKS:
                warn(f"{directory}: this file system has no locks ({error.strerror}); start nothing else in it")
                return None
            raise


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the path names the file that is open."""
    try:
        named = os.stat(str(path), follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _say_who(descriptor: int) -> None:
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    content = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "program": program})
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content.encode(), 0)


def _holder(descriptor: int) -> Dict[str, Any]:
    """What the holder says about itself; nothing if it has not said it yet."""
    try:
        said = json.loads(os.pread(descriptor, _MOST_BYTES, 0))
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _describe(holder: Dict[str, Any]) -> str:
    if not all(key in holder for key in ("host", "process", "program")):
        return "another program"
    words = {key: str(holder[key])[:80] for key in ("host", "process", "program")}
    return f"{words['program']} (process {words['process']} on {words['host']})"
