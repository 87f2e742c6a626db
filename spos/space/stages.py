"""What a search space is made of: stages, a head, the choices of a choice block; and how they stand in JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Dict, Mapping, Tuple

from spos.space.blocks import BlockKind


def later(default: Any) -> Any:
    """A field that came with space files. JSON leaves it out where it says nothing, so older JSON stays the same."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class OwnChoices:
    """What a single choice block may be, where its stage says otherwise; empty is what the stage says."""

    position: int  # in the stage
    block_choices: Tuple[str, ...] = ()
    channel_scales: Tuple[float, ...] = ()


@dataclass(frozen=True)
class Stage:
    """`num_blocks` choice blocks at one resolution; the first of them changes resolution and channels.

    Args:
        se, hard_swish: take effect in a space with `use_se`; without it no stage has them.
        act: activation whatever `hard_swish` says, one of ACTIVATIONS.
        block_choices: names of blocks of the space; empty: all of them.
        channel_scales: empty: those of the space.
        own_choices: of single choice blocks, in rising position.
    """

    num_blocks: int
    out_channels: int
    se: bool
    hard_swish: bool
    act: str = later("")
    block_choices: Tuple[str, ...] = later(())
    channel_scales: Tuple[float, ...] = later(())
    own_choices: Tuple[OwnChoices, ...] = later(())


@dataclass(frozen=True)
class Head:
    """From the last stage to the feature vector: convolution, pooling, squeeze-and-excite, convolution, dropout.

    Args:
        before_pooling: channels of a 1x1 convolution with BatchNorm; 0: there is none.
        se: squeeze-and-excite of the pooled.
        after_pooling: channels of a 1x1 convolution with bias; 0: there is none.
        act: behind each of the two, one of ACTIVATIONS.
        dropout: in front of the classifier, a share.
    """

    before_pooling: int = 0
    se: bool = False
    after_pooling: int = 0
    act: str = "relu"
    dropout: float = 0.0


# Heads of the published networks: plain, of ShuffleNetV2+, and of MobileNetV3
PLAIN_HEAD = Head(before_pooling=1024, dropout=0.1)
SE_HEAD = Head(before_pooling=768, se=True, after_pooling=1024)
LAST_CONV_HEAD = Head(after_pooling=1024)


@dataclass(frozen=True)
class Choices:
    """What one choice block may be: its blocks and its widths, in the order of their numbers."""

    blocks: Tuple[BlockKind, ...]
    channel_scales: Tuple[float, ...]


def plain(value: Any) -> Any:
    """A dataclass as plain JSON."""
    if isinstance(value, BlockKind):
        return value.to_json()
    if is_dataclass(value):
        items = [(item, getattr(value, item.name)) for item in fields(value)]
        return {item.name: plain(own) for item, own in items if not item.metadata.get("later") or own != item.default}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def frozen(values: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def read_stage(values: Mapping[str, Any]) -> Stage:
    own = tuple(OwnChoices(**frozen(one)) for one in values.get("own_choices", ()))
    return Stage(**{**frozen(values), "own_choices": own})
