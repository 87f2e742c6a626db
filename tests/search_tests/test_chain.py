"""The best of an additive fitness within limits, against going through everything."""

from itertools import product

import numpy as np
import pytest

from spos.search import chain as module
from spos.search.chain import Chain, maximise


def random_problem(rng):
    """(chain, shares, budgets) of up to 4 choice blocks and 9 pairs; some pairs are missing, some budgets too small."""
    num_blocks, kinds, widths, num_limits = (int(rng.integers(low, 5)) for low in (1, 1, 1, 0))
    kinds, widths = min(kinds, 3), min(widths, 3)
    own = rng.normal(size=(num_blocks, kinds, widths))
    own[:, :, 0][rng.random((num_blocks, kinds)) < 0.2] = -np.inf
    own[:, 0, 0] = np.where(np.isfinite(own).any((1, 2)), own[:, 0, 0], 0.0)
    shares = rng.integers(1, 100, (*own.shape, num_limits)).astype(float)
    if rng.random() < 0.5:  # what is good is dear
        shares = shares + np.where(np.isfinite(own), own, 0)[..., None] * 20
    most = shares.max((1, 2)).sum(0)
    return Chain(own, rng.normal(size=(num_blocks - 1, kinds, kinds))), shares, most * rng.uniform(0.2, 1, num_limits)


def everything(chain, shares, budgets):
    """(fitness, choices) of all that keeps the limits, the best first."""
    pairs = [[tuple(pair) for pair in np.argwhere(np.isfinite(own)).tolist()] for own in chain.own]
    kept = [one for one in product(*pairs) if (sum(shares[(i, *pair)] for i, pair in enumerate(one)) <= budgets).all()]
    return sorted(((chain(one), one) for one in kept), reverse=True)


@pytest.mark.parametrize("seed", range(150))
def test_it_is_the_best_of_all_that_keep_the_limits_and_are_wanted(seed):
    rng = np.random.default_rng(seed)
    chain, shares, budgets = random_problem(rng)
    ranked = everything(chain, shares, budgets)
    unwanted = {one for _, one in ranked[: int(rng.integers(0, 6))]}
    best = maximise(chain, shares, budgets, lambda one: one not in unwanted)
    wanted = [(value, one) for value, one in ranked if one not in unwanted]
    if not wanted:
        assert best is None
        return
    assert best.choices == wanted[0][1]
    assert best.value == pytest.approx(wanted[0][0], abs=1e-12) and best.bound == best.value


def test_a_sum_of_values_is_that_of_each_architecture():
    chain, *_ = random_problem(np.random.default_rng(3))
    blocks, channels = np.zeros((2, 5, len(chain.own)), int)
    assert chain.values(blocks, channels).shape == (5,)


def test_what_is_too_much_to_go_through_is_cut_and_the_bound_says_so(monkeypatch):
    """20 choice blocks of 40 choices of like worth, where next to nothing can be ruled out."""
    rng = np.random.default_rng(0)
    chain = Chain(rng.normal(size=(20, 4, 10)) * 1e-9, rng.normal(size=(19, 4, 4)) * 1e-9)
    shares = rng.integers(1, 100, (20, 4, 10, 2)).astype(float)
    budgets = shares.mean((1, 2)).sum(0) * 0.7
    monkeypatch.setattr(module, "MOST_PARTIAL", (20, 50))
    best = maximise(chain, shares, budgets)
    assert (sum(shares[(i, *pair)] for i, pair in enumerate(best.choices)) <= budgets).all()
    assert best.bound > best.value


@pytest.mark.parametrize("num_limits", (0, 1, 3))
def test_twenty_choice_blocks_are_gone_through_whole(num_limits):
    """And nothing that differs in one or two neighbouring choice blocks is better."""
    rng = np.random.default_rng(num_limits)
    chain = Chain(rng.normal(size=(20, 4, 10)), rng.normal(size=(19, 4, 4)))
    shares = rng.uniform(1, 2, (20, 4, 1, num_limits)) * np.linspace(0.2, 2, 10)[:, None]
    budgets = shares.mean((1, 2)).sum(0) * 0.8
    best = maximise(chain, shares, budgets)
    assert best.bound == best.value
    pairs = list(product(range(4), range(10)))
    for i in range(0, 19, 3):
        for first, second in product(pairs, pairs):
            other = (*best.choices[:i], first, second, *best.choices[i + 2 :])
            if chain(other) > best.value + 1e-9:
                assert (sum(shares[(j, *pair)] for j, pair in enumerate(other)) > budgets).any()
