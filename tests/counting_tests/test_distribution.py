"""The distribution of a space: exact moments by brute force, samples against them, and the summary."""

import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, VARIANTS
from ragged_spaces import RAGGED

from spos.core.errors import InputError
from spos.counting import distribution
from spos.counting.distribution import PERCENTS, Distribution, Spread, covariance, sample_costs
from spos.sampling.limits import Constraints, limits_in_millions
from spos.space.architecture import Architecture
from spos.space.cost import COMPARISON_MODELS, CostTable, cost_table
from spos.space.space_file import search_space
from spos.space.stages import Stage

SMALL = replace(
    TINY,
    stages=(Stage(1, 8, False, False), Stage(2, 16, True, True)),
    stem_channels=4,
    blocks=search_space().blocks[1:],
    channel_scales=(0.5, 1.0, 2.0),
    min_channel_choice=1,
)


# Without their narrowest width too, which leaves choice blocks of few widths as they are.
SPACES = {"small": SMALL, "ragged": RAGGED, "ragged, wide": replace(RAGGED, min_channel_choice=2)}


@pytest.fixture(scope="module", params=SPACES)
def brute_force(request):
    """A space, and (MACs, params) of each of its architectures, one by one."""
    space = SPACES[request.param]
    lowest = [space.channel_choices(index).start for index in range(space.num_choice_blocks)]
    pairs = [
        {
            space.canonical_pair(i, b, c)
            for b in range(len(own.blocks))
            for c in range(lowest[i], len(own.channel_scales))
        }
        for i, own in enumerate(space.choices)
    ]
    return space, np.array([CostTable(space).cost(Architecture(*zip(*path))) for path in itertools.product(*pairs)])


def test_numbers_of_architectures():
    assert [space.num_architectures for space in SPACES.values()] == [216, 1024, 384]


def test_moments_and_ends_equal_brute_force(brute_force):
    space, all_costs = brute_force
    assert len(all_costs) == space.num_architectures
    assert covariance(space) == pytest.approx(np.cov(all_costs.T, bias=True))
    for weights in ((1, 0), (0, 1), (0.25, 3.0)):
        spread, values = Spread.of(weights, space, all_costs), all_costs @ weights
        assert (spread.smallest, spread.largest) == (values.min(), values.max())
        assert (spread.mean, spread.std) == pytest.approx((values.mean(), values.std()))


def test_a_sample_meets_every_architecture_equally_often(brute_force, rng):
    """Chi-squared of equal chances; architectures of equal cost are taken together."""
    space, all_costs = brute_force
    keys, expected = np.unique(all_costs, axis=0, return_counts=True)
    drawn, counts = np.unique(sample_costs(space, 50_000, rng), axis=0, return_counts=True)
    assert (drawn == keys).all()
    expected = expected * 50_000 / len(all_costs)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    freedom = len(keys) - 1
    assert abs(chi_squared - freedom) < 5 * np.sqrt(2 * freedom)


def test_samples_of_a_whole_space_have_its_moments(space, rng):
    """Within five standard errors, and never beyond what is reachable."""
    space = replace(space, min_channel_choice=2)
    costs = sample_costs(space, 20_000, rng)
    assert costs.shape == (20_000, 2) and costs.dtype == np.int64
    smallest, largest = cost_table(space).range()
    assert (costs >= smallest).all() and (costs <= largest).all()
    spreads = Spread.of((1, 0), space, costs), Spread.of((0, 1), space, costs)
    for values, spread, low, high in zip(costs.T, spreads, smallest, largest):
        assert (spread.smallest, spread.largest) == (low, high)
        assert abs(values.mean() - spread.mean) < 5 * spread.std / np.sqrt(len(costs))
        assert values.std() == pytest.approx(spread.std, rel=0.03)
    exact = Distribution.of(space, costs).correlation
    assert np.corrcoef(costs.T)[0, 1] == pytest.approx(exact, abs=0.03)


def test_narrow_choices_can_be_left_out():
    space = replace(VARIANTS["se-last-conv"], min_channel_choice=9)
    widest_only = sample_costs(space, 500, np.random.default_rng(0))
    assert widest_only[:, 0].min() > sample_costs(VARIANTS["se-last-conv"], 500, np.random.default_rng(0))[:, 0].max()


def test_a_sample_depends_on_the_seed_alone(monkeypatch):
    samples = []
    for chunk in (7, 1000, 4096):
        monkeypatch.setattr(distribution, "CHUNK", chunk)
        samples.append(sample_costs(SMALL, 1000, np.random.default_rng(3)))
    assert (samples[0] == samples[1]).all() and (samples[1] == samples[2]).all()
    assert not (samples[0] == sample_costs(SMALL, 1000, np.random.default_rng(4))).all()


def test_a_hundred_thousand_take_less_than_a_second(rng):
    cost_table(VARIANTS["se-last-conv"])
    start = time.process_time()
    Distribution.of(VARIANTS["se-last-conv"], sample_costs(VARIANTS["se-last-conv"], 100_000, rng))
    assert time.process_time() - start < 1


def test_quantiles_are_values_of_the_sample():
    costs = np.column_stack([np.arange(1000), np.arange(1000)[::-1]])
    summary = Distribution.of(SMALL, costs)
    expected = [max(percent * 10 - 1, 0) for percent in PERCENTS]
    assert list(summary.flops.quantiles) == list(summary.params.quantiles) == expected


def test_the_score_is_relative_to_the_comparison_model(rng):
    costs = sample_costs(SMALL, 500, rng)
    for name, model in COMPARISON_MODELS.items():
        summary = Distribution.of(SMALL, costs, name)
        combined = np.sort(0.5 * costs[:, 0] / model.macs + 0.5 * costs[:, 1] / model.params)
        assert summary.comparison_model == name
        assert summary.combined_score.quantiles == pytest.approx(
            [combined[max(percent * 5 - 1, 0)] for percent in PERCENTS]
        )


def test_the_share_within_limits_is_counted(brute_force):
    space, all_costs = brute_force
    macs, params = np.median(all_costs, axis=0)
    limits = limits_in_millions((macs / 1e6, None), (None, params / 1e6))
    summary = Distribution.of(space, all_costs, limits=limits)
    kept = (all_costs[:, 0] <= macs) & (all_costs[:, 1] >= params)
    assert 0 < kept.mean() < 1 and summary.share_within == kept.mean()
    assert summary.limits == tuple(map(str, limits))
    assert summary.to_json()["within"] == {"limits": list(summary.limits), "share": kept.mean()}


def test_a_limit_on_the_score_leaves_what_is_not_above_it(brute_force):
    space, all_costs = brute_force
    median = Distribution.of(space, all_costs).combined_score.quantiles[PERCENTS.index(50)]
    summary = Distribution.of(space, all_costs, limits=Constraints(score_max=median * (1 + 1e-9)).limits())
    assert 0.5 <= summary.share_within < 0.6


def test_the_summary_is_json(rng):
    summary = Distribution.of(VARIANTS["plain"], sample_costs(VARIANTS["plain"], 100, rng))
    report = json.loads(json.dumps(summary.to_json()))
    assert report["num_architectures"] == 40**20 and report["num_samples"] == 100
    assert list(report["flops"]["quantiles"]) == [str(percent) for percent in PERCENTS]
    assert all(type(value) is int for value in report["flops"]["quantiles"].values())
    assert report["params"]["largest"] == 7_170_504  # DESIGN 3
    assert report["combined_score"]["comparison_model"] == "SinglePathOneShot"
    assert "within" not in report


def test_a_space_of_one_architecture_has_no_correlation(rng):
    single = replace(SMALL, blocks=search_space().blocks[:1], min_channel_choice=2)
    summary = Distribution.of(single, sample_costs(single, 10, rng))
    assert summary.num_architectures == 1 and summary.correlation is None
    assert summary.flops.std == 0 and len(set(summary.flops.quantiles)) == 1


def test_an_empty_sample_is_refused():
    with pytest.raises(InputError, match="at least one"):
        Distribution.of(SMALL, sample_costs(SMALL, 0, np.random.default_rng(0)))
