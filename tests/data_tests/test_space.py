"""The search space of a data set."""

from dataclasses import replace

import pytest
from sized_spaces import DIGITS

from spos.core.errors import InputError
from spos.data.dataset import make_dataset
from spos.data.flags import DataOptions
from spos.data.space import fit_to_data, make_space, sized_for, sized_like
from spos.space.flags import SpaceOptions
from spos.space.space_file import load_space, search_space


@pytest.fixture
def data(noise_file):
    return make_dataset("noise", noise_file, noise_file, 50, 32, 1.0)


def test_size_classes_and_strides_are_those_of_the_images(data):
    space = make_space(SpaceOptions(use_se=True), data)
    fitted = {"strides": (1, 1, 2, 2, 2), "input_size": 32, "num_classes": 50}
    assert space == replace(search_space(use_se=True), **fitted)
    assert fit_to_data(search_space(), SpaceOptions(), data) == replace(search_space(), **fitted)


def test_strides_of_the_flag_come_first(data):
    assert make_space(SpaceOptions(strides="2,2,2,2,2"), data).strides == (2, 2, 2, 2, 2)


def test_strides_that_are_no_numbers_are_refused(data):
    with pytest.raises(InputError, match="--strides"):
        make_space(SpaceOptions(strides="2,x"), data)


def test_a_space_of_its_own_strides_keeps_them(data):
    space = make_space(SpaceOptions(space="mobilenetv2"), data)
    assert (space.strides, space.input_size) == (load_space("mobilenetv2").strides, 32)


@pytest.mark.parametrize("strides, message", (("2,2", "needs 5 entries, not 2"), ("2,2,2,2,3", "entries of 1 or 2")))
def test_strides_that_do_not_fit_are_refused(strides, message, data):
    with pytest.raises(InputError, match=message):
        make_space(SpaceOptions(strides=strides), data)


@pytest.mark.parametrize(
    "space, given, size",
    (("tiny", 0, 96), ("tiny", 64, 64), ("nas-bench-macro", 0, 32), ("oneshot", 0, 0), ("", 0, 0), ("", 32, 32)),
)
def test_a_space_file_says_the_size_that_the_flags_do_not(space, given, size):
    """The published layouts are for images of any size, so they say none."""
    data = DataOptions(dataset="digits", input_size=given)
    assert sized_for(data, SpaceOptions(space=space)) == replace(data, input_size=size)
    if space:
        assert sized_like(data, load_space(space)).input_size == size


def test_images_are_loaded_at_the_largest_of_the_sizes_that_may_be_chosen(data):
    """Its strides stay, whatever the images would have."""
    assert fit_to_data(DIGITS, SpaceOptions(), data) == replace(DIGITS, num_classes=50)
    with pytest.raises(
        InputError, match="input sizes 24, 32: images are loaded at 32 px, not 28; give --input-size 32"
    ):
        fit_to_data(DIGITS, SpaceOptions(), replace(data, input_size=28))
    small = fit_to_data(DIGITS.at(24), SpaceOptions(), replace(data, input_size=24, strides=(1, 2, 1)))
    assert small == replace(DIGITS.at(24), num_classes=50)
