"""Dropping a candidate early: the bound is exact, and its guarantee holds over many orders of the images."""

import itertools
from functools import lru_cache
from math import comb

import numpy as np
import pytest

from spos.scoring.racing import Race, Racing, hypergeometric_cdf, look_sizes, most_hits, needed_hits
from spos.search.searcher import Target


def drawn_at_most(hits, num_images, total_hits, seen):
    """The same chance, by counting every draw."""
    marks = [1] * total_hits + [0] * (num_images - total_hits)
    draws = list(itertools.combinations(marks, seen))
    return sum(sum(draw) <= hits for draw in draws) / len(draws)


def test_the_chance_is_that_of_counting_every_draw():
    for num_images in (1, 2, 5, 9):
        for total_hits, seen in itertools.product(range(num_images + 1), range(num_images + 1)):
            for hits in range(seen + 1):
                expected = drawn_at_most(hits, num_images, total_hits, seen)
                assert hypergeometric_cdf(hits, num_images, total_hits, seen) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_images, total_hits, seen", [(180, 170, 64), (1000, 500, 250), (5000, 3500, 640)])
def test_the_chance_is_that_of_whole_numbers(num_images, total_hits, seen):
    counts = [comb(total_hits, x) * comb(num_images - total_hits, seen - x) for x in range(seen + 1)]
    for hits in range(0, seen + 1, 7):
        exact = sum(counts[: hits + 1]) / comb(num_images, seen)
        assert hypergeometric_cdf(hits, num_images, total_hits, seen) == pytest.approx(exact, rel=1e-8, abs=1e-300)


def test_being_lost_means_that_the_largest_likely_count_is_too_small():
    """`is_lost` asks one H; the definition asks for the largest H that is likely enough."""
    num_images, error = 60, 0.01
    for seen, hits in ((10, 2), (20, 11), (30, 0), (40, 38), (59, 30)):
        likely = [h for h in range(num_images + 1) if hypergeometric_cdf(hits, num_images, h, seen) > error]
        for needed in range(num_images + 2):
            assert Race(needed, num_images, error).is_lost(hits, seen) == (max(likely) < needed)


def test_the_bound_of_one_supernet_is_that_of_the_definition():
    for error, seen, hits in itertools.product((0.0, 0.01, 0.3), (1, 20, 59, 60), (0, 1, 20)):
        if hits <= seen:
            likely = [h for h in range(61) if hypergeometric_cdf(hits, 60, h, seen) > error]
            assert most_hits(hits, 60, seen, error) == max(likely)
            for needed in range(0, 62, 5):
                race = Race(needed, 60, error)
                assert race.is_lost_by([hits], seen) == race.is_lost(hits, seen)


def test_several_supernets_are_lost_when_the_sum_of_their_bounds_is_too_small():
    num_images, seen, error = 60, 20, 0.02
    for hits in ((3, 18), (10, 10), (0, 0, 20)):
        bounds = [most_hits(own, num_images, seen, error / len(hits)) for own in hits]
        for needed in range(len(hits) * num_images + 2):
            assert Race(needed, num_images, error).is_lost_by(hits, seen) == (sum(bounds) < needed)


def test_nothing_is_lost_that_is_certain_and_everything_that_is_impossible():
    for needed, seen in itertools.product(range(0, 41, 4), range(1, 41)):
        race, never = Race(needed, 40, error=0.2), Race(needed, 40, error=0.0)
        for hits in range(seen + 1):
            impossible = hits + 40 - seen < needed
            assert not (hits >= needed and race.is_lost(hits, seen))
            assert never.is_lost(hits, seen) == impossible
            assert race.is_lost(hits, seen) or not impossible
    assert Race(41, 40, 0.01).is_lost(32, 32)


@pytest.mark.parametrize(
    "num_images, sizes",
    [
        (1, (1,)),
        (32, (32,)),
        (33, (32, 33)),
        (180, (32, 48, 72, 108, 180)),
        (2048, (64, 96, 144, 216, 324, 486, 729, 1093, 2048)),
    ],
)
def test_looks_grow_up_to_all_images(num_images, sizes):
    assert look_sizes(num_images) == sizes == Race(1, num_images, 0.1).looks()


@pytest.mark.parametrize("num_images", [1, 7, 180, 1000, 50_000])
def test_equal_fitness_needs_equal_hits(num_images):
    target = Target()
    for hits in {0, 1, num_images // 3, num_images - 1, num_images}:
        threshold = target.fitness(hits / num_images, 0.0)
        assert needed_hits(threshold, num_images, lambda top1: target.fitness(top1, 0.0)) == hits


def test_a_dearer_architecture_needs_more_hits():
    target = Target("balanced_flop_acc", 0.2)
    threshold = target.fitness(0.75, 0.5)
    needed = [needed_hits(threshold, 200, lambda top1, s=s: target.fitness(top1, s)) for s in (0.43, 0.5, 0.57)]
    assert needed == [148, 150, 153]
    assert needed_hits(2.0, 200, lambda top1: top1) == 201


def test_no_race_before_there_are_k_to_compare_with():
    racing = Racing(3)
    assert racing.race([0.1, 0.2], 100, float) is None
    race = racing.race([0.1, 0.9, 0.2, 0.3], 100, float)
    assert (race.needed_hits, race.num_images) == (20, 100)
    assert race.error == pytest.approx(0.05 / (3 * 3))  # looks after 32, 48 and 72 images


def is_dropped(race, correct):
    """Whether one candidate, whose images in their order are hits or not, is dropped."""
    return any(race.is_lost(int(correct[:seen].sum()), seen) for seen in race.looks()[:-1])


@pytest.mark.parametrize("num_images, hits", [(180, 150), (400, 398), (1000, 500)])
def test_a_candidate_that_just_reaches_the_top_is_dropped_no_more_often_than_allowed(num_images, hits, rng):
    """The worst case: exactly as many hits as needed. One error a look, over 2,000 orders."""
    correct = np.arange(num_images) < hits
    race = Race(hits, num_images, error=0.02)
    allowed = race.error * (len(race.looks()) - 1)
    dropped = np.mean([is_dropped(race, rng.permutation(correct)) for _ in range(2000)])
    assert dropped <= allowed + 3 * np.sqrt(allowed / 2000)
    assert dropped > 0 or hits == 398  # the bound is not idle


@pytest.mark.parametrize("agreement", ("equal", "independent", "opposed"))
def test_a_mean_that_just_reaches_the_top_is_dropped_no_more_often_than_allowed(agreement, rng):
    """Two supernets of the same and of other mistakes; the bound knows nothing about how they agree."""
    num_images, hits = 180, 120
    first = np.arange(num_images) < hits
    second = {"equal": first, "independent": rng.permutation(first), "opposed": first[::-1]}[agreement]
    race = Race(2 * hits, num_images, error=0.05)
    allowed, dropped = race.error * (len(race.looks()) - 1), 0
    for _ in range(1000):
        order = rng.permutation(num_images)
        looks = race.looks()[:-1]
        dropped += any(race.is_lost_by([int(own[order[:n]].sum()) for own in (first, second)], n) for n in looks)
    assert dropped / 1000 <= allowed
    assert dropped > 0 or agreement != "equal"  # the bound is not idle


def test_a_race_of_several_needs_the_hits_of_all_together():
    race = Racing(3, num_supernets=4).race([0.1, 0.9, 0.2, 0.3], 100, float)
    assert (race.needed_hits, race.num_images) == (80, 100)


@pytest.mark.parametrize("spread", [0.005, 0.05])
def test_the_final_top_k_is_that_of_full_scoring(spread, rng):
    """Fifty candidates in a fixed order, close together (spread 0.005) or not, over 200 orders of the images."""
    num_images, confidence, racing = 500, 0.9, Racing(5, 0.9)
    is_lost = lru_cache(maxsize=None)(Race.is_lost)  # the same questions come again
    chances = np.clip(rng.normal(0.8, spread, 50), 0, 1)
    correct = rng.random((50, num_images)) < chances[:, None]
    full = sorted(range(50), key=lambda j: (-correct[j].sum(), j))[:5]
    same, seen = [], []
    for _ in range(200):
        shuffled = correct[:, rng.permutation(num_images)]
        fitness, kept = [], []
        for j in range(50):
            race = racing.race(fitness, num_images, float)
            looks = race.looks() if race else (num_images,)
            lost = next((n for n in looks[:-1] if is_lost(race, int(shuffled[j, :n].sum()), n)), None)
            seen.append(lost or num_images)
            if lost is None:
                fitness.append(correct[j].sum() / num_images)
                kept.append(j)
        same.append(sorted(kept, key=lambda j: (-correct[j].sum(), j))[:5] == full)
    assert np.mean(same) >= confidence
    assert np.mean(seen) < num_images  # and something was saved
