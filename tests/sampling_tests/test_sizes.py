"""Draws where the input size is a choice: uniform over the pairs of an architecture and a size within limits."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from latency_tests.test_table import make_table
from sized_spaces import FEW, everything

from sampling_tests.test_exact import check_uniform
from spos.core.errors import InputError
from spos.latency.tables import LatencyTables
from spos.sampling.exact import TooRare
from spos.sampling.limits import Constraints, limits_in_millions
from spos.sampling.strips import ConstrainedPolicy, path_sampler, walk
from spos.sampling.warm_up import SamplingPolicy
from spos.search.domain import Domain
from spos.space.cost import cost_table

SMALL = FEW.at(24)
COSTS = {one: cost_table(FEW).cost(one) for one in everything(FEW)}
ORDERED = [sorted(column) for column in zip(*COSTS.values())]
# Positions of the bounds among the sorted costs: FLOPs upper and lower, params upper and lower.
BOUNDS = {
    "both": (200, 90, 220, 40),
    "narrow FLOPs": (150, 130, None, None),
    "narrow params": (None, None, 160, 150),
    "few": (4, None, None, None),
    "opposite corner": (150, None, None, 150),
    "all": (287, 0, 287, 0),
    "none": (None, None, None, None),
}


def limits_at(bounds):
    values = [None if i is None else ORDERED[k // 2][i] / 1e6 for k, i in enumerate(bounds)]
    limits = limits_in_millions(values[::2], values[1::2])
    return limits, [one for one, cost in COSTS.items() if all(limit.keeps(cost) for limit in limits)]


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("num_cells", (64, 2**17))  # coarse: most of what is tried is rounded to a wrong place
def test_draws_are_uniform_over_architectures_and_sizes(bounds, num_cells, rng, monkeypatch):
    monkeypatch.setattr("spos.sampling.exact.NUM_CELLS", num_cells)
    limits, feasible = limits_at(bounds)
    assert feasible
    sampler = path_sampler(FEW, 0, limits)
    check_uniform(sampler.draw_many(60 * len(feasible), rng), feasible)
    check_uniform([sampler.draw(rng) for _ in range(20 * len(feasible))], feasible)


def latency(seed=0):
    """A table of each size, not in the order of the sizes."""
    return LatencyTables(tuple(make_table(FEW.at(size), seed + size) for size in (32, 24)))


@pytest.mark.parametrize("position", (3, 60, 200))
@pytest.mark.parametrize("bounds", ((287, 287), (200, 240)), ids=("latency alone", "with FLOPs and params"))
def test_draws_are_uniform_below_a_limit_on_latency(position, bounds, rng):
    """Weights that favour fast architectures differ from size to size; the draws do not show them."""
    tables = latency()
    others = Constraints(
        score_max=None, flop_max_m=ORDERED[0][bounds[0]] / 1e6, param_max_m=ORDERED[1][bounds[1]] / 1e6
    )
    times = sorted(tables.of(one) for one, cost in COSTS.items() if others.admits(cost))
    domain = Domain(FEW, replace(others, latency_max_ms=times[min(position, len(times) - 1)] / 1e6), latency=tables)
    domain.check()
    feasible = [one for one in COSTS if domain.admits(one)]
    assert len(feasible) == min(position + 1, len(times))
    check_uniform(domain.sample_many(60 * len(feasible), rng), feasible)


def test_sizes_that_cannot_keep_the_limits_are_never_drawn(rng):
    largest = max(cost.macs for one, cost in COSTS.items() if one.input_size == 24)
    above = path_sampler(FEW, 0, limits_in_millions((None, None), ((largest + 1) / 1e6, None)))
    assert above.choices.sizes == (32,)
    assert {one.input_size for one in above.draw_many(50, rng)} == {32}
    with pytest.raises(InputError, match=r"no architecture of this space has FLOPs <= 0.01 M.*\(at 24 px\)"):
        path_sampler(FEW, 0, limits_in_millions((0.01, None), (None, None)))


def test_a_narrower_sampler_shares_the_tables(rng):
    limits, feasible = limits_at(BOUNDS["both"])
    narrower = path_sampler(FEW, 0, ()).within(limits)
    check_uniform(narrower.draw_many(40 * len(feasible), rng), feasible)


def test_what_no_size_meets_is_too_rare(monkeypatch):
    limits, _ = limits_at(BOUNDS["few"])
    nothing = lambda sampler, count, rng: (np.zeros((count, 2), int), np.zeros(count, bool))  # noqa: E731
    monkeypatch.setattr("spos.sampling.exact.ConstrainedSampler.tries", nothing)
    with pytest.raises(TooRare, match="found no architecture with FLOPs"):
        path_sampler(FEW, 0, limits)


def test_training_draws_uniformly_within_limits(rng):
    limits, feasible = limits_at(BOUNDS["both"])
    policy = ConstrainedPolicy(SamplingPolicy(FEW), limits)
    check_uniform([policy(0, step, rng) for step in range(20 * len(feasible))], feasible)


def test_a_walk_draws_uniformly_in_every_cell_of_all_sizes(rng):
    limits, feasible = limits_at(BOUNDS["all"])
    visits = dict(walk(FEW, 0, limits))
    for cell, sampler in visits.items():
        inside = [one for one in feasible if cell.holds(COSTS[one])]
        check_uniform(sampler.draw_many(60 * len(inside), rng), inside)
    met = Counter(one.input_size for cell in visits for one in feasible if cell.holds(COSTS[one]))
    assert met == {24: 144, 32: 144}
    policy = ConstrainedPolicy(SamplingPolicy(FEW), limits, "evolution", 200)
    for step in range(200):
        assert policy.cell(0, step).holds(COSTS[policy(0, step, rng)])
