"""Intervals of means: against SciPy's."""

import numpy as np
import pytest
from scipy import stats

from spos.core.errors import InputError
from spos.core.intervals import student_interval, welch_interval


@pytest.mark.parametrize("count", (2, 3, 20))
def test_the_interval_of_a_mean_is_student_s(rng, count):
    values = rng.normal(3, 2, count)
    low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert student_interval(values) == pytest.approx((values.mean(), low, high))


@pytest.mark.parametrize("counts", ((2, 9), (5, 5), (30, 3)))
def test_the_interval_of_a_difference_is_welch_s(rng, counts):
    first, second = rng.normal(1, 1, counts[0]), rng.normal(0, 3, counts[1])
    mean, *ends = welch_interval(first, second)
    assert mean == pytest.approx(first.mean() - second.mean())
    for end in ends:  # a true difference there would be rejected just so
        assert stats.ttest_ind(first - end, second, equal_var=False).pvalue == pytest.approx(0.05)


def test_values_without_spread_have_an_interval_without_width():
    assert welch_interval([1.0, 1.0], [0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("call", (lambda: student_interval([1.0]), lambda: welch_interval([1.0, 2.0], [1.0])))
def test_one_value_has_no_interval(call):
    with pytest.raises(InputError, match="at least 2 values, not 1"):
        call()


def test_prints_as_value_and_ends():
    assert str(student_interval(np.array([1.0, 2.0, 3.0]))) == "2.0000 (-0.4841 to 4.4841)"
