"""NSGA-II: what it asks for, that it is repeatable, and that its front is better than chance."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from latency_tests.test_table import make_table

from search_tests.test_evolution import ONESHOT, SPACE, TIGHT, TINY_SPACE, UNBOUNDED, flat, make_fitness, run
from spos.core.errors import InputError
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, random_search
from spos.search.front import checked_objectives, nsga2_search, pareto_front

DOMAIN = Domain(SPACE)
SETTINGS = GeneticSettings(population_size=16, retain_length=4, num_iterations=8)


def nsga2(domain=DOMAIN, objectives=("flops",), settings=SETTINGS, seed=0, initial=()):
    return nsga2_search(domain, objectives, settings, np.random.default_rng(seed), initial)


def rows_of(architectures, fitness):
    table = Domain(SPACE).table
    return [
        {"top1": fitness(a), "flops": table.cost(a).macs, "params": table.cost(a).params, "architecture": a}
        for a in architectures
    ]


def volume(rows, worst_top1, worst_flops):
    """Area between the front and a point that every row beats, in top-1 x MFLOPs."""
    area, top1 = 0.0, worst_top1
    for row in pareto_front(rows, ("flops",)):
        area += max(row["top1"] - top1, 0) * max(worst_flops - row["flops"], 0) / 1e6
        top1 = max(top1, row["top1"])
    return area


@pytest.mark.parametrize("objectives", (("flops",), ("params",), ("flops", "params")))
def test_nothing_is_asked_for_twice_and_generations_are_full(objectives):
    generations = run(nsga2(objectives=objectives), make_fitness())
    asked = flat(generations)
    assert [len(generation) for generation in generations] == [16] * 8
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(
    "constraints", (Constraints(flop_max_m=300, score_max=None), Constraints(score_max=0.9), TIGHT)
)
def test_constraints_are_always_kept(constraints):
    domain = Domain(SPACE, constraints)
    assert all(map(domain.admits, flat(run(nsga2(domain), make_fitness()))))


@pytest.mark.parametrize("name", ("fixed_block_choices", "fixed_channel_choices"))
def test_fixed_choices_are_kept(name):
    choices = getattr(ONESHOT, name[len("fixed_") :])
    asked = flat(run(nsga2(Domain(SPACE, **{name: choices})), make_fitness()))
    assert {getattr(a, name[len("fixed_") :]) for a in asked} == {choices}


def test_the_front_is_better_than_that_of_random_search():
    domain, fitness, gains = Domain(SPACE, UNBOUNDED), make_fitness(), []
    for seed in range(3):
        asked = flat(run(nsga2(domain, seed=seed), fitness))
        drawn = flat(run(random_search(domain, 1, len(asked), np.random.default_rng(seed)), fitness))
        areas = [volume(rows_of(found, fitness), -150, 600e6) for found in (asked, drawn)]
        gains.append(areas[0] / areas[1])
    assert min(gains) > 1.1


def test_the_same_seed_gives_the_same_trajectory():
    first, second, other = (run(nsga2(seed=seed), make_fitness()) for seed in (5, 5, 6))
    assert first == second != other


def test_global_random_states_do_not_matter_and_are_left_alone():
    np.random.seed(1)
    first = run(nsga2(), make_fitness())
    after = np.random.random()
    np.random.seed(1)
    assert np.random.random() == after
    np.random.seed(2)
    assert run(nsga2(), make_fitness()) == first


PRINT_TRAJECTORY = """
import sys; sys.path[:0] = ["tests"]
from search_tests.test_nsga2 import *
print([a.genes for a in flat(run(nsga2(objectives=("flops", "params")), make_fitness()))])
"""


def test_the_same_seed_gives_the_same_trajectory_in_another_process():
    """Contract C6: the search is resumed by asking again."""
    hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # not that of this process
    done = subprocess.run(
        [sys.executable, "-c", PRINT_TRAJECTORY],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        check=True,
    )
    own = [a.genes for a in flat(run(nsga2(objectives=("flops", "params")), make_fitness()))]
    assert done.stdout == f"{own}\n".encode()


def test_a_domain_that_is_used_up_ends_the_search():
    domain = Domain(TINY_SPACE, UNBOUNDED)
    asked = flat(run(nsga2(domain, settings=GeneticSettings(6, 3, num_iterations=50)), make_fitness()))
    assert len(asked) == len(set(asked)) == TINY_SPACE.num_architectures == 16


def test_a_domain_of_one_architecture_is_searched():
    domain = Domain(SPACE, UNBOUNDED, ONESHOT.block_choices, ONESHOT.channel_choices)
    assert run(nsga2(domain), make_fitness()) == [[ONESHOT]]


def test_the_first_generation_begins_with_what_it_is_given(rng):
    given = DOMAIN.sample_many(5, rng)
    first = next(nsga2(initial=[*given, SPACE.widest((3,) * 20), given[0]]))
    assert first[:5] == given and len(set(first)) == 16


def test_latency_is_a_cost_like_the_others():
    domain = Domain(SPACE, latency=make_table(SPACE))
    architectures = flat(run(nsga2(domain, ("latency",)), make_fitness()))
    assert len(set(architectures)) == len(architectures) > SETTINGS.population_size
    rows = [{"top1": i, **domain.cost_fields(a)} for i, a in enumerate(architectures)]
    front = pareto_front(rows, ("latency",))
    assert [row["latency_ms"] for row in front] == sorted(row["latency_ms"] for row in front)
    with pytest.raises(InputError, match="--latency-table"):
        checked_objectives("flops,latency", Domain(SPACE))
