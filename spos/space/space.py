"""The search space: every fact about its stages, blocks, widths and strides, and the architectures in it.

Network, sampler, counter, searcher and latency table ask a `SearchSpace`; nothing else knows these numbers.
Method: Single Path One-Shot (arXiv:1904.00420), with channel choices, squeeze-and-excite and efficient heads.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from msgspec import Meta, Struct
from typing_extensions import Annotated, Literal

from spos.core.errors import InputError
from spos.runs.files import check_shape, shortened


@dataclass(frozen=True)
class Stage:
    """`num_blocks` choice blocks at one resolution; the first of them changes resolution and channels.

    `se` and `hard_swish` take effect in a space with `use_se`; without it no stage has them.
    """

    num_blocks: int
    out_channels: int
    se: bool
    hard_swish: bool


@dataclass(frozen=True)
class BlockKind:
    """One entry of the block choice. `attribute` names it inside `.params` files, so it is a file format."""

    name: str
    attribute: str
    family: str  # "shuffle" (pointwise, depthwise, pointwise) or "xception" (three depthwise-pointwise pairs)
    kernel_size: int


@dataclass(frozen=True)
class Layout:
    """What `--channels-layout` selects: blocks and output channels of the stages, the length of the channel warm-up."""

    out_channels: Tuple[int, ...]
    warm_up_durations: Tuple[int, ...]  # epochs at the second widest scale, the third widest, ...
    stage_blocks: Tuple[int, ...] = (4, 4, 8, 4)


BLOCK_KINDS = (
    BlockKind("SNB-3", "block_sn_3x3", "shuffle", 3),
    BlockKind("SNB-5", "block_sn_5x5", "shuffle", 5),
    BlockKind("SNB-7", "block_sn_7x7", "shuffle", 7),
    BlockKind("SXB-3", "block_sx_3x3", "xception", 3),
)
CHANNEL_SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
FIRST_SE_STAGE = 2  # zero-based: stages 3 and 4 of the paper's numbering
FIRST_HARD_SWISH_STAGE = 1
MOST_CHOICE_BLOCKS = 100  # in a file
STABLE_CHANNEL_CHOICE = 2  # scale 0.6: below it a supernet without SE does not converge (--ignore-first-two-cs)

LAYOUTS: Mapping[str, Layout] = {
    "OneShot": Layout((64, 160, 320, 640), (1, 1, 1, 1, 2, 3, 4, 5)),
    "ShuffleNetV2+": Layout((48, 128, 256, 512), (1, 2, 3, 4, 5, 6, 15, 1)),
    # Not published: for studies on small images (docs/study.md). Eight choice blocks.
    "Small": Layout((32, 64, 128, 256), (1, 1, 1, 1, 2, 3, 4, 5), (2, 2, 2, 2)),
}


def layout_stages(layout: str) -> Tuple[Stage, ...]:
    """Stages of a named layout. Raises InputError for an unknown name."""
    if layout not in LAYOUTS:
        raise InputError(f"unknown channels layout '{layout}'; known: {', '.join(LAYOUTS)}")
    known = LAYOUTS[layout]
    return tuple(
        Stage(num_blocks, out_channels, se=i >= FIRST_SE_STAGE, hard_swish=i >= FIRST_HARD_SWISH_STAGE)
        for i, (num_blocks, out_channels) in enumerate(zip(known.stage_blocks, known.out_channels))
    )


def round_up(value: int, multiple: int) -> int:
    """Smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Architecture:
    """A block choice and a channel choice for every choice block: one path through the supernet."""

    block_choices: Tuple[int, ...]
    channel_choices: Tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_choices", tuple(int(c) for c in self.block_choices))
        object.__setattr__(self, "channel_choices", tuple(int(c) for c in self.channel_choices))

    @classmethod
    def parse(cls, block_choices: str, channel_choices: str) -> Architecture:
        """From two texts of the form `'0, 0, 3, 1'`. Raises InputError if an entry is no integer."""
        return cls(parse_choices(block_choices, "block choices"), parse_choices(channel_choices, "channel choices"))

    @property
    def genes(self) -> Tuple[int, ...]:
        """Block choices followed by channel choices, the chromosome of the genetic search."""
        return self.block_choices + self.channel_choices

    def __str__(self) -> str:
        return f"blocks {format_choices(self.block_choices)} | channels {format_choices(self.channel_choices)}"


def parse_choices(text: str, what: str) -> Tuple[int, ...]:
    """`'0, 0, 3'` (commas or blanks, brackets allowed) as a tuple of ints."""
    items = text.strip().strip("[]()").replace(",", " ").split()
    try:
        return tuple(int(item) for item in items)
    except ValueError:
        raise InputError(f"{what} '{text}' must be integers separated by commas, like '0, 0, 3, 1'") from None


def format_choices(choices: Sequence[int]) -> str:
    """The inverse of `parse_choices`: `'0, 0, 3'`."""
    return ", ".join(str(c) for c in choices)


@dataclass(frozen=True)
class ChoiceBlockGeometry:
    """Where a choice block stands: what is the same for all of its choices."""

    index: int
    stage: int
    in_channels: int
    out_channels: int
    stride: int
    projects: bool  # first block of its stage: a projection branch instead of the channel shuffle
    use_se: bool
    act: str
    in_size: int  # height and width of its input for the space's input_size


# Fields that decide which layers an architecture means. The others say what data it runs on, or how to sample it.
_STRUCTURE = (
    "stages",
    "stem_channels",
    "blocks",
    "channel_scales",
    "width_multiple",
    "use_se",
    "last_conv_after_pooling",
)


@dataclass(frozen=True)
class SearchSpace:
    """A supernet's shape and everything derived from it. Make one with `search_space()`."""

    layout: str
    stages: Tuple[Stage, ...]
    warm_up_durations: Tuple[int, ...]
    stem_channels: int = 16
    blocks: Tuple[BlockKind, ...] = BLOCK_KINDS
    channel_scales: Tuple[float, ...] = CHANNEL_SCALES
    width_multiple: int = 1  # middle widths are rounded up to this; 1 keeps the published truncation
    use_se: bool = False
    last_conv_after_pooling: bool = False
    min_channel_choice: int = 0  # the narrowest scale that is sampled and searched
    strides: Tuple[int, ...] = (2, 2, 2, 2, 2)  # stem, then one for each stage
    input_size: int = 224
    num_classes: int = 1000

    def __post_init__(self) -> None:
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
                        act="hard_swish" if self.use_se and stage.hard_swish else "relu",
                        in_size=size,
                    )
                )
                in_channels, size = stage.out_channels, conv_size(size, stride)
        return tuple(result)

    @property
    def num_choice_blocks(self) -> int:
        return sum(stage.num_blocks for stage in self.stages)

    @property
    def num_block_choices(self) -> int:
        return len(self.blocks)

    @property
    def num_channel_choices(self) -> int:
        return len(self.channel_scales)

    @property
    def max_channel_choice(self) -> int:
        return self.num_channel_choices - 1

    @property
    def searchable_channel_choices(self) -> range:
        """The channel choices that are sampled and searched."""
        return range(self.min_channel_choice, self.num_channel_choices)

    @property
    def out_channels(self) -> int:
        """Channels that enter the head."""
        return self.stages[-1].out_channels

    @cached_property
    def out_size(self) -> int:
        """Height and width of the map that enters the head."""
        last = self.choice_blocks[-1]
        return conv_size(last.in_size, last.stride)

    @property
    def num_architectures(self) -> int:
        """Number of architectures that sampling and search can reach."""
        return (self.num_block_choices * (self.num_channel_choices - self.min_channel_choice)) ** self.num_choice_blocks

    @property
    def act(self) -> str:
        """Activation of stem and head."""
        return "hard_swish" if self.use_se else "relu"

    def mid_channels(self, index: int, channel_choice: int) -> int:
        """Width of the middle of choice block `index`'s main branch: the one width rule of the space."""
        width = int(self.choice_blocks[index].out_channels // 2 * self.channel_scales[channel_choice])
        return round_up(width, self.width_multiple)

    def validate(self, architecture: Architecture, source: str = "") -> Architecture:
        """Return `architecture` if it lies in this space, else raise InputError naming what is wrong and where."""
        where = f" ({source})" if source else ""
        for what, choices, num_choices in (
            ("block", architecture.block_choices, self.num_block_choices),
            ("channel", architecture.channel_choices, self.num_channel_choices),
        ):
            if len(choices) != self.num_choice_blocks:
                raise InputError(
                    f"architecture has {len(choices)} {what} choices, space '{self.layout}' has "
                    f"{self.num_choice_blocks} choice blocks{where}. Was it searched in another space?"
                )
            for i, choice in enumerate(choices):
                if not 0 <= choice < num_choices:
                    raise InputError(
                        f"{what} choice {choice} of choice block {i} is not in 0..{num_choices - 1}{where}"
                    )
        return architecture

    def sample(self, rng: np.random.Generator, lowest_channel_choice: Optional[int] = None) -> Architecture:
        """Draw block and channel choices independently and uniformly.

        Args:
            lowest_channel_choice: narrowest scale allowed just now (channel warm-up); the space's own by default.
        """
        lowest = self.min_channel_choice if lowest_channel_choice is None else lowest_channel_choice
        blocks = rng.integers(0, self.num_block_choices, self.num_choice_blocks)
        channels = rng.integers(lowest, self.num_channel_choices, self.num_choice_blocks)
        return Architecture(tuple(blocks.tolist()), tuple(channels.tolist()))

    def widest(self, block_choices: Sequence[int]) -> Architecture:
        """The architecture with these blocks and every width at its maximum."""
        return Architecture(tuple(block_choices), (self.max_channel_choice,) * self.num_choice_blocks)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that are equal exactly when architectures mean the same layers.

        Input size, stride plan and number of classes are left out: a searched architecture may be trained on
        other data. A checkpoint is compared by the whole space instead.
        """
        own = self.to_json()
        text = json.dumps({name: own[name] for name in _STRUCTURE}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def structural_differences(self, other: SearchSpace) -> List[str]:
        """Fields by which the two describe other layers; none exactly when the fingerprints are equal."""
        return [name for name in _STRUCTURE if getattr(self, name) != getattr(other, name)]

    def to_json(self) -> Dict[str, Any]:
        """Plain lists, dicts and numbers; `from_json` gives an equal space back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, values: Any, source: str = "") -> SearchSpace:
        """Raises InputError if a field is missing, unknown or malformed."""
        where = f" ({source})" if source else ""
        names = {f.name for f in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            wrong = sorted(map(str, names ^ set(values))) if isinstance(values, Mapping) else values
            raise InputError(
                f"search space is not described by the expected fields{where}; differing: {shortened(wrong)}"
            )
        check_shape(values, f"search space is malformed{where}", SpaceShape)
        own: Dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        own["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        own["blocks"] = tuple(BlockKind(**kind) for kind in values["blocks"])
        try:
            space = cls(**own)
            _check_widths(space)
        except InputError as error:
            raise InputError(f"search space is malformed{where}: {error}") from None
        return space


def _check_widths(space: SearchSpace) -> None:
    """Raise InputError if a layer of some architecture would have no channels, or choices do not mean one thing."""
    scales, names = space.channel_scales, [kind.attribute for kind in space.blocks]
    if any(low >= high for low, high in zip(scales, scales[1:])):
        raise InputError(f"channel_scales must rise, not be {list(scales)}")
    if len(set(names)) < len(names):
        raise InputError(f"two blocks have one attribute: {', '.join(names)}")
    if space.num_choice_blocks > MOST_CHOICE_BLOCKS:
        raise InputError(f"{space.num_choice_blocks} choice blocks; the most are {MOST_CHOICE_BLOCKS}")
    before = space.stem_channels
    for stage in space.stages:
        if stage.out_channels <= before or (stage.num_blocks > 1 and stage.out_channels % 2):
            raise InputError(f"out_channels {stage.out_channels} must be even, and more than the {before} before it")
        if int(stage.out_channels // 2 * scales[0]) < 1:
            raise InputError(f"a middle width of no channels: {scales[0]} of {stage.out_channels // 2}")
        before = stage.out_channels


class StageShape(Struct, forbid_unknown_fields=True):
    num_blocks: Annotated[int, Meta(ge=1, le=100)]
    out_channels: Annotated[int, Meta(ge=2, le=16384)]
    se: bool
    hard_swish: bool


class BlockKindShape(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    attribute: Annotated[str, Meta(pattern="^block_[A-Za-z0-9_]{1,90}$")]
    family: Literal["shuffle", "xception"]
    kernel_size: Literal[1, 3, 5, 7, 9, 11, 13, 15]


class SpaceShape(Struct, forbid_unknown_fields=True):
    """What files say of a search space."""

    layout: Annotated[str, Meta(min_length=1, max_length=100)]
    stages: Annotated[List[StageShape], Meta(min_length=1, max_length=16)]
    warm_up_durations: Annotated[List[Annotated[int, Meta(ge=0, le=10**4)]], Meta(max_length=32)]
    stem_channels: Annotated[int, Meta(ge=1, le=16384)]
    blocks: Annotated[List[BlockKindShape], Meta(min_length=1, max_length=16)]
    channel_scales: Annotated[List[Annotated[float, Meta(gt=0, le=16)]], Meta(min_length=1, max_length=32)]
    width_multiple: Annotated[int, Meta(ge=1, le=1024)]
    use_se: bool
    last_conv_after_pooling: bool
    min_channel_choice: Annotated[int, Meta(ge=0, le=31)]
    strides: Annotated[List[Literal[1, 2]], Meta(min_length=2, max_length=17)]
    input_size: Annotated[int, Meta(ge=1, le=8192)]
    num_classes: Annotated[int, Meta(ge=1, le=10**6)]


def search_space(layout: str = "OneShot", **changes: Any) -> SearchSpace:
    """The space of a named channels layout, with any field of `SearchSpace` changed.

    `search_space()` is the published space, `search_space(use_se=True, last_conv_after_pooling=True)` the one of
    OneShot-S+.

    Raises: InputError for an unknown layout, or a value that cannot be.
    """
    stages = layout_stages(layout)
    return replace(SearchSpace(layout, stages, LAYOUTS[layout].warm_up_durations), **changes)


def conv_size(size: int, stride: int) -> int:
    """Output height or width of a convolution that pads by half its (odd) kernel."""
    return -(-size // stride)


def stride_plan(input_size: int) -> Tuple[int, int, int, int, int]:
    """Strides of stem and stages that leave a 4x4 to 7x7 map for 32, 64 and 224 pixels."""
    if input_size < 48:
        return (1, 1, 2, 2, 2)
    if input_size < 112:
        return (2, 1, 2, 2, 2)
    return (2, 2, 2, 2, 2)


def architecture_of(row: Mapping[str, Any]) -> Architecture:
    return Architecture(tuple(row["block_choices"]), tuple(row["channel_choices"]))


def choices_of(architecture: Architecture) -> Dict[str, List[int]]:
    """The architecture in a row: the inverse of `architecture_of`."""
    return {
        "block_choices": list(architecture.block_choices),
        "channel_choices": list(architecture.channel_choices),
    }
