"""Tilting: limits on latency are met often, and draws stay uniform."""

from dataclasses import replace

import pytest
from latency_tests.test_table import make_table

from sampling_tests.test_exact import SPACE, TINY, all_architectures, all_costs, check_uniform, with_latency
from spos.sampling.limits import Constraints, limits_in_millions
from spos.search.domain import Domain
from spos.space.architecture import Architecture


def samples_of(domain, sampler, count, rng):
    """Many samples at once."""
    drawn = sampler.draw_many(count, rng).tolist()
    return [Architecture(*zip(*(pairs[choice] for pairs, choice in zip(domain.pairs, own)))) for own in drawn]


@pytest.mark.parametrize("position", (0, 2, 40, 400, 1727))
@pytest.mark.parametrize("bounds", ((1727, 1727), (900, 900)), ids=("latency alone", "with FLOPs and params"))
def test_samples_are_uniform_below_a_limit_on_latency(position, bounds, rng):
    costs, table = all_costs(TINY), make_table(TINY)
    macs, params = (sorted(column)[bound] / 1e6 for column, bound in zip(zip(*costs.values()), bounds))
    others = Constraints(score_max=None, flop_max_m=macs, param_max_m=params)
    latencies = sorted(table.latency_ms(a) for a, cost in costs.items() if others.admits(cost))
    constraints = replace(others, latency_max_ms=latencies[min(position, len(latencies) - 1)])
    domain = Domain(TINY, constraints, latency=table)
    feasible = [a for a in costs if domain.admits(a)]
    assert len(feasible) == min(position + 1, len(latencies))
    domain.check()
    check_uniform(samples_of(domain, domain._sampler, 20 * len(feasible), rng), feasible)


@pytest.mark.parametrize("limits", ({}, {"flop_max_m": 280, "param_max_m": 3.6}), ids=("alone", "with others"))
@pytest.mark.parametrize("share", (0.5, 0.01, 0.0001))
def test_a_tight_limit_on_latency_costs_few_tries(share, limits, rng):
    domain = with_latency(SPACE, share, **limits)
    samples = [domain.sample(rng) for _ in range(30)]
    assert all(domain.admits(sample) for sample in samples) and len(set(samples)) == 30
    assert domain._sampler.acceptance(rng) > 0.05


def test_a_narrower_sampler_keeps_the_limit_on_latency(rng):
    domain = with_latency(TINY, 0.2)
    sampler = domain._sampler.within(limits_in_millions((0.5, None), (0.4, None)))
    costs = {a: domain.cost(a) for a in all_architectures(TINY)}
    feasible = {a for a, cost in costs.items() if domain.admits(a) and 400_000 <= cost.macs <= 500_000}
    assert len(feasible) > 20
    check_uniform(samples_of(domain, sampler, 30 * len(feasible), rng), feasible)
