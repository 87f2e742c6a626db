"""Search with a Dask scheduler and workers on this machine, and end all of them with the search.

    python -m utils.search_cluster --workers 2 -- scripts/search_supernet.sh --dataset digits

What follows `--` is arguments of search_supernet.py, or a script or program with its arguments; `--scheduler` is
added. All of it listens on this machine's loopback alone. Dask runs what it is sent, so other users of this machine are
kept out by certificates only: --tls-ca-file, --tls-cert, --tls-key.

For several machines, start scheduler and workers by hand, in this folder, which is at the same place on all of them,
with certificates that the search gets too; docs/clusters.md has the commands.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import contextlib
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, pick, positive, run_program, split_arguments
from spos.core.processes import (
    END_SECONDS,
    POLL_SECONDS,
    ROOT,
    Host,
    Member,
    Task,
    free_port,
    kill,
    send_stop,
    start_member,
)
from spos.core.stopping import note_signals
from spos.core.tls import TlsOptions
from spos.runs.lock import locked

HERE = Host("localhost", 1)
FOLDER_PREFIX = "spos-dask-"  # of what workers keep, in the folder for temporary files
LOOPBACK = "127.0.0.1"
HTTP = ("--dashboard-address", f"{LOOPBACK}:0", "--no-dashboard")  # Dask has an HTTP server without a dashboard too


@dataclass(frozen=True)
class ClusterOptions:
    """What is started."""

    workers: int = flag(2, "Dask workers on this machine, one thread each", type=positive)


class LocalCluster:
    """A scheduler and workers, which end with the `with` block, or when this process ends in any way."""

    def __init__(self, num_workers: int, tls: TlsOptions = TlsOptions()) -> None:  # noqa: B008  # frozen
        self.address = f"{tls.protocol}://{LOOPBACK}:{free_port()}"
        self.workers: List[Member] = []
        self._num_workers, self._tls = num_workers, tls
        self._lock = contextlib.ExitStack()
        self._folder = tempfile.mkdtemp(prefix=FOLDER_PREFIX)

    def __enter__(self) -> LocalCluster:
        remove_folders_of_the_killed()
        self._lock.enter_context(locked(self._folder))
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start("scheduler", "--protocol", self._tls.protocol, "--port", port)
        for _ in range(self._num_workers):
            self.add_worker()
        return self

    def __exit__(self, *_: object) -> None:
        kill([*self.workers, self.scheduler])
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    def add_worker(self) -> None:
        """Start one more. No nanny: a dead worker stays dead, and others take its work."""
        flags = ("--nthreads", "1", "--memory-limit", "0", "--no-nanny", "--local-directory")
        self.workers.append(self._start("worker", self.address, *flags, self._folder))

    def kill_worker(self, index: int) -> None:
        """End one as kill -9 does."""
        kill([self.workers[index]])

    def _start(self, kind: str, *flags: str) -> Member:
        name = f"worker {len(self.workers)}" if kind == "worker" else kind
        where = ("--host", LOOPBACK, *HTTP, *self._tls.arguments)
        command = (sys.executable, "-m", f"distributed.cli.dask_{kind}", *flags, *where)
        return start_member(Task(name, HERE, command, {"OMP_NUM_THREADS": "1", "DASK_LOGGING__DISTRIBUTED": "error"}))


def remove_folders_of_the_killed() -> None:
    """Remove what clusters of this user have left whose launcher was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError, InputError):  # another one removes it too, or is in it
            if not folder.is_symlink() and folder.stat().st_uid == os.getuid():
                with locked(folder):
                    shutil.rmtree(folder)


def main(argv: Optional[List[str]] = None) -> int:
    own, rest = split_arguments(sys.argv[1:] if argv is None else argv)
    args = OneLineParser(__doc__, (ClusterOptions, TlsOptions)).parse_args(own)
    options, tls = pick(ClusterOptions, args), pick(TlsOptions, args)
    tls.check()
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise InputError(f"this needs Dask ({error}): run sh scripts/setup.sh --cluster") from None
    signals = note_signals()
    with LocalCluster(options.workers, tls) as cluster:
        command = (*search_command(rest, cluster.address), *tls.arguments)
        search = start_member(Task("search", HERE, command, {"SPOS_PYTHON": sys.executable}))
        try:
            return watch(search, cluster, signals)
        finally:
            kill([search])


def search_command(rest: Sequence[str], address: str) -> Tuple[str, ...]:
    """The command of the search from what follows `--`."""
    if not rest:
        raise InputError("nothing to run: give the arguments of search_supernet.py after --")
    if rest[0].endswith(".sh"):
        command = ["sh", *rest]
    elif rest[0].endswith(".py"):
        command = [sys.executable, *rest]
    elif rest[0].startswith("-"):
        command = [sys.executable, str(ROOT / "search_supernet.py"), *rest]
    else:
        raise InputError(f"{rest[0]} after -- is neither a flag of search_supernet.py nor a script (.sh, .py)")
    return (*command, "--scheduler", address)


def watch(search: Member, cluster: LocalCluster, signals: Sequence[int]) -> int:
    """Wait until the search ends; its exit code. A signal is passed on to it; at the second, everything is ended."""
    told, deadline = False, float("inf")
    while search.process.poll() is None:
        time.sleep(POLL_SECONDS)
        if signals and not told:
            told, deadline = True, time.monotonic() + END_SECONDS
            send_stop(search)
        if len(signals) > 1 or time.monotonic() > deadline:
            if signals:
                return 128 + signals[0]
            print("error: the scheduler has ended; the same command goes on", file=sys.stderr, flush=True)
            return 1
        if all(worker.process.poll() is not None for worker in cluster.workers):
            print("error: all workers have ended; the same command goes on", file=sys.stderr, flush=True)
            return 1
        if cluster.scheduler.process.poll() is not None:
            deadline = min(deadline, time.monotonic() + END_SECONDS)  # the search notices
    return search.process.returncode


if __name__ == "__main__":
    sys.exit(run_program(main))
