"""Flags of the space: the inverse of what they mean."""

from dataclasses import replace

import pytest
from conftest import TINY, VARIANTS

from spos.space.flags import SpaceOptions, fit, options_of, space_of
from spos.space.space_file import load_space, search_space, shipped_spaces


@pytest.mark.parametrize("name", VARIANTS)
def test_flags_of_a_space_mean_it(name):
    space = VARIANTS[name]
    options = options_of(space, space.input_size)
    assert fit(space_of(options), options, space.input_size, space.num_classes) == space


def test_narrow_choices_are_left_out_as_they_were():
    assert options_of(search_space(min_channel_choice=2), 224).ignore_first_two_cs


def test_a_space_for_another_size_leaves_the_stride_plan_to_the_images():
    assert options_of(search_space(), 32) == SpaceOptions()
    assert options_of(search_space(input_size=32, strides=(2, 2, 2, 2, 2)), 32).strides == "2, 2, 2, 2, 2"


@pytest.mark.parametrize("name", shipped_spaces())
def test_flags_name_the_spaces_that_ship(name):
    space = load_space(name)
    options = options_of(space, space.input_size)
    assert fit(space_of(options), options, space.input_size, space.num_classes) == space


@pytest.mark.parametrize(
    "space",
    (
        TINY,
        search_space(min_channel_choice=1),
        replace(search_space(), channel_scales=(1.0, 2.0)),
        replace(load_space("tiny"), stem_channels=16),
        replace(load_space("nas-bench-macro"), layout="mine"),
    ),
)
def test_no_flags_mean_a_space_of_ones_own(space):
    assert options_of(space, space.input_size) is None
