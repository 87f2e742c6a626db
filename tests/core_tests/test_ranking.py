"""Rank correlation, strata and regret: against SciPy, against known orders, and under ties."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from spos.core.errors import InputError
from spos.core.ranking import (
    NUM_RESAMPLES,
    Ranked,
    correlate,
    draw_stratified,
    kendall_tau,
    regret,
    regret_within_budgets,
    stratify,
)


@pytest.mark.parametrize("num_values", (3, 10, 1000))  # few values, so many ties
@pytest.mark.parametrize("seed", range(5))
def test_tau_b_is_that_of_scipy(seed, num_values):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, num_values, (2, 30))
    assert kendall_tau(first, second) == pytest.approx(kendalltau(first, second, variant="b")[0], abs=1e-12)


def test_tau_b_of_no_order_at_all_is_not_a_number():
    assert np.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))
    assert np.isnan(kendall_tau([1, 2, 3], [1, 2, 3], strata=[0, 1, 2]))


def test_within_strata_a_predictor_of_the_stratum_is_worth_nothing():
    strata = np.repeat([0, 1, 2], 10)
    truth = strata + np.random.default_rng(0).random(30)
    assert kendall_tau(strata, truth) > 0.7
    assert np.isnan(kendall_tau(strata, truth, strata))  # it orders no pair
    order_inside = np.argsort(np.argsort(truth)) % 10
    assert kendall_tau(order_inside, truth, strata) == 1
    assert kendall_tau(-order_inside, truth, strata) == -1


def test_within_one_stratum_is_overall(rng):
    first, second = rng.random((2, 20))
    assert kendall_tau(first, second, [4] * 20) == pytest.approx(kendall_tau(first, second))


def test_regret_is_what_the_best_of_the_first_loses():
    truth = [0.5, 0.9, 0.7, 0.6]
    assert regret([4, 1, 3, 2], truth, 1) == pytest.approx(0.4)
    assert regret([4, 1, 3, 2], truth, 2) == pytest.approx(0.2)
    assert regret([4, 1, 3, 2], truth, 4) == 0
    assert regret([1, 1, 1, 1], truth, 1) == pytest.approx(0.4)  # of equals, the earlier


def test_regret_within_budgets_is_the_mean_over_what_each_allows():
    truth, strata = [0.4, 0.5, 0.7, 0.6], [0, 0, 1, 1]
    assert regret_within_budgets(truth, truth, strata) == 0
    assert regret_within_budgets([4, 3, 2, 1], truth, strata) == pytest.approx((0.1 + 0.3) / 2)
    assert regret_within_budgets([1, 2, 3, 4], truth, strata) == pytest.approx((0.0 + 0.1) / 2)


def test_strata_hold_equally_many_by_rising_cost(rng):
    costs = rng.integers(0, 50, 100)
    strata = stratify(costs, 5)
    assert np.bincount(strata).tolist() == [20] * 5
    assert all(costs[strata == i].max() <= costs[strata == i + 1].min() for i in range(4))


def test_items_are_drawn_evenly_from_all_strata(rng):
    items, strata = draw_stratified(lambda count: rng.integers(0, 1000, count).tolist(), int, 20, 4, 500)
    assert strata == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    assert len(set(items)) == 20
    assert max(items[:5]) < min(items[15:])


@pytest.mark.parametrize(
    "count, words", ((21, "cannot be shared out evenly among 4 strata"), (400, "holds only .* different"))
)
def test_what_cannot_be_drawn_is_said(rng, count, words):
    with pytest.raises(InputError, match=words):
        draw_stratified(lambda size: rng.integers(0, 300, size).tolist(), int, count, 4, 500)


def make_ranked(seed, noise, num=60):
    """A truth that cost explains in part, one predictor of it, and the cost itself."""
    rng = np.random.default_rng(seed)
    cost = rng.random(num)
    truth = cost + rng.normal(0, 0.5, num)
    return Ranked(truth, {"good": truth + rng.normal(0, noise, num), "cost": cost}, stratify(cost, 5))


def test_a_better_predictor_gains_over_the_baseline():
    found = correlate(make_ranked(0, 0.1), "cost", np.random.default_rng(0))
    assert found["good"].gain.low > 0.1
    assert found["cost"].gain is None
    assert found["good"].overall.low < found["good"].overall.mean < found["good"].overall.high
    assert found["good"].within.low > 0 > found["cost"].within.low
    assert found["good"].regrets[5] == 0 <= found["good"].regret_within_budgets


def test_intervals_hold_the_true_value_about_as_often_as_they_say(monkeypatch):
    """tau of two normals of correlation r is 2/pi asin(r); the intervals of 100 samples are tried."""
    monkeypatch.setattr("spos.core.ranking.NUM_RESAMPLES", 200)
    true, hits = 2 / np.pi * np.arcsin(0.8), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        first, noise = rng.normal(size=(2, 60))
        ranked = Ranked(first, {"cost": 0.8 * first + 0.6 * noise}, np.zeros(60, int))
        overall = correlate(ranked, "cost", rng)["cost"].overall
        hits += overall.low <= true <= overall.high
    assert 88 <= hits <= 100


def test_the_same_seed_gives_the_same_intervals():
    one, other = (correlate(make_ranked(1, 0.3), "cost", np.random.default_rng(5)) for _ in range(2))
    assert one == other and NUM_RESAMPLES >= 1000


def test_two_architectures_are_too_few():
    with pytest.raises(InputError, match="at least 3 architectures, not 2"):
        Ranked(np.zeros(2), {}, np.zeros(2))
