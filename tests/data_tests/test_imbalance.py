"""Classes of unequal size are said, in one line."""

from types import SimpleNamespace

import numpy as np
import pytest

from spos.data import imbalance
from spos.data.imbalance import describe_imbalance, say_if_imbalanced


def test_the_smallest_and_the_largest_are_named():
    labels = np.repeat([0, 1, 2], [5, 50, 1000])
    assert describe_imbalance(labels, ("ant", "bee", "cat")) == (
        "training images by class: 5 of ant, 50 of bee, 1,000 of cat (200.0 times as many); --class-balanced shows all "
        "alike"
    )
    many = describe_imbalance(np.repeat(np.arange(9), np.arange(1, 10)))
    assert "1 of class 0, 2 of class 1, 3 of class 2, .., 7 of class 6, 8 of class 7, 9 of class 8" in many


@pytest.mark.parametrize("counts", ((10, 19), (7,)))
def test_what_is_nearly_alike_is_not_worth_a_line(counts):
    assert describe_imbalance(np.repeat(np.arange(len(counts)), counts)) is None


def test_labels_that_no_name_is_known_of_are_numbers():
    line = describe_imbalance(np.array([0] * 10 + [11] * 2), ("aeroplane",))
    assert "2 of class 11" in line and "10 of aeroplane" in line


def test_labels_of_a_long_list_are_not_read(capsys, monkeypatch):
    class Images(SimpleNamespace):
        def __len__(self):
            return 30

    images = Images(find_labels=lambda: np.repeat([0, 1], [10, 20]))
    say_if_imbalanced(images)
    assert "10 of class 0, 20 of class 1" in capsys.readouterr().out
    monkeypatch.setattr(imbalance, "MAX_LABELS", 29)
    say_if_imbalanced(images)
    assert capsys.readouterr().out == ""
