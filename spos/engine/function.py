"""Functions computed outside of MXNet: what is needed for them to take part in its automatic differentiation."""

from __future__ import annotations

import ctypes
import traceback
from typing import Any, Callable, Dict, List, Sequence

from spos.engine.compat import mx

ADD = 3  # how a gradient is wanted; 0 is not at all, the rest by writing it
Backward = Callable[[List[Any], List[Any], List[int]], None]

_BACKWARD = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int),
    ctypes.c_int, ctypes.c_void_p,
)  # fmt: skip
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_alive: Dict[int, Any] = {}  # callbacks that MXNet may still call


def record_function(inputs: Sequence[mx.nd.NDArray], output: mx.nd.NDArray, backward: Backward) -> None:
    """Let the gradients of `inputs` follow from that of `output`, which was computed from them.

    Unlike `mx.autograd.Function`, gradients are written in place, and inputs may need none.

    Args:
        backward: (gradients of the outputs, places of the gradients of the inputs, how each is wanted). It runs in a
            thread of MXNet's; nothing else uses these arrays meanwhile. What it raises is printed, and ends the
            training by the error that MXNet then raises.
    """

    def run(num_outputs: int, num_inputs: int, handles: Any, wanted: Any, _is_train: int, _state: Any) -> int:
        try:
            arrays = [
                mx.nd.NDArray(ctypes.cast(handles[i], mx.base.NDArrayHandle), writable=i >= num_outputs)
                for i in range(num_outputs + num_inputs)
            ]
            backward(arrays[:num_outputs], arrays[num_outputs:], [wanted[i] for i in range(num_inputs)])
        except Exception:  # nothing may be raised into the engine
            traceback.print_exc()
            return 0
        return 1

    def forget(_state: Any) -> int:
        return int(_alive.pop(key, None) is not None)

    callbacks = [ctypes.cast(one, ctypes.CFUNCTYPE(ctypes.c_int)) for one in (_BACKWARD(run), _DELETE(forget))]
    count = len(callbacks)
    context = mx.base.MXCallbackList(
        count,
        ctypes.cast(
            mx.base.c_array(ctypes.CFUNCTYPE(ctypes.c_int), callbacks), ctypes.POINTER(ctypes.CFUNCTYPE(ctypes.c_int))
        ),
        ctypes.cast(mx.base.c_array(ctypes.c_void_p, [None] * count), ctypes.POINTER(ctypes.c_void_p)),
    )
    key = id(context)
    _alive[key] = context, callbacks
    mx.base.check_call(
        mx.base._LIB.MXCustomFunctionRecord(
            len(inputs), mx.base.c_handle_array(inputs), 1, mx.base.c_handle_array([output]), ctypes.byref(context)
        )
    )


def address(array: mx.nd.NDArray) -> int:
    """Where the values of a CPU array begin, in the plain layout.

    Nothing is waited for: call `mx.nd.waitall()` before, once for many arrays. Waiting to write to a single one costs
    MXNet 40 microseconds.
    """
    pointer = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    return pointer.value or 0
