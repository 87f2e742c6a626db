"""Oracles: the optimum of the additive one, and tables of scored architectures."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conftest import TINY
from latency_tests.test_table import make_table
from search_tests.test_evolution import SPACE, TINY_SPACE, UNBOUNDED

from spos.core.errors import InputError
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings
from spos.space.architecture import Architecture
from spos.space.flags import SpaceOptions
from spos.space.space_file import load_space
from spos.study.oracles import AdditiveOracle, RecordedDomain
from spos.study.strategies import searches

STABLE = SpaceOptions(use_se=True, last_conv_after_pooling=True, ignore_first_two_cs=True)


def every(domain):
    return (domain.from_genes(genes) for genes in product(*domain.genes))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fixed", ({}, {"fixed_block_choices": (1, 0)}, {"fixed_channel_choices": (1, 1)}))
def test_the_optimum_is_that_of_brute_force(seed, fixed):
    domain = Domain(TINY_SPACE, UNBOUNDED, **fixed)
    oracle = AdditiveOracle.draw(TINY_SPACE, np.random.default_rng(seed))
    assert oracle.optimum(domain) == pytest.approx(max(map(oracle, every(domain))), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_that_of_brute_force_over_four_choice_blocks(seed):
    space = replace(TINY, channel_scales=TINY.channel_scales[:2])
    domain = Domain(space, UNBOUNDED)
    oracle = AdditiveOracle.draw(space, np.random.default_rng(seed))
    assert oracle.optimum(domain) == pytest.approx(max(map(oracle, every(domain))), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_counts_a_block_without_widths_once(seed):
    space = load_space("tiny")
    domain = Domain(replace(space, stages=space.stages[:1], strides=space.strides[:2]), UNBOUNDED)
    oracle = AdditiveOracle.draw(domain.space, np.random.default_rng(seed))
    assert oracle.optimum(domain) == pytest.approx(max(map(oracle, every(domain))), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", (0.2, 0.5, 0.8))
def test_within_limits_the_optimum_is_bounded_closely(seed, share):
    space = replace(TINY, channel_scales=TINY.channel_scales[:2])
    smallest, largest = Domain(space, UNBOUNDED).table.range()
    flops, params = ((low + share * (high - low)) / 1e6 for low, high in zip(smallest, largest))
    for limits in ({"flop_max_m": flops}, {"param_max_m": params}, {"flop_max_m": flops, "param_max_m": params}):
        domain = Domain(space, Constraints(score_max=None, **limits))
        oracle = AdditiveOracle.draw(space, np.random.default_rng(seed))
        best = max(oracle(architecture) for architecture in every(domain) if domain.admits(architecture))
        bound = oracle.optimum(domain)
        assert bound >= best - 1e-12
        if len(limits) == 1:
            assert bound == pytest.approx(best, abs=0.05)


@pytest.mark.parametrize("seed", range(2))
def test_the_optimum_within_a_latency_is_bounded_closely(seed):
    space = replace(TINY, channel_scales=TINY.channel_scales[:2])
    table = make_table(space)
    times = sorted(map(table.latency_ms, every(Domain(space, UNBOUNDED))))
    domain = Domain(space, Constraints(score_max=None, latency_max_ms=times[len(times) // 3]), latency=table)
    oracle = AdditiveOracle.draw(space, np.random.default_rng(seed))
    best = max(oracle(architecture) for architecture in every(domain) if domain.admits(architecture))
    assert best - 1e-12 <= oracle.optimum(domain) == pytest.approx(best, abs=0.05)
    assert oracle.optimum(domain) < oracle.optimum(Domain(space, UNBOUNDED))


def test_fitness_of_uniform_architectures_has_standard_deviation_1(rng):
    deviations = []
    for _ in range(20):
        oracle = AdditiveOracle.draw(SPACE, rng)
        deviations.append(np.std([oracle(SPACE.sample(rng)) for _ in range(200)]))
    assert np.mean(deviations) == pytest.approx(1, abs=0.1)


def recorded_domain(count=60, seed=0):
    oracle = AdditiveOracle.draw(SPACE, np.random.default_rng(seed))
    return RecordedDomain({a: oracle(a) for a in Domain(SPACE).sample_many(count, np.random.default_rng(seed))})


@pytest.mark.parametrize("name", ("genetic", "spos", "random"))
def test_a_table_is_searched_to_its_end(name):
    domain = recorded_domain()
    settings = GeneticSettings(10, 4, num_iterations=40)
    search, asked = searches(settings)[name](domain, np.random.default_rng(0)), []
    generation = next(search)
    while generation is not None:
        asked += generation
        try:
            generation = search.send([domain(a) for a in generation])
        except StopIteration:
            break
    assert len(asked) == len(set(asked)) == 60


def test_children_move_to_the_nearest_entry_not_seen(rng):
    domain = recorded_domain()
    entries = list(domain.scores)
    child = SPACE.sample(rng)

    def differing(entry):
        return sum(a != b for a, b in zip(entry.genes, child.genes))

    seen = {}
    for _ in entries:
        moved = domain.repair(child, rng, seen)
        assert differing(moved) == min(differing(entry) for entry in entries if entry not in seen)
        seen[moved] = 0.0
    assert domain.repair(child, rng, seen) is None


def test_equally_near_entries_are_drawn_at_random(rng):
    entries = [Architecture((0, 0), (i, 0)) for i in range(4)]
    domain = RecordedDomain(dict.fromkeys(entries, 0.0))
    drawn = [domain.repair(Architecture((0, 0), (9, 0)), rng) for _ in range(400)]
    assert all(80 < drawn.count(entry) < 120 for entry in entries)


def test_rows_without_fitness_use_top1():
    row = {"block_choices": [0], "channel_choices": [0], "top1": 0.5}
    assert RecordedDomain.from_rows([row]).scores == {Architecture((0,), (0,)): 0.5}
    with pytest.raises(InputError, match="2 different lengths"):
        RecordedDomain.from_rows([row, {**row, "block_choices": [0, 1], "channel_choices": [1, 1]}])
    with pytest.raises(InputError, match="^old row 2 holds an architecture that stands above; remove one of them$"):
        RecordedDomain.from_rows([row, {**row, "top1": 0.6}], "old")


def test_what_a_race_dropped_is_not_in_the_table():
    row = {"block_choices": [0], "channel_choices": [0], "fitness": 0.5}
    dropped = {**row, "block_choices": [1], "fitness": 0.9, "dropped": True}
    assert RecordedDomain.from_rows([row, dropped]).scores == {Architecture((0,), (0,)): 0.5}
    with pytest.raises(InputError, match="holds no architecture"):
        RecordedDomain.from_rows([dropped])


def test_large_choices_make_no_large_arrays(rng):
    """Order, and what is equal to what, stay."""
    rows = [
        {"block_choices": [b, 10**9], "channel_choices": [c, 7], "fitness": float(c)}
        for b in (3, 1000)
        for c in (7, 10**9)
    ]
    domain = RecordedDomain.from_rows(rows)
    assert list(domain.scores) == [Architecture((b, 2), (c, 0)) for b in (0, 1) for c in (0, 1)]
    assert domain.effects.num_effects < 100
