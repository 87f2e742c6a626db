"""Depthwise convolution for training on CPU: the same function, with a fast weight gradient.

In oneDNN 2.4.4, inside MXNet 1.9.1, the gradient of a depthwise weight leaves the fast kernels for one that is 10 to
50 times slower (`gemm:jit`) when the kernel is more than 3 columns wide, is larger than the image, or is padded by more
than 1 and by no multiple of the stride. Rows may be as many as they like. So the weight gradient is taken from
convolutions by three columns of the kernel at a time, each of images shifted to where these columns look. Their weights
are 0 and they are added to the plain convolution, which keeps its own gradient for the images. So the result and the
gradient of the images are those of the plain operator bit by bit; the gradient of the weight differs by rounding.
"""

from __future__ import annotations

from typing import List, Tuple

from spos.engine.compat import mx
from spos.engine.forms import FAST_KERNEL_SIZE


class DepthwiseConv2D(mx.gluon.nn.Conv2D):
    """Depthwise convolution without bias, padded by half its kernel.

    Args:
        map_size: height and width of its images.
    """

    def __init__(self, *args, map_size: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._map_size = map_size

    def hybrid_forward(self, F, x, weight):
        stride = self._kwargs["stride"][0]
        return convolve_by_columns(F, x, weight, self._channels, self._kwargs["kernel"][0], stride, self._map_size)


def convolve_by_columns(F, x, weight, channels: int, kernel_size: int, stride: int, size: int):
    """Depthwise convolution padded by half its kernel: that of the plain operator, with another weight gradient.

    Args:
        x: (N, channels, size, size).    weight: (channels, 1, kernel_size, kernel_size), kernel_size odd, above 1.
    Returns: (N, channels, out_size, out_size).
    """
    half = kernel_size // 2
    rows = added_rows(kernel_size, stride, size)
    plain = _convolve(F, x, F.BlockGrad(weight), (kernel_size,) * 2, channels, stride, (half, half))
    x, nothing = F.BlockGrad(x), weight - F.BlockGrad(weight)  # 0, but with the gradient of the weight
    terms = [plain]
    for centre, fresh in column_groups(kernel_size):
        first = half + centre - 1
        columns = F.slice_axis(nothing, axis=3, begin=fresh, end=first + FAST_KERNEL_SIZE)
        if fresh > first:  # an earlier group has given these their gradient
            known = F.slice_axis(nothing, axis=3, begin=first, end=fresh)
            columns = F.concat(F.BlockGrad(known), columns, dim=3)
        shifted = _shift(F, x, channels, rows, centre) if rows or centre else x
        pad = half - rows, 0 if centre else 1
        terms.append(_convolve(F, shifted, columns, (kernel_size, FAST_KERNEL_SIZE), channels, stride, pad))
    return F.add_n(*terms)


def added_rows(kernel_size: int, stride: int, size: int) -> int:
    """Fewest rows of zeros above and below the image with which the fast kernel takes the gradient."""
    half = kernel_size // 2
    for rows in range(half):
        pad = half - rows
        if (pad <= 1 or pad % stride == 0) and size + 2 * rows >= kernel_size + -pad % stride:
            return rows
    return half


def column_groups(kernel_size: int) -> List[Tuple[int, int]]:
    """Groups of three neighbouring columns that cover a kernel.

    Returns: (centre, counted from that of the kernel; the first column that no earlier group has) of each.
    """
    reach = kernel_size // 2 - 1
    number = -(-kernel_size // FAST_KERNEL_SIZE)
    centres = [(4 * reach * i + number - 1) // (2 * (number - 1)) - reach for i in range(number)] if number > 1 else [0]
    ends = [kernel_size // 2 + centre + 2 for centre in centres]
    return list(zip(centres, [0, *ends]))


def _shift(F, x, channels: int, rows: int, columns: int):
    """Images that begin so many columns further right, and have a column more on either side and rows of zeros added.

    By a convolution with a single 1, which is exact and stays in oneDNN's layout. Without `columns` none is added.
    """
    reach, height = abs(columns), 2 * rows + 1
    width, place = 2 * reach + 1, rows * (2 * reach + 1) + (2 * reach if columns > 0 else 0)
    ones, zeros = F.ones, F.zeros
    parts = [
        make((channels, 1, 1, length))
        for make, length in ((zeros, place), (ones, 1), (zeros, height * width - place - 1))
        if length
    ]
    kernel = F.reshape(F.concat(*parts, dim=3), shape=(channels, 1, height, width))
    return _convolve(F, x, kernel, (height, width), channels, 1, (2 * rows, reach + 1 if columns else 0))


def _convolve(F, x, weight, kernel: Tuple[int, int], channels: int, stride: int, pad: Tuple[int, int]):
    return F.Convolution(
        x,
        weight,
        kernel=kernel,
        stride=(stride, stride),
        pad=pad,
        num_filter=channels,
        num_group=channels,
        no_bias=True,
    )
