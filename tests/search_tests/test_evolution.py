"""Random, genetic and SPOS search on made-up fitness: what they ask for, keep and find. Nothing is trained."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.evolution import (
    GeneticSettings,
    drive,
    genetic_search,
    random_search,
    select_parents,
    spos_search,
)
from spos.space.architecture_file import load_architecture
from spos.space.cost import Cost, cost_table
from spos.space.space import SearchSpace
from spos.space.space_file import search_space
from spos.space.stages import Stage

SPACE = search_space(use_se=True, last_conv_after_pooling=True, min_channel_choice=2)
DOMAIN = Domain(SPACE)
UNBOUNDED = Constraints(score_max=None)
ONESHOT = load_architecture("oneshot").architecture
SMALL = GeneticSettings(population_size=12, retain_length=4, num_iterations=6)
TINY_SPACE = SearchSpace(
    "tiny",
    (Stage(1, 8, False, False), Stage(1, 16, False, False)),
    stem_channels=4,
    warm_up_durations=(1,),
    blocks=search_space().blocks[:2],
    channel_scales=(1.0, 2.0),
    strides=(1, 2, 2),
    input_size=8,
    num_classes=3,
)


def make_fitness(seed=0):
    """A fitness with one best value for each gene, so that good genes of two parents add up."""
    best = np.random.default_rng(seed).integers(0, 10, 200)
    return lambda architecture: -float(np.abs(np.array(architecture.genes) - best[: len(architecture.genes)]).sum())


def run(search, fitness):
    """All generations of a search, as lists of architectures."""
    generations = []
    try:
        generation = next(search)
        while True:
            generations.append(list(generation))
            generation = search.send([fitness(architecture) for architecture in generation])
    except StopIteration:
        return generations


@pytest.mark.parametrize("num_generations", (0, 2, 6, 99))
def test_a_search_is_driven_to_its_end_or_until_there_is_no_fitness(num_generations):
    asked = []

    def score(generation):
        asked.append(list(generation))
        return list(map(make_fitness(), generation)) if len(asked) < num_generations else None

    drive(genetic(DOMAIN, SMALL, 0), score)
    assert asked == run(genetic(DOMAIN, SMALL, 0), make_fitness())[: max(num_generations, 1)]


def flat(generations):
    return [architecture for generation in generations for architecture in generation]


def genetic(domain, settings, seed):
    return genetic_search(domain, settings, np.random.default_rng(seed))


def spos(domain, settings, seed):
    return spos_search(domain, settings, np.random.default_rng(seed))


def random(domain, settings, seed):
    return random_search(domain, settings.num_iterations, settings.population_size, np.random.default_rng(seed))


ALL = (genetic, spos, random)
EVOLVING = (genetic, spos)


def all_searches(domain, seed=0, settings=SMALL):
    return [make(domain, settings, seed) for make in ALL]


@pytest.mark.parametrize("seed", range(3))
def test_no_architecture_is_asked_for_twice(seed):
    for search in all_searches(DOMAIN, seed):
        asked = flat(run(search, make_fitness(seed)))
        assert len(asked) == len(set(asked)) > SMALL.population_size


@pytest.mark.parametrize(
    "constraints",
    (
        Constraints(),
        Constraints(flop_max=0.95, param_max=1.1),
        Constraints(flop_max_m=310, score_max=None),
        Constraints(param_max_m=3.5),
        Constraints("MobileNetV3_large", flop_max=1.45, score_max=None),
    ),
    ids=lambda constraints: "-".join(limit.name for limit in constraints.limits()),
)
def test_constraints_are_always_kept(constraints):
    for search in all_searches(Domain(SPACE, constraints)):
        for architecture in flat(run(search, make_fitness())):
            cost = cost_table(SPACE).cost(SPACE.validate(architecture))
            assert all(limit.keeps(cost) for limit in constraints.limits())


@pytest.mark.parametrize("name", ("fixed_block_choices", "fixed_channel_choices"))
def test_fixed_choices_are_kept_and_the_others_searched(name):
    domain = Domain(SPACE, **{name: getattr(ONESHOT, name[len("fixed_") :])})
    for search in all_searches(domain):
        asked = flat(run(search, make_fitness()))
        assert {getattr(architecture, name[len("fixed_") :]) for architecture in asked} == {getattr(domain, name)}
        assert len(set(asked)) == len(asked) > SMALL.population_size


def test_channel_choices_stay_in_the_range_of_the_space():
    for search in all_searches(DOMAIN):
        assert min(min(architecture.channel_choices) for architecture in flat(run(search, make_fitness()))) == 2


def test_survivors_are_the_best(rng):
    population = [SPACE.sample(rng) for _ in range(20)]
    fitness = {architecture: float(i % 7) for i, architecture in enumerate(population)}
    settings = GeneticSettings(20, 5, random_select=0.0)
    parents = select_parents(population, fitness, settings, rng)
    assert sorted((fitness[a] for a in parents), reverse=True) == sorted(fitness.values(), reverse=True)[:5]


def hide_all_but_the_best(search, fitness, count):
    """All generations of a search that is told -inf for whatever is not among the best `count` scored so far."""
    generations, scores = [], []
    generation = next(search, None)
    while generation is not None:
        generations.append(generation)
        scores += map(fitness, generation)
        threshold = sorted(scores, reverse=True)[:count][-1]
        told = [score if score >= threshold else float("-inf") for score in map(fitness, generation)]
        try:
            generation = search.send(told)
        except StopIteration:
            break
    return generations


@pytest.mark.parametrize("make", EVOLVING)
@pytest.mark.parametrize("seed", range(3))
def test_decisions_need_the_fitness_of_the_best_only(make, seed):
    """So a candidate that is confidently not among them need not be scored to the end."""
    weights = np.random.default_rng(seed).random(40)  # so that no two architectures are equal

    def fitness(architecture):
        return float(weights @ architecture.genes)

    settings = GeneticSettings(20, 5, random_select=0.3, num_iterations=8)
    plain = run(make(DOMAIN, settings, seed), fitness)
    assert hide_all_but_the_best(make(DOMAIN, settings, seed), fitness, settings.retain_length) == plain


def test_the_rest_survive_with_the_given_chance(rng):
    population = [SPACE.sample(rng) for _ in range(110)]
    fitness = dict.fromkeys(population, 0.0)
    settings = GeneticSettings(110, 10, random_select=0.1)
    extra = [len(select_parents(population, fitness, settings, rng)) - 10 for _ in range(50)]
    assert np.mean(extra) == pytest.approx(10, abs=2)


def test_population_is_full_in_every_generation():
    generations = run(genetic(DOMAIN, replace(SMALL, random_select=0.0), 0), make_fitness())
    assert [len(generation) for generation in generations] == [12] + [8] * 5


@pytest.mark.parametrize("random_select", (0.5, 1.0))
def test_each_generation_brings_children_however_many_survive(random_select):
    generations = run(genetic(DOMAIN, replace(SMALL, random_select=random_select), 0), make_fitness())
    assert len(generations) == SMALL.num_iterations
    assert all(1 <= len(generation) <= 12 for generation in generations)


def test_the_same_seed_gives_the_same_trajectory():
    """Contract C6."""
    for make in ALL:
        first, second, other = (run(make(DOMAIN, SMALL, seed), make_fitness()) for seed in (5, 5, 6))
        assert first == second != other


@pytest.mark.parametrize("make", ALL)
def test_a_domain_that_is_used_up_ends_the_search(make):
    domain = Domain(TINY_SPACE, UNBOUNDED)
    asked = flat(run(make(domain, GeneticSettings(6, 3, num_iterations=50), 0), make_fitness()))
    assert len(asked) == len(set(asked)) == TINY_SPACE.num_architectures == 16


@pytest.mark.parametrize("make", ALL)
def test_a_domain_of_one_architecture_is_searched(make):
    domain = Domain(SPACE, UNBOUNDED, ONESHOT.block_choices, ONESHOT.channel_choices)
    assert run(make(domain, SMALL, 0), make_fitness()) == [[ONESHOT]]


@pytest.mark.parametrize("make", EVOLVING)
def test_evolution_finds_better_architectures_than_random_search(make):
    settings = GeneticSettings(population_size=20, retain_length=6, num_iterations=12)
    domain, gains = Domain(SPACE, UNBOUNDED), []
    for seed in range(4):
        fitness = make_fitness(seed)
        evolved = flat(run(make(domain, settings, seed), fitness))
        drawn = flat(run(random_search(domain, 1, len(evolved), np.random.default_rng(seed)), fitness))
        assert len(drawn) == len(evolved)
        gains.append(max(map(fitness, evolved)) - max(map(fitness, drawn)))
    assert min(gains) > 0


def test_scores_arrive_at_the_architectures_they_belong_to():
    """With every fitness of the first generation known, the children descend from its best two."""
    settings = GeneticSettings(10, 2, random_select=0.0, mutate_chance=0.0, num_iterations=2)
    first, second = run(genetic(DOMAIN, settings, 0), make_fitness())
    best = np.array([a.genes for a in sorted(first, key=make_fitness(), reverse=True)[:2]])
    assert all(np.all((best == child.genes).any(axis=0)) for child in second)


@pytest.mark.parametrize("make", EVOLVING)
def test_the_first_generation_begins_with_what_it_is_given(make, rng):
    domain = Domain(SPACE, Constraints(flop_max_m=300, score_max=None))
    given = domain.sample_many(4, rng)
    elsewhere = domain.from_genes((0,) * 40)  # channel choices below those of the space
    initial = [given[0], given[0], SPACE.widest((3,) * 20), elsewhere, TINY_SPACE.sample(rng), *given[1:]]
    first, *_ = run(make_with(make, domain, SMALL, initial), make_fitness())
    assert first[:4] == given and len(set(first)) == len(first) == 12
    alone = Domain(SPACE, UNBOUNDED, ONESHOT.block_choices, ONESHOT.channel_choices)
    assert run(make_with(make, alone, SMALL, [ONESHOT, ONESHOT]), make_fitness()) == [[ONESHOT]]
    many = domain.sample_many(30, rng)
    assert run(make_with(make, domain, SMALL, many), make_fitness())[0] == many[:12]


def make_with(make, domain, settings, initial):
    search = {genetic: genetic_search, spos: spos_search}[make]
    return search(domain, settings, np.random.default_rng(0), initial)


def test_parents_of_spos_are_the_best_of_everything_scored():
    """Half of a generation differ little from one of them, half take every gene from one of two."""
    settings = GeneticSettings(12, 3, mutate_chance=0.1, num_iterations=6)
    generations = run(spos(Domain(SPACE, UNBOUNDED), settings, 0), make_fitness())
    assert [len(generation) for generation in generations] == [12] * 6
    for i in range(1, 6):
        scored = flat(generations[:i])
        parents = np.array([a.genes for a in sorted(scored, key=make_fitness(), reverse=True)[:3]])
        differing = [min((parents != a.genes).sum(axis=1)) for a in generations[i][:6]]
        assert max(differing) <= 15 and np.mean(differing) < 8
        pairs = list(combinations(parents, 2))
        for child in generations[i][6:]:
            assert any(np.all((a == child.genes) | (b == child.genes)) for a, b in pairs)


TIGHT = Constraints(flop_max_m=200, param_max_m=3.1, score_max=None)


def test_almost_nothing_of_the_space_keeps_the_tight_limits(rng):
    """Under 0.01%, for what follows."""
    table, count = cost_table(SPACE), 200_000
    costs = np.array(table.blocks)  # (choice blocks, block choices, channel choices, 2)
    blocks, channels = rng.integers(0, 4, (20, count)), rng.integers(2, 10, (20, count))
    totals = sum(block[b, c] for block, b, c in zip(costs, blocks, channels)) + np.array(table.fixed)
    assert np.all([limit.keeps(Cost(*totals.T)) for limit in TIGHT.limits()], axis=0).mean() < 1e-4


@pytest.mark.parametrize("make", EVOLVING)
def test_children_are_repaired_where_almost_nothing_is_feasible(make):
    domain = Domain(SPACE, TIGHT)
    settings = GeneticSettings(20, 6, random_select=0.0, num_iterations=6)
    generations = run(make(domain, settings, 0), make_fitness())
    asked = flat(generations)
    sizes = [len(generation) for generation in generations]
    assert sizes == ([20] + [14] * 5 if make is genetic else [20] * 6)
    assert all(map(domain.admits, asked)) and len(set(asked)) == len(asked)
    fresh = domain.sample_many(70, np.random.default_rng(1))
    assert shared_genes(flat(generations[1:]), asked) > shared_genes(fresh, generations[0]) + 8


def shared_genes(architectures, relatives):
    """Mean number of genes shared with the nearest other one of `relatives`."""
    genes = np.array([a.genes for a in relatives])
    shared = [np.sort((genes == a.genes).sum(axis=1)[[a != other for other in relatives]])[-1] for a in architectures]
    return np.mean(shared)


@pytest.mark.parametrize("population, retain", ((50, 1), (50, 51), (10, 10), (1, 1)))
def test_impossible_settings_are_refused(population, retain):
    with pytest.raises(InputError, match="--retain-length must be at least 2 and below"):
        GeneticSettings(population, retain)
