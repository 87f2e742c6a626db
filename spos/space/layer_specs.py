"""The layers of every branch, stem and head, described once as data.

`oneshot_nas_blocks.build` turns a description into Gluon layers and `spos.space.cost.count` into multiply-adds and
parameters, so network and count cannot disagree. A description for a chosen width is also the rule for slicing:
the selected part of a supernet parameter is its leading corner with the described shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Iterator, Optional, Tuple, Union

from spos.space.space import Architecture, BlockKind, ChoiceBlockGeometry, SearchSpace, conv_size, round_up

SE_RATIO = 4
SE_MULTIPLE = 8  # squeeze widths are rounded up to this
HEAD_CHANNELS = 1024
SE_HEAD_CHANNELS = 768  # before the pooling of the ShuffleNetV2+ head
SMALL_INIT_STD = 0.01  # stem, head and SE; other convolutions use 1 / weight.shape[1]


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
    act: Optional[str] = None  # "relu" or "hard_swish"
    selects: bool = False  # its output is the middle width, the one that the channel choice cuts
    init_std: Optional[float] = None
    form: Optional[Form] = None  # of execution, if not the usual one

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.in_channels == self.out_channels and self.groups > 1 and not self.bias

    @property
    def weight_shape(self) -> Tuple[int, int, int, int]:
        return (self.out_channels, self.in_channels // self.groups, self.kernel_size, self.kernel_size)


@dataclass(frozen=True)
class SqueezeExcite:
    """Global pooling, two 1x1 convolutions, hard sigmoid, multiplied onto the input (arXiv:1709.01507)."""

    channels: int
    form: Optional[Form] = None  # as in `Conv`; for its convolutions too

    @property
    def convs(self) -> Tuple[Conv, Conv]:
        squeezed = round_up(self.channels // SE_RATIO, SE_MULTIPLE)
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


def depthwise(channels: int, kernel_size: int, stride: int, selects: bool = False) -> Conv:
    """Depthwise convolution with BatchNorm and no activation, as everywhere in this space."""
    return Conv(channels, channels, kernel_size, stride, groups=channels, selects=selects)


def shuffle_branch(c_in: int, c_mid: int, c_out: int, kernel_size: int, stride: int, act: str) -> Specs:
    """Main branch of a ShuffleNetV2 choice block: pointwise, depthwise, pointwise."""
    return (
        Conv(c_in, c_mid, act=act, selects=True),
        depthwise(c_mid, kernel_size, stride, selects=True),
        Conv(c_mid, c_out, act=act),
    )


def xception_branch(c_in: int, c_mid: int, c_out: int, kernel_size: int, stride: int, act: str) -> Specs:
    """Main branch of a ShuffleNetV2-Xception choice block: three depthwise-pointwise pairs."""
    return (
        depthwise(c_in, kernel_size, stride),
        Conv(c_in, c_mid, act=act, selects=True),
        depthwise(c_mid, kernel_size, 1, selects=True),
        Conv(c_mid, c_mid, act=act, selects=True),
        depthwise(c_mid, kernel_size, 1, selects=True),
        Conv(c_mid, c_out, act=act),
    )


BRANCH_FAMILIES = {"shuffle": shuffle_branch, "xception": xception_branch}


def main_branch(block: ChoiceBlockGeometry, kind: BlockKind, mid_channels: int) -> Specs:
    """Main branch of a choice block at a middle width, squeeze-and-excite included where the stage has it.

    A block that projects reads its whole input and gives the channels that the projection does not; any other
    reads one half of its input and gives one half of its output.
    """
    c_in, c_out = main_branch_channels(block)
    specs = BRANCH_FAMILIES[kind.family](c_in, mid_channels, c_out, kind.kernel_size, block.stride, block.act)
    return specs + ((SqueezeExcite(c_out),) if block.use_se else ())


def main_branch_channels(block: ChoiceBlockGeometry) -> Tuple[int, int]:
    """(in, out) channels of the main branch."""
    if block.projects:
        return block.in_channels, block.out_channels - block.in_channels
    return block.in_channels // 2, block.out_channels // 2


def projection_branch(block: ChoiceBlockGeometry, kind: BlockKind) -> Specs:
    """The other branch of a block that projects: depthwise, pointwise. Empty for a block that shuffles."""
    if not block.projects:
        return ()
    channels = block.in_channels
    return depthwise(channels, kind.kernel_size, block.stride), Conv(channels, channels, act=block.act)


def stem(space: SearchSpace) -> Tuple[Conv]:
    """3x3 convolution on RGB."""
    return (Conv(3, space.stem_channels, 3, space.strides[0], act=space.act, init_std=SMALL_INIT_STD),)


def head(space: SearchSpace) -> Specs:
    """From the last stage to the feature vector: MobileNetV3, ShuffleNetV2+ or plain, then dropout."""
    c_in, act, std = space.out_channels, space.act, SMALL_INIT_STD
    if space.last_conv_after_pooling:
        specs: Specs = (
            GlobalPool(c_in),
            Conv(c_in, HEAD_CHANNELS, bn=False, bias=True, act=act, init_std=std),
        )
    elif space.use_se:
        specs = (
            Conv(c_in, SE_HEAD_CHANNELS, act=act, init_std=std),
            GlobalPool(SE_HEAD_CHANNELS),
            SqueezeExcite(SE_HEAD_CHANNELS),
            Conv(SE_HEAD_CHANNELS, HEAD_CHANNELS, bn=False, bias=True, act=act, init_std=std),
        )
    else:
        specs = (Conv(c_in, HEAD_CHANNELS, act=act, init_std=std), GlobalPool(HEAD_CHANNELS))
    return specs + (Dropout(0.2 if space.use_se else 0.1),)


def classifier(space: SearchSpace) -> Tuple[Conv]:
    """1x1 convolution from the feature vector to the classes."""
    return (Conv(HEAD_CHANNELS, space.num_classes, bn=False, bias=True, init_std=SMALL_INIT_STD),)


@lru_cache(maxsize=None)
def choice_block(space: SearchSpace, index: int, block_choice: int, channel_choice: int) -> Tuple[Specs, Specs]:
    """(main, projection) branches of choice block `index` under a block and a channel choice."""
    block, kind = space.choice_blocks[index], space.blocks[block_choice]
    return main_branch(block, kind, space.mid_channels(index, channel_choice)), projection_branch(block, kind)


def fold_batch_norm(specs: Specs) -> Specs:
    """The chain with a bias in place of each BatchNorm."""
    return tuple(replace(spec, bn=False, bias=True) if isinstance(spec, Conv) and spec.bn else spec for spec in specs)


def with_bn(specs: Specs, bn: bool) -> Specs:
    """The chain as it is, or folded if it shall have no BatchNorm."""
    return specs if bn else fold_batch_norm(specs)


def subnet(space: SearchSpace, architecture: Architecture) -> Specs:
    """All layers of a subnet in one flat tuple: for counting, where the wiring does not matter."""
    blocks = (
        main + projection
        for i, (b, c) in enumerate(zip(architecture.block_choices, architecture.channel_choices))
        for main, projection in (choice_block(space, i, b, c),)
    )
    return stem(space) + sum(blocks, ()) + head(space) + classifier(space)
