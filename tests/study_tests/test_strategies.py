"""Strategies compared: evolution against random search, at equal evaluations."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conftest import SHARED
from search_tests.test_evolution import SPACE, TINY_SPACE, UNBOUNDED

from spos.core.errors import InputError
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings
from spos.search.flags import ConstraintOptions
from spos.study.strategies import (
    SEARCHES,
    additive,
    best_so_far,
    chosen_by_model,
    compare,
    scores_of_search,
    searches,
    tabled,
)
from study_tests.test_oracles import STABLE

BRED = ("genetic", "spos")
SETTINGS = GeneticSettings(population_size=30, retain_length=6, num_iterations=300)


def test_evolution_beats_random_search_at_equal_evaluations():
    """On additive oracles in the space of OneShot-S+, whose optimum is known: 20 seeds, 300 evaluations each."""
    results = compare(additive(STABLE, ConstraintOptions()), SETTINGS, 300, range(20), BRED)
    assert results["genetic"].gain.low > 1
    assert results["spos"].gain.low > 1
    assert results["random"].gain is None
    assert 0 < results["spos"].regret.mean < results["random"].regret.mean
    assert [len(result.curve) for result in results.values()] == [300] * 3


def test_evolution_beats_random_search_within_tight_limits():
    limits = ConstraintOptions(flop_max_m=200, param_max_m=3.1)
    results = compare(additive(STABLE, limits), replace(SETTINGS, population_size=20), 120, range(5), BRED)
    assert results["genetic"].gain.low > 0 and results["spos"].gain.low > 0
    assert all(result.is_bound and result.regret.mean > 0 for result in results.values())


def test_only_limits_that_are_given_hold():
    for given, count in ({}, 0), ({"flop_max_m": 250}, 1), ({"flop_max": 1.0}, 1), ({"score_max": 1.0}, 1):
        limits = additive(STABLE, ConstraintOptions(**given))(0).domain.constraints.limits()
        assert len(limits) == count


def test_nothing_found_is_above_the_optimum():
    make_task = additive(STABLE, ConstraintOptions(flop_max_m=250))
    for seed in range(3):
        task = make_task(seed)
        for make in searches(SETTINGS).values():
            scored = scores_of_search(make(task.domain, np.random.default_rng(seed)), task.oracle, 100)
            best = best_so_far(*scored, 100)
            assert len(best) == 100 and np.all(np.diff(best) >= 0) and best[-1] <= task.optimum


def test_each_search_scores_exactly_the_evaluations_given():
    """The last generation is cut: what comes after the count does not matter."""
    scored = []

    def oracle(architecture):
        scored.append(architecture)
        return float(len(scored))

    search = searches(SETTINGS)["genetic"](Domain(SPACE), np.random.default_rng(0))
    best = best_so_far(*scores_of_search(search, oracle, 47), 47)
    assert best.tolist() == list(range(1, 48))


def test_a_search_that_ends_early_keeps_its_best():
    search = searches(SETTINGS)["random"](Domain(TINY_SPACE, UNBOUNDED), np.random.default_rng(0))
    best = best_so_far(*scores_of_search(search, lambda architecture: float(sum(architecture.genes)), 40), 40)
    assert len(best) == 40 and best[15:].tolist() == [4.0] * 25


def test_a_surrogate_is_nearer_to_the_optimum_than_evolution():
    """Additive oracles, whose effects it has to find; with noise too, and judged without it."""
    assert SEARCHES == ("genetic", "spos", "surrogate", "random")
    settings = replace(SETTINGS, population_size=25)
    for noise, least in ((0.0, 1.0), (0.5, 0.5)):
        results = compare(
            additive(STABLE, ConstraintOptions(), noise), settings, 200, range(50, 52), ("spos", "surrogate")
        )
        assert results["surrogate"].best.mean > results["spos"].best.mean + least
        assert (
            (results["surrogate"].regret_of_scored is None)
            == (results["random"].regret_by_model is None)
            == (noise == 0)
        )
    for name in ("spos", "random"):
        assert results[name].regret_of_scored.mean <= results[name].regret_by_model.mean


def test_a_model_does_not_choose_what_luck_has_put_first(table):
    """Of the networks of a table, whose accuracies are additive but for noise, one is given the highest by luck."""
    file, _ = table
    domain = tabled(str(file), "channel-bench-macro", 40)(0).domain
    asked = list(domain.scores)
    true = [float(sum(one.genes)) for one in asked]
    lucky = int(np.argsort(true)[len(true) // 2])
    fitness = [value + 0.1 * (i % 3) for i, value in enumerate(true)]
    fitness[lucky] = max(fitness) + 0.5
    assert true[asked.index(chosen_by_model(domain, asked, fitness))] == max(true)


def test_noise_is_the_same_for_an_architecture_and_another_for_another_seed():
    make_task = additive(STABLE, ConstraintOptions(), 0.5)
    first, again, other = map(make_task, (1, 1, 2))
    architectures = first.domain.sample_many(400, np.random.default_rng(0))
    seen = np.array([[task.oracle(one) - task.judge(one) for one in architectures] for task in (first, again, other)])
    assert (seen[0] == seen[1]).all() and (seen[0] != seen[2]).all()
    assert abs(seen[0].mean()) < 0.1 and 0.45 < seen[0].std() < 0.55


@pytest.fixture
def table(tmp_path):
    """Of 4 choice blocks: what the first seed prefers, the others do not."""
    digits = ["".join(map(str, one)) for one in product(range(3), repeat=4)]
    rng = np.random.default_rng(0)
    accuracies = 90 + rng.random((len(digits), 3))
    entries = {name: {"acc": own} for name, own in zip(digits, accuracies.tolist())}
    (tmp_path / "table.json").write_text(json.dumps(entries))
    return tmp_path / "table.json", accuracies / 100


def test_a_search_in_a_table_sees_one_seed_and_is_judged_by_the_others(table):
    file, accuracies = table
    make_task = tabled(str(file), "channel-bench-macro", 40)
    for seed in (0, 1, 5):
        task, seen = make_task(seed), seed % 3
        others = np.delete(accuracies, seen, axis=1).mean(1)
        scores = list(task.domain.scores.values())
        assert scores == pytest.approx(accuracies[:, seen].tolist()) and task.optimum == pytest.approx(others.max())
        best = list(task.domain.scores)[int(np.argmax(scores))]
        assert task.judge(best) == pytest.approx(others[np.argmax(accuracies[:, seen])])


def test_the_chosen_is_the_fittest_and_its_value_is_what_it_is_judged_by(table):
    file, _ = table
    make_task = tabled(str(file), "channel-bench-macro", 40)
    results = compare(make_task, replace(SETTINGS, population_size=8), 40, range(6))
    for name, result in results.items():
        assert result.regret.mean > result.regret_of_scored.mean >= 0, name
    task = make_task(0)
    asked, fitness = scores_of_search(
        searches(SETTINGS)["random"](task.domain, np.random.default_rng(0)), task.oracle, 40
    )
    chosen = [task.judge(asked[int(np.argmax(fitness[: n + 1]))]) for n in range(40)]
    assert best_so_far(asked, fitness, 40, task.judge).tolist() == chosen


def test_all_of_a_table_cannot_be_scored(table):
    with pytest.raises(InputError, match="--evaluations 81 would score all 81 architectures"):
        tabled(str(table[0]), "channel-bench-macro", 81)


@pytest.mark.skipif(not SHARED.is_dir(), reason="published tables lie in ../shared")
@pytest.mark.parametrize("name", ("nas_bench_macro_cifar10", "channel_bench_macro_mobilenet"))
def test_a_surrogate_scores_better_networks_of_published_tables(name):
    """The best of what it scores in 60 evaluations, over 6 seeds."""
    table_format = "nas-bench-macro" if name.startswith("nas") else "channel-bench-macro"
    make_task = tabled(str(SHARED / "data" / "nas_bench" / f"{name}.json"), table_format, 60)
    settings = replace(SETTINGS, population_size=20, retain_length=5)
    results = compare(make_task, settings, 60, range(50, 54), ("genetic", "surrogate"))
    assert results["surrogate"].regret_of_scored.mean < results["genetic"].regret_of_scored.mean


def test_gains_are_over_the_baseline_that_is_asked_for():
    settings = GeneticSettings(population_size=10, retain_length=3, num_iterations=6)
    make_task = additive(STABLE, ConstraintOptions())
    over_random, over_genetic = (
        compare(make_task, settings, 40, range(50, 53), ("surrogate",), baseline) for baseline in ("random", "genetic")
    )
    assert set(over_random) == {"surrogate", "random"} and set(over_genetic) == {"surrogate", "random", "genetic"}
    assert over_genetic["genetic"].gain is None and over_genetic["surrogate"].best == over_random["surrogate"].best
    for name in ("surrogate", "random"):
        expected = over_genetic[name].best.mean - over_genetic["genetic"].best.mean
        assert over_genetic[name].gain.mean == pytest.approx(expected)
