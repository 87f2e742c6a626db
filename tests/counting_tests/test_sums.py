"""Sums of costs against all architectures of small spaces, one by one."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from ragged_spaces import MOBILE, RAGGED, every_architecture

from spos.counting import sums
from spos.counting.sums import count_within, feasible, median, sums_of
from spos.sampling.limits import Constraints
from spos.space.cost import cost_table
from spos.space.space_file import load_space

SPACES = {
    "ragged": RAGGED,
    "ragged, wide": replace(RAGGED, min_channel_choice=2),
    "mobile": MOBILE,
    "macro": load_space("nas-bench-macro"),
}
# Shares of the way from the smallest to the largest FLOPs and params, and of the combined score; None: no limit.
LIMITS = (
    (0.3, None, None),
    (None, 0.5, None),
    (0.4, 0.6, None),
    (0.05, 0.05, None),
    (None, None, 0.5),
    (0.7, 0.9, 0.3),
    (0.0, 0.0, None),
    (1.0, 1.0, None),
    (0.5, 1.0, None),
)


@pytest.fixture(scope="module", params=SPACES)
def brute_force(request):
    """A space, its architectures, and (MACs, params) of each."""
    space = SPACES[request.param]
    architectures = every_architecture(space)
    return space, architectures, np.array([cost_table(space).cost(one) for one in architectures])


def limits_of(space, shares):
    table = cost_table(space)
    smallest, largest = map(np.array, table.range())
    ends = [low + (high - low) * (share or 0) for low, high, share in zip(smallest, largest, shares)]
    constraints = Constraints(
        score_max=None,
        flop_max_m=None if shares[0] is None else ends[0] / 1e6,
        param_max_m=None if shares[1] is None else ends[1] / 1e6,
    )
    if shares[2] is not None:
        weights = Constraints(score_max=1.0).limits()[0]
        low, high = weights.value(smallest), weights.value(largest)
        constraints = replace(constraints, score_max=low + (high - low) * shares[2])
    return constraints.limits()


def parts_of(space):
    table = cost_table(space)
    return np.array(table.fixed), table.choice_costs()


def keep(costs, limits):
    return np.all([limit.keeps(costs.T) for limit in limits], axis=0)


@pytest.mark.parametrize("shares", LIMITS)
def test_the_number_within_limits_is_that_of_brute_force(shares, brute_force):
    space, _, costs = brute_force
    limits = limits_of(space, shares)
    assert count_within(*parts_of(space), limits) == keep(costs, limits).sum()


@pytest.mark.parametrize("shares", LIMITS)
def test_choices_within_limits_are_those_of_brute_force(shares, brute_force):
    space, architectures, costs = brute_force
    limits = limits_of(space, shares)
    kept = [architectures[i] for i in np.flatnonzero(keep(costs, limits))]
    for index, possible in enumerate(feasible(*parts_of(space), limits)):
        met = {(one.block_choices[index], one.channel_choices[index]) for one in kept}
        assert {pair for pair, is_possible in zip(space.pairs(index), possible) if is_possible} == met


def test_random_limits_on_both(brute_force, rng):
    space, _, costs = brute_force
    for _ in range(30):
        limits = limits_of(space, (*rng.random(2), None))
        assert count_within(*parts_of(space), limits) == keep(costs, limits).sum()


@pytest.mark.parametrize("axis", (0, 1))
def test_sums_and_their_median_are_those_of_brute_force(axis, brute_force):
    space, _, costs = brute_force
    fixed, blocks = parts_of(space)
    found = sums_of([block[:, axis] for block in blocks])
    values, ways = np.unique(costs[:, axis], return_counts=True)
    assert (found.values + fixed[axis] == values).all() and (found.ways == ways).all()
    assert median(found) + fixed[axis] == np.percentile(costs[:, axis], 50, method="inverted_cdf")


def test_the_median_of_an_even_number_is_the_lower_one():
    assert [median(sums_of([np.array(block)])) for block in ([7], [1, 2], [1, 2, 9], [1, 5, 6, 9])] == [7, 1, 2, 5]


def test_what_is_too_large_is_not_counted(monkeypatch):
    oneshot = load_space("oneshot")
    limits = limits_of(oneshot, (0.3, 0.3, None))
    assert count_within(*parts_of(oneshot), limits) is None
    fixed, blocks = parts_of(RAGGED)
    assert count_within(fixed, blocks, limits_of(RAGGED, (0.4, 0.6, None))) is not None
    monkeypatch.setattr(sums, "MAX_PAIRS", 10)
    assert count_within(fixed, blocks, limits_of(RAGGED, (0.4, 0.6, None))) is None
    monkeypatch.setattr(sums, "MAX_SUMS", 3)
    assert sums_of([block[:, 0] for block in blocks]) is None
    assert count_within(fixed, blocks, limits_of(RAGGED, (0.4, 0.6, None))) is None


def test_limits_that_nothing_breaks_leave_everything_however_much_it_is():
    oneshot = load_space("oneshot")
    fixed, blocks = parts_of(oneshot)
    assert count_within(fixed, blocks, limits_of(oneshot, (1.0, 1.0, None))) == prod(map(len, blocks)) == 40**20


def test_a_limit_that_binds_in_one_cost_is_counted_by_that_cost_alone():
    """Half a million sums of pairs would be tried otherwise: 10^9 architectures of `tiny` take no second."""
    tiny = load_space("tiny")
    fixed, blocks = parts_of(tiny)
    limits = limits_of(tiny, (0.5, 1.0, None))
    found = sums_of([block[:, 0] for block in blocks])
    assert count_within(fixed, blocks, limits) == found.ways[limits[0].keeps([found.values + fixed[0]])].sum()
