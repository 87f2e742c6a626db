"""Metadata of an exported network: what it says about itself, so that whoever has the file needs nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, Dict, Mapping

from msgspec import Meta, Struct
from typing_extensions import Annotated, Literal

from spos.core.errors import InputError
from spos.data.preprocessing import Preprocessing
from spos.runs.files import check_shape, parse_json

MOST_PADDING = 1024


class InfoShape(Struct):
    """What the metadata say beside the preprocessing."""

    architecture: Dict[str, Any]
    precision: Literal["float32", "int8"]
    pad_to: Annotated[int, Meta(ge=1, le=MOST_PADDING)]


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of an exported file.

    Args:
        architecture: as in an architecture file, with its search space.
        precision: of the convolutions, float32 or int8.
        pad_to: middle widths were padded with zeros to a multiple of this; 1 for the published ones.
    """

    preprocessing: Preprocessing
    architecture: Mapping[str, Any]
    precision: str = "float32"
    pad_to: int = 1

    def to_strings(self) -> Dict[str, str]:
        """Each value as JSON, by its name: `class_names`, `mean`, `std`, `input_size`, `architecture`, ..."""
        record = {**vars(self), **self.preprocessing.to_json()}
        return {name: json.dumps(record[name]) for name in METADATA}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], source: str) -> ModelInfo:
        """The inverse of `to_strings`. Raises: InputError, naming `source`, if this project did not write it."""
        try:
            record = {name: parse_json(strings[name], name) for name in METADATA}
            check_shape(record, "it", InfoShape)
        except (KeyError, InputError) as error:
            raise InputError(f"{source} has no metadata of this project ({error}): export it anew") from None
        preprocessing = Preprocessing.from_json(record, source)
        return cls(preprocessing, record["architecture"], record["precision"], record["pad_to"])

    def name_of(self, label: int) -> str:
        """What a class is called; its number if nothing says it."""
        names = self.preprocessing.class_names
        return names[label] if names else str(label)


# Names of the values in files. Not those that MXNet gives a meaning as attributes of a variable: dtype, shape, init ...
METADATA = (*(item.name for item in fields(Preprocessing)), "architecture", "precision", "pad_to")
