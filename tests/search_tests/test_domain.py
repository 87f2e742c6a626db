"""Domains: repair, limits that nothing keeps, fixed choices."""

from dataclasses import replace

import pytest

from search_tests.test_evolution import ONESHOT, SPACE, UNBOUNDED
from spos.core.errors import InputError
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.space.cost import Cost, cost_table


@pytest.mark.parametrize("fixed", ("block", "channel", None))
@pytest.mark.parametrize(
    "constraints",
    (Constraints(flop_max_m=260, score_max=None), Constraints(score_max=0.9), Constraints(param_max_m=3.5)),
)
def test_a_repaired_architecture_is_in_the_domain_and_near(constraints, fixed, rng):
    fixed_choices = {f"fixed_{fixed}_choices": (0 if fixed == "block" else 4,) * 20} if fixed else {}
    domain = Domain(SPACE, constraints, **fixed_choices)
    free = Domain(SPACE, UNBOUNDED, **fixed_choices)
    repaired = 0
    for architecture in free.sample_many(60, rng):
        result = domain.repair(architecture, rng)
        if domain.admits(architecture):
            assert result == architecture
        elif result is not None:
            repaired += 1
            assert domain.admits(result)
            assert all(gene in values for gene, values in zip(result.genes, domain.genes))
            assert any(a == b for a, b in zip(result.genes, architecture.genes))
    assert repaired > 20


def test_repair_moves_only_what_breaks_the_limits(rng):
    """One choice block too wide: one or few moves suffice."""
    smallest = domain_of_smallest().sample(rng)
    macs = cost_table(SPACE).cost(smallest).macs
    domain = Domain(SPACE, Constraints(flop_max_m=(macs + 10_000_000) / 1e6, score_max=None))
    channels = (9, 9, *smallest.channel_choices[2:])
    wide = replace(smallest, block_choices=(3, 3, *smallest.block_choices[2:]), channel_choices=channels)
    assert not domain.admits(wide)
    for _ in range(20):
        result = domain.repair(wide, rng)
        moved = [i for i in range(20) if (result.block_choices[i], result.channel_choices[i]) != pair_of(wide, i)]
        assert 1 <= len(moved) <= 12 and domain.admits(result)


def domain_of_smallest():
    return Domain(SPACE, UNBOUNDED, (0,) * 20, (2,) * 20)


def pair_of(architecture, index):
    return architecture.block_choices[index], architecture.channel_choices[index]


def test_what_cannot_be_repaired_is_given_up(rng):
    impossible = Domain(SPACE, Constraints(flop_max_m=100, score_max=None))
    assert impossible.repair(ONESHOT, rng) is None


@pytest.mark.parametrize(
    "constraints, message",
    (
        (Constraints(flop_max_m=100), r"FLOPs <= 100 M; the smallest reachable is 148\.923 M"),
        (Constraints(param_max_m=2.9), r"params <= 2\.9 M; the smallest reachable is 2\.93428 M"),
        (Constraints(flop_max=0.4), r"FLOPs <= 0\.4 x of SinglePathOneShot; the smallest reachable is 0\.454033"),
        (Constraints(score_max=0.6), r"combined score <= 0\.6; the smallest reachable is 0\.66"),
    ),
)
def test_an_impossible_constraint_names_the_smallest_reachable_cost(constraints, message):
    with pytest.raises(InputError, match=message):
        Domain(SPACE, constraints).check()


def test_limits_at_the_smallest_reachable_cost_are_possible():
    smallest, _ = cost_table(SPACE).range()
    Domain(SPACE, Constraints(flop_max_m=smallest.macs / 1e6, score_max=None)).check()
    with pytest.raises(InputError):
        Domain(SPACE, Constraints(flop_max_m=(smallest.macs - 1) / 1e6, score_max=None)).check()


def test_reachable_costs_respect_fixed_choices():
    constraints = Constraints(flop_max_m=200, score_max=None)
    Domain(SPACE, constraints).check()
    with pytest.raises(InputError, match="FLOPs <= 200 M"):
        Domain(SPACE, constraints, fixed_channel_choices=(9,) * 20).check()


@pytest.mark.parametrize("choices", ((), (0,) * 19, (4,) * 20))
def test_fixed_choices_of_another_space_are_refused(choices):
    with pytest.raises(InputError, match="fixed choices"):
        Domain(SPACE, fixed_block_choices=choices)


def test_a_cost_that_equals_its_limit_is_admitted():
    constraints = Constraints(flop_max_m=300.0, param_max_m=3.5, score_max=None)
    assert constraints.admits(Cost(300_000_000, 3_500_000))
    assert not constraints.admits(Cost(300_000_001, 3_500_000))
    assert not constraints.admits(Cost(300_000_000, 3_500_001))
