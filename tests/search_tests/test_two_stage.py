"""Two-stage search on made-up fitness: what is fixed when, what it costs, and how iterations are shared."""

from itertools import groupby

import numpy as np
import pytest

from search_tests.test_evolution import (
    DOMAIN,
    ONESHOT,
    SPACE,
    TINY_SPACE,
    UNBOUNDED,
    flat,
    hide_all_but_the_best,
    make_fitness,
    run,
)
from spos.core.errors import InputError
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.evolution import EVOLUTIONS, GeneticSettings, random_search
from spos.search.two_stage import first_stage, share_iterations, two_stage_search
from spos.space.space_file import search_space

SETTINGS = GeneticSettings(population_size=12, retain_length=4, num_iterations=8)
PLAIN = (4,) * 20  # the channel choice of scale 1


def two_stage(domain, settings=SETTINGS, seed=0, num_blocks=1, evolution="published"):
    return two_stage_search(domain, settings, np.random.default_rng(seed), num_blocks, EVOLUTIONS[evolution])


@pytest.mark.parametrize("evolution", EVOLUTIONS)
@pytest.mark.parametrize("num_blocks", (1, 3))
def test_blocks_come_first_then_channels_of_the_best(evolution, num_blocks):
    fitness = make_fitness()
    generations = run(two_stage(DOMAIN, num_blocks=num_blocks, evolution=evolution), fitness)
    first, second = flat(generations[:4]), flat(generations[4:])
    assert len(generations) == 8
    assert {a.channel_choices for a in first} == {PLAIN}
    best = sorted(first, key=fitness, reverse=True)[:num_blocks]
    assert [blocks for blocks, _ in groupby(second, key=lambda a: a.block_choices)] == [a.block_choices for a in best]
    assert len({a.channel_choices for a in second}) > 12


@pytest.mark.parametrize("evolution", EVOLUTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_asked_for_twice_or_breaks_a_constraint(evolution, seed):
    domain = Domain(SPACE, Constraints(flop_max_m=300, param_max_m=3.6, score_max=None))
    asked = flat(run(two_stage(domain, seed=seed, num_blocks=2, evolution=evolution), make_fitness(seed)))
    assert len(set(asked)) == len(asked) > 50
    assert all(map(domain.admits, asked))


def test_the_best_of_the_first_stage_is_a_parent_of_the_second():
    """It is not scored again. Without mutation, children of it and of fresh samples share its genes."""
    settings = GeneticSettings(12, 4, random_select=0.0, mutate_chance=0.0, num_iterations=4)
    target = np.array([*ONESHOT.block_choices, *PLAIN])

    def fitness(architecture):
        return -float((target != architecture.genes).sum())

    generations = run(two_stage(DOMAIN, settings), fitness)
    first, second = flat(generations[:2]), flat(generations[2:])
    best = max(first, key=fitness)
    assert best not in second
    assert len(generations[2]) == 11
    shared = [np.equal(a.channel_choices, PLAIN).sum() for a in generations[3]]
    assert np.mean(shared) > 6  # fresh samples share 20 / 8


@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_the_same_seed_gives_the_same_trajectory(evolution):
    first, second, other = (
        run(two_stage(DOMAIN, seed=seed, evolution=evolution), make_fitness()) for seed in (5, 5, 6)
    )
    assert first == second != other


@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_decisions_of_the_first_stage_need_the_fitness_of_the_best_only(evolution):
    """Generation 3, the first of the second stage, is the last that follows from the first stage alone."""
    weights = np.random.default_rng(0).random(40)

    def fitness(architecture):
        return float(weights @ architecture.genes)

    settings = GeneticSettings(16, 5, num_iterations=6)
    plain = run(two_stage(DOMAIN, settings, num_blocks=1, evolution=evolution), fitness)
    hidden = hide_all_but_the_best(two_stage(DOMAIN, settings, num_blocks=1, evolution=evolution), fitness, 5)
    assert hidden[:4] == plain[:4]


@pytest.mark.parametrize("evolution", EVOLUTIONS)
def test_a_domain_that_is_used_up_ends_the_search(evolution):
    """Four block choices at equal widths, then the four channel choices of each."""
    domain, settings = Domain(TINY_SPACE, UNBOUNDED), GeneticSettings(6, 3, num_iterations=40)
    asked = flat(run(two_stage(domain, settings, num_blocks=4, evolution=evolution), make_fitness()))
    assert len(asked) == len(set(asked)) == TINY_SPACE.num_architectures == 16


@pytest.mark.parametrize(
    "constraints, changes, choice",
    (
        (UNBOUNDED, {}, 4),
        (UNBOUNDED, {"min_channel_choice": 6}, 6),
        (Constraints(flop_max_m=200, score_max=None), {"min_channel_choice": 2}, 3),
        (Constraints(flop_max_m=155, score_max=None), {}, 2),
    ),
)
def test_channels_of_the_first_stage_are_plain_or_as_wide_as_possible(constraints, changes, choice):
    space = search_space(use_se=True, last_conv_after_pooling=True, **changes)
    assert first_stage(Domain(space, constraints)).fixed_channel_choices == (choice,) * 20


def test_the_user_may_fix_the_channels_of_the_first_stage():
    domain = Domain(SPACE, fixed_channel_choices=ONESHOT.channel_choices)
    generations = run(two_stage(domain), make_fitness())
    assert {a.channel_choices for a in flat(generations[:4])} == {ONESHOT.channel_choices}
    assert len({a.channel_choices for a in flat(generations[4:])}) > 12


def test_constraints_that_no_equal_widths_keep_are_refused():
    with pytest.raises(InputError, match=r"no architecture keeps FLOPs <= 100 M; give --fixed-channel-choices"):
        two_stage(Domain(SPACE, Constraints(flop_max_m=100, score_max=None)))


@pytest.mark.parametrize(
    "num_iterations, num_blocks, shares",
    ((20, 1, [10, 10]), (20, 3, [10, 4, 3, 3]), (5, 1, [3, 2]), (2, 1, [1, 1]), (4, 3, [1, 1, 1, 1])),
)
def test_iterations_are_shared(num_iterations, num_blocks, shares):
    assert share_iterations(num_iterations, num_blocks) == shares


@pytest.mark.parametrize("num_iterations, num_blocks", ((1, 1), (3, 3)))
def test_too_few_iterations_are_refused(num_iterations, num_blocks):
    settings = GeneticSettings(12, 4, num_iterations=num_iterations)
    with pytest.raises(InputError, match=f"--search-iters {num_iterations} is too few .* at least {1 + num_blocks}"):
        two_stage(DOMAIN, settings, num_blocks=num_blocks)


def test_two_stages_find_better_architectures_than_random_search():
    domain, fitness = Domain(SPACE, UNBOUNDED), make_fitness(1)
    found = flat(run(two_stage(domain, GeneticSettings(20, 6, num_iterations=12)), fitness))
    drawn = flat(run(random_search(domain, 1, len(found), np.random.default_rng(1)), fitness))
    assert max(map(fitness, found)) > max(map(fitness, drawn))
