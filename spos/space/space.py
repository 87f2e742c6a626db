"""The search space: every fact about its stages, blocks, widths and strides, and the architectures in it.

Network, sampler, counter, searcher and latency table ask a `SearchSpace`; nothing else knows these numbers. Spaces are
written as files (`spos.space.space_file`); blocks are kinds of a registry (`spos.space.blocks`).
Method: Single Path One-Shot (arXiv:1904.00420), with channel choices, squeeze-and-excite and efficient heads.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.runs.files import check_shape, shortened
from spos.space import kinds  # noqa: F401  registers the project's kinds
from spos.space.architecture import Architecture
from spos.space.blocks import BlockKind, BlockLayers, ChoiceBlockGeometry, any_own
from spos.space.checks import check_names, check_space
from spos.space.layers import conv_size
from spos.space.schema import SpaceShape
from spos.space.stages import (
    LAST_CONV_HEAD,
    PLAIN_HEAD,
    SE_HEAD,
    Choices,
    Head,
    OwnChoices,
    Stage,
    frozen,
    later,
    plain,
    read_stage,
)

STABLE_CHANNEL_CHOICE = 2  # scale 0.6: below it a supernet without SE does not converge (--ignore-first-two-cs)


# Fields that decide which layers an architecture means. The others say what data it runs on, or how to sample it.
_STRUCTURE = (
    "stages",
    "stem_channels",
    "blocks",
    "channel_scales",
    "width_multiple",
    "use_se",
    "last_conv_after_pooling",
    "stem_act",
    "head",
)


@dataclass(frozen=True)
class SearchSpace:
    """A supernet's shape and everything derived from it. Make one with `search_space()` or `load_space()`.

    Choice blocks may differ in how many choices they have. Where a single number stands for all, as in the warm-up of
    widths, channel choices are counted from the widest: choice `lowest` of the space's most widths leaves each block
    as many of its widest as it leaves those that have the most.

    Args:
        warm_up_durations: epochs at the second widest scale, the third widest, ...
        channel_scales: of stages that have none of their own.
        width_multiple: middle widths are rounded up to this; 1 keeps the published truncation.
        min_channel_choice: the narrowest scale that is sampled and searched.
        strides: of the stem, then one for each stage.
        stem_act: activation of the stem; by default as `use_se` has it.
        head: by default the published one that `use_se` and `last_conv_after_pooling` choose.
        fixed_strides: the stride plan does not follow the size of the images.
        count_additions: multiply-adds include additions of biases and poolings, as in the published 328M.
        input_sizes: rising, where the input size is a choice; `input_size` is the largest then, at which images are
            loaded. Strides are the same at every size.
    """

    layout: str
    stages: Tuple[Stage, ...]
    warm_up_durations: Tuple[int, ...]
    blocks: Tuple[BlockKind, ...]
    channel_scales: Tuple[float, ...]
    stem_channels: int = 16
    width_multiple: int = 1
    use_se: bool = False
    last_conv_after_pooling: bool = False
    min_channel_choice: int = 0
    strides: Tuple[int, ...] = (2, 2, 2, 2, 2)
    input_size: int = 224
    num_classes: int = 1000
    stem_act: str = later("")
    head: Optional[Head] = later(None)
    fixed_strides: bool = later(False)
    count_additions: bool = later(True)
    input_sizes: Tuple[int, ...] = later(())

    def __post_init__(self) -> None:
        check_names(self.blocks, self.stages)
        if len(self.strides) != len(self.stages) + 1 or any(s not in (1, 2) for s in self.strides):
            raise InputError(
                f"stride plan {self.strides} needs {len(self.stages) + 1} entries of 1 or 2: stem, then each stage"
            )
        if not 0 <= self.min_channel_choice < self.num_channel_choices:
            raise InputError(
                f"smallest channel choice {self.min_channel_choice} is not in 0..{self.num_channel_choices - 1}"
            )
        for name in ("width_multiple", "input_size", "num_classes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        self._check_input_sizes()

    def _check_input_sizes(self) -> None:
        sizes = self.input_sizes
        if not sizes:
            return
        if len(sizes) < 2 or sizes[0] < 1 or any(low >= high for low, high in zip(sizes, sizes[1:])):
            raise InputError(f"input_sizes must be two or more rising sizes, not {list(sizes)}")
        if self.input_size != sizes[-1]:
            raise InputError(f"input_size must be {sizes[-1]}, the largest of input_sizes, not {self.input_size}")

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Spaces are the key of every cache, so theirs is computed once."""
        return hash(tuple(getattr(self, item.name) for item in fields(self)))

    @cached_property
    def choice_blocks(self) -> Tuple[ChoiceBlockGeometry, ...]:
        """Geometry of every choice block, in network order."""
        result: List[ChoiceBlockGeometry] = []
        in_channels, size = self.stem_channels, conv_size(self.input_size, self.strides[0])
        for stage_index, stage in enumerate(self.stages):
            for i in range(stage.num_blocks):
                stride = self.strides[stage_index + 1] if i == 0 else 1
                result.append(
                    ChoiceBlockGeometry(
                        index=len(result),
                        stage=stage_index,
                        in_channels=in_channels,
                        out_channels=stage.out_channels,
                        stride=stride,
                        projects=i == 0,
                        use_se=self.use_se and stage.se,
                        act=stage.act or ("hard_swish" if self.use_se and stage.hard_swish else "relu"),
                        in_size=size,
                        width_multiple=self.width_multiple,
                    )
                )
                in_channels, size = stage.out_channels, conv_size(size, stride)
        return tuple(result)

    @cached_property
    def choices(self) -> Tuple[Choices, ...]:
        """The choices of every choice block, in network order."""
        by_name = {kind.name: kind for kind in self.blocks}
        result = []
        for stage in self.stages:
            own = {one.position: one for one in stage.own_choices}
            for position in range(stage.num_blocks):
                one = own.get(position, OwnChoices(position))
                names = one.block_choices or stage.block_choices
                kinds_here = tuple(by_name[name] for name in names) if names else self.blocks
                scales = one.channel_scales or stage.channel_scales or self.channel_scales
                result.append(Choices(kinds_here, scales))
        return tuple(result)

    def at(self, input_size: Optional[int]) -> SearchSpace:
        """The space of one input size: one of `input_sizes`, by default the largest; itself if there is no choice.

        Layers are the same at every size; sizes of maps are not. Strides stay as they are.

        Raises: InputError if it is no size of the space.
        """
        if not self.input_sizes and input_size in (None, self.input_size):
            return self
        return _at(self, input_size or self.input_size)

    def block_layers(self, index: int, block_choice: int, channel_choice: int, pad_to: int = 1) -> BlockLayers:
        """The layers of choice block `index` under a block and a channel choice, its middle padded to a multiple."""
        return _block_layers(self, index, block_choice, channel_choice, pad_to)

    @property
    def num_choice_blocks(self) -> int:
        return sum(stage.num_blocks for stage in self.stages)

    @cached_property
    def num_block_choices(self) -> int:
        """Of the choice block that has the most."""
        return max(self._counts[0])

    @cached_property
    def num_channel_choices(self) -> int:
        """Of the choice block that has the most."""
        return max(self._counts[1])

    @property
    def max_channel_choice(self) -> int:
        return self.num_channel_choices - 1

    @property
    def searchable_channel_choices(self) -> range:
        """The channel choices that are sampled and searched, of a choice block that has the most."""
        return range(self.min_channel_choice, self.num_channel_choices)

    def channel_choices(self, index: int, lowest: Optional[int] = None) -> range:
        """The channel choices of a choice block, where the space's lowest is `lowest`; by default its own."""
        count = len(self.choices[index].channel_scales)
        lowest = self.min_channel_choice if lowest is None else lowest
        return range(max(0, lowest - (self.num_channel_choices - count)), count)

    def pairs(self, index: int, lowest: Optional[int] = None) -> List[Tuple[int, int]]:
        """The (block choice, channel choice) pairs of a choice block, in this order.

        A block without a middle has one width: it counts as the widest.
        """
        widths = self.channel_choices(index, lowest)
        blocks = range(len(self.choices[index].blocks))
        return list(dict.fromkeys(self.canonical_pair(index, b, c) for b in blocks for c in widths))

    def has_middle(self, index: int, block_choice: int) -> bool:
        """Whether this choice has a width to choose."""
        return self.block_layers(index, block_choice, 0).middle > 0

    @cached_property
    def _widthless(self) -> Tuple[Tuple[bool, ...], ...]:
        return tuple(
            tuple(not self.has_middle(i, b) for b in range(len(choices.blocks)))
            for i, choices in enumerate(self.choices)
        )

    @cached_property
    def _has_widthless(self) -> bool:
        return any(map(any, self._widthless))

    @cached_property
    def _counts(self) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
        """Numbers of block choices and of channel choices, by choice block."""
        return tuple(len(one.blocks) for one in self.choices), tuple(len(one.channel_scales) for one in self.choices)

    @cached_property
    def _count_arrays(self) -> Tuple[np.ndarray, np.ndarray]:
        blocks, channels = self._counts
        return np.array(blocks), np.array(channels)

    def canonical(self, architecture: Architecture) -> Architecture:
        """The architecture of the same layers whose blocks without a middle have the widest channel choice.

        It has an input size, by default the largest, exactly if that is a choice.
        """
        size = (architecture.input_size or self.input_size) if self.input_sizes else None
        if not self._has_widthless:
            return architecture if size == architecture.input_size else replace(architecture, input_size=size)
        choices = zip(architecture.block_choices, architecture.channel_choices)
        blocks, channels = zip(*(self.canonical_pair(index, b, c) for index, (b, c) in enumerate(choices)))
        return Architecture(blocks, channels, size)

    def canonical_pair(self, index: int, block_choice: int, channel_choice: int) -> Tuple[int, int]:
        """The choices of a choice block in that form."""
        if self._widthless[index][block_choice]:
            return block_choice, len(self.choices[index].channel_scales) - 1
        return block_choice, channel_choice

    @property
    def out_channels(self) -> int:
        """Channels that enter the head."""
        return self.stages[-1].out_channels

    @cached_property
    def out_size(self) -> int:
        """Height and width of the map that enters the head."""
        last = self.choice_blocks[-1]
        return conv_size(last.in_size, last.stride)

    @cached_property
    def num_architectures(self) -> int:
        """Number of architectures that sampling and search can reach."""
        num_paths = prod(len(self.pairs(index)) for index in range(self.num_choice_blocks))
        return num_paths * max(1, len(self.input_sizes))

    @property
    def act(self) -> str:
        """Activation of the stem."""
        return self.stem_act or ("hard_swish" if self.use_se else "relu")

    @property
    def own_head(self) -> Head:
        """The head, if need be the published one."""
        if self.head is not None:
            return self.head
        act, dropout = ("hard_swish", 0.2) if self.use_se else ("relu", 0.1)
        head = LAST_CONV_HEAD if self.last_conv_after_pooling else SE_HEAD if self.use_se else PLAIN_HEAD
        return replace(head, act=act, dropout=dropout)

    def mid_channels(self, index: int, channel_choice: int, block_choice: int = 0) -> int:
        """Width of the middle of choice block `index`'s main branch; 0 if the block choice has none."""
        return self.block_layers(index, block_choice, channel_choice).middle

    def validate(self, architecture: Architecture, source: str = "") -> Architecture:
        """The canonical form of an architecture of this space; else raise InputError naming what is wrong and where."""
        where = f" ({source})" if source else ""
        block_counts, channel_counts = self._counts
        for what, own, counts in (
            ("block", architecture.block_choices, block_counts),
            ("channel", architecture.channel_choices, channel_counts),
        ):
            if len(own) != len(counts):
                raise InputError(
                    f"architecture has {len(own)} {what} choices, space '{self.layout}' has "
                    f"{self.num_choice_blocks} choice blocks{where}. Was it searched in another space?"
                )
            for i, (choice, count) in enumerate(zip(own, counts)):
                if not 0 <= choice < count:
                    raise InputError(f"{what} choice {choice} of choice block {i} is not in 0..{count - 1}{where}")
        size, sizes = architecture.input_size, self.input_sizes or (self.input_size,)
        if size is not None and size not in sizes:
            raise InputError(
                f"input size {size} is not one of space '{self.layout}', {', '.join(map(str, sizes))}{where}"
            )
        return self.canonical(architecture)

    def sample(self, rng: np.random.Generator, lowest_channel_choice: Optional[int] = None) -> Architecture:
        """Draw block and channel choices, and the input size if it is a choice, independently and uniformly.

        Args:
            lowest_channel_choice: narrowest scale allowed just now (channel warm-up); the space's own by default.
        """
        drawn = self._draw(rng, lowest_channel_choice)
        if self.input_sizes:
            drawn = replace(drawn, input_size=self.sample_input_size(rng))
        return self.canonical(drawn)

    def sample_input_size(self, rng: np.random.Generator) -> Optional[int]:
        """One of `input_sizes`, uniformly; None, and nothing is drawn, if there is no choice."""
        return self.input_sizes[rng.integers(len(self.input_sizes))] if self.input_sizes else None

    def sample_widths(self, rng: np.random.Generator, lowest_channel_choice: Optional[int] = None) -> Tuple[int, ...]:
        """Uniform channel choices for whatever blocks; those of `sample` lean to the widest where blocks have none."""
        return self._draw(rng, lowest_channel_choice).channel_choices

    def _draw(self, rng: np.random.Generator, lowest_channel_choice: Optional[int]) -> Architecture:
        """Uniform block and channel choices, not in canonical form."""
        lowest = self.min_channel_choice if lowest_channel_choice is None else lowest_channel_choice
        block_counts, channel_counts = self._count_arrays
        blocks = rng.integers(0, block_counts)
        channels = rng.integers(_lowest_array(self, lowest), channel_counts)
        return Architecture(tuple(blocks.tolist()), tuple(channels.tolist()))

    def widest(self, block_choices: Sequence[int]) -> Architecture:
        """The architecture with these blocks and every width at its maximum."""
        return self.at_level(block_choices, self.max_channel_choice)

    def at_level(self, block_choices: Sequence[int], lowest: int, input_size: Optional[int] = None) -> Architecture:
        """The architecture with these blocks and the narrowest widths where the space's lowest is `lowest`."""
        return self.canonical(Architecture(tuple(block_choices), _lowest_channel_choices(self, lowest), input_size))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that are equal exactly when architectures mean the same layers.

        Input size, stride plan and number of classes are left out: a searched architecture may be trained on
        other data. A checkpoint is compared by the whole space instead.
        """
        own = self.to_json()
        structure = {name: own[name] for name in _STRUCTURE if name in own}
        if any_own(self.blocks):  # by what they are, which no name says
            structure["layers"] = repr(
                [list(layers) for layers in map(self._all_layers, range(self.num_choice_blocks))]
            )
        return hashlib.sha256(json.dumps(structure, sort_keys=True).encode()).hexdigest()[:16]

    def _all_layers(self, index: int) -> Iterator[BlockLayers]:
        return (self.block_layers(index, b, c) for b, c in self.pairs(index, 0))

    def structural_differences(self, other: SearchSpace) -> List[str]:
        """Fields by which the two describe other layers; none exactly when the fingerprints are equal."""
        return [name for name in _STRUCTURE if getattr(self, name) != getattr(other, name)]

    def to_json(self) -> Dict[str, Any]:
        """Plain lists, dicts and numbers; `from_json` gives an equal space back."""
        return plain(self)

    @classmethod
    def from_json(cls, values: Any, source: str = "") -> SearchSpace:
        """Raises InputError if a field is missing, unknown or malformed."""
        where = f" ({source})" if source else ""
        every, needed = ({f.name for f in fields(cls) if everything or not f.metadata} for everything in (True, False))
        if not isinstance(values, Mapping) or not needed <= set(values) <= every:
            wrong = (
                sorted(map(str, (needed - set(values)) | (set(values) - every)))
                if isinstance(values, Mapping)
                else values
            )
            raise InputError(
                f"search space is not described by the expected fields{where}; differing: {shortened(wrong)}"
            )
        check_shape(values, f"search space is malformed{where}", SpaceShape)
        own = frozen(values)
        try:
            own["stages"] = tuple(read_stage(stage) for stage in values["stages"])
            own["blocks"] = tuple(BlockKind.from_json(kind) for kind in values["blocks"])
            if values.get("head") is not None:
                own["head"] = Head(**values["head"])
            space = cls(**own)
            check_space(space)
        except InputError as error:
            raise InputError(f"search space is malformed{where}: {error}") from None
        return space


@lru_cache(maxsize=None)
def _at(space: SearchSpace, input_size: int) -> SearchSpace:
    if input_size not in space.input_sizes:
        sizes = ", ".join(map(str, space.input_sizes or (space.input_size,)))
        raise InputError(f"input size {input_size} is not one of space '{space.layout}', {sizes}")
    return replace(space, input_size=input_size, input_sizes=(), fixed_strides=True)


@lru_cache(maxsize=None)
def _lowest_channel_choices(space: SearchSpace, lowest: int) -> Tuple[int, ...]:
    return tuple(space.channel_choices(index, lowest).start for index in range(space.num_choice_blocks))


@lru_cache(maxsize=None)
def _lowest_array(space: SearchSpace, lowest: int) -> np.ndarray:
    return np.array(_lowest_channel_choices(space, lowest))


@lru_cache(maxsize=None)
def _block_layers(space: SearchSpace, index: int, block_choice: int, channel_choice: int, pad_to: int) -> BlockLayers:
    choices = space.choices[index]
    block = replace(space.choice_blocks[index], scale=choices.channel_scales[channel_choice], pad_to=pad_to)
    return choices.blocks[block_choice].describe(block)
