"""Search by a surrogate: what it asks for and foresees, that it repeats and can be distrusted, that it beats others."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conftest import ROOT

from search_tests.test_evolution import SPACE, TIGHT, TINY_SPACE, UNBOUNDED, flat, make_fitness, run
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings
from spos.search.linear_model import variance_of
from spos.search.surrogate import (
    FEWEST_CHECKS,
    Check,
    Forecasts,
    known_fitness,
    surrogate_search,
)
from spos.space.architecture import Architecture
from spos.study.oracles import RecordedDomain

DOMAIN = Domain(SPACE)
SETTINGS = GeneticSettings(population_size=20, retain_length=5, num_iterations=6)
SHORT = replace(SETTINGS, num_iterations=3)


def surrogate(domain=DOMAIN, settings=SETTINGS, seed=0, **more):
    return surrogate_search(domain, settings, np.random.default_rng(seed), **more)


@pytest.mark.parametrize("domain", (DOMAIN, Domain(SPACE, TIGHT), Domain(SPACE, UNBOUNDED)))
def test_it_asks_for_new_architectures_of_the_domain(domain):
    generations = run(surrogate(domain), make_fitness())
    assert list(map(len, generations)) == [20] * 6
    asked = flat(generations)
    assert len(set(asked)) == len(asked) and all(map(domain.contains, asked))


def test_the_same_seed_and_scores_give_the_same_search():
    one, again, other = (run(surrogate(settings=SHORT, seed=seed), make_fitness()) for seed in (1, 1, 2))
    assert one == again != other


def test_it_begins_with_what_it_is_given():
    initial = next(surrogate(seed=7))[:3]
    assert next(surrogate(initial=initial))[:3] == initial


def test_the_first_proposal_is_the_best_by_the_expected_fitness():
    """In a space of 16 architectures everything can be predicted."""
    domain = Domain(TINY_SPACE, UNBOUNDED)
    settings = GeneticSettings(population_size=5, retain_length=2, num_iterations=3)
    forecasts = Forecasts()
    generations = run(surrogate(domain, settings, forecasts=forecasts), make_fitness())
    assert forecasts.predicted[generations[1][0]] == max(forecasts.predicted[one] for one in generations[1])


def test_a_small_domain_is_gone_through_once():
    domain = Domain(TINY_SPACE, UNBOUNDED)
    settings = GeneticSettings(population_size=5, retain_length=2, num_iterations=20)
    asked = flat(run(surrogate(domain, settings), make_fitness()))
    pairs = [list(own) for own in domain.pairs]
    assert len(asked) == len(set(asked)) == len(list(product(*pairs)))


def test_what_was_dropped_early_counts_as_the_worst():
    assert known_fitness([0.5, -np.inf, 0.3]).tolist() == [0.5, 0.3, 0.3]
    fitness = make_fitness()
    values = {}

    def half_dropped(architecture):
        values[architecture] = fitness(architecture)
        return values[architecture] if values[architecture] >= np.median(list(values.values())) else -np.inf

    assert len(flat(run(surrogate(), half_dropped))) == 120


def test_the_variance_of_an_accuracy_is_that_of_its_images():
    assert variance_of([0.5, 0.5], 100) == pytest.approx([0.0025, 0.0025])
    assert variance_of([0.0, 1.0], [100, 400]).tolist() == [0.0, 0.0]
    assert variance_of([0.5, 0.9], [100, 400]) == pytest.approx([0.17 / 100, 0.17 / 400])
    assert variance_of([0.5, 0.5], 0).tolist() == [0.0, 0.0] == variance_of([0.5, 0.5], [100, 0]).tolist()


def test_forecasts_are_made_before_scores_and_checks_are_not_chosen_by_the_model():
    forecasts, known, seen = Forecasts(), [], {}
    search = surrogate(forecasts=forecasts, seen=seen)
    generation = next(search)
    for _ in range(5):
        generation = search.send([make_fitness()(one) for one in generation])
        known.append((list(generation), len(forecasts.predicted), len(forecasts.checks)))
    assert [(predicted, checks) for _, predicted, checks in known] == [(20 * i, 4 * i) for i in range(1, 6)]
    assert {check.architecture for check in forecasts.checks[:4]} == set(known[0][0][-4:])
    errors = forecasts.errors(seen)
    assert errors.num_checks == 16  # those of the last generation are not scored yet
    true = np.array([seen[check.architecture] for check in forecasts.checks[:16]])
    predicted = np.array([check.predicted for check in forecasts.checks[:16]])
    assert errors.model == pytest.approx(np.sqrt(np.mean((true - predicted) ** 2)))
    assert Forecasts().errors({}) is None


@pytest.mark.parametrize("predicted, is_useful", ((0.1, True), (2.0, False)))
def test_a_model_that_tells_less_than_the_mean_is_distrusted(predicted, is_useful):
    asked = flat(run(surrogate(), make_fitness()))
    checks = [Check(one, predicted, 0.5) for one in asked[:FEWEST_CHECKS]]
    errors = Forecasts(checks=checks).errors(dict.fromkeys(asked, 0.0))
    assert errors.are_useful is is_useful
    assert Forecasts(checks=checks[1:]).errors(dict.fromkeys(asked, 0.0)).are_useful


def test_in_noise_it_goes_on_as_the_genetic_search():
    """Scores that have nothing to do with architectures: most generations have parents then."""
    rng, lineage, forecasts = np.random.default_rng(3), {}, Forecasts()
    settings = replace(SETTINGS, num_iterations=12)
    generations = run(surrogate(settings=settings, lineage=lineage, forecasts=forecasts), lambda one: rng.normal())
    assert forecasts.distrusted
    for number, generation in enumerate(generations):
        bred = sum(one in lineage for one in generation)
        assert bred == (16 if number in forecasts.distrusted else 0)


def test_it_searches_a_table():
    """729 networks of six choice blocks, whose accuracy adds up: the best is found with 60 of them."""
    utilities = np.random.default_rng(0).normal(size=(6, 3))
    networks = [Architecture(blocks, (0,) * 6) for blocks in product(range(3), repeat=6)]
    scores = {one: float(utilities[np.arange(6), one.block_choices].sum()) for one in networks}
    asked = flat(run(surrogate(RecordedDomain(scores), replace(SETTINGS, num_iterations=3)), scores.__getitem__))
    assert len(set(asked)) == 60 and set(asked) <= set(scores)
    assert max(map(scores.__getitem__, asked)) == max(scores.values())


def test_threads_change_no_decision(tmp_path):
    """A decision is made with one thread of BLAS, however many there are."""
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from search_tests.test_surrogate import SHORT, surrogate, run, make_fitness\n"
        "print([[one.genes for one in generation] for generation in run(surrogate(settings=SHORT), make_fitness())])"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2")
    ]
    assert printed[0] == printed[1]
