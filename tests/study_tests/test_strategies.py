"""Strategies compared: evolution against random search, at equal evaluations."""

from dataclasses import replace

import numpy as np
from search_tests.test_evolution import SPACE, TINY_SPACE, UNBOUNDED

from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings
from spos.search.flags import ConstraintOptions
from spos.study.strategies import additive, best_so_far, compare, searches
from study_tests.test_oracles import STABLE

SETTINGS = GeneticSettings(population_size=30, retain_length=6, num_iterations=300)


def test_evolution_beats_random_search_at_equal_evaluations():
    """On additive oracles in the space of OneShot-S+, whose optimum is known: 20 seeds, 300 evaluations each."""
    results = compare(additive(STABLE, ConstraintOptions()), SETTINGS, 300, range(20))
    assert results["genetic"].gain.low > 1
    assert results["spos"].gain.low > 1
    assert results["random"].gain is None
    assert 0 < results["spos"].regret.mean < results["random"].regret.mean
    assert [len(result.curve) for result in results.values()] == [300] * 3


def test_evolution_beats_random_search_within_tight_limits():
    limits = ConstraintOptions(flop_max_m=200, param_max_m=3.1)
    results = compare(additive(STABLE, limits), replace(SETTINGS, population_size=20), 120, range(5))
    assert results["genetic"].gain.low > 0 and results["spos"].gain.low > 0
    assert all(result.is_bound and result.regret.mean > 0 for result in results.values())


def test_nothing_found_is_above_the_optimum():
    make_task = additive(STABLE, ConstraintOptions(flop_max_m=250))
    for seed in range(3):
        task = make_task(seed)
        for make in searches(SETTINGS).values():
            best = best_so_far(make(task.domain, np.random.default_rng(seed)), task.oracle, 100)
            assert len(best) == 100 and np.all(np.diff(best) >= 0) and best[-1] <= task.optimum


def test_each_search_scores_exactly_the_evaluations_given():
    """The last generation is cut: what comes after the count does not matter."""
    scored = []

    def oracle(architecture):
        scored.append(architecture)
        return float(len(scored))

    search = searches(SETTINGS)["genetic"](Domain(SPACE), np.random.default_rng(0))
    best = best_so_far(search, oracle, 47)
    assert best.tolist() == list(range(1, 48))


def test_a_search_that_ends_early_keeps_its_best():
    search = searches(SETTINGS)["random"](Domain(TINY_SPACE, UNBOUNDED), np.random.default_rng(0))
    best = best_so_far(search, lambda architecture: float(sum(architecture.genes)), 40)
    assert len(best) == 40 and best[15:].tolist() == [4.0] * 25
