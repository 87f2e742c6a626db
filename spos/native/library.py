"""The native library in this process: `Session` runs programs on arrays that are given by their addresses."""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.native.build import COMMAND, SWITCH, library_file
from spos.native.steps import AFFINE_ROWS, PARAMETER, STEP, TENSOR, Program


class Mode(IntEnum):
    """What statistics a program normalises by; the numbers are those of `session.cpp`.

    TRAIN: the batch's, which move the running ones; backward may follow.    COLLECT: the batch's, which are given.
    INFER: known ones.
    """

    TRAIN = 0
    COLLECT = 1
    INFER = 2


#: a part of a parameter for the optimizer: addresses (momentum is AdamW's mean), `rows` of `length` floats, `stride`
#: apart, learning rate and decay; of AdamW what corrects its mean, and what is added to the root
CORNER = np.dtype(
    [(name, np.int64) for name in ["weight", "gradient", "momentum", "square", "rows", "length", "stride"]]
    + [(name, np.float64) for name in ["rate", "decay", "correction", "epsilon"]]
)
#: a parameter with its moving average: addresses of `length` floats each, and the share of the way that it goes
AVERAGED = np.dtype([(name, np.int64) for name in ["average", "value", "length"]] + [("share", np.float64)])
_ADDRESS, _I64, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_SIGNATURES = {
    "spos_sizes": (None, [_ADDRESS]),
    "spos_last_error": (ctypes.c_char_p, []),
    "spos_new": (_ADDRESS, [ctypes.c_int]),
    "spos_delete": (None, [_ADDRESS]),
    "spos_prepare": (
        ctypes.c_int,
        [_ADDRESS, _I64, _ADDRESS, _I64, _ADDRESS, _I64, _ADDRESS, _I64, _I64, _I64, _FLOAT, _FLOAT],
    ),
    "spos_forward": (ctypes.c_int, [_ADDRESS, _ADDRESS, _I64, _ADDRESS, _I64, _ADDRESS]),
    "spos_backward": (ctypes.c_int, [_ADDRESS, _ADDRESS, _ADDRESS]),
    "spos_nesterov": (ctypes.c_int, [_ADDRESS, _ADDRESS, _I64, _FLOAT, _FLOAT]),
    "spos_adamw": (ctypes.c_int, [_ADDRESS, _ADDRESS, _I64, _FLOAT, _FLOAT, _FLOAT]),
    "spos_average": (ctypes.c_int, [_ADDRESS, _ADDRESS, _I64]),
    "spos_infer": (ctypes.c_int, [_ADDRESS, _ADDRESS, _I64, _I64, _ADDRESS]),
}


@lru_cache(maxsize=None)
def load(file: Path) -> ctypes.CDLL:
    """Raises: InputError if it cannot be loaded; RuntimeError if its records have other sizes than ours."""
    try:
        library = ctypes.CDLL(str(file))
    except OSError as error:
        advice = f"`{COMMAND}` builds it anew when the file is gone; {SWITCH}=0 does without it"
        raise InputError(f"{file} cannot be loaded ({error}): {advice}") from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    sizes = np.zeros(6, np.int64)
    library.spos_sizes(sizes.ctypes.data)
    records = [len(record.names or ()) for record in (CORNER, AVERAGED)]
    if sizes.tolist() != [len(STEP), len(TENSOR), len(PARAMETER), AFFINE_ROWS, *records]:
        raise RuntimeError(f"{file} was built from other sources: its records have {sizes.tolist()} fields")
    return library


class Session:
    """Memory and threads of one program at a time. Calls wait until they are done, and leave other threads running.

    Args:
        threads: that share the work; results do not depend on how many.
    """

    def __init__(self, threads: int) -> None:
        file = library_file()
        if file is None:
            raise RuntimeError("the native library is not built")
        self._library = load(file)
        self.threads = threads
        self.owner: object = None  # of the program that is prepared
        self._session: Optional[int] = self._library.spos_new(threads)
        if not self._session:
            raise MemoryError(self._message())

    def __del__(self) -> None:
        if getattr(self, "_session", None):
            self._library.spos_delete(self._session)
            self._session = None

    def prepare(
        self,
        mode: Mode,
        program: Program,
        parameters: np.ndarray,
        epsilon: float,
        momentum: float,
        owner: object = None,
    ) -> None:
        """Take a program and its weights, as they are now.

        Args:
            parameters: (num_parameters, len(PARAMETER)) int64, records by the columns PARAMETER.
            owner: of the program, if it comes back to this session for more.
        """
        self.owner = owner
        self._check(
            self._library.spos_prepare(
                self._session,
                int(mode),
                program.steps.ctypes.data,
                len(program.steps),
                program.tensors.ctypes.data,
                len(program.tensors),
                parameters.ctypes.data,
                len(parameters),
                program.floats_per_image,
                program.affine,
                epsilon,
                momentum,
            )
        )

    def forward(self, images: int, num_images: int, result: int, branch_scales: Optional[np.ndarray] = None) -> None:
        """From the address of float32 images (N, C, H, W) to that of the pooled features (N, F).

        Args:
            branch_scales: (len(program.drop_rates), N) float32 that main branches are multiplied by; without, none is.
        """
        scales = np.empty(0, np.float32) if branch_scales is None else branch_scales
        self._check(
            self._library.spos_forward(self._session, images, num_images, scales.ctypes.data, scales.size, result)
        )

    def backward(self, gradient: int, parameters: np.ndarray) -> None:
        """From the gradient of the features, (N, F), to those of the parameters, whose records name their places."""
        self._check(self._library.spos_backward(self._session, gradient, parameters.ctypes.data))

    def nesterov(self, corners: np.ndarray, momentum: float, scale: float) -> None:
        """One step of Nesterov's accelerated gradient on many parameters, as MXNet's `nag_mom_update` rounds it.

        Args:
            corners: (n,) of CORNER.    scale: of the gradients.
        """
        self._check(self._library.spos_nesterov(self._session, corners.ctypes.data, len(corners), momentum, scale))

    def adamw(self, corners: np.ndarray, betas: Tuple[float, float], scale: float) -> None:
        """The same of AdamW, as MXNet's `adamw_update` rounds it."""
        self._check(self._library.spos_adamw(self._session, corners.ctypes.data, len(corners), *betas, scale))

    def average(self, parameters: np.ndarray) -> None:
        """Move averages towards their values, as MXNet's `sgd_update` by their differences rounds it.

        Args:
            parameters: (n,) of AVERAGED.
        """
        self._check(self._library.spos_average(self._session, parameters.ctypes.data, len(parameters)))

    def infer(self, images: int, num_images: int, together: int, result: int) -> None:
        """As `forward`, for any number of images, of which `together` at most run together on a thread."""
        self._check(self._library.spos_infer(self._session, images, num_images, together, result))

    def _check(self, failed: int) -> None:
        if failed:
            raise RuntimeError(f"native kernels: {self._message()}")

    def _message(self) -> str:
        return (self._library.spos_last_error() or b"").decode(errors="replace")


_free: List[Session] = []


def borrow_session(threads: int, owner: object = None) -> Session:
    """A session that nobody uses; give it back by `return_session`, and its memory is used again.

    Args:
        owner: gets the session that it has prepared, if that has not been used for anything else.
    """
    fitting = [session for session in _free if session.threads == threads]
    own = [session for session in fitting if owner is not None and session.owner == owner]
    if not fitting:
        return Session(threads)
    session = (own or fitting)[-1]
    _free.remove(session)
    return session


def return_session(session: Session) -> None:
    _free.append(session)


def _forget_sessions() -> None:
    """In a forked process: the threads of these sessions are not in it, so they can neither work nor be ended."""
    for session in _free:
        session._session = None
    _free.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_sessions)
