"""Ranking of supernets: which architectures are trained alone, and what their truth is."""

import numpy as np
import pytest
from conftest import TINY
from scipy.stats import kendalltau

from spos.space.cost import cost_table
from spos.study.flags import RankingOptions
from spos.study.rank import FLOPS, PARAMS, plan, rank, seed_agreement, tau_of_others, with_mean
from study_tests.test_alone import trainer  # noqa: F401  a fixture


def test_architectures_are_drawn_evenly_from_the_strata_of_flops():
    networks = plan(TINY, RankingOptions(num_architectures=12, strata=4, seeds=2))
    table = cost_table(TINY)
    strata = [network.about["stratum"] for network in networks]
    assert strata == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + strata[:12]
    macs = [table.cost(network.architecture).macs for network in networks[:12]]
    assert max(macs[:3]) <= min(macs[3:6]) and max(macs[6:9]) <= min(macs[9:])
    assert [network.seed for network in networks] == [0] * 12 + [1] * 12
    assert len({network.architecture for network in networks}) == 12


def test_more_architectures_contain_the_fewer():
    few, many = (
        {network.architecture for network in plan(TINY, RankingOptions(num_architectures=count, strata=4))}
        for count in (8, 16)
    )
    assert few < many


def make_rows(num, seeds=(0,)):
    """Rows of networks whose accuracy rises with the stratum, a little less with each seed."""
    networks = plan(TINY, RankingOptions(num_architectures=num, strata=2, seeds=len(seeds)))
    table = cost_table(TINY)
    rows = []
    for i, network in enumerate(networks):
        cost = table.cost(network.architecture)
        choices = {"block_choices": network.architecture.block_choices}
        choices["channel_choices"] = network.architecture.channel_choices
        top1 = 0.5 + (i % num) / 100 - network.seed / 1000
        rows.append(
            {**choices, **network.about, "seed": network.seed, "flops": cost.macs, "params": cost.params, "top1": top1}
        )
    return rows


def test_truth_is_the_mean_over_the_seeds():
    rows = make_rows(6, seeds=(0, 1))
    scores = {"supernet": [{"top1": i / 10} for i in range(6)]}
    ranked = rank(rows, scores, TINY)
    assert ranked.truth == pytest.approx([0.5 + i / 100 - 0.0005 for i in range(6)])
    assert ranked.strata.tolist() == [0, 0, 0, 1, 1, 1]
    assert list(ranked.predictors) == ["supernet", "supernet/additive", "supernet/additive+FLOPs", FLOPS, PARAMS]
    assert ranked.predictors[FLOPS].tolist() == [row["flops"] for row in rows[:6]]
    assert seed_agreement(rows) == pytest.approx(1) and seed_agreement(rows[:6]) is None
    mixed = [rows[i] for i in (3, 0, 1, 5, 2, 4, 11, 9, 6, 7, 10, 8)]  # several trainings at a time end in any order
    assert seed_agreement(mixed) == pytest.approx(1) and seed_agreement(mixed[:-1]) == pytest.approx(1)


def test_several_supernets_have_a_mean_and_one_has_none():
    ranked = rank(make_rows(6), {"a": [{"top1": i / 10} for i in range(6)], "b": [{"top1": 0.4}] * 6}, TINY)
    joint = with_mean(ranked, ["a", "b"])
    assert list(joint.predictors) == [
        *("mean of 2", "mean of 2/additive", "mean of 2/additive+FLOPs", "a", "b", "a/additive", "b/additive"),
        *("a/additive+FLOPs", "b/additive+FLOPs", FLOPS, PARAMS),
    ]
    additive = [joint.predictors[name + "/additive"] for name in ("mean of 2", "a", "b")]
    assert additive[0] == pytest.approx((additive[1] + additive[2]) / 2) and additive[2] == pytest.approx([0.4] * 6)
    assert joint.predictors["mean of 2"] == pytest.approx([0.2 + i / 20 for i in range(6)])
    assert with_mean(ranked, ["a"]) is ranked


def test_others_are_predicted_by_what_was_scored():
    """Of a table with additive accuracies: exactly, from a third of it; FLOPs order it as SciPy says."""
    rng, worth = np.random.default_rng(0), np.random.default_rng(1).normal(size=(4, 20))
    architectures = list(dict.fromkeys(TINY.sample(rng) for _ in range(300)))

    def top1(one):
        return (
            0.5
            + sum(worth[i, b] + worth[i, 4 + c] for i, (b, c) in enumerate(zip(one.block_choices, one.channel_choices)))
            / 100
        )

    truth = {one: [top1(one), top1(one)] for one in architectures}
    scored = architectures[: len(architectures) // 3]
    rows = [{"block_choices": one.block_choices, "channel_choices": one.channel_choices} for one in scored]
    scores = {"supernet": [{**row, "top1": top1(one)} for row, one in zip(rows, scored)]}
    found = tau_of_others(truth, scores, TINY)
    others, table = architectures[len(scored) :], cost_table(TINY)
    expected = kendalltau([table.cost(one).macs for one in others], list(map(top1, others)))[0]
    assert found[FLOPS] == pytest.approx(expected) and found["supernet/additive"] > 0.9
