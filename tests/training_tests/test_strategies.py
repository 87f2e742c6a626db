"""Which paths a step runs: fair deals every block choice once, sandwich nests widths, nothing is remembered."""

import numpy as np
import pytest
from conftest import TINY, VARIANTS
from sized_spaces import SIZED

from spos.core.seeds import derive_rng
from spos.sampling.limits import limits_in_millions
from spos.sampling.strips import ConstrainedPolicy
from spos.sampling.warm_up import SamplingPolicy
from spos.training.strategies import (
    NUM_RANDOM_WIDTHS,
    STRATEGIES,
    FairStrategy,
    Pass,
    SandwichStrategy,
    UniformStrategy,
    make_strategy,
)

START = 3
# Genes of the passes of a step in TINY, by seed 5, from before the input size could be a choice.
DRAWN = {
    "uniform": [(2, 3, 0, 3, 4, 5, 6, 2)],
    "fair": [(3, 2, 3, 3, 0, 1, 9, 1), (1, 3, 1, 0, 4, 2, 9, 1), (2, 0, 0, 1, 3, 6, 4, 6), (0, 1, 2, 2, 5, 9, 2, 3)],
    "sandwich": [
        (2, 3, 0, 3, 9, 9, 9, 9),
        (2, 3, 0, 3, 0, 0, 0, 0),
        (2, 3, 0, 3, 5, 4, 1, 0),
        (2, 3, 0, 3, 1, 6, 7, 2),
    ],
}


def make(kind, space):
    return kind(SamplingPolicy(space, epoch_start_cs=START, cs_warm_up=True))


def test_fair_runs_every_choice_of_every_block_once(space, rng):
    for epoch in (0, START, START + 100):
        passes = make(FairStrategy, space)(epoch, 0, rng)
        assert len(passes) == space.num_block_choices
        for choices in zip(*(one.architecture.block_choices for one in passes)):
            assert sorted(choices) == list(range(space.num_block_choices))
        assert not any(one.imitates for one in passes)


def test_fair_deals_every_order_equally_often(rng):
    """Strict fairness: a permutation a block, each with the same chance, blocks independent of each other."""
    space, counts = VARIANTS["se"], {}
    fair = make(FairStrategy, space)
    num_draws = 600
    for step in range(num_draws):
        passes = fair(0, step, rng)
        for block in range(space.num_choice_blocks):
            order = tuple(one.architecture.block_choices[block] for one in passes)
            counts[order] = counts.get(order, 0) + 1
    expected = num_draws * space.num_choice_blocks / 24
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert len(counts) == 24 and chi_square < 49.7  # 23 degrees of freedom, p = 0.001


def test_fair_widths_follow_the_warm_up(space, rng):
    fair = make(FairStrategy, space)
    highest = space.max_channel_choice
    assert all(set(one.architecture.channel_choices) == {highest} for one in fair(START - 1, 0, rng))
    seen = {c for step in range(30) for one in fair(START, step, rng) for c in one.architecture.channel_choices}
    assert seen == {highest - 1, highest}


def test_sandwich_is_widest_narrowest_and_between_on_the_same_blocks(space, rng):
    widest, narrowest, *between = make(SandwichStrategy, space)(START + 100, 0, rng)
    assert set(widest.architecture.channel_choices) == {space.max_channel_choice} and not widest.imitates
    assert set(narrowest.architecture.channel_choices) == {space.min_channel_choice}
    assert len(between) == NUM_RANDOM_WIDTHS and between[0] != between[1]
    for one in (narrowest, *between):
        assert one.imitates and one.architecture.block_choices == widest.architecture.block_choices
        space.validate(one.architecture)


def test_sandwich_of_a_single_width_is_one_pass(space, rng):
    (only,) = make(SandwichStrategy, space)(START - 1, 0, rng)
    assert not only.imitates and set(only.architecture.channel_choices) == {space.max_channel_choice}


@pytest.mark.parametrize("kind", [UniformStrategy, FairStrategy, SandwichStrategy])
def test_passes_are_a_function_of_seed_epoch_and_step(kind):
    strategy = make(kind, VARIANTS["se"])
    drawn = [strategy(9, step, derive_rng(1, "sampling", 9, step)) for step in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]


def test_uniform_is_what_the_sampler_draws():
    space = VARIANTS["plain"]
    policy = SamplingPolicy(space)
    passes = make(UniformStrategy, space)(START + 100, 5, np.random.default_rng(3))
    assert passes == (Pass(policy(START + 100, 5, np.random.default_rng(3))),)


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_are_made_by_name(name):
    policy = SamplingPolicy(VARIANTS["plain"])
    assert make_strategy(name, policy) == STRATEGIES[name](policy)


def test_what_runs_paths_of_any_cost_is_not_made_with_limits():
    policy = ConstrainedPolicy(SamplingPolicy(VARIANTS["plain"]), limits_in_millions((330, None), (None, None)))
    assert make_strategy("uniform", policy) == UniformStrategy(policy)
    for name in ("fair", "sandwich"):
        with pytest.raises(ValueError, match=f"'{name}' runs paths of any cost.*'uniform'"):
            make_strategy(name, policy)


@pytest.mark.parametrize("kind", STRATEGIES.values(), ids=STRATEGIES)
def test_all_passes_of_a_step_have_one_input_size(kind, rng):
    strategy, sizes = kind(SamplingPolicy(SIZED)), []
    for step in range(200):
        passes = strategy(0, step, rng)
        sizes.append(passes[0].architecture.input_size)
        assert {SIZED.validate(one.architecture).input_size for one in passes} == {sizes[-1]}
    assert 60 < sizes.count(12) < 140 and set(sizes) == {12, 16}


@pytest.mark.parametrize("name, drawn", DRAWN.items())
def test_spaces_of_one_size_draw_what_they_drew(name, drawn):
    strategy = STRATEGIES[name](SamplingPolicy(TINY))
    genes = [one.architecture.genes for one in strategy(0, 0, np.random.default_rng(5))]
    assert genes == drawn
