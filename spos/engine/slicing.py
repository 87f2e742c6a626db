"""The leading corner of an array: what a narrower architecture uses of a supernet parameter."""

from __future__ import annotations

import math
from typing import Tuple

from spos.engine.compat import mx


def leading_corner(value: mx.nd.NDArray, shape: Tuple[int, ...]) -> mx.nd.NDArray:
    """Copy of `value[:shape[0], :shape[1], ...]`, differentiable; `value` itself if nothing is cut.

    Not `nd.slice`: a convolution run in inference leaves its weight in oneDNN's blocked layout, and slicing that
    fails ("dimensions are invalid") or kills the process (docs/mxnet.md). `slice_axis` restores the plain layout.
    Of a matrix it is five times as fast as of the same values with two axes of length 1 behind, gradient included.
    """
    full = value.shape
    if len(shape) > 1 and shape[1] != full[1] and shape[2:] == full[2:]:
        if shape[0] != full[0]:
            value = mx.nd.slice_axis(value, axis=0, begin=0, end=shape[0])
        rows = value.reshape((shape[0], -1))
        return mx.nd.slice_axis(rows, axis=1, begin=0, end=math.prod(shape[1:])).reshape(shape)
    for axis, (length, whole) in enumerate(zip(shape, full)):
        if length != whole:
            value = mx.nd.slice_axis(value, axis=axis, begin=0, end=length)
    return value


def assign_leading_corner(value: mx.nd.NDArray, part: mx.nd.NDArray) -> None:
    """`value[:part.shape[0], :part.shape[1], ...] = part`, by a matrix where that is possible, which is faster."""
    shape = part.shape
    if len(shape) > 1 and shape[2:] == value.shape[2:]:
        value[: shape[0]].reshape((shape[0], -1))[:, : math.prod(shape[1:])] = part.reshape((shape[0], -1))
    else:
        value[tuple(slice(0, length) for length in shape)] = part


def is_leading_rows(shape: Tuple[int, ...], full: Tuple[int, ...]) -> bool:
    """Whether the corner is contiguous, so that `value[:shape[0]]` is a view of it."""
    return shape[1:] == full[1:]
