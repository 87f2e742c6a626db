"""Other descriptions of the same function, which oneDNN runs faster: for known map sizes, and for training on a CPU.

A description says which layers there are; a form of it says which operators run them. `build` makes layers of either.
What is wanted of a form: the same parameters (a corner of them at least), and results that differ by rounding only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import List

from spos.space.layer_specs import Conv, GlobalPool, LayerSpec, Specs, SqueezeExcite
from spos.space.space import conv_size

FAST_KERNEL_SIZE = 3  # columns of a depthwise kernel whose weight gradient oneDNN computes fast
CHANNELS_OF_KERNELS = 8  # its depthwise kernels work on so many channels at once


def fit_to_size(specs: Specs, size: int) -> Specs:
    """The same function on `size` x `size` maps: kernels without the taps that only ever meet padding, and pointwise
    convolutions of single pixels as products of matrices."""
    result: List[LayerSpec] = []
    for spec in specs:
        if isinstance(spec, Conv):
            kernel_size = min(spec.kernel_size, 2 * size - 1)
            on_pixel = size == kernel_size == spec.groups == 1
            spec, size = replace(spec, kernel_size=kernel_size, on_pixel=on_pixel), conv_size(size, spec.stride)
        elif isinstance(spec, SqueezeExcite):
            spec = replace(spec, on_pixel=True)
        elif isinstance(spec, GlobalPool):
            size = 1
        result.append(spec)
    return tuple(result)


def fit_to_training(specs: Specs, size: int) -> Specs:
    """The same function on `size` x `size` maps, with gradients that a CPU computes fast.

    - Wide depthwise kernels get the weight gradient of `spos.engine.depthwise`.
    - Hard-swish behind BatchNorm leaves its shift to that, and what remains has a cheap gradient.
    - Squeeze-and-excite spreads its gate by a product of matrices: the gradient of a broadcast is a slow reduction.
    """
    result: List[LayerSpec] = []
    for spec in fit_to_size(specs, size):
        if isinstance(spec, Conv):
            too_wide = spec.kernel_size > min(FAST_KERNEL_SIZE, size)
            by_columns = spec.is_depthwise and too_wide and spec.out_channels % CHANNELS_OF_KERNELS == 0
            act = "shifted_hard_swish" if spec.act == "hard_swish" and spec.bn else spec.act
            spec = replace(spec, map_size=size if by_columns else None, act=act)
            size = conv_size(size, spec.stride)
        elif isinstance(spec, SqueezeExcite):
            spec = replace(spec, map_size=size)
        elif isinstance(spec, GlobalPool):
            size = 1
        result.append(spec)
    return tuple(result)
