"""The search space of the flags, for the images of a data set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict

from spos.data.dataset import DataSet
from spos.space.flags import SpaceOptions, space_of
from spos.space.space import SearchSpace, parse_choices


def make_space(options: SpaceOptions, data: DataSet) -> SearchSpace:
    """The search space of the flags, for these images."""
    return replace(space_of(options), **fit_to_data(options, data))


def fit_to_data(options: SpaceOptions, data: DataSet) -> Dict[str, Any]:
    """The fields of a space that depend on the images."""
    strides = parse_choices(options.strides, "--strides") if options.strides else data.strides
    return {"strides": strides, "input_size": data.input_size, "num_classes": data.num_classes}
