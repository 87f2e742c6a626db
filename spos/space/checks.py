"""Checks of search spaces: that choices mean one thing, and that the layers of every choice fit their place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Protocol, Sequence, Tuple, Union

from spos.core.errors import InputError
from spos.space.blocks import WIRINGS, BlockKind, BlockLayers, ChoiceBlockGeometry
from spos.space.layers import ACTIVATIONS, Conv, GlobalPool, LayerSpec, Specs, SqueezeExcite, conv_size
from spos.space.stages import Choices, Head, Stage

MOST_CHOICE_BLOCKS = 100  # in a file


class Described(Protocol):
    """What is checked of a `SearchSpace`."""

    @property
    def stages(self) -> Tuple[Stage, ...]: ...

    @property
    def stem_act(self) -> str: ...

    @property
    def own_head(self) -> Head: ...

    @property
    def num_choice_blocks(self) -> int: ...

    @property
    def choice_blocks(self) -> Tuple[ChoiceBlockGeometry, ...]: ...

    @property
    def choices(self) -> Tuple[Choices, ...]: ...

    def block_layers(self, index: int, block_choice: int, channel_choice: int, pad_to: int = 1) -> BlockLayers: ...


def check_space(space: Described) -> None:
    """Raise InputError if widths do not rise, or if a layer of some architecture cannot be."""
    if space.num_choice_blocks > MOST_CHOICE_BLOCKS:
        raise InputError(f"{space.num_choice_blocks} choice blocks; the most are {MOST_CHOICE_BLOCKS}")
    acts = (*(stage.act for stage in space.stages), space.stem_act, space.own_head.act)
    for act in filter(None, acts):
        if act not in ACTIVATIONS:
            raise InputError(f"no activation is called '{act}'; known: {', '.join(ACTIVATIONS)}")
    for block, choices in zip(space.choice_blocks, space.choices):
        where = f"stage {block.stage + 1}, choice block {block.index}"
        scales = choices.channel_scales
        if any(low >= high for low, high in zip(scales, scales[1:])):
            raise InputError(f"{where}: channel_scales must rise, not be {list(scales)}")
        for b, kind in enumerate(choices.blocks):
            try:
                for c in range(len(scales)):
                    check_layers(replace(block, scale=scales[c]), space.block_layers(block.index, b, c))
            except InputError as error:
                raise InputError(f"{where}: block '{kind.name}' {error}") from None
    for stage in range(len(space.stages)):
        places = [choices for block, choices in zip(space.choice_blocks, space.choices) if block.stage == stage]
        kinds_here = [kind for choices in places for kind in choices.blocks]
        if all(map(_does_nothing, kinds_here)):
            raise InputError(
                f"stage {stage + 1}: its only choice is '{kinds_here[0].name}', which computes nothing; add a block"
            )


def check_names(blocks: Sequence[BlockKind], stages: Sequence[Stage]) -> None:
    """Raise InputError if choices do not mean one thing."""
    for what in ("attribute", "name"):
        names = [getattr(kind, what) for kind in blocks]
        if len(set(names)) < len(names):
            raise InputError(f"two blocks have one {what}: {', '.join(names)}")
    for number, stage in enumerate(stages, 1):
        lists = [stage.block_choices, *(one.block_choices for one in stage.own_choices)]
        for chosen in lists:
            unknown = sorted(set(chosen) - {kind.name for kind in blocks})
            if unknown or len(set(chosen)) < len(chosen):
                raise InputError(
                    f"stage {number}: block_choices {', '.join(chosen)} must be different names of blocks; known: "
                    f"{', '.join(kind.name for kind in blocks)}"
                )
        positions = [one.position for one in stage.own_choices]
        if positions != sorted(set(positions)) or not all(0 <= one < stage.num_blocks for one in positions):
            raise InputError(
                f"stage {number}: choice_blocks {positions} must be different numbers from 0 to {stage.num_blocks - 1}"
            )


def _does_nothing(kind: BlockKind) -> bool:
    """Whether a kind passes its input on, where resolution and channels stay."""
    return not kind.describe(ChoiceBlockGeometry(0, 0, 8, 8, 1, False, False, "relu", 8)).main


def check_layers(block: ChoiceBlockGeometry, layers: BlockLayers) -> None:
    """Raise InputError unless the layers fit their place, and every part of the project can follow them."""
    if not isinstance(layers, BlockLayers):
        raise InputError(f"describes itself by {type(layers).__name__}, not by BlockLayers")
    if layers.wiring not in WIRINGS:
        raise InputError(f"has the wiring {layers.wiring!r}; known: {', '.join(WIRINGS)}")
    for name, branch in layers.branches:
        if not isinstance(branch, tuple):
            raise InputError(f"has a {name} of type {type(branch).__name__}; a tuple of layers is due")
    _check_act("the sum", layers.act)
    wiring, place = WIRINGS[layers.wiring], (block.in_channels, block.in_size)
    if layers.act and not wiring.adds:
        raise InputError(f"has the activation {layers.act} behind a sum, and its wiring {layers.wiring!r} has no sum")
    if not layers.main and (wiring.adds or wiring.splits):
        raise InputError(f"has no main branch, which its wiring {layers.wiring!r} needs; 'chain' may be empty")
    passing = block.in_channels
    if layers.shuffles:
        if block.in_channels % 2 or (block.stride, block.in_channels) != (1, block.out_channels):
            raise InputError(
                f"shuffles {block.in_channels} channels at stride {block.stride} into {block.out_channels}: it needs "
                "an even number, stride 1, and as many going out"
            )
        passing, place = block.in_channels // 2, (block.in_channels // 2, block.in_size)
    channels, size = _follow(layers.main, *place)
    beside = _follow(layers.projection, block.in_channels, block.in_size) if layers.projection else None
    joined = channels + (beside[0] if beside else passing) if wiring.splits else channels
    out_size = conv_size(block.in_size, block.stride)
    if (joined, size) != (block.out_channels, out_size):
        raise InputError(
            f"gives {joined} channels of {size} x {size} but {block.out_channels} of {out_size} x {out_size} are due"
        )
    if wiring.adds and (beside or (block.in_channels, block.in_size)) != (channels, size):
        raise InputError("adds branches of different shapes: a projection is missing, or has another size")
    if beside and beside[1] != size:
        raise InputError("has branches of different sizes")
    if layers.projection and not (wiring.adds or wiring.splits):
        raise InputError("is a chain, and yet has a projection")
    _check_middle(layers)


def _follow(specs: Specs, channels: int, size: int) -> Tuple[int, int]:
    """Channels and size behind a chain."""
    for position, spec in enumerate(specs):
        if isinstance(spec, Conv):
            if spec.in_channels != channels:
                raise InputError(f"layer {position} reads {spec.in_channels} channels, {channels} come in")
            if spec.kernel_size % 2 == 0 or spec.stride not in (1, 2) or min(spec.weight_shape) < 1:
                raise InputError(
                    f"layer {position} has kernel {spec.kernel_size}, stride {spec.stride} and {spec.out_channels} "
                    "channels; it needs an odd kernel, stride 1 or 2, and a channel at least"
                )
            if spec.bias and spec.bn:
                raise InputError(f"layer {position} has a bias, which its BatchNorm takes away; leave one of them out")
            _check_act(f"layer {position}", spec.act)
            channels, size = spec.out_channels, conv_size(size, spec.stride)
        elif isinstance(spec, SqueezeExcite):
            if spec.channels != channels:
                raise InputError(f"squeeze-and-excite of {spec.channels} channels, {channels} come in")
        else:
            raise InputError(f"layer {position} is {_name(spec)}; blocks are made of Conv and SqueezeExcite")
    return channels, size


def _check_act(where: str, act: Optional[str]) -> None:
    if act is not None and act not in ACTIVATIONS:
        raise InputError(f"{where} has the activation {act!r}; known: {', '.join(ACTIVATIONS)}")


def _name(spec: Union[LayerSpec, Any]) -> str:
    return "a global pooling" if isinstance(spec, GlobalPool) else type(spec).__name__


def _check_middle(layers: BlockLayers) -> None:
    """What the channel choice cuts must be cut alike by a mask behind BatchNorm and by slices of weights."""
    cut = False
    for position, spec in enumerate(layers.main):
        if isinstance(spec, SqueezeExcite):
            if cut and not spec.squeezed:
                raise InputError("squeeze-and-excite in the middle needs a width `squeezed` of its own")
            continue
        if not isinstance(spec, Conv):
            continue
        touches = cut or spec.selects
        if spec.selects and (not spec.bn or spec.out_channels != layers.middle):
            raise InputError(f"layer {position} is of the middle: it needs BatchNorm, and the same width as the others")
        if touches and spec.groups > 1 and not (spec.is_depthwise and cut == spec.selects):
            raise InputError(f"layer {position} has groups in the middle, and is not depthwise")
        cut = spec.selects
    if cut:
        raise InputError("its middle reaches the end of the main branch, whose width no channel choice may change")
