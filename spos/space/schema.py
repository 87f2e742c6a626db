"""The shape of the JSON of search spaces, as runs and architecture files hold it (`SearchSpace.to_json`)."""

from __future__ import annotations

from typing import List, Optional

from msgspec import Meta, Struct
from typing_extensions import Annotated, Literal

Channels = Annotated[int, Meta(ge=1, le=16384)]
Names = Annotated[List[str], Meta(max_length=64)]
Scales = Annotated[List[Annotated[float, Meta(gt=0, le=16)]], Meta(max_length=32)]
Durations = Annotated[List[Annotated[int, Meta(ge=0, le=10**4)]], Meta(max_length=32)]
Text = Annotated[str, Meta(min_length=1, max_length=100)]
InputSize = Annotated[int, Meta(ge=1, le=8192)]
InputSizes = Annotated[List[InputSize], Meta(max_length=32)]


class OwnChoicesShape(Struct, forbid_unknown_fields=True):
    position: Annotated[int, Meta(ge=0, le=100)]
    block_choices: Names = []
    channel_scales: Scales = []


class StageShape(Struct, forbid_unknown_fields=True):
    num_blocks: Annotated[int, Meta(ge=1, le=100)]
    out_channels: Channels
    se: bool
    hard_swish: bool
    act: str = ""
    block_choices: Names = []
    channel_scales: Scales = []
    own_choices: Annotated[List[OwnChoicesShape], Meta(max_length=100)] = []


class HeadShape(Struct, forbid_unknown_fields=True):
    before_pooling: Annotated[int, Meta(ge=0, le=16384)]
    se: bool
    after_pooling: Annotated[int, Meta(ge=0, le=16384)]
    act: str
    dropout: Annotated[float, Meta(ge=0, lt=1)]


class BlockKindShape(Struct):
    """Options stand beside these; the kind knows them."""

    name: Text
    attribute: Annotated[str, Meta(pattern="^block_[A-Za-z0-9_]{1,90}$")]
    family: Text


class SpaceShape(Struct, forbid_unknown_fields=True):
    """What files say of a search space."""

    layout: Text
    stages: Annotated[List[StageShape], Meta(min_length=1, max_length=16)]
    warm_up_durations: Durations
    stem_channels: Channels
    blocks: Annotated[List[BlockKindShape], Meta(min_length=1, max_length=64)]
    channel_scales: Annotated[Scales, Meta(min_length=1)]
    width_multiple: Annotated[int, Meta(ge=1, le=1024)]
    use_se: bool
    last_conv_after_pooling: bool
    min_channel_choice: Annotated[int, Meta(ge=0, le=31)]
    strides: Annotated[List[Literal[1, 2]], Meta(min_length=2, max_length=17)]
    input_size: InputSize
    num_classes: Annotated[int, Meta(ge=1, le=10**6)]
    stem_act: str = ""
    head: Optional[HeadShape] = None
    fixed_strides: bool = False
    count_additions: bool = True
    input_sizes: InputSizes = []
