"""Searches against fitness with a known optimum: the oracles themselves, and what the comparison says."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from conftest import TINY, fails
from search_tests.test_evolution import SPACE, TINY_SPACE, UNBOUNDED

from spos.core.errors import InputError
from spos.core.intervals import student_interval
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings
from spos.search.flags import ConstraintOptions
from spos.space.flags import SpaceOptions
from spos.space.space import Architecture
from spos.study.oracles import AdditiveOracle, RecordedDomain
from spos.study.strategies import Task, additive, best_so_far, compare, searches
from utils import compare_search

SETTINGS = GeneticSettings(population_size=30, retain_length=6, num_iterations=300)
STABLE = SpaceOptions(use_se=True, last_conv_after_pooling=True, ignore_first_two_cs=True)


def every(domain):
    return (domain.from_genes(genes) for genes in product(*domain.genes))


def test_evolution_beats_random_search_at_equal_evaluations():
    """On additive oracles in the space of OneShot-S+, whose optimum is known: 20 seeds, 300 evaluations each."""
    results = compare(additive(STABLE, ConstraintOptions()), SETTINGS, 300, range(20))
    assert results["genetic"].gain.low > 1
    assert results["spos"].gain.low > 1
    assert results["random"].gain is None
    assert 0 < results["spos"].regret.mean < results["random"].regret.mean
    assert [len(result.curve) for result in results.values()] == [300] * 3


def test_evolution_beats_random_search_within_tight_limits():
    limits = ConstraintOptions(flop_max_m=200, param_max_m=3.1)
    results = compare(additive(STABLE, limits), replace(SETTINGS, population_size=20), 120, range(5))
    assert results["genetic"].gain.low > 0 and results["spos"].gain.low > 0
    assert all(result.is_bound and result.regret.mean > 0 for result in results.values())


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


def test_fitness_of_uniform_architectures_has_standard_deviation_1(rng):
    deviations = []
    for _ in range(20):
        oracle = AdditiveOracle.draw(SPACE, rng)
        deviations.append(np.std([oracle(SPACE.sample(rng)) for _ in range(200)]))
    assert np.mean(deviations) == pytest.approx(1, abs=0.1)


def test_nothing_found_is_above_the_optimum():
    make_task = additive(STABLE, ConstraintOptions(flop_max_m=250))
    for seed in range(3):
        task = make_task(seed)
        for make in searches(SETTINGS).values():
            best = best_so_far(make(task.domain, np.random.default_rng(seed)), task.oracle, 100)
            assert len(best) == 100 and np.all(np.diff(best) >= 0) and best[-1] <= task.optimum


def test_each_search_scores_exactly_the_evaluations_given():
    """The last generation is cut: what comes after the count does not matter."""
    scored = []

    def oracle(architecture):
        scored.append(architecture)
        return float(len(scored))

    search = searches(SETTINGS)["genetic"](Domain(SPACE), np.random.default_rng(0))
    best = best_so_far(search, oracle, 47)
    assert best.tolist() == list(range(1, 48))


def test_a_search_that_ends_early_keeps_its_best():
    search = searches(SETTINGS)["random"](Domain(TINY_SPACE, UNBOUNDED), np.random.default_rng(0))
    best = best_so_far(search, lambda architecture: float(sum(architecture.genes)), 40)
    assert len(best) == 40 and best[15:].tolist() == [4.0] * 25


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


def test_any_function_of_an_architecture_can_be_the_oracle():
    """The hook for a supernet: `compare` needs a domain and a function, no known optimum."""
    task = Task(Domain(SPACE), lambda architecture: -float(sum(architecture.channel_choices)))
    results = compare(lambda seed: task, SETTINGS, 60, range(3))
    assert all(result.regret is None for result in results.values())
    assert "-" in compare_search.text(results, FakeArguments())


class FakeArguments:
    history, supernet, evaluations, seed, seeds = None, None, 60, 0, 3


def test_the_interval_is_that_of_student():
    """Tables give t = 4.303 for 2 degrees of freedom."""
    mean, low, high = student_interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2 and (high - mean, mean - low) == pytest.approx([4.3027 / np.sqrt(3)] * 2, abs=1e-4)


SMALL = ["--use-se", "--evaluations", "40", "--seeds", "3", "--population-size", "10", "--retain-length", "4"]


def test_program_prints_a_table_and_draws_a_figure(tmp_path, capsys):
    files = [tmp_path / name for name in ("first.png", "second.png")]
    for file in files:
        assert compare_search.main([*SMALL, "--output", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("genetic") == 2 and "regret (95% t)" in printed
    assert files[0].read_bytes() == files[1].read_bytes()


def test_program_compares_on_a_history(tmp_path, capsys):
    history = tmp_path / "history.jsonl"
    domain = recorded_domain()
    rows = [
        {"block_choices": a.block_choices, "channel_choices": a.channel_choices, "fitness": value}
        for a, value in domain.scores.items()
    ]
    history.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert compare_search.main([*SMALL[1:], "--history", str(history), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    best = max(domain.scores.values())
    for result in found["searches"].values():
        assert len(result["curve"]) == 40
        assert result["best"]["mean"] + result["regret"]["mean"] == pytest.approx(best)
    fails(
        compare_search.main, [*SMALL[1:], "--history", history, "--evaluations", "60"], capsys, "all 60 architectures"
    )
    history.write_text('{"block_choices": [0]}\n')
    fails(compare_search.main, ["--history", history], capsys, "row 1 lacks")
    history.write_text("")
    fails(compare_search.main, ["--history", history], capsys, "holds no architecture")


@pytest.mark.parametrize(
    "flags, words",
    (
        (["--seeds", "1"], ["--seeds must be at least 2"]),
        (["--output", "figure.bmp"], [".png"]),
        (["--history", "gone.jsonl"], ["gone.jsonl does not exist"]),
        (["--history", "gone.jsonl", "--flop-max-m", "300"], ["--history says what can be visited"]),
        (["--flop-max-m", "1"], ["FLOPs <= 1 M", "smallest reachable"]),
        (["--retain-length", "50"], ["--retain-length"]),
    ),
)
def test_program_refuses(flags, words, capsys):
    fails(compare_search.main, flags, capsys, *words)


def test_rows_without_fitness_use_top1():
    row = {"block_choices": [0], "channel_choices": [1], "top1": 0.5}
    assert RecordedDomain.from_rows([row]).scores == {Architecture((0,), (1,)): 0.5}
    with pytest.raises(InputError, match="2 different lengths"):
        RecordedDomain.from_rows([row, {**row, "block_choices": [0, 1], "channel_choices": [1, 1]}])
