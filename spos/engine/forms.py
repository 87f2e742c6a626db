"""Other descriptions of the same function, which oneDNN runs faster: for known map sizes, and for training on a CPU.

A description says which layers there are; a form of it says which operators run them. `build` makes layers of either.
What is wanted of a form: the same parameters (a corner of them at least), and results that differ by rounding only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import List

from spos.space.layers import Conv, Form, LayerSpec, Specs, SqueezeExcite, with_sizes

FAST_KERNEL_SIZE = 3  # columns of a depthwise kernel whose weight gradient oneDNN computes fast
CHANNELS_OF_KERNELS = 8  # its kernels, and those of ONNX Runtime, work on so many at once where the CPU has AVX2
EXECUTIONS = ("slice", "mask")  # of a narrower width, in a supernet
CHANNELS_OF_LAYOUTS = 16  # its layouts keep so many together where the CPU has AVX-512; 8 elsewhere


def as_described(specs: Specs, size: int) -> Specs:
    """The layers themselves, for maps of any size."""
    return specs


def fit_to_size(specs: Specs, size: int) -> Specs:
    """The same function on `size` x `size` maps: kernels without the taps that only ever meet padding, and pointwise
    convolutions of single pixels as products of matrices."""
    result: List[LayerSpec] = []
    for spec, in_size, _ in with_sizes(specs, size):
        if isinstance(spec, Conv):
            kernel_size = min(spec.kernel_size, 2 * in_size - 1)
            on_pixel = in_size == kernel_size == spec.groups == 1
            spec = replace(spec, kernel_size=kernel_size, form=Form(on_pixel=True) if on_pixel else None)
        elif isinstance(spec, SqueezeExcite):
            spec = replace(spec, form=Form(on_pixel=True))
        result.append(spec)
    return tuple(result)


def fit_to_training(specs: Specs, size: int) -> Specs:
    """The same function on `size` x `size` maps, with gradients that a CPU computes fast.

    - Wide depthwise kernels get the weight gradient of `spos.engine.depthwise`.
    - Hard-swish behind BatchNorm leaves its shift to that, and what remains has a cheap gradient.
    - Squeeze-and-excite spreads its gate by a product of matrices: the gradient of a broadcast is a slow reduction.
    """
    result: List[LayerSpec] = []
    for spec, in_size, _ in with_sizes(fit_to_size(specs, size), size):
        if isinstance(spec, Conv):
            too_wide = spec.kernel_size > min(FAST_KERNEL_SIZE, in_size)
            by_columns = spec.is_depthwise and too_wide and spec.out_channels % CHANNELS_OF_KERNELS == 0
            shifted = spec.act == "hard_swish" and spec.bn
            if by_columns or shifted:
                form = replace(spec.form or Form(), map_size=in_size if by_columns else None, shifted=shifted)
                spec = replace(spec, form=form)
        elif isinstance(spec, SqueezeExcite):
            spec = replace(spec, form=replace(spec.form or Form(), map_size=in_size))
        result.append(spec)
    return tuple(result)
