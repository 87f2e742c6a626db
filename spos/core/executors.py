"""Executors of calls: in this process, in one process for each local device, or on the workers of a Dask scheduler.

All are `concurrent.futures.Executor`s. A call that ends its process is made again elsewhere; one that has ended
MAX_DEATHS of them raises BrokenExecutor. A call is done once and delivered once, whatever dies.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import connection, resource_tracker
from queue import SimpleQueue
from typing import Any, Callable, Dict, Iterator, Optional, Set, Tuple

from spos.core.errors import InputError, causes, naming
from spos.core.installation import install_command
from spos.core.tls import TlsOptions

MAX_DEATHS = 3
CONNECT_SECONDS = 10
DEFAULT_PORT = 8786  # Dask's
FIRST_WORKER_SECONDS = 30  # a worker needs a few to start
CLOSE_SECONDS = 5
WORKER = ("-m", "distributed.cli.dask_worker")
_JOIN_SECONDS = 0.05
_LISTEN_SECONDS = 0.1  # between two tries to reach a scheduler

_device_index = 0


def device_index() -> int:
    """Which of the local devices this process is to use."""
    return _device_index


@contextlib.contextmanager
def open_executor(
    num_processes: int,
    num_threads: str,
    scheduler: str = "",
    tls: TlsOptions = TlsOptions(),  # noqa: B008  # frozen
) -> Iterator[Executor]:
    """The executor for so many local processes, or for a Dask scheduler; what it started ends with the block.

    Args:
        num_threads: OMP_NUM_THREADS of each local process.
        tls: certificates of the scheduler's cluster, if it has any.
    Raises: InputError if the scheduler cannot be reached or has no workers.
    """
    executor: Executor = EmbeddedExecutor()
    if scheduler:
        executor = DaskExecutor(scheduler, tls)
    elif num_processes > 1:
        executor = ProcessesExecutor(num_processes, num_threads)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)


class EmbeddedExecutor(Executor):
    """Runs a call in this thread when it is submitted, so give it one at a time."""

    max_in_flight = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class ProcessesExecutor(Executor):
    """One spawned process for each device, started when there is work for it.

    Each process is a pool of its own, served by a thread: when it dies (out of memory, killed), that is known to be
    by what it was at, and the others go on. Ctrl-C is for the parent alone, and the death of the parent ends all.
    """

    def __init__(self, num_processes: int, num_threads: str) -> None:
        # Read by the processes when they start. joblib, part of scikit-learn, makes a semaphore while it loads, which a
        # process that is ended just then would leave behind with a warning.
        os.environ.update(OMP_NUM_THREADS=num_threads, JOBLIB_MULTIPROCESSING="0")
        resource_tracker.ensure_running()  # if a pool starts it, it unblocks the signals of that thread
        self._calls: SimpleQueue = SimpleQueue()
        self._process_ids: Dict[int, int] = {}
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(num_processes)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        self._calls.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes at once, whatever they are at."""
        self._closed = True
        for _ in self._threads:
            self._calls.put(None)
        while any(thread.is_alive() for thread in self._threads):
            for process_id in list(self._process_ids.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
            for thread in self._threads:
                thread.join(_JOIN_SECONDS)

    def _serve(self, device: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the processes started here
        pool: Optional[ProcessPoolExecutor] = None
        call = self._calls.get()
        while call is not None and not self._closed:
            pool = self._run(device, pool, *call)
            call = self._calls.get()
        if pool:
            pool.shutdown(wait=False)

    def _run(
        self, device: int, pool: Optional[ProcessPoolExecutor], future: Future, call: Callable
    ) -> Optional[ProcessPoolExecutor]:
        """Make one call. Returns the pool for the next one, None if this one ended it."""
        for _ in range(MAX_DEATHS):
            try:
                pool = pool or self._start(device)
                future.set_result(pool.submit(call).result())
                return pool
            except BrokenExecutor:
                self._process_ids.pop(device, None)
                pool = None
                if self._closed:
                    return None
            except Exception as error:
                future.set_exception(error)
                return pool
        future.set_exception(BrokenExecutor(f"{MAX_DEATHS} processes died at it"))
        return None

    def _start(self, device: int) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        with naming("/dev/shm"):  # where semaphores lie
            pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_enter_process, initargs=(device,))
        self._process_ids[device] = pool.submit(os.getpid).result()
        return pool


def _enter_process(device: int) -> None:
    global _device_index
    _device_index = device
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])  # type: ignore[union-attr]  # was spawned
    os._exit(1)


class DaskExecutor(Executor):
    """Sends calls to the workers of a Dask scheduler, which gives those of a dead worker to another one.

    Raises: InputError if `distributed` is not installed, nobody answers at the address, or there are no workers.
    """

    def __init__(self, address: str, tls: TlsOptions = TlsOptions()) -> None:  # noqa: B008  # frozen
        try:
            from distributed import Client
            from distributed.comm.addressing import parse_address, parse_host_port
        except ImportError as error:
            raise InputError(f"--scheduler needs Dask ({error}): run {install_command('cluster')}") from None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
        self._address = address
        self._remote: Set[Any] = set()  # Dask forgets what nobody holds
        try:
            # First without Dask, whose clients that reached nobody print tracebacks when the program ends.
            host = parse_host_port(parse_address(address)[1], DEFAULT_PORT)
            wait_for_listener(host, CONNECT_SECONDS)
            if tls.is_given:
                tls.greet(host, CONNECT_SECONDS)
            self._client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False, security=tls.security())
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: no such protocol
            raise InputError(f"--scheduler {address} cannot be reached: {str(error) or 'no answer'}") from None
        try:
            self._client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
        except Exception as error:
            self._client.close(timeout=CLOSE_SECONDS)
            raise InputError(
                f"--scheduler {address} has no workers after {FIRST_WORKER_SECONDS} s ({type(error).__name__}); start "
                f"some in this folder: {' '.join([sys.executable, *WORKER, address, '--nthreads 1', *tls.arguments])}"
            ) from None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        remote = self._client.submit(fn, *args, pure=False, **kwargs)
        self._remote.add(remote)
        remote.add_done_callback(partial(self._deliver, future))
        return future

    def _deliver(self, future: Future, remote: Any) -> None:
        self._remote.discard(remote)
        try:
            future.set_result(remote.result())
        except BaseException as error:  # Dask's CancelledError is no Exception
            future.set_exception(self._translate(error, remote.status))

    def _translate(self, error: BaseException, status: str) -> BaseException:
        if status in ("cancelled", "lost"):
            return InputError(f"the Dask scheduler {self._address} was lost; the same command goes on with another one")
        if type(error).__name__ == "KilledWorker":
            return BrokenExecutor("too many Dask workers died at it")
        missing = [cause for cause in causes(error) if isinstance(cause, ModuleNotFoundError)]
        if missing:
            return InputError(
                f"the Dask scheduler or a worker cannot import this project ({missing[0]}): start both in its folder"
            )
        return error

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take back what is not done, and leave the scheduler."""
        with contextlib.suppress(Exception):  # it may be gone
            self._client.cancel(list(self._remote))
        with contextlib.suppress(Exception):
            self._client.close(timeout=CLOSE_SECONDS)


def wait_for_listener(host: Tuple[str, int], seconds: float) -> None:
    """Wait until somebody listens there, for a scheduler may just be starting. Raises OSError if nobody does."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(host, seconds).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
        time.sleep(_LISTEN_SECONDS)
