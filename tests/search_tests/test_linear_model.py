"""The linear model: against textbook Bayesian regression, and what its effects mean."""

import numpy as np
import pytest

from search_tests.test_evolution import SPACE, TINY_SPACE
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.linear_model import MEAN_VARIANCE, LinearModel

DOMAINS = {"published": Domain(SPACE), "tiny": Domain(TINY_SPACE, Constraints(score_max=None))}


def scored(domain, count, seed=0, noise=0.1):
    """(architectures, rows, fitness) of effects drawn for the purpose."""
    rng = np.random.default_rng(seed)
    architectures = domain.sample_many(count, rng)
    rows = domain.effects.of(architectures)
    return architectures, rows, rows @ rng.normal(size=rows.shape[1]) + noise * rng.normal(size=count)


@pytest.mark.parametrize("name", DOMAINS)
def test_a_chain_says_what_effects_say(name):
    domain = DOMAINS[name]
    architectures, rows, _ = scored(domain, 20)
    effects = np.random.default_rng(1).normal(size=rows.shape[1])
    chain, by_size = domain.effects.chain(effects)
    assert by_size == [0]
    values = [chain(tuple(zip(one.block_choices, one.channel_choices))) for one in architectures]
    assert values == pytest.approx((rows @ effects).tolist(), rel=1e-9, abs=1e-9)


def test_every_effect_has_its_choice():
    """A choice of one choice block changes that block's effects, its neighbours' and those anywhere; nothing else."""
    domain = DOMAINS["published"]
    one = domain.sample_many(1, np.random.default_rng(0))[0]
    genes = list(one.genes)
    genes[5] = (genes[5] + 1) % 4
    rows = domain.effects.of([one, domain.from_genes(genes)])
    changed = {
        group.name: int(np.count_nonzero(rows[0, group.columns] != rows[1, group.columns]))
        for group in domain.effects.groups
    }
    assert changed == {
        "costs": 2,
        "block anywhere": 2,
        "width anywhere": 0,
        "block": 2,
        "width": 0,
        "block and width": 2,
        "neighbours": 4,
    }


@pytest.mark.parametrize("noise", (0.01, np.linspace(0.01, 5.0, 12)), ids=("one", "each"))
def test_it_is_bayesian_linear_regression(noise):
    """The dual form gives what the primal one does, with the same variances: mean, prediction, and spread of draws."""
    domain = DOMAINS["tiny"]
    _, rows, fitness = scored(domain, 12)
    model = LinearModel(domain.effects, rows, fitness, noise=noise)
    mean, scale = fitness.mean(), fitness.std()
    prior = np.concatenate(
        [[variance / group.active] * (group.columns.stop - group.columns.start)
         for group, variance in zip(domain.effects.groups, model.variances)]
    )  # fmt: skip
    whole = np.column_stack([rows, np.ones(len(rows))])
    precision = (whole.T / model.noise) @ whole + np.diag(1 / np.append(prior, MEAN_VARIANCE))
    covariance = np.linalg.inv(precision)
    expected = covariance @ (whole.T / model.noise) @ ((fitness - mean) / scale)
    assert model.mean() == pytest.approx(expected[:-1], rel=1e-6, abs=1e-9)
    assert model.predict(rows) == pytest.approx(mean + scale * (whole @ expected), rel=1e-6)
    draws = model.draw(40_000, np.random.default_rng(0))
    deviation = np.sqrt(np.diag(covariance)[:-1])
    assert (np.abs(draws.mean(0) - expected[:-1]) < 5 * deviation / 200).all()
    assert draws.std(0) == pytest.approx(deviation, rel=0.03)


def test_it_learns_what_is_linear_and_trusts_nothing_in_noise():
    domain = DOMAINS["published"]
    rng = np.random.default_rng(5)
    _, rows, fitness = scored(domain, 400, noise=0.0)
    known, new = slice(0, 300), slice(300, None)
    model = LinearModel(domain.effects, rows[known], fitness[known])
    error = np.sqrt(np.mean((model.predict(rows[new]) - fitness[new]) ** 2))
    assert error < 0.7 * fitness[new].std()
    noise = rng.normal(size=400)
    model = LinearModel(domain.effects, rows[known], noise[known])
    assert model.predict(rows[new]).std() < 0.4
    assert model.residual > 0.5


def test_noise_that_is_known_is_not_learned():
    domain = DOMAINS["tiny"]
    _, rows, fitness = scored(domain, 12)
    assert LinearModel(domain.effects, rows, fitness, noise=float(fitness.var())).noise.min() >= 1


def test_equal_scores_are_no_error():
    domain = DOMAINS["tiny"]
    _, rows, _ = scored(domain, 6)
    model = LinearModel(domain.effects, rows, np.full(6, 0.5))
    assert model.predict(rows) == pytest.approx(np.full(6, 0.5))
