"""Several processes that train one network together over MXNet's distributed KVStore; or one process alone.

Every worker makes the same calls in the same order (`total`, `share`, `average_statistics`, `agree`, `barrier`): each
waits for the others. In the local case they change nothing and cost nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, Iterator, List, Sequence

import numpy as np

from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.parameters import STATISTICS

WORKER_NUMBER = "SPOS_WORKER"  # set by utils/launch_cluster.py; without it, the KVStore's rank counts
START_SECONDS = "SPOS_CLUSTER_START_SECONDS"
DEFAULT_START_SECONDS = 300.0
VARIABLES = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")

STEPS_BETWEEN_AGREEMENTS = 10  # of dist_async, whose workers would otherwise run in step
_FIRST_KEY = 100_000  # parameters of a PathTrainer are 0, 1, 2 ..; MXNet multiplies keys by 9973 in 32 bits
_CHUNK_SIZES = (1, 2**18)  # floats sent at a time, under a key of their own each


@dataclass(frozen=True)
class Cluster:
    """This process among the `num_workers` that train together; the one with rank 0 is the chief and writes files.

    Args:
        kvstore: the distributed KVStore, or None if this process is alone.
    """

    rank: int = 0
    num_workers: int = 1
    kvstore: Any = None
    _flags: List[bool] = field(default_factory=list, repr=False, compare=False)
    _finished: List[bool] = field(default_factory=list, repr=False, compare=False)

    @property
    def is_chief(self) -> bool:
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.kvstore is not None

    @property
    def is_async(self) -> bool:
        return self.is_distributed and "async" in self.kvstore.type

    def barrier(self) -> None:
        """Wait until everything sent has arrived and every worker is here. There is no time limit."""
        if self.is_distributed:
            mx.nd.waitall()
            self.kvstore._barrier()

    def total(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """The sum over workers of each array, in float32; the shapes are those of all workers."""
        flat = [np.asarray(array, np.float32).ravel() for array in arrays]
        if self.is_distributed and flat:
            joined = self._total_flat(np.concatenate(flat))
            flat = np.split(joined, np.cumsum([part.size for part in flat])[:-1])
        return [part.reshape(np.shape(array)) for part, array in zip(flat, arrays)]

    def share(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """The chief's arrays, bit for bit, on every worker."""
        return self.total([np.asarray(array) if self.is_chief else np.zeros(np.shape(array)) for array in arrays])

    def share_json(self, value: Any) -> Any:
        """The chief's value (plain JSON) on every worker; what the others give is not looked at."""
        if not self.is_distributed:
            return value
        text = json.dumps(value).encode() if self.is_chief else b""
        length = int(self.share([np.array([len(text) % 4096, len(text) // 4096])])[0] @ [1, 4096])
        codes = np.frombuffer(text, np.uint8) if self.is_chief else np.zeros(length)
        return json.loads(self.share([codes])[0].astype(np.uint8).tobytes().decode())

    def agree(self, flag: bool) -> bool:
        """Whether any worker gives True; called by all once per step, so that all stop after the same step.

        With `dist_async` the workers meet every STEPS_BETWEEN_AGREEMENTS calls only; a flag waits until then.
        """
        if not self.is_distributed:
            return flag
        self._flags.append(flag)
        if self.is_async and len(self._flags) < STEPS_BETWEEN_AGREEMENTS:
            return False
        wanted = any(self._flags)
        self._flags.clear()
        return bool(self.total([np.array([wanted])])[0][0])

    def average_statistics(self, net: mx.gluon.Block) -> None:
        """Set the running BatchNorm statistics to their average over all devices of all workers."""
        parameters = [p for n, p in net._collect_params_with_prefix().items() if n.endswith(STATISTICS)]
        if not parameters or (not self.is_distributed and len(parameters[0].list_ctx()) == 1):
            return
        totals = self.total([parameter._reduce().asnumpy() for parameter in parameters])
        for parameter, total in zip(parameters, totals):
            parameter.set_data(mx.nd.array(total / np.float32(self.num_workers), dtype=parameter.dtype))

    def finish(self) -> None:
        """Say that this worker ends as it should. Without it the process ends at once, without waiting for others."""
        self.barrier()
        self._finished.append(True)

    def _total_flat(self, values: np.ndarray) -> np.ndarray:
        key = 0 if values.size <= _CHUNK_SIZES[0] else 1
        size, result = _CHUNK_SIZES[key], np.empty_like(values)
        for start in range(0, values.size, size):
            part = values[start : start + size]
            array = mx.nd.array(np.pad(part, (0, size - part.size)))
            self._total_array(_FIRST_KEY + key, array)
            result[start : start + size] = array.asnumpy()[: part.size]
        return result

    def _total_array(self, key: int, array: Any) -> None:
        """Replace an array by the sum over workers."""
        if not self.is_async:
            self.kvstore.pushpull(key, [array])
            return
        self.kvstore.push(key, [array])  # the servers add what they are sent; what they hold here is zero
        self.barrier()
        self.kvstore.pull(key, out=[array])
        self.barrier()
        if self.is_chief:
            self.kvstore.push(key, [-array])
        self.barrier()


LOCAL = Cluster()


def open_cluster(kind: str) -> Cluster:
    """Join the other workers of `--kv-store kind`; `device` is this process alone.

    Raises: InputError if this process was not started as one of several.
    """
    if kind == "device":
        return LOCAL
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"--kv-store {kind} is for several processes, and {missing[0]} is not set: "
            "start them with sh scripts/train_cluster.sh"
        )
    with _time_limit(float(os.environ.get(START_SECONDS, DEFAULT_START_SECONDS))):
        kvstore = mx.kv.create(kind)
        rank = int(os.environ.get(WORKER_NUMBER, kvstore.rank))
        cluster = Cluster(rank, kvstore.num_workers, kvstore)
        atexit.register(_leave, cluster)
        if cluster.is_async:
            # A plain class of MXNet without state: servers unpickle it. Its step is `weight += what was sent`.
            kvstore.set_optimizer(mx.optimizer.SGD(learning_rate=-1.0, wd=0.0))
        for key, size in enumerate(_CHUNK_SIZES):
            kvstore.init(_FIRST_KEY + key, mx.nd.zeros(size))
        cluster.barrier()
        _check_numbers(cluster)
    return cluster


def _check_numbers(cluster: Cluster) -> None:
    if not 0 <= cluster.rank < cluster.num_workers:
        raise InputError(f"{WORKER_NUMBER} is {cluster.rank}, there are {cluster.num_workers} workers, numbered from 0")
    seen = cluster.total([np.arange(cluster.num_workers) == cluster.rank])[0]
    if not (seen == 1).all():
        raise InputError(f"{WORKER_NUMBER} is {cluster.rank} on {int(seen[cluster.rank])} workers; give each its own")


def _leave(cluster: Cluster) -> None:
    """Leave the other workers, at the exit of the process.

    A failed worker ends at once: MXNet would wait for the others, and they for this one. One that has finished frees
    the KVStore here, whatever still refers to it: callbacks that MXNet holds for a gradient refer to the parameters,
    these to their trainer and it to the KVStore, and what is never freed ends the process by signal 6.
    """
    if not cluster._finished:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)
    cluster.kvstore.__del__()
    cluster.kvstore.handle = mx.base.KVStoreHandle()  # of nothing, which may be freed again


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """End the process if the body takes longer: a call inside MXNet cannot be interrupted otherwise."""
    timer = threading.Timer(seconds, _give_up, (seconds,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(seconds: float) -> None:
    scheduler = f"{os.environ['DMLC_PS_ROOT_URI']}:{os.environ['DMLC_PS_ROOT_PORT']}"
    print(
        f"error: not all workers and servers came together within {seconds:g} s; scheduler at {scheduler}. "
        "Is it reachable from every machine?",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)
