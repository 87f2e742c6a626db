"""The search space of a data set."""

from dataclasses import replace

import pytest

from spos.core.errors import InputError
from spos.data.dataset import make_dataset
from spos.data.space import fit_to_data, make_space
from spos.space.flags import SpaceOptions
from spos.space.space_file import search_space


@pytest.fixture
def data(noise_file):
    return make_dataset("noise", noise_file, noise_file, 50, 32, 1.0)


def test_size_classes_and_strides_are_those_of_the_images(data):
    space = make_space(SpaceOptions(use_se=True), data)
    fitted = {"strides": (1, 1, 2, 2, 2), "input_size": 32, "num_classes": 50}
    assert space == replace(search_space(use_se=True), **fitted)
    assert fit_to_data(SpaceOptions(), data) == fitted


def test_strides_of_the_flag_come_first(data):
    assert make_space(SpaceOptions(strides="2,2,2,2,2"), data).strides == (2, 2, 2, 2, 2)


def test_strides_that_are_no_numbers_are_refused(data):
    with pytest.raises(InputError, match="--strides"):
        make_space(SpaceOptions(strides="2,x"), data)
