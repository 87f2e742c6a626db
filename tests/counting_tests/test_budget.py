"""Budgets: what limits leave, exact or estimated, and what they force."""

import numpy as np
import pytest
from ragged_spaces import MOBILE, RAGGED, every_architecture

from counting_tests.test_sums import keep, limits_of, parts_of
from spos.counting import budget
from spos.counting.budget import Budget, Number, estimate
from spos.sampling.exact import TooRare
from spos.sampling.limits import Constraints
from spos.space.cost import cost_table
from spos.space.space_file import load_space

RNG_SEED = 4


def budget_of(space, shares):
    return Budget.of(space, limits_of(space, shares), np.random.default_rng(RNG_SEED))


@pytest.mark.parametrize("space", (RAGGED, MOBILE), ids=lambda space: space.layout)
@pytest.mark.parametrize("shares", ((0.3, None, None), (0.4, 0.6, None), (None, None, 0.2), (0.02, 0.02, None)))
def test_forced_and_never_are_those_of_brute_force(space, shares):
    limits, found = limits_of(space, shares), budget_of(space, shares)
    costs = cost_table(space)
    kept = [one for one in every_architecture(space) if all(limit.keeps(costs.cost(one)) for limit in limits)]
    assert kept and found.number == Number(len(kept)) and found.can_be_met
    for index, (left, own) in enumerate(zip(found.left, space.choices)):
        blocks = {own.blocks[one.block_choices[index]].name for one in kept}
        scales = {
            own.channel_scales[one.channel_choices[index]]
            for one in kept
            if space.has_middle(index, one.block_choices[index])
        }
        assert (set(left.blocks), set(left.scales)) == (blocks, scales)
        assert set(left.never_blocks) == {kind.name for kind in own.blocks} - blocks
        assert left.forced_block == (min(blocks) if len(blocks) == 1 < len(own.blocks) else None)
        several = len(left.scales) + len(left.never_scales) > 1
        assert left.forced_scale == (min(scales) if several and len(scales) == 1 else None)


def test_the_smallest_budget_forces_every_choice():
    found = budget_of(RAGGED, (0.0, None, None))
    assert found.number == Number(1) and found.limits == ("FLOPs <= 0.085785 M",)
    assert [own.forced_block for own in found.left] == ["I", "I", "M4", "I"]
    assert [own.num_never for own in found.left] == [7, 3, 7, 3]


def test_what_cannot_be_met_is_exactly_nothing():
    below = Constraints(score_max=None, flop_max_m=cost_table(RAGGED).range()[0].macs / 1e6 - 0.000001).limits()
    found = Budget.of(RAGGED, below, np.random.default_rng(0))
    assert found.number == Number(0) and not found.can_be_met
    assert all(own.forced_block is None and not own.blocks for own in found.left)


@pytest.mark.parametrize("shares", ((0.3, None, None), (0.4, 0.6, None), (None, None, 0.2), (0.6, 0.3, 0.9)))
def test_estimates_have_the_exact_number_in_their_interval(shares):
    """In 95% of the cases: 15 of 20 or fewer are one in 400."""
    space = load_space("nas-bench-macro")
    limits = limits_of(space, shares)
    costs = np.array([cost_table(space).cost(one) for one in every_architecture(space)])
    exact = keep(costs, limits).sum()
    numbers = [estimate(*parts_of(space), limits, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(number.interval[0] <= exact <= number.interval[1] * (1 + 1e-9) for number in numbers) > 15
    for number in numbers:
        assert not number.is_exact and number.interval[1] - number.interval[0] < 0.05 * exact


def test_a_published_space_is_estimated():
    found = budget_of(load_space("oneshot"), (0.3, 0.3, None))
    low, high = found.number.interval
    assert low < found.number.value < high < 1.02 * low and 1e30 < low < 40**20


def test_what_the_sampler_does_not_meet_has_no_number(monkeypatch):
    def too_rare(*args):
        raise TooRare("found none")

    monkeypatch.setattr(budget, "ConstrainedSampler", too_rare)
    monkeypatch.setattr(budget, "count_within", lambda *args: None)
    found = budget_of(RAGGED, (0.4, 0.6, None))
    assert found.number.value is None and not found.number.is_exact and found.can_be_met
