"""Types that the schemas of several files are made of."""

from __future__ import annotations

from typing import List, Union

from msgspec import UNSET, Meta, Struct, UnsetType
from typing_extensions import Annotated

Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Share = Annotated[float, Meta(ge=0, le=1)]
ShareInterval = Annotated[List[Share], Meta(min_length=2, max_length=2)]  # low, high
NotNegative = Annotated[float, Meta(ge=0)]
Text = Annotated[str, Meta(max_length=10_000)]
Hex = Annotated[str, Meta(pattern="^[0-9a-f]{1,64}$")]  # of a digest
Choice = Annotated[int, Meta(ge=0, le=1000)]
Choices = Annotated[List[Choice], Meta(min_length=1, max_length=1000)]


class Choosing(Struct):
    """What every record of an architecture says."""

    block_choices: Choices
    channel_choices: Choices
    input_size: Union[Positive, UnsetType] = UNSET


class Scored(Choosing, kw_only=True):
    """What every record of an accuracy says; `top1` and `top5` are shares of `num_images`."""

    top1: Share
    top5: Union[Share, UnsetType] = UNSET
    top1_interval: Union[ShareInterval, UnsetType] = UNSET
    top1_hits: Union[Count, UnsetType] = UNSET
    num_images: Union[Positive, UnsetType] = UNSET
    num_supernets: Union[Positive, UnsetType] = UNSET
    fingerprint: Union[Text, UnsetType] = UNSET
    supernet: Union[Text, UnsetType] = UNSET
    images: Union[Text, UnsetType] = UNSET
