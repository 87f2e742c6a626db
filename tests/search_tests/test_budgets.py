"""Budgets: how they are read, what keeps them, what is refused."""

from dataclasses import replace

import pytest
from latency_tests.test_table import make_table

from search_tests.test_evolution import SPACE, UNBOUNDED
from spos.core.errors import InputError
from spos.sampling.limits import Constraints
from spos.search.aims import Aims
from spos.search.budgets import Budgets
from spos.search.domain import Domain
from spos.search.flags import ConstraintOptions, SearchOptions, check_reachable, make_domain

DOMAIN = Domain(SPACE, UNBOUNDED)
BUDGETS = Budgets.parse("flops:260,300,400")
PARTS = BUDGETS.domains(DOMAIN)
AIMS = Aims(PARTS)


@pytest.mark.parametrize(
    "text, most, names",
    (
        ("flops:300,100", (100.0, 300.0), ["100M", "300M"]),
        ("params: 1.5 , 2", (1.5, 2.0), ["1.5M", "2M"]),
        ("latency:2.25", (2.25,), ["2.25ms"]),
    ),
)
def test_budgets_are_read(text, most, names):
    budgets = Budgets.parse(text)
    assert (budgets.cost, budgets.most, budgets.names) == (text.partition(":")[0], most, names)


@pytest.mark.parametrize(
    "text, message",
    (
        ("300", "is not of the form flops:100,150,200"),
        ("speed:3", "one of flops, params, latency"),
        ("flops:", "'' is not a number"),
        ("flops:100,x", "'x' is not a number"),
        ("flops:100,100", "each budget is given once"),
        ("params:3.433579,2,3.433581", "two budgets are called 3.43358M; six digits tell them apart"),
        ("flops:0,100", "above 0"),
        ("flops:nan", "above 0 and finite, not nan"),
        ("flops:inf", "above 0 and finite, not inf"),
    ),
)
def test_other_budgets_are_refused(text, message):
    with pytest.raises(InputError, match=message) as error:
        Budgets.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ("flops:260,300", "params:3,4.5", "latency:40,60"))
def test_domains_and_rows_of_a_budget_are_the_same(text, rng):
    domain = Domain(SPACE, UNBOUNDED, latency=make_table(SPACE))
    budgets = Budgets.parse(text)
    drawn = domain.sample_many(60, rng)
    rows = [{**domain.cost_fields(one), "number": i} for i, one in enumerate(drawn)]
    for part, within, most in zip(budgets.domains(domain), budgets.rows_within(rows), budgets.most):
        admitted = [i for i, one in enumerate(drawn) if part.admits(one)]
        assert [row["number"] for row in within] == admitted
        assert part.constraints.limits()[-1].upper in (most * 1e6, pytest.approx(most * 1e6))
    low, high = domain.cost_range(budgets.cost)
    key = {"latency": "latency_ms"}.get(budgets.cost, budgets.cost)
    assert all(low <= row[key] <= high for row in rows)


def test_a_latency_is_held_against_a_budget_in_nanoseconds(rng):
    domain = Domain(SPACE, UNBOUNDED, latency=make_table(SPACE))
    drawn = domain.sample_many(5, rng)
    rows = [domain.cost_fields(one) for one in drawn]
    exact = rows[0]["latency_ms"]
    for most in (exact - 4e-7, exact, exact + 4e-7):
        budgets = Budgets("latency", (most,))
        (within,), (part,) = budgets.rows_within(rows), budgets.domains(domain)
        assert (rows[0] in within) == part.admits(drawn[0]) == (most >= exact)
        assert [row in within for row in rows] == list(map(part.admits, drawn))


def test_a_part_of_a_domain_keeps_its_own_limits():
    domain = Domain(SPACE, Constraints(score_max=None, flop_max_m=280))
    assert domain.within(flops=300e6, params=4e6).constraints == replace(domain.constraints, param_max_m=4.0)
    assert domain.within(flops=250e6).constraints.flop_max_m == 250
    assert domain.cost_range("flops")[1] == 280e6 and DOMAIN.cost_range("flops")[1] > 280e6


@pytest.mark.parametrize(
    "changes, limits, message",
    (
        ({"budgets": "flops:5"}, {}, "no architecture of this space has FLOPs <= 5 M; the smallest reachable is"),
        ({"budgets": "flops:300"}, {"flop_max_m": 200.0}, "--budgets and --flop-max-m limit the same"),
        ({"budgets": "latency:5"}, {}, "--budgets latency needs --latency-table"),
        ({"budgets": "params:1,4"}, {}, "has params <= 1 M; the smallest reachable is"),
    ),
)
def test_budgets_that_cannot_be_kept_are_refused(changes, limits, message):
    options = SearchOptions(search_mode="surrogate", **changes)
    with pytest.raises(InputError, match=message):
        check_reachable(make_domain(SPACE, options, ConstraintOptions(**limits)), options)


def test_the_largest_budget_is_the_limit():
    options = SearchOptions(search_mode="surrogate", budgets="flops:300,350")
    constraints = make_domain(SPACE, options, ConstraintOptions()).constraints
    assert (constraints.flop_max_m, constraints.flop_max, constraints.score_max) == (350.0, None, 1.0)
    by_params = make_domain(SPACE, replace(options, budgets="params:3,4"), ConstraintOptions()).constraints
    assert (by_params.param_max_m, by_params.flop_max) == (4.0, 1.0)
