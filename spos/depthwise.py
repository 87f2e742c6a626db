"""Depthwise convolution of small images for training on CPU: the same function, with a fast weight gradient.

In oneDNN 2.4.4, inside MXNet 1.9.1, the gradient of a depthwise weight leaves the fast kernels for one that is 10 to
50 times slower (`gemm:jit`) when the kernel is wider than 3 or larger than the image. On small images a channel's
convolution is a small matrix from its input pixels to its output pixels, and a batched matrix product has no such
gap. Differs from the plain operator by rounding only. Inference and graphs keep the plain operator.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from spos.compat import mx

MATRIX_MAX_SIZE = 8  # pixels; a matrix has size**4 entries a channel
FAST_KERNEL_SIZE = 3


class DepthwiseConv2D(mx.gluon.nn.Conv2D):
    """Depthwise convolution without bias, padded by half its kernel, that trains fast on CPU."""

    def hybrid_forward(self, F, x, weight):
        kernel_size, stride = self._kwargs["kernel"][0], self._kwargs["stride"][0]
        if F is mx.nd and trains_as_matrices(x, kernel_size):
            return convolve_as_matrices(x, weight, stride)
        return super().hybrid_forward(F, x, weight)


def trains_as_matrices(x, kernel_size: int) -> bool:
    """Whether a depthwise convolution of `x` (N, C, H, W) is recorded for training where matrices are faster."""
    size = x.shape[2]
    return (
        mx.autograd.is_recording()
        and size == x.shape[3] <= MATRIX_MAX_SIZE
        and (kernel_size > FAST_KERNEL_SIZE or kernel_size > size)
        and x.context.device_type == "cpu"
        and x.dtype == np.float32
    )


def convolve_as_matrices(x, weight, stride: int):
    """y[n, c] = x[n, c] @ matrix[c], with the pixels of an image in one row.

    Args:
        x: (N, C, size, size).    weight: (C, 1, kernel_size, kernel_size).
    Returns: (N, C, out_size, out_size), as a convolution padded by half its kernel gives.
    """
    channels, _, kernel_size, _ = weight.shape
    size = x.shape[2]
    out_size = (size - 1) // stride + 1
    matrix = mx.nd.dot(weight.reshape((channels, -1)), _joins(x.context, kernel_size, stride, size))
    matrix = matrix.reshape((channels, size**2, out_size**2))
    pixels = x.reshape((0, 0, -1)).swapaxes(0, 1)  # (C, N, H * W)
    y = mx.nd.batch_dot(pixels, matrix).swapaxes(0, 1)  # (N, C, out_h * out_w)
    return y.reshape((0, 0, out_size, out_size))


@lru_cache(maxsize=256)
def _joins(ctx: mx.Context, kernel_size: int, stride: int, size: int):
    """1 where a tap joins an input pixel to an output pixel: (taps, in_h * in_w * out_h * out_w)."""
    taps, inputs = np.arange(kernel_size)[:, None, None], np.arange(size)[None, :, None]
    outputs = np.arange((size - 1) // stride + 1)[None, None, :]
    axis = (inputs == outputs * stride + taps - kernel_size // 2).astype(np.float32)  # (taps, in, out)
    joins = np.einsum("aip,bjq->abijpq", axis, axis).reshape(kernel_size**2, -1)
    with mx.autograd.pause():
        return mx.nd.array(joins, ctx=ctx)
