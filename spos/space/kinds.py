"""The kinds of blocks that come with the project, each described once."""

from __future__ import annotations

from typing import Optional, Tuple

from msgspec import Meta
from typing_extensions import Annotated, Literal

from spos.core.errors import InputError
from spos.space.blocks import BlockLayers, ChoiceBlockGeometry, register_block
from spos.space.layers import Conv, Specs, SqueezeExcite, depthwise, squeezed_channels

KernelSize = Literal[1, 3, 5, 7, 9, 11, 13, 15]
Expand = Annotated[float, Meta(gt=0, le=16)]


@register_block("shuffle")
def shuffle(block: ChoiceBlockGeometry, *, kernel_size: KernelSize = 3) -> BlockLayers:
    """ShuffleNetV2's block: pointwise, depthwise, pointwise (arXiv:1807.11164), with a middle of any width."""
    c_in, c_out = _main_channels(block)
    middle = block.width(block.out_channels // 2)
    main = (
        Conv(c_in, middle, act=block.act, selects=True),
        depthwise(middle, kernel_size, block.stride, selects=True),
        Conv(middle, c_out, act=block.act),
    )
    return _shuffled(block, main, kernel_size)


@register_block("xception")
def xception(block: ChoiceBlockGeometry, *, kernel_size: KernelSize = 3) -> BlockLayers:
    """The block of ShuffleNetV2 with three depthwise-pointwise pairs in its main branch (arXiv:1904.00420)."""
    c_in, c_out = _main_channels(block)
    middle = block.width(block.out_channels // 2)
    main = (
        depthwise(c_in, kernel_size, block.stride),
        Conv(c_in, middle, act=block.act, selects=True),
        depthwise(middle, kernel_size, 1, selects=True),
        Conv(middle, middle, act=block.act, selects=True),
        depthwise(middle, kernel_size, 1, selects=True),
        Conv(middle, c_out, act=block.act),
    )
    return _shuffled(block, main, kernel_size)


def _main_channels(block: ChoiceBlockGeometry) -> Tuple[int, int]:
    """(in, out) channels of the main branch.

    A block that projects reads its whole input and gives the channels that the projection does not; any other reads
    one half of its input and gives one half of its output.
    """
    if block.projects:
        if block.out_channels <= block.in_channels:
            raise InputError(
                f"needs more channels than the {block.in_channels} that come in where a stage begins, not "
                f"{block.out_channels}"
            )
        return block.in_channels, block.out_channels - block.in_channels
    if block.in_channels % 2:
        raise InputError(f"cannot shuffle the halves of an odd number of channels, {block.in_channels}")
    return block.in_channels // 2, block.out_channels // 2


def _shuffled(block: ChoiceBlockGeometry, main: Specs, kernel_size: int) -> BlockLayers:
    """With squeeze-and-excite where the stage has it, and a projection (depthwise, pointwise) where it begins."""
    if block.use_se:
        main += (SqueezeExcite(main[-1].out_channels),)  # type: ignore[union-attr]  # it ends with a convolution
    c_in = block.in_channels
    projection = depthwise(c_in, kernel_size, block.stride), Conv(c_in, c_in, act=block.act)
    return BlockLayers("shuffle", main, projection if block.projects else ())


@register_block("mbconv")
def mbconv(
    block: ChoiceBlockGeometry, *, kernel_size: KernelSize = 3, expand: Expand = 6.0, se: Optional[bool] = None
) -> BlockLayers:
    """The inverted bottleneck of MobileNetV2 (arXiv:1801.04381): pointwise, depthwise, pointwise without activation.

    Args:
        expand: middle width in multiples of the input's. At 1 there is no first convolution, and no width to choose.
        se: squeeze-and-excite in the middle, as in MobileNetV3 (arXiv:1905.02244); by default, if the stage has it.
            What it squeezes to follows from the middle at scale 1.
    """
    widened = int(block.in_channels * expand)
    cuts = expand != 1
    middle = block.width(widened) if cuts else block.in_channels
    main: Specs = (Conv(block.in_channels, middle, act=block.act, selects=True),) if cuts else ()
    main += (depthwise(middle, kernel_size, block.stride, act=block.act, selects=cuts),)
    if block.use_se if se is None else se:
        main += (SqueezeExcite(middle, squeezed=squeezed_channels(widened)),)
    main += (Conv(middle, block.out_channels),)
    return BlockLayers("residual" if block.keeps_shape else "chain", main)


@register_block("identity")
def identity(block: ChoiceBlockGeometry) -> BlockLayers:
    """Nothing, so that depth is a choice; pointwise convolution and BatchNorm where resolution or channels change."""
    if block.keeps_shape:
        return BlockLayers("chain")
    return BlockLayers("chain", (Conv(block.in_channels, block.out_channels, 1, block.stride),))


@register_block("basic")
def basic(block: ChoiceBlockGeometry, *, kernel_size: KernelSize = 3) -> BlockLayers:
    """ResNet's block of two convolutions (arXiv:1512.03385), with a middle of any width."""
    middle = block.width(block.out_channels)
    main: Specs = (
        Conv(block.in_channels, middle, kernel_size, block.stride, act=block.act, selects=True),
        Conv(middle, block.out_channels, kernel_size),
    )
    if block.use_se:
        main += (SqueezeExcite(block.out_channels),)
    projection = () if block.keeps_shape else (Conv(block.in_channels, block.out_channels, 1, block.stride),)
    return BlockLayers("residual", main, projection, act=block.act)
