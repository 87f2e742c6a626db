"""Layers as data: what a block, a stem or a head consists of, and how sizes change along a chain of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator, Optional, Tuple, Union

SE_RATIO = 4
SE_MULTIPLE = 8  # squeeze widths are rounded up to this
SMALL_INIT_STD = 0.01  # stem, head and SE; other convolutions use 1 / weight.shape[1]
ACTIVATIONS = ("relu", "relu6", "hard_swish")  # all of them give 0 for 0, so a silenced channel stays silent


def round_up(value: int, multiple: int) -> int:
    """Smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def conv_size(size: int, stride: int) -> int:
    """Output height or width of a convolution that pads by half its (odd) kernel."""
    return -(-size // stride)


def stride_plan(input_size: int) -> Tuple[int, int, int, int, int]:
    """Strides of stem and four stages that leave a 4x4 to 7x7 map for 32, 64 and 224 pixels."""
    if input_size < 48:
        return (1, 1, 2, 2, 2)
    if input_size < 112:
        return (2, 1, 2, 2, 2)
    return (2, 2, 2, 2, 2)


@dataclass(frozen=True)
class Form:
    """Other operators for the same function, where the size of the maps is known (`spos.engine.forms`).

    Args:
        on_pixel: pointwise convolutions of single pixels run as products of matrices.
        map_size: of the input, for what then trains fast: a depthwise convolution, or squeeze-and-excite.
        shifted: BatchNorm adds 3 to what it gives to a hard-swish, which trains fast then.
    """

    on_pixel: bool = False
    map_size: Optional[int] = None
    shifted: bool = False


@dataclass(frozen=True)
class Conv:
    """Convolution padded by half its kernel, then BatchNorm if `bn`, then activation if `act`."""

    in_channels: int
    out_channels: int
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1
    bn: bool = True
    bias: bool = False
    act: Optional[str] = None  # one of ACTIVATIONS
    selects: bool = False  # its output is the middle width, the one that the channel choice cuts
    init_std: Optional[float] = None
    form: Optional[Form] = None  # of execution, if not the usual one

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.in_channels == self.out_channels and self.groups > 1 and not self.bias

    @property
    def weight_shape(self) -> Tuple[int, int, int, int]:
        return (self.out_channels, self.in_channels // self.groups, self.kernel_size, self.kernel_size)


def squeezed_channels(channels: int) -> int:
    """Width between the two convolutions of squeeze-and-excite on so many channels."""
    return round_up(channels // SE_RATIO, SE_MULTIPLE)


@dataclass(frozen=True)
class SqueezeExcite:
    """Global pooling, two 1x1 convolutions, hard sigmoid, multiplied onto the input (arXiv:1709.01507).

    Args:
        squeezed: channels between the two convolutions; by default `squeezed_channels(channels)`. Where the channel
            choice cuts `channels`, this must not depend on it: a masked width would have other gates than a cut one.
    """

    channels: int
    form: Optional[Form] = None  # as in `Conv`; for its convolutions too
    squeezed: Optional[int] = None

    @property
    def convs(self) -> Tuple[Conv, Conv]:
        squeezed = self.squeezed or squeezed_channels(self.channels)
        squeeze = Conv(self.channels, squeezed, bn=False, bias=True, act="relu", init_std=SMALL_INIT_STD)
        excite = Conv(squeezed, self.channels, bn=False, bias=True, init_std=SMALL_INIT_STD)
        form = Form(on_pixel=True) if self.form and self.form.on_pixel else None
        return replace(squeeze, form=form), replace(excite, form=form)

    @property
    def gate(self) -> Specs:
        """Everything in front of the hard sigmoid, as a chain."""
        return (GlobalPool(self.channels), *self.convs)


@dataclass(frozen=True)
class GlobalPool:
    """Average over height and width."""

    channels: int


@dataclass(frozen=True)
class Dropout:
    rate: float


LayerSpec = Union[Conv, SqueezeExcite, GlobalPool, Dropout]
Specs = Tuple[LayerSpec, ...]


def out_size(spec: LayerSpec, in_size: int) -> int:
    """Height and width behind a layer that is fed with `in_size` x `in_size` maps."""
    if isinstance(spec, Conv):
        return conv_size(in_size, spec.stride)
    return 1 if isinstance(spec, GlobalPool) else in_size


def with_sizes(specs: Specs, in_size: int) -> Iterator[Tuple[LayerSpec, int, int]]:
    """(layer, height and width of its input, of its output) along a chain."""
    for spec in specs:
        size = out_size(spec, in_size)
        yield spec, in_size, size
        in_size = size


def depthwise(channels: int, kernel_size: int, stride: int, act: Optional[str] = None, selects: bool = False) -> Conv:
    """Depthwise convolution with BatchNorm."""
    return Conv(channels, channels, kernel_size, stride, groups=channels, act=act, selects=selects)


def fold_batch_norm(specs: Specs) -> Specs:
    """The chain with a bias in place of each BatchNorm."""
    return tuple(replace(spec, bn=False, bias=True) if isinstance(spec, Conv) and spec.bn else spec for spec in specs)


def with_bn(specs: Specs, bn: bool) -> Specs:
    """The chain as it is, or folded if it shall have no BatchNorm."""
    return specs if bn else fold_batch_norm(specs)
