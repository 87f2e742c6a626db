"""The leading corner of an array: what a narrower architecture uses of a supernet parameter."""

from __future__ import annotations

from typing import Tuple

from spos.compat import mx


def leading_corner(value, shape: Tuple[int, ...]):
    """Copy of `value[:shape[0], :shape[1], ...]`, differentiable; `value` itself if nothing is cut.

    Not `nd.slice`: a convolution run in inference leaves its weight in oneDNN's blocked layout, and slicing that
    fails ("dimensions are invalid") or kills the process (docs/mxnet.md). `slice_axis` restores the plain layout.
    """
    for axis, (length, full) in enumerate(zip(shape, value.shape)):
        if length != full:
            value = mx.nd.slice_axis(value, axis=axis, begin=0, end=length)
    return value


def is_leading_rows(shape: Tuple[int, ...], full: Tuple[int, ...]) -> bool:
    """Whether the corner is contiguous, so that `value[:shape[0]]` is a view of it."""
    return shape[1:] == full[1:]
