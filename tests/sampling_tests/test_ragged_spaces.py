"""Draws of spaces whose choice blocks differ: valid, canonical, uniform, and within the widths of their epoch."""

from collections import Counter
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from ragged_spaces import RAGGED, SPACES, check_canonical, every_architecture

from sampling_tests.test_exact import check_uniform
from spos.core.errors import InputError
from spos.sampling.limits import limits_in_millions
from spos.sampling.strips import ConstrainedPolicy, cell_samplers, path_sampler
from spos.sampling.warm_up import SamplingPolicy, warm_up_lowest_choice
from spos.space.architecture import Architecture
from spos.space.cost import cost_table
from spos.training.strategies import FairStrategy, SandwichStrategy

LOWEST = range(RAGGED.num_channel_choices)
NO_LIMIT = limits_in_millions((None, None), (None, None))


@pytest.fixture(params=SPACES)
def ragged(request):
    return SPACES[request.param]


def at(space, lowest):
    """All architectures of a small space of widths from `lowest` on."""
    return every_architecture(replace(space, min_channel_choice=lowest))


def limits_between(space, low, high):
    ordered = [sorted(column) for column in zip(*map(cost_table(space).cost, every_architecture(space)))]
    upper, lower = ([column[int(share * (len(column) - 1))] / 1e6 for column in ordered] for share in (high, low))
    return limits_in_millions(upper, lower)


@pytest.mark.parametrize("lowest", LOWEST)
def test_draws_are_blocks_and_widths_independently_and_uniformly(lowest, rng):
    """A block without a middle takes the chance of all of its widths together."""
    expected = Counter()
    for index, own in enumerate(RAGGED.choices):
        widths = RAGGED.channel_choices(index, lowest)
        for b in range(len(own.blocks)):
            for c in widths:
                expected[(index, RAGGED.canonical_pair(index, b, c))] += 1 / len(own.blocks) / len(widths)
    draws = [RAGGED.sample(rng, lowest) for _ in range(8000)]
    counts = Counter((i, pair) for one in draws for i, pair in enumerate(zip(one.block_choices, one.channel_choices)))
    assert set(counts) == set(expected)
    chi_square = sum((counts[key] - 8000 * share) ** 2 / (8000 * share) for key, share in expected.items())
    degrees = len(expected) - RAGGED.num_choice_blocks
    assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


def test_draws_are_valid_and_canonical_in_every_epoch(ragged, rng):
    policy = SamplingPolicy(ragged, epoch_start_cs=2, cs_warm_up=True)
    for epoch in range(ragged.num_channel_choices + 12):
        lowest = policy.lowest_channel_choice(epoch)
        for step in range(5):
            drawn = policy(epoch, step, rng)
            check_canonical(ragged, drawn)
            assert all(c in ragged.channel_choices(i, lowest) for i, c in enumerate(drawn.channel_choices))


def test_the_warm_up_ends_at_all_widths_of_every_choice_block(ragged):
    policy = SamplingPolicy(ragged, epoch_start_cs=1, cs_warm_up=True)
    last = 1 + sum(ragged.warm_up_durations)
    lowest = [policy.lowest_channel_choice(epoch) for epoch in range(last + 1)]
    assert lowest == sorted(lowest, reverse=True) and lowest[0] == ragged.max_channel_choice and lowest[-1] == 0
    for index, own in enumerate(ragged.choices):
        counts = [len(ragged.channel_choices(index, one)) for one in lowest]
        assert counts[0] == 1 and counts[-1] == len(own.channel_scales) and counts == sorted(counts)


def test_the_warm_up_of_the_ragged_space_epoch_by_epoch():
    """Its choice blocks have 2, 2, 4 and 3 widths, and few ones have all of theirs first."""
    widths = [
        [len(RAGGED.channel_choices(index, warm_up_lowest_choice(RAGGED, epoch))) for index in range(4)]
        for epoch in range(3)
    ]
    assert widths == [[2, 2, 2, 2], [2, 2, 3, 3], [2, 2, 4, 3]]


@pytest.mark.parametrize("lowest", LOWEST)
def test_draws_without_limits_are_uniform_over_the_architectures(lowest, rng):
    every = at(RAGGED, lowest)
    check_uniform(path_sampler(RAGGED, lowest, NO_LIMIT).draw_many(20 * len(every), rng), every)


@pytest.mark.parametrize("lowest", (0, 2))
@pytest.mark.parametrize("shares", ((0.0, 0.3), (0.2, 0.7), (0.6, 1.0)))
@pytest.mark.parametrize("num_cells", (64, 2**17))  # coarse: most of what is tried is rounded to a wrong place
def test_draws_within_limits_are_uniform_over_what_keeps_them(lowest, shares, num_cells, rng, monkeypatch):
    monkeypatch.setattr("spos.sampling.exact.NUM_CELLS", num_cells)
    limits = limits_between(RAGGED, *shares)
    costs = cost_table(RAGGED)
    feasible = [one for one in at(RAGGED, lowest) if all(limit.keeps(costs.cost(one)) for limit in limits)]
    assert len(feasible) > 20
    check_uniform(path_sampler(RAGGED, lowest, limits).draw_many(20 * len(feasible), rng), feasible)


def test_strips_share_out_what_keeps_the_limits(rng):
    limits = limits_between(RAGGED, 0.1, 0.9)
    costs = {one: cost_table(RAGGED).cost(one) for one in every_architecture(RAGGED)}
    feasible = {one for one, cost in costs.items() if all(limit.keeps(cost) for limit in limits)}
    met = Counter()
    for cell, sampler in (pair for strip in cell_samplers(RAGGED, 0, limits) for pair in strip):
        own = [one for one in feasible if cell.holds(costs[one])]
        met.update(own)
        check_uniform(sampler.draw_many(20 * len(own), rng), own)
    assert set(met) == feasible and set(met.values()) == {1}


@pytest.mark.parametrize("method", ("random", "evolution"))
def test_every_space_is_walked_through_within_limits(ragged, method, rng):
    smallest, largest = cost_table(ragged).range()
    flops, params = ((low + 0.6 * (high - low)) / 1e6 for low, high in zip(smallest, largest))
    limits = limits_in_millions((flops, params), (None, None))
    policy = ConstrainedPolicy(SamplingPolicy(ragged), limits, method, 56)
    for step in range(56):
        drawn = policy(0, step, rng)
        check_canonical(ragged, drawn)
        assert all(limit.keeps(cost_table(ragged).cost(drawn)) for limit in limits)


def test_limits_hold_from_the_first_epoch_whose_widths_can_keep_them():
    """What is below the smallest cost of wide epochs is drawn freely in them."""
    policy = SamplingPolicy(RAGGED, epoch_start_cs=1, cs_warm_up=True)
    smallest = [min(cost_table(RAGGED).cost(one).macs for one in at(RAGGED, lowest)) for lowest in LOWEST]
    bound = limits_in_millions((smallest[0] / 1e6, None), (None, None))
    constrained = ConstrainedPolicy(policy, bound)
    epochs = [constrained.holds(epoch) for epoch in range(5)]
    expected = [smallest[policy.lowest_channel_choice(epoch)] <= smallest[0] for epoch in range(5)]
    assert epochs == expected and epochs[-1] and not epochs[0]
    assert constrained.first_epoch(10) == epochs.index(True)
    with pytest.raises(InputError, match="no width of the epochs before"):
        constrained.first_epoch(1)


def test_fair_deals_every_choice_of_every_choice_block(ragged, rng):
    passes = FairStrategy(SamplingPolicy(ragged))(0, 0, rng)
    assert len(passes) == ragged.num_block_choices
    for index, own in enumerate(ragged.choices):
        counts = Counter(one.architecture.block_choices[index] for one in passes)
        assert set(counts) == set(range(len(own.blocks)))
        assert max(counts.values()) - min(counts.values()) <= 1
    for one in passes:
        check_canonical(ragged, one.architecture)


def widths_of(passes, index, space):
    """Channel choices of a choice block, where its block has a middle."""
    chosen = (one.architecture for one in passes)
    return [a.channel_choices[index] for a in chosen if space.has_middle(index, a.block_choices[index])]


@pytest.mark.parametrize("kind", (FairStrategy, SandwichStrategy))
def test_widths_of_a_strategy_are_uniform_though_some_blocks_have_none(kind, rng):
    """Of the random paths; the first two of a sandwich are its ends."""
    space, strategy = SPACES["tiny"], kind(SamplingPolicy(SPACES["tiny"]))
    counts = Counter()
    for step in range(1500):
        passes = strategy(0, step, rng)
        counts.update(widths_of(passes if kind is FairStrategy else passes[2:], 3, space))
    expected = sum(counts.values()) / 3
    assert len(counts) == 3
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 13.8  # 2 degrees, p = 0.001


def test_the_ends_of_a_sandwich_are_those_of_every_choice_block(ragged, rng):
    for lowest_epoch in (0, 100):
        policy = SamplingPolicy(ragged, epoch_start_cs=1, cs_warm_up=True)
        lowest = policy.lowest_channel_choice(lowest_epoch)
        for step in range(5):
            passes = SandwichStrategy(policy)(lowest_epoch, step, rng)
            assert len({one.architecture.block_choices for one in passes}) == 1
            for one in passes:
                check_canonical(ragged, one.architecture)
            blocks = passes[0].architecture.block_choices
            widest, narrowest = passes[0].architecture, passes[1 if len(passes) > 1 else 0].architecture
            for index, b in enumerate(blocks):
                widths = ragged.channel_choices(index, lowest)
                low = widths[0] if ragged.has_middle(index, b) else widths[-1]
                assert (widest.channel_choices[index], narrowest.channel_choices[index]) == (widths[-1], low)


def test_a_space_of_one_architecture_is_drawn_from(rng):
    space = SPACES["mobilenetv2"]
    only = Architecture((0,) * 17, (0,) * 17)
    assert prod(len(space.pairs(index)) for index in range(17)) == 1
    assert {space.sample(rng) for _ in range(3)} == {only}
    assert path_sampler(space, 0, NO_LIMIT).draw(rng) == only
    (one,) = FairStrategy(SamplingPolicy(space))(0, 0, rng)
    assert one.architecture == only and len(SandwichStrategy(SamplingPolicy(space))(0, 0, rng)) == 1
