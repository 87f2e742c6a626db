"""Searched architectures beside random ones: equal costs, and intervals of the difference."""

import pytest
from conftest import TINY

from spos.core.errors import InputError
from spos.core.intervals import welch_interval
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import cost_table
from spos.study.flags import MatchOptions
from spos.study.matched import RANDOM, compare, draw_equal, group_means, plan
from study_tests.test_alone import trainer  # noqa: F401  a fixture


def make_searched(rng, count=2, space=TINY):
    return [ArchitectureRecord(space, space.sample(rng), {}) for _ in range(count)]


def test_random_architectures_cost_what_the_searched_do(rng):
    searched = make_searched(rng)
    networks = plan(searched, MatchOptions(num_random=6, seeds=2, tolerance=0.02))
    table = cost_table(TINY)
    macs = [table.cost(network.architecture).macs for network in networks]
    assert [network.about["group"] for network in networks] == (["searched 0", "searched 1"] + [RANDOM] * 6) * 2
    assert all(abs(macs[2 + i] / macs[i % 2] - 1) <= 0.02 for i in range(6))
    assert len({network.architecture for network in networks}) == 8
    assert [network.seed for network in networks] == [0] * 8 + [1] * 8


def test_more_random_ones_contain_the_fewer(rng):
    searched = make_searched(rng, 1)
    few, many = ({n.architecture for n in plan(searched, MatchOptions(num_random=count))} for count in (4, 8))
    assert few < many


def make_rows(rng, searched_tops, random_tops):
    """Rows of one searched architecture and several random ones: a list of accuracies by seed for each."""
    groups = [("searched 0", searched_tops), *((RANDOM, tops) for tops in random_tops)]
    rows = []
    for group, tops in groups:
        one = TINY.sample(rng)
        choices = {"block_choices": one.block_choices, "channel_choices": one.channel_choices}
        rows += [{**choices, "group": group, "seed": seed, "top1": top1, "flops": 1} for seed, top1 in enumerate(tops)]
    return rows


def test_a_searched_one_is_compared_over_its_seeds_with_the_means_of_random_ones(rng):
    rows = make_rows(rng, [0.8, 0.82], [[0.6, 0.62], [0.7, 0.72], [0.9, 0.92]])
    (found,) = compare(rows)
    assert found.top1.mean == pytest.approx(0.81) and found.num_better == 1
    assert found.gain == pytest.approx(welch_interval([0.8, 0.82], [0.61, 0.71, 0.91]))
    assert [top1 for _, top1 in group_means(rows)[RANDOM]] == pytest.approx([0.61, 0.71, 0.91])


def test_all_searched_together_are_compared_by_their_means(rng):
    rows = make_rows(rng, [0.8, 0.82], [[0.6, 0.62], [0.7, 0.72]])
    other = TINY.sample(rng)
    choices = {"block_choices": other.block_choices, "channel_choices": other.channel_choices}
    rows += [{**choices, "group": "searched 1", "seed": seed, "top1": 0.9, "flops": 1} for seed in range(2)]
    both = compare(rows)[-1]
    assert both.name == "all searched"
    assert both.gain == pytest.approx(welch_interval([0.81, 0.9], [0.61, 0.71]))


def test_an_architecture_without_new_equals_is_said(rng, monkeypatch):
    class Everything:
        def __contains__(self, architecture):
            return True

    monkeypatch.setattr("spos.study.matched.MAX_DRAWS", 10)
    with pytest.raises(InputError, match="no further architecture with .* in 10 draws; raise --tolerance"):
        draw_equal(make_searched(rng, 1)[0], 0.01, rng, Everything())
