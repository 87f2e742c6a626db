"""Searches of spaces whose choice blocks differ: valid, canonical, never twice, whatever breeds them."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from ragged_spaces import MOBILE, RAGGED, RANDOM, RESNET, check_canonical, every_architecture
from sampling_tests.test_exact import check_uniform

from search_tests.test_evolution import UNBOUNDED, flat, run
from spos.core.errors import InputError
from spos.sampling.limits import Constraints, Limits
from spos.search.breeder import Breeder
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, genetic_search, random_search, spos_search
from spos.search.front import nsga2_search
from spos.search.function import sample_architectures, search_architectures
from spos.search.history import check_costs
from spos.search.two_stage import first_stage, two_stage_search
from spos.space.architecture import Architecture
from spos.space.cost import cost_table
from spos.space.space_file import load_space
from spos.study.oracles import AdditiveOracle, RecordedDomain

SPACES = {
    "ragged": RAGGED,
    "ragged, wide": replace(RAGGED, min_channel_choice=2),
    "resnet": RESNET,
    "mobile": MOBILE,
    "tiny": load_space("tiny"),
    "macro": load_space("nas-bench-macro"),
    "mobilenet": load_space("mobilenet"),
    **{name: space for name, space in RANDOM.items() if space.num_architectures > 200},
}
SETTINGS = GeneticSettings(population_size=12, retain_length=4, num_iterations=6)
SEARCHES = {
    "genetic": lambda domain, rng: genetic_search(domain, SETTINGS, rng),
    "spos": lambda domain, rng: spos_search(domain, SETTINGS, rng),
    "random": lambda domain, rng: random_search(domain, 6, 12, rng),
    "two-stage": lambda domain, rng: two_stage_search(domain, SETTINGS, rng, 2),
    "two-stage spos": lambda domain, rng: two_stage_search(domain, SETTINGS, rng, 2, spos_search),
    "nsga2": lambda domain, rng: nsga2_search(domain, ("flops",), SETTINGS, rng),
}


@pytest.fixture(params=SPACES)
def ragged(request):
    return SPACES[request.param]


def within(space, share):
    """A domain below a share of the way to the largest FLOPs and params."""
    smallest, largest = cost_table(space).range()
    flops, params = ((low + share * (high - low)) / 1e6 for low, high in zip(smallest, largest))
    return Domain(space, Constraints(score_max=None, flop_max_m=flops, param_max_m=params))


def narrowest(space):
    return tuple(space.channel_choices(index).start for index in range(space.num_choice_blocks))


def check_in(domain, architecture):
    """Valid, canonical, within limits, and with the fixed choices of its domain."""
    check_canonical(domain.space, architecture)
    assert domain.admits(architecture) and domain.contains(architecture)
    for index, (b, c) in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
        if domain.fixed_block_choices is not None:
            assert b == domain.fixed_block_choices[index]
        if domain.fixed_channel_choices is not None and domain.space.has_middle(index, b):
            assert c == domain.fixed_channel_choices[index]


@pytest.mark.parametrize("search", SEARCHES)
def test_everything_asked_for_is_valid_canonical_within_limits_and_new(ragged, search, rng):
    domain, oracle = within(ragged, 0.5), AdditiveOracle.draw(ragged, np.random.default_rng(1))
    asked = flat(run(SEARCHES[search](domain, rng), oracle))
    assert len(asked) == len(set(asked)) > 12
    for architecture in asked:
        check_in(domain, architecture)


@pytest.mark.parametrize("search", ("genetic", "spos", "nsga2"))
@pytest.mark.parametrize("fixed", ("block", "channel"))
def test_fixed_choices_stay_fixed_where_blocks_have_no_middle(fixed, search, rng):
    for space in (RAGGED, MOBILE, SPACES["tiny"]):
        choices = narrowest(space) if fixed == "channel" else tuple(len(own.blocks) - 1 for own in space.choices)
        domain = Domain(space, UNBOUNDED, **{f"fixed_{fixed}_choices": choices})
        asked = flat(run(SEARCHES[search](domain, rng), AdditiveOracle.draw(space, np.random.default_rng(1))))
        assert len(asked) == len(set(asked)) >= min(12, len(every_fixed(domain)))
        for architecture in asked:
            check_in(domain, architecture)


def every_fixed(domain):
    return set(product(*domain.pairs))


def test_a_search_goes_through_a_whole_small_domain():
    """And no further: identity at another width is not another network."""
    space = replace(RAGGED, min_channel_choice=3)
    settings = GeneticSettings(population_size=30, retain_length=4, num_iterations=40)
    for search in (genetic_search, spos_search):
        asked = flat(run(search(Domain(space, UNBOUNDED), settings, np.random.default_rng(0)), lambda a: 0.0))
        assert set(asked) == set(every_architecture(space)) and len(asked) == 60


def test_children_of_canonical_parents_are_canonical(ragged, rng):
    for domain in (Domain(ragged, UNBOUNDED), Domain(ragged, UNBOUNDED, fixed_channel_choices=narrowest(ragged))):
        breeder = Breeder(domain, 0.3, rng, {})
        parents = domain.sample_many(20, rng)
        for first, second in zip(parents, parents[1:]):
            for child in (breeder.crossover(first, second), breeder.mutate(first)):
                check_in(domain, child)


def test_repaired_architectures_are_in_the_domain(ragged, rng):
    domain, free = within(ragged, 0.35), Domain(ragged, UNBOUNDED)
    repaired = 0
    for architecture in free.sample_many(60, rng):
        result = domain.repair(architecture, rng)
        if domain.admits(architecture):
            assert result == architecture
        elif result is not None:
            repaired += 1
            check_in(domain, result)
    assert repaired > 10


@pytest.mark.parametrize("share", (0.1, 0.4, 1.0))
def test_samples_of_a_domain_are_uniform(share, rng):
    domain = within(RAGGED, share)
    feasible = [one for one in every_architecture(RAGGED) if domain.admits(one)]
    check_uniform(domain.sample_many(30 * len(feasible), rng), feasible)
    check_uniform([domain.sample(rng) for _ in range(25 * len(feasible))], feasible)


def test_new_samples_are_all_there_are(rng):
    domain = within(RAGGED, 0.2)
    feasible = {one for one in every_architecture(RAGGED) if domain.admits(one)}
    assert 20 < len(feasible) < 400
    seen = set(sorted(feasible, key=lambda one: one.genes)[::2])
    found = domain.sample_new(len(feasible), rng, seen)
    assert len(found) == len(set(found)) and set(found) <= feasible - seen
    assert len(found) > 0.9 * len(feasible - seen)  # it ends after 200 known ones in a row


def test_the_first_stage_has_scales_nearest_to_1_and_its_domain_holds_every_block(ragged):
    stage = first_stage(Domain(ragged, UNBOUNDED))
    for own, c in zip(ragged.choices, stage.fixed_channel_choices):
        assert abs(own.channel_scales[c] - 1) == min(abs(scale - 1) for scale in own.channel_scales)
    for pairs, own in zip(stage.pairs, ragged.choices):
        assert [b for b, _ in pairs] == list(range(len(own.blocks)))


def test_the_second_stage_goes_on_from_what_the_first_has_scored(rng):
    """Its population is not empty: what lies in its domain, in canonical form, is bred from."""
    narrow = Domain(RAGGED, UNBOUNDED, fixed_channel_choices=narrowest(RAGGED))
    seen = {one: float(i) for i, one in enumerate(narrow.sample_new(30, rng, ()))}
    assert all(narrow.contains(one) for one in seen)
    best = max(seen, key=seen.get)
    second = Domain(RAGGED, UNBOUNDED, fixed_block_choices=best.block_choices)
    assert second.contains(best)
    assert not any(second.contains(one) for one in seen if one.block_choices != best.block_choices)


def test_the_same_layers_in_another_form_are_not_in_a_domain():
    identity = Architecture((0, 0, 0, 0), (0, 0, 0, 0))
    domain = Domain(RAGGED, UNBOUNDED)
    assert not domain.contains(identity) and domain.contains(RAGGED.canonical(identity))


@pytest.mark.parametrize("share", (None, 0.3))
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_of_the_additive_oracle_is_that_of_brute_force(seed, share):
    oracle = AdditiveOracle.draw(RAGGED, np.random.default_rng(seed))
    domain = Domain(RAGGED, UNBOUNDED)
    if share is not None:
        limited = within(RAGGED, share)
        domain = replace(limited, constraints=replace(limited.constraints, param_max_m=None))
    best = max(oracle(one) for one in every_architecture(RAGGED) if domain.admits(one))
    bound = oracle.optimum(domain)
    assert bound >= best - 1e-12 and bound == pytest.approx(best, abs=1e-12 if share is None else 0.05)


@pytest.mark.parametrize("fixed", ({"fixed_block_choices": (4, 0, 1, 1)}, {"fixed_channel_choices": (0, 0, 1, 0)}))
def test_the_optimum_with_fixed_choices(fixed):
    domain = Domain(RAGGED, UNBOUNDED, **fixed)
    oracle = AdditiveOracle.draw(RAGGED, np.random.default_rng(5))
    best = max(oracle(Architecture(*zip(*path))) for path in product(*domain.pairs))
    assert oracle.optimum(domain) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("search", (genetic_search, spos_search))
def test_a_table_of_a_ragged_space_is_searched_to_its_end(ragged, search, rng):
    oracle = AdditiveOracle.draw(ragged, np.random.default_rng(0))
    scores = {one: oracle(one) for one in Domain(ragged, UNBOUNDED).sample_new(50, rng, ())}
    domain = RecordedDomain(scores)
    asked = flat(run(search(domain, GeneticSettings(10, 4, num_iterations=40), rng), domain))
    assert len(asked) == 50 and set(asked) == set(scores)


def test_a_search_by_a_function_scores_no_network_twice(ragged, tmp_path):
    counts = Counter()

    def score(architecture):
        check_canonical(ragged, architecture)
        counts[architecture] += 1
        return -float(cost_table(ragged).cost(architecture).macs)

    found = search_architectures(ragged, score, tmp_path / "run", iterations=5, population=12, retain=4)
    assert set(counts.values()) == {1} and found.best in counts
    again = search_architectures(ragged, score, tmp_path / "run", iterations=6, population=12, retain=4)
    assert set(counts.values()) == {1} and len(again.rows) == len(counts) > len(found.rows)


def test_architectures_for_scripts_keep_limits(ragged):
    smallest, largest = cost_table(ragged).range()
    limit = (smallest.macs + largest.macs) / 2
    for architecture in sample_architectures(ragged, 20, Limits(flops=limit)):
        check_canonical(ragged, architecture)
        assert cost_table(ragged).cost(architecture).macs <= limit


def test_a_history_that_gives_a_width_to_a_block_without_a_middle_is_refused():
    """Such a row would be a second score of one network."""
    canonical = RAGGED.canonical(Architecture((0, 0, 0, 0), (0, 0, 0, 0)))
    check_costs([{"block_choices": canonical.block_choices, "channel_choices": canonical.channel_choices}], RAGGED, "h")
    row = {"block_choices": (0, 0, 0, 0), "channel_choices": (0, 0, 0, 0)}
    with pytest.raises(InputError, match="h line 1 gives another width than the widest to a block that has none"):
        check_costs([row], RAGGED, "h")
