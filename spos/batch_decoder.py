"""Decoding and augmentation of one batch by MXNet's ImageRecordIter."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from spos.compat import mx
from spos.record_file import Index

NDArray = mx.nd.NDArray


class BatchDecoder:
    """Turns raw records into one normalised batch with a throw-away ImageRecordIter."""

    def __init__(
        self, size: int, mean: Sequence[float], std: Sequence[float], transform: Mapping[str, object], threads: int
    ) -> None:
        normalise = {f"mean_{c}": value for c, value in zip("rgb", mean)}
        normalise.update({f"std_{c}": value for c, value in zip("rgb", std)})
        self._arguments = {**normalise, **transform, "data_shape": (3, size, size)}
        self._threads = threads

    def decode(self, records: Sequence[bytes], seed: int) -> Tuple[NDArray, NDArray]:
        """Return images and labels of one batch. Raises: MXNetError; see `can_decode` before resizing."""
        return self._run(records, seed_aug=seed, **self._arguments)

    def can_decode(self, records: Sequence[bytes]) -> bool:
        """Try the same decoder on all records, cutting out one pixel: without `resize` a failure is an exception."""
        try:
            self._run(records, data_shape=(3, 1, 1))
        except mx.MXNetError:
            return False
        return True

    def _run(self, records: Sequence[bytes], **arguments: object) -> Tuple[NDArray, NDArray]:
        starts = np.cumsum([0] + [len(record) for record in records[:-1]])
        index = Index(np.arange(len(records)), starts)
        with _readable_files({"batch.rec": b"".join(records), "batch.idx": index.to_bytes()}) as directory:
            iterator = mx.io.ImageRecordIter(
                path_imgrec=os.path.join(directory, "batch.rec"),
                path_imgidx=os.path.join(directory, "batch.idx"),
                batch_size=len(records),
                preprocess_threads=self._threads,
                prefetch_buffer=1,
                device_id=-1,  # cpu(0); the default is pinned memory
                verbose=False,
                **arguments,
            )
            batch = iterator.next()
            return batch.data[0], batch.label[0]


@contextmanager
def _readable_files(contents: Mapping[str, bytes]) -> Iterator[str]:
    """Yield a temporary directory with these files, in memory where the system can.

    ImageRecordIter reads by name only. Links to anonymous memory leave nothing but an empty shell behind a kill.
    """
    handles: List[int] = []
    with tempfile.TemporaryDirectory(prefix="spos-batch-") as directory:
        try:
            for name, data in contents.items():
                path = os.path.join(directory, name)
                if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
                    handles.append(os.memfd_create(name))
                    os.symlink(f"/proc/{os.getpid()}/fd/{handles[-1]}", path)
                with open(path, "wb") as file:
                    file.write(data)
            yield directory
        finally:
            for handle in handles:
                os.close(handle)
