"""Which architectures are trained when: the channel warm-up, epoch by epoch."""

import numpy as np
import pytest

from spos.core.seeds import derive_rng
from spos.sampling.warm_up import SamplingPolicy, warm_up_lowest_choice
from spos.space.space import STABLE_CHANNEL_CHOICE
from spos.space.space_file import search_space

START = 60
# Lowest channel choice in epochs 60, 61, ... counted from 0, written out.
ONESHOT = [8, 7, 6, 5, 4, 4, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1]
V2PLUS = [8] + [7] * 2 + [6] * 3 + [5] * 4 + [4] * 5 + [3] * 6 + [2] * 15 + [1]
SCHEDULES = {"OneShot": ONESHOT, "ShuffleNetV2+": V2PLUS}
# The published table: epochs counted from 1 and the narrowest scale.
PUBLISHED = {61: 1.8, 62: 1.6, 63: 1.4, 64: 1.2, 65: 1.0, 66: 1.0, 67: 0.8, 68: 0.8, 69: 0.8}
PUBLISHED.update(dict.fromkeys(range(70, 74), 0.6))


def policy(layout="OneShot", lowest=0, **changes):
    return SamplingPolicy(search_space(layout, min_channel_choice=lowest), START, **changes)


@pytest.mark.parametrize("layout", SCHEDULES)
@pytest.mark.parametrize("lowest", (0, STABLE_CHANNEL_CHOICE))
def test_warm_up_epoch_by_epoch(layout, lowest):
    warm_up = policy(layout, lowest, cs_warm_up=True)
    expected = [max(choice, lowest) for choice in SCHEDULES[layout]] + [lowest] * 20
    assert [warm_up.lowest_channel_choice(START + i) for i in range(len(expected))] == expected


def test_warm_up_follows_the_published_table():
    warm_up = policy(cs_warm_up=True)
    assert {
        epoch: search_space().channel_scales[warm_up.lowest_channel_choice(epoch - 1)] for epoch in PUBLISHED
    } == PUBLISHED


@pytest.mark.parametrize("cs_warm_up", (False, True))
@pytest.mark.parametrize("epoch", (0, START - 1))
def test_before_the_start_every_width_is_the_maximum(epoch, cs_warm_up, rng):
    sampled = policy(cs_warm_up=cs_warm_up)(epoch, 0, rng)
    assert set(sampled.channel_choices) == {9} and len(set(sampled.block_choices)) > 1


@pytest.mark.parametrize("lowest", (0, STABLE_CHANNEL_CHOICE))
def test_without_warm_up_the_whole_range_comes_at_once(lowest):
    assert policy(lowest=lowest).lowest_channel_choice(START) == lowest


def test_without_a_start_epoch_selection_begins_at_once():
    space = search_space()
    assert SamplingPolicy(space).lowest_channel_choice(0) == 0
    assert SamplingPolicy(space, cs_warm_up=True).lowest_channel_choice(0) == 8


def test_all_channels_means_never_selecting():
    assert policy(use_all_channels=True, cs_warm_up=True).lowest_channel_choice(1000) == 9


def test_samples_reach_both_ends_of_the_range_of_their_epoch(rng):
    warm_up = policy(cs_warm_up=True)
    for epoch in (START, START + 4, START + 9, START + 18):
        choices = {choice for _ in range(100) for choice in warm_up(epoch, 0, rng).channel_choices}
        assert choices == set(range(warm_up.lowest_channel_choice(epoch), 10))


@pytest.mark.parametrize("durations, expected", (((), [0]), ((2,), [8, 8, 0]), ((1, 3), [8, 7, 7, 7, 0])))
def test_durations_are_data_of_the_space(durations, expected):
    space = search_space(warm_up_durations=durations)
    assert [warm_up_lowest_choice(space, epoch) for epoch in range(len(expected))] == expected


def test_the_same_generator_draws_the_same_architectures():
    """Contract C6."""
    warm_up = policy(cs_warm_up=True)
    first, second = (
        [warm_up(START + 5, step, rng) for step in range(10)] for rng in map(np.random.default_rng, (3, 3))
    )
    assert first == second and len(set(first)) == 10


def test_the_generator_of_an_epoch_depends_on_seed_purpose_and_epoch_only():
    draws = {key: derive_rng(*key).integers(2**60) for key in ((0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0))}
    assert len(set(draws.values())) == 4
    assert derive_rng(0, "a", 1).integers(2**60) == draws[0, "a", 1]
