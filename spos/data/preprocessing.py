"""Preprocessing of images, as inference has to know it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Tuple

from spos.core.errors import InputError

Triple = Tuple[float, float, float]


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
            names = tuple(str(name) for name in record["class_names"])
            mean, std = (_triple(record[key]) for key in ("mean", "std"))
            return cls(int(record["input_size"]), float(record["crop_ratio"]), mean, std, names)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{source} does not say how images are prepared ({error!r})") from None

    def to_json(self) -> Dict[str, Any]:
        return asdict(self)


def _triple(values: Any) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
