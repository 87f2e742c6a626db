"""What the machine has, and what a class needs."""

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.pilot.facts import check_counts, free_disk


def test_five_images_of_each_of_two_classes_will_do():
    check_counts(np.array([5, 5000]), "here")


@pytest.mark.parametrize(
    "counts, message",
    (
        ([9], "one class only.*two classes at least"),
        ([9, 3], "1 of 2 classes have fewer than 5 training images, the smallest 3; add images"),
        ([0, 9, 4], "2 of 3 classes.*the smallest 0"),
    ),
)
def test_too_few_are_refused_with_what_would_do(counts, message):
    with pytest.raises(InputError, match=message):
        check_counts(np.array(counts), "here")


def test_the_disk_of_a_folder_that_is_to_come_is_that_of_its_parent(tmp_path):
    assert free_disk(tmp_path / "not" / "yet") == free_disk(tmp_path) > 10**6
