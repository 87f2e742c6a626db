"""Budgets together against each alone, and searches for a front, at equal evaluations."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY

from spos.core.errors import InputError
from spos.sampling.limits import Constraints
from spos.search.budgets import Budgets
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings
from spos.search.flags import ConstraintOptions, SearchOptions
from spos.study.fronts import FRONTS, compare_budgets, compare_fronts
from spos.study.oracles import AdditiveOracle
from spos.study.strategies import Task, additive
from study_tests.test_strategies import STABLE

LIMITS = ConstraintOptions(score_max=-1.0)
SETTINGS = GeneticSettings(population_size=20, retain_length=5, num_iterations=10)


BUDGETS = Budgets.parse("flops:250,300,350,400,450")


def test_five_budgets_cost_little_more_than_one():
    """With 1.6 times the evaluations of one search."""
    results = compare_budgets(additive(STABLE, LIMITS), BUDGETS, SETTINGS, (100, 160), range(60, 63))
    assert list(results) == BUDGETS.names
    optima = [result.optimum for result in results.values()]
    assert optima == sorted(optima)
    assert all(max(result.own.mean, result.shared.mean) < result.optimum for result in results.values())
    assert sum(result.gain.mean for result in results.values()) > -0.5


def test_what_is_chosen_in_noise_is_judged_without_it():
    plain, noisy = (
        compare_budgets(additive(STABLE, LIMITS, noise), BUDGETS, SETTINGS, (20, 20), range(60, 62))
        for noise in (0.0, 1.0)
    )
    # of the same random first generation
    assert all(noisy[name].own.mean <= plain[name].own.mean for name in BUDGETS.names)
    assert sum(plain[name].own.mean - noisy[name].own.mean for name in BUDGETS.names) > 0.1
    for result in plain.values():
        assert result.gain.mean == pytest.approx(result.shared.mean - result.own.mean)


def test_the_front_of_a_model_is_ahead_of_evolution_and_chance():
    limits, options = replace(LIMITS, flop_max_m=400.0), SearchOptions(population_size=20, retain_length=5)
    results = compare_fronts(additive(STABLE, limits), "flops", options, 100, range(60, 62))
    assert tuple(results) == FRONTS and results["nsga2"].gain is None
    assert results["surrogate-front"].gain.mean > 1 and results["random"].gain.mean < 0.5
    for result in results.values():
        assert 0 < result.half.mean <= result.whole.mean


def test_a_domain_that_is_used_up_early_keeps_its_front():
    """Of fewer architectures than half of the evaluations."""
    space = replace(TINY, channel_scales=TINY.channel_scales[:2])
    options = SearchOptions(population_size=10, retain_length=2, search_iters=20)
    smallest, _ = Domain(space, Constraints(score_max=None)).cost_range("flops")
    domain = Domain(space, Constraints(score_max=None, flop_max_m=1.02 * smallest / 1e6))
    seen = len(set(domain.sample_many(400, np.random.default_rng(0))))
    assert 10 < seen < 50
    results = compare_fronts(
        lambda seed: Task(domain, AdditiveOracle.draw(space, np.random.default_rng(seed))),
        "flops",
        options,
        100,
        range(2),
    )
    assert results["random"].half == results["random"].whole


def test_only_an_additive_fitness_has_budgets_here():
    task = additive(STABLE, LIMITS)(0)
    with pytest.raises(InputError, match="on additive fitness"):
        compare_budgets(lambda seed: Task(task.domain, len), Budgets.parse("flops:300"), SETTINGS, (20, 20), range(2))


def test_a_budget_that_nothing_keeps_is_refused():
    with pytest.raises(InputError, match="smallest reachable"):
        compare_budgets(additive(STABLE, LIMITS), Budgets.parse("flops:5,300"), SETTINGS, (20, 20), range(2))
