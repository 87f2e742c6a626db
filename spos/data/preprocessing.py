"""Preparation of images: from the file to what the network reads, in a pass and as inference has to know it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from msgspec import Meta, Struct
from typing_extensions import Annotated

from spos.core.errors import InputError
from spos.data.augmentation import Augmentation
from spos.runs.files import check_shape

Triple = Tuple[float, float, float]
LARGEST_SIZE = 4096  # px of a network's input that files may say


@dataclass(frozen=True)
class Preparation:
    """What becomes of an encoded image.

    Args:
        size: height and width of what comes out.
        mean, std: RGB, 0..255; what comes out is (RGB - mean) / std.
        crop_ratio: share of the shorter side that the centre shows, without augmentation.
        augmentation: for training. None: the centre of the image.
        as_pixels: 8-bit pixels as decoded, without normalising.
    """

    size: int
    mean: Triple
    std: Triple
    crop_ratio: float
    augmentation: Optional[Augmentation] = None
    as_pixels: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.crop_ratio <= 1:
            raise ValueError(f"expected size >= 1 and 0 < crop_ratio <= 1, got {self.size} and {self.crop_ratio}")


Channels = Annotated[List[Annotated[float, Meta(ge=0, le=1e4)]], Meta(min_length=3, max_length=3)]
PositiveChannels = Annotated[List[Annotated[float, Meta(ge=1e-3, le=1e4)]], Meta(min_length=3, max_length=3)]


class PreprocessingShape(Struct):
    """What files say of the preparation of images."""

    input_size: Annotated[int, Meta(ge=1, le=LARGEST_SIZE)]
    crop_ratio: Annotated[float, Meta(gt=0, le=1)]
    mean: Channels
    std: PositiveChannels
    class_names: Annotated[List[Annotated[str, Meta(max_length=10_000)]], Meta(max_length=1_000_000)]


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to what the network reads, and from its classes to their names.

    Args:
        input_size: height and width of the input.
        crop_ratio: input size / shorter side of the image before the centre crop.
        mean, std: RGB, 0..255; the input is (RGB - mean) / std.
        class_names: by label; empty if nothing says them.
    """

    input_size: int
    crop_ratio: float
    mean: Triple
    std: Triple
    class_names: Tuple[str, ...] = ()

    @classmethod
    def from_json(cls, record: Mapping[str, Any], source: str) -> Preprocessing:
        """Raises: InputError that names `source` if a value is missing or of another kind."""
        try:
            check_shape(record, "they", PreprocessingShape)
        except InputError as error:
            raise InputError(f"{source} does not say how images are prepared ({error})") from None
        mean, std = (_triple(record[key]) for key in ("mean", "std"))
        return cls(record["input_size"], float(record["crop_ratio"]), mean, std, tuple(record["class_names"]))

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)

    @property
    def preparation(self) -> Preparation:
        """Of images to be classified."""
        return Preparation(self.input_size, self.mean, self.std, self.crop_ratio)


def _triple(values: Any) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
