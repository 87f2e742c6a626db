"""Where proposals are looked for, within budgets and along a front, and what is found there."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from search_tests.test_evolution import SPACE, UNBOUNDED, flat, make_fitness, run
from search_tests.test_surrogate import SETTINGS, surrogate
from spos.search.aims import Aims, FrontAims
from spos.search.budgets import Budgets
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.evolution import random_search
from spos.search.flags import SearchOptions, make_search
from spos.search.front import hypervolume, pareto_front
from spos.search.surrogate import Forecasts
from spos.space.architecture import Architecture
from spos.space.space_file import search_space

DOMAIN = Domain(SPACE, UNBOUNDED)
BUDGETS = Budgets.parse("flops:260,300,400")
PARTS = BUDGETS.domains(DOMAIN)
AIMS = Aims(PARTS)


def test_fresh_samples_are_shared_among_budgets(rng):
    drawn = AIMS.sample_new(30, rng, set())
    assert len(set(drawn)) == 30
    for part, own in zip(PARTS, (drawn[:10], drawn[10:20], drawn[20:])):
        assert all(map(part.contains, own))
    assert not all(map(PARTS[1].contains, drawn[20:])) and not all(map(PARTS[0].contains, drawn[10:20]))
    filled = AIMS.fill_up(drawn[:5], 9, rng, set(drawn))
    assert filled[:5] == drawn[:5] and len(filled) == 9 and not set(filled[5:]) & set(drawn)


def test_a_budget_that_is_used_up_leaves_its_share_to_the_others(rng):
    smallest = DOMAIN.cost_range("flops")[0]
    aims = Aims([DOMAIN.within(flops=smallest), DOMAIN])
    assert len(aims.sample_new(12, rng, set())) == 12


def test_one_domain_is_searched_as_without_aims():
    fitness = make_fitness()
    assert run(surrogate(DOMAIN), fitness) == run(surrogate(DOMAIN, aims=Aims([DOMAIN])), fitness)
    rounds = [run(random_search(one, 2, 8, np.random.default_rng(3)), fitness) for one in (DOMAIN, Aims([DOMAIN]))]
    assert rounds[0] == rounds[1]


def test_every_budget_gets_proposals_and_children():
    """Also where scores are noise and the model is distrusted."""
    rng, forecasts = np.random.default_rng(3), Forecasts()
    settings = replace(SETTINGS, num_iterations=12)
    search = surrogate(PARTS[-1], settings, aims=AIMS, forecasts=forecasts)
    generations = run(search, lambda one: rng.normal())
    assert forecasts.distrusted and {len(generation) for generation in generations} == {20}
    for generation in generations:
        assert all(sum(map(part.admits, generation)) >= share for part, share in zip(PARTS, (6, 12, 20)))


def test_the_best_within_every_budget_is_found():
    """Of 65,536 architectures of fixed widths, with 80 evaluations; fitness adds up."""
    small = search_space("Small", use_se=True, input_size=32, num_classes=10)
    domain = Domain(small, UNBOUNDED, fixed_channel_choices=(5,) * 8)
    utilities = np.random.default_rng(4).normal(size=(8, 4))
    low, high = domain.cost_range("flops")
    parts = [domain.within(flops=low + share * (high - low)) for share in (0.3, 0.5, 1.0)]

    def fitness(architecture):
        return float(utilities[np.arange(8), architecture.block_choices].sum())

    asked = flat(run(surrogate(parts[-1], replace(SETTINGS, num_iterations=4), aims=Aims(parts)), fitness))
    everything = [Architecture(blocks, (5,) * 8) for blocks in product(range(4), repeat=8)]
    best = [max(map(fitness, filter(part.admits, everything))) for part in parts]
    assert best[0] < best[1] < best[2] and len(asked) == 80
    assert [max(map(fitness, filter(part.admits, asked))) for part in parts] == best


def test_proposals_along_a_front_are_spread_over_the_costs():
    domain = DOMAIN.within(flops=400e6)
    aims = FrontAims(domain, ["flops", "params"])
    places = aims.places(20, np.random.default_rng(0))
    assert len(places) == 20 and places[0] == (domain, True)
    assert 8 <= sum(place.by_expected for place in places) <= 12
    low, high = domain.cost_range("flops")
    most = [place.domain.constraints.flop_max_m * 1e6 for place in places[1:]]
    assert most == sorted(most) and low <= most[0] < low + (high - low) / 20 and most[-1] > low + (high - low) * 0.9
    assert len({place.domain.constraints.param_max_m for place in places[1:]}) == 19
    asked = flat(run(surrogate(domain, replace(SETTINGS, num_iterations=4), aims=aims), make_fitness()))
    assert len(set(asked)) == 80 and all(map(domain.contains, asked))


@pytest.mark.parametrize("objective, model", (("flops", 328.0), ("params", 3.4)))
def test_a_ratio_and_the_equal_limit_in_millions_give_the_same_places(objective, model):
    """The comparison model has 328M FLOPs and 3.4M params."""
    ratio = {"flops": "flop_max", "params": "param_max"}[objective]
    by_ratio = Domain(SPACE, replace(UNBOUNDED, **{ratio: 0.9}))
    in_millions = Domain(SPACE, replace(UNBOUNDED, **{COSTS[objective].limit: 0.9 * model}))
    assert by_ratio.cost_range(objective) == pytest.approx(in_millions.cost_range(objective), rel=1e-12)
    most = [
        [
            getattr(place.domain.constraints, COSTS[objective].limit)
            for place in FrontAims(one, [objective]).places(9, rng)
        ]
        for one, rng in ((by_ratio, np.random.default_rng(1)), (in_millions, np.random.default_rng(1)))
    ]
    assert most[0][1:] == pytest.approx(most[1][1:], rel=1e-12) and max(most[0][1:]) <= 0.9 * model


def test_a_limit_on_the_score_leaves_of_a_cost_what_the_cheapest_of_the_other_does():
    domain = Domain(SPACE, replace(UNBOUNDED, score_max=0.9))
    (low, high), (least, most) = domain.cost_range("flops"), DOMAIN.cost_range("flops")
    assert (low, high) == (least, pytest.approx(2 * 328e6 * (0.9 - 0.5 * DOMAIN.cost_range("params")[0] / 3.4e6)))
    assert (
        high < most and max(domain.cost(one).macs for one in domain.sample_many(200, np.random.default_rng(0))) < high
    )


def test_parents_of_a_front_are_what_nothing_beats():
    aims, fitness = FrontAims(DOMAIN, ["flops"]), make_fitness()
    scores = {one: fitness(one) for one in DOMAIN.sample_many(30, np.random.default_rng(2))}
    (parents,) = aims.parents(scores, 5)
    rows = [{"top1": value, "flops": DOMAIN.cost(one).macs, "one": one} for one, value in scores.items()]
    assert set(parents) == {row["one"] for row in pareto_front(rows, ["flops"])}
    alone = {max(scores, key=scores.get): 1.0, **dict.fromkeys(list(scores)[:3], -np.inf)}
    assert len(aims.parents(alone, 2)[0]) == 2


def test_the_front_of_the_model_is_wider_than_that_of_nsga2():
    """By hypervolume on an additive fitness, at equal evaluations."""
    options = SearchOptions(search_iters=5, population_size=20, retain_length=5)
    domain, fitness = DOMAIN.within(flops=400e6), make_fitness()
    low, high = domain.cost_range("flops")
    found = {}
    for mode in ("nsga2", "surrogate-front"):
        asked = flat(run(make_search(domain, replace(options, search_mode=mode), 0), fitness))[:95]
        rows = [{"flops": domain.cost(one).macs, "top1": 1 + fitness(one) / 300} for one in asked]
        found[mode] = hypervolume(rows, "flops", low, high)[-1]
    assert found["surrogate-front"] > found["nsga2"]
