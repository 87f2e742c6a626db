"""Descriptions of spaces: their figures, their tables, and what is said to be exact."""

import json

import numpy as np
import pytest
from ragged_spaces import RAGGED, SPACES, every_architecture

from counting_tests.test_sums import limits_of
from spos.core.tables import render
from spos.counting import description
from spos.counting.description import description_json, description_tables, digits, median_cost
from spos.counting.distribution import distribution_json
from spos.space.cost import cost_table
from spos.space.space_file import load_space


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_described(name):
    space = SPACES[name]
    report = json.loads(json.dumps(description_json(space, (), 0)))
    smallest, largest = cost_table(space).range()
    assert report["smallest"] == {"flops": smallest.macs, "params": smallest.params}
    assert report["largest"] == {"flops": largest.macs, "params": largest.params}
    assert all(low <= report["median"][key] <= high for key, low, high in zip(("flops", "params"), smallest, largest))
    assert report["num_architectures"] == space.num_architectures and "within" not in report
    assert np.prod([place["num_choices"] for place in report["choice_blocks"]], dtype=float) == pytest.approx(
        space.num_architectures
    )
    text = render(description_tables(report), "text")
    assert "Budgets in a search space" in text and "forced" not in text
    assert ("alone. Additions" in text) == (not space.count_additions)


def test_figures_of_a_ragged_space_are_those_of_brute_force():
    costs = np.array([cost_table(RAGGED).cost(one) for one in every_architecture(RAGGED)])
    report = description_json(RAGGED, limits_of(RAGGED, (0.4, 0.6, None)), 0)
    assert report["median_is"] == "all, exact" and report["num_architectures"] == len(costs)
    for name, pick in (("smallest", 0), ("median", 50), ("largest", 100)):
        expected = np.percentile(costs, pick, axis=0, method="inverted_cdf").tolist()
        assert list(report[name].values()) == expected
    within = report["within"]
    assert within["is"] == "exact" and within["interval"] is None and within["can_be_met"]
    assert within["share"] == within["num_architectures"] / len(costs)
    assert [place["block_choices"] for place in report["choice_blocks"]] == [
        ["S3", "M1", "M4", "B", "I"],
        ["I", "B", "M1"],
        ["B", "M4"],
        ["I", "M4"],
    ]


def test_a_median_that_is_not_counted_is_that_of_the_distribution(monkeypatch):
    monkeypatch.setattr(description, "NUM_SAMPLES", 2000)
    space = load_space("mobilenet")
    cost, what = median_cost(space, 3)
    report = distribution_json(space, 2000, 3, "SinglePathOneShot")
    assert what == "2,000 drawn (seed 3)"
    assert cost == (report["flops"]["quantiles"]["50"], report["params"]["quantiles"]["50"])


def tables_of(space, shares):
    return description_tables(description_json(space, limits_of(space, shares), 0))


def test_tables_say_what_is_exact_and_what_is_forced():
    costs, choices = tables_of(RAGGED, (0.0, None, None))
    assert "FLOPs <= 0.085785 M: kept by 1 of 1,024 (exact), a share of 0.000977." in costs.notes
    records = choices.records()
    assert [row["forced"] for row in records] == ["I", "I", "M4 0.25", "I"]
    assert records[1]["never"].split() == ["B", "M1", "0.5", "1"] and records[1]["num_left"] == 1
    (note,) = (note for note in tables_of(load_space("oneshot"), (0.2, None, None))[0].notes if "kept by" in note)
    assert "estimated by 32,768 tries of the sampler, 95% interval" in note and "of 1.0995e+32" in note


def test_what_cannot_be_met_is_said_and_forces_nothing():
    costs, choices = tables_of(RAGGED, (-0.5, None, None))
    assert any(note.endswith("kept by none of them (exact).") for note in costs.notes)
    assert "forced" not in choices.records()[0]


def test_long_numbers_are_shortened():
    assert [digits(number) for number in (1024, 10**15, 2.5e6)] == ["1,024", "1.0000e+15", "2.5000e+06"]
