"""The table of costs: every part of it names something that is there, and means the same."""

from dataclasses import fields

import pytest
from latency_tests.test_table import make_table

from search_tests.test_evolution import SPACE
from spos.core.flags import OneLineParser
from spos.sampling.limits import Constraints
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.flags import ConstraintOptions


@pytest.mark.parametrize("name", COSTS)
def test_a_cost_is_what_its_names_say(name, rng):
    cost, domain = COSTS[name], Domain(SPACE, latency=make_table(SPACE))
    architecture = domain.sample_many(1, rng)[0]
    assert cost.limit in {field.name for field in fields(Constraints)}
    assert domain.cost(architecture)[cost.part] / cost.part_unit == domain.cost_fields(architecture)[cost.key]
    assert cost.label.endswith(f"({cost.sign})")
    flag = cost.flag[2:].replace("-", "_")
    given = OneLineParser("", (ConstraintOptions,)).parse_args([cost.flag, "2.5"])
    assert getattr(given, flag) == 2.5


@pytest.mark.parametrize("name", COSTS)
def test_what_is_within_a_limit_costs_no_more(name, rng):
    cost, domain = COSTS[name], Domain(SPACE, latency=make_table(SPACE))
    low, high = domain.cost_range(name)
    most = (low + high) / 2
    within = domain.within(**{name: most})
    assert getattr(within.constraints, cost.limit) == pytest.approx(most / cost.unit)
    assert all(domain.cost_fields(one)[cost.key] <= most * (1 + 1e-9) for one in within.sample_many(20, rng))
