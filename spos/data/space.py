"""The search space of the flags, for the images of a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from spos.core.errors import InputError
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.space.architecture import parse_choices
from spos.space.flags import SpaceOptions, space_of
from spos.space.space import SearchSpace


def sized_for(data: DataOptions, space: SpaceOptions) -> DataOptions:
    """The flags of the data, at the size that a space file says unless they say one."""
    return replace(data, input_size=space_of(space).input_size) if space.space and not data.input_size else data


def at_input_size(data: DataOptions, size: Optional[int]) -> DataOptions:
    """The flags of the data, at this size unless they say one; None leaves them as they are."""
    return data if size is None or data.input_size else replace(data, input_size=size)


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
    strides = space.strides if space.fixed_strides or space.input_sizes else data.strides
    if options.strides:
        strides = parse_choices(options.strides, "--strides")
    return replace(space, strides=strides, input_size=data.input_size, num_classes=data.num_classes)
