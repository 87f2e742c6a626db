"""The search space of the flags, for the images of a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict

from spos.core.errors import InputError
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.space.flags import SpaceOptions, space_of, with_strides
from spos.space.space import SearchSpace
from spos.space.space_file import LAYOUTS


def sized_for(data: DataOptions, options: SpaceOptions) -> DataOptions:
    """The flags of the data, at the size that a space file says unless they say one."""
    return sized_like(data, space_of(options)) if options.space and not data.input_size else data


def sized_like(data: DataOptions, space: SearchSpace) -> DataOptions:
    """The same at the size of a space. The published layouts are for images of any size, and follow the data."""
    is_layout = space.layout in LAYOUTS and not (space.input_sizes or space.fixed_strides)
    follows = data.input_size or is_layout
    return data if follows else replace(data, input_size=space.input_size)


def make_space(options: SpaceOptions, data: DataSet) -> SearchSpace:
    """The search space of the flags, for these images."""
    return fit_to_data(space_of(options), options, data)


def fit_to_data(space: SearchSpace, options: SpaceOptions, data: DataSet) -> SearchSpace:
    """A space for these images. The stride plan is that of the flags, of the space if it is fixed, or of the images.

    Raises: InputError if the input size is a choice, and the images have another size than the largest.
    """
    if space.input_sizes and data.input_size != space.input_size:
        sizes = ", ".join(map(str, space.input_sizes))
        raise InputError(
            f"space '{space.layout}' has the input sizes {sizes}: images are loaded at {space.input_size} px, not "
            f"{data.input_size}; give --input-size {space.input_size}"
        )
    fitted: Dict[str, Any] = {"input_size": data.input_size, "num_classes": data.num_classes}
    if options.strides:
        return with_strides(replace(space, **fitted), options.strides)
    return replace(space, **fitted, strides=space.strides if space.fixed_strides or space.input_sizes else data.strides)
