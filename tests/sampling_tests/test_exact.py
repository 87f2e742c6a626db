"""Sampling under limits: always within them, uniform over what keeps them, and possible however tight they are."""

from collections import Counter
from dataclasses import replace
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from latency_tests.test_table import make_table

from spos.core.errors import InputError
from spos.sampling.limits import Constraints, limits_in_millions
from spos.sampling.strips import path_sampler
from spos.search.domain import Domain
from spos.space.architecture import Architecture
from spos.space.cost import cost_table
from spos.space.space_file import search_space
from spos.space.stages import Stage

SPACE = search_space(use_se=True, last_conv_after_pooling=True)
STABLE = replace(SPACE, min_channel_choice=2)
TINY = replace(SPACE, stages=(Stage(2, 32, False, False), Stage(1, 48, True, True)), strides=(2, 2, 2), num_classes=5)
TINY = replace(TINY, channel_scales=(0.5, 1.0, 2.0), input_size=32)  # (4 x 3) ^ 3 = 1,728 architectures


def all_architectures(space):
    genes = [range(space.num_block_choices)] * space.num_choice_blocks
    widths = [range(space.num_channel_choices)] * space.num_choice_blocks
    count = space.num_choice_blocks
    return [Architecture(choices[:count], choices[count:]) for choices in product(*genes, *widths)]


def all_costs(space):
    return {a: cost_table(space).cost(a) for a in all_architectures(space)}


def check_uniform(samples, feasible):
    """Every feasible architecture is drawn, nothing else, and all alike (chi-square within five sigma)."""
    counts, expected, degrees = Counter(samples), len(samples) / len(feasible), len(feasible) - 1
    assert set(counts) == set(feasible)
    chi_square = sum((counts[a] - expected) ** 2 / expected for a in feasible)
    assert abs(chi_square - degrees) <= 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize(
    "space, constraints",
    [
        (SPACE, Constraints()),
        (SPACE, Constraints("MobileNetV3_large", flop_max=1.0, param_max=1.0, score_max=None)),
        (STABLE, Constraints("MobileNetV3_large", flop_max=1.0, param_max=1.0, score_max=None)),
        (STABLE, Constraints(score_max=None, flop_max_m=168.07)),
        (STABLE, Constraints(score_max=None, flop_max_m=172, param_max_m=2.95)),
        (SPACE, Constraints(score_max=None)),
    ],
)
def test_samples_keep_every_limit(space, constraints, rng):
    domain = Domain(space, constraints)
    samples = [domain.sample(rng) for _ in range(40)]
    assert all(constraints.admits(cost_table(space).cost(space.validate(sample))) for sample in samples)
    assert len(set(samples)) > 30


def test_samples_are_uniform_over_what_keeps_the_limits(rng):
    costs = all_costs(TINY)
    macs = sorted(cost.macs for cost in costs.values())
    params = sorted(cost.params for cost in costs.values())
    constraints = Constraints(score_max=None, flop_max_m=macs[300] / 1e6, param_max_m=params[500] / 1e6)
    feasible = [a for a, cost in costs.items() if constraints.admits(cost)]
    assert 50 < len(feasible) < 300
    domain = Domain(TINY, constraints)
    check_uniform([domain.sample(rng) for _ in range(60 * len(feasible))], feasible)


# Positions of the bounds among the sorted costs of TINY: FLOPs upper and lower, params upper and lower.
BOUNDS = {
    "both": (900, 700, 1200, 400),
    "narrow FLOPs": (820, 800, None, None),
    "narrow params": (None, None, 1010, 1000),
    "from below": (None, 1500, None, None),
    "opposite corner": (900, None, None, 900),
    "one cost": (1000, 1000, None, None),
    "all": (1727, 0, 1727, 0),
}


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)
@pytest.mark.parametrize("num_cells", (64, 2**17))  # coarse: most of what is tried is rounded to a wrong place
def test_samples_are_uniform_between_lower_and_upper_limits(bounds, num_cells, rng, monkeypatch):
    monkeypatch.setattr("spos.sampling.exact.NUM_CELLS", num_cells)
    costs = all_costs(TINY)
    ordered = [sorted(column) for column in zip(*costs.values())]
    values = [None if i is None else ordered[k // 2][i] / 1e6 for k, i in enumerate(bounds)]
    limits = limits_in_millions(values[::2], values[1::2])
    feasible = [a for a, cost in costs.items() if all(limit.keeps(cost) for limit in limits)]
    assert feasible
    samples = path_sampler(TINY, 0, limits).draw_many(20 * len(feasible), rng)
    check_uniform(samples, feasible)


def test_without_limits_sampling_is_uniform_over_the_choices(rng):
    domain = Domain(TINY, Constraints(score_max=None))
    counts = Counter(domain.sample(rng).genes[0] for _ in range(2000))
    assert max(abs(counts[b] - 500) for b in range(4)) < 100


def test_fixed_choices_stay_fixed(rng):
    blocks = tuple(range(4)) * 5
    domain = Domain(SPACE, Constraints(), fixed_block_choices=blocks)
    assert all(domain.sample(rng).block_choices == blocks for _ in range(10))


def test_limits_that_exclude_each_other_name_what_is_reachable():
    domain = Domain(SPACE, Constraints(score_max=None, flop_max_m=64.17, param_max_m=2.4033))
    expected = r"FLOPs <= 64.17 M and params <= 2.4033 M; reachable are FLOPs from 64.162984M .*each limit alone"
    with pytest.raises(InputError, match=expected):
        domain.check()


def test_the_smallest_architecture_alone_can_be_drawn(rng):
    costs = {a: cost_table(TINY).cost(a) for a in all_architectures(TINY)}
    smallest = min(costs, key=lambda a: costs[a].macs)
    bound = costs[smallest].macs
    domain = Domain(TINY, Constraints(score_max=None, flop_max_m=bound / 1e6))
    assert {domain.sample(rng) for _ in range(20)} == {a for a, cost in costs.items() if cost.macs == bound}


@pytest.mark.parametrize("axis", (0, 1))
@pytest.mark.parametrize("end", ("smallest", "largest"))
@pytest.mark.parametrize("space", (SPACE, STABLE, TINY), ids=("whole", "stable", "tiny"))
def test_a_limit_equal_to_the_reachable_end_leaves_that_end(space, axis, end, rng):
    ends = dict(zip(("smallest", "largest"), cost_table(space).range()))
    bound = [None, None]
    bound[axis] = ends[end][axis] / 1e6
    none = (None, None)
    limits = limits_in_millions(bound, none) if end == "smallest" else limits_in_millions(none, bound)
    for architecture in path_sampler(space, space.min_channel_choice, limits).draw_many(20, rng):
        assert cost_table(space).cost(architecture)[axis] == ends[end][axis]


@pytest.mark.parametrize("low, high", ((290, 291), (290, 290.01), (64.162984, 66), (840, 849.5146)))
def test_narrow_windows_of_flops_are_drawn_well(low, high, rng):
    sampler = path_sampler(SPACE, 0, limits_in_millions((high, None), (low, None)))
    samples = sampler.draw_many(200, rng)
    assert all(low <= cost_table(SPACE).cost(a).macs / 1e6 <= high for a in samples)
    assert len(set(samples)) > 20
    assert sampler.choices.acceptance(rng) > 0.05


def test_within_a_narrower_window_samples_are_uniform_from_the_same_table(rng):
    costs = all_costs(TINY)
    macs = sorted(cost.macs for cost in costs.values())
    wide, narrow = (
        limits_in_millions((macs[high] / 1e6, None), (macs[low] / 1e6, None)) for high, low in ((1500, 100), (900, 850))
    )
    sampler = path_sampler(TINY, 0, wide).within(narrow)
    feasible = [a for a, cost in costs.items() if macs[850] <= cost.macs <= macs[900]]
    check_uniform(sampler.draw_many(20 * len(feasible), rng), feasible)


UNREACHABLE = {
    "upper too low": ((60, None), (None, None), r"FLOPs <= 60 M; reachable are FLOPs from 64.162984M to 849.514600M"),
    "lower too high": ((None, None), (900, None), r"FLOPs >= 900 M; reachable are .* to 849.514600M"),
    "params too low": ((330, 2.0), (None, None), r"params <= 2 M; .* params from 2.403296M to 7.479880M"),
    "window below": ((60, None), (50, None), r"50 <= FLOPs <= 60 M; reachable"),
    "nothing between": ((70, None), (None, 7.0), r"FLOPs <= 70 M and params >= 7 M; .* nothing lies between"),
    "too narrow": ((290.00001, None), (290, None), r"290 <= FLOPs <= 290.00001 M; .* widen the limits"),
}


@pytest.mark.parametrize("case", UNREACHABLE.values(), ids=UNREACHABLE)
def test_limits_that_nothing_keeps_name_what_is_reachable(case):
    upper, lower, message = case
    with pytest.raises(InputError, match=message):
        path_sampler(SPACE, 0, limits_in_millions(upper, lower))


def test_one_missing_cost_is_found_missing():
    """Between two neighbouring costs lies nothing, and that is said at once."""
    macs = sorted({cost.macs for cost in all_costs(TINY).values()})
    gap = max(range(len(macs) - 1), key=lambda i: macs[i + 1] - macs[i])
    low, high = (macs[gap] + 1) / 1e6, (macs[gap + 1] - 1) / 1e6
    with pytest.raises(InputError, match="each limit alone can be kept"):
        path_sampler(TINY, 0, limits_in_millions((high, None), (low, None)))


def with_latency(space, share, seed=0, **limits):
    """A domain whose latency limit keeps a share of what the other limits leave, by a table of 0.85 correlation."""
    table = make_table(space, seed)
    others = Domain(space, Constraints(score_max=None, **limits), latency=table)
    rng = np.random.default_rng(seed)
    latencies = sorted(others.cost(others.sample(rng)).latency_ms for _ in range(2000))
    z = NormalDist().inv_cdf(share)  # the rarest are not among 2,000, so the bound is that of a normal distribution
    bound = np.mean(latencies) + z * np.std(latencies)
    return Domain(space, replace(others.constraints, latency_max_ms=bound), latency=table)


def rejection(domain, count, rng):
    """`count` architectures of a domain, (count, blocks) of indices of pairs, by drawing and rejecting."""
    own, limits = domain._costs[None], domain.constraints.limits()
    costs, fixed = np.array(own.blocks), own.fixed
    blocks, kept = np.arange(len(costs)), []
    for _ in range(200):
        drawn = rng.integers(0, costs.shape[1], (20_000, len(costs)), dtype=np.int8)
        cost = (fixed + sum(costs[i, drawn[:, i]] for i in blocks)).T
        kept.append(drawn[np.all([limit.keeps(cost) for limit in limits], axis=0)])
        if sum(map(len, kept)) >= count:
            return np.concatenate(kept)[:count]
    raise AssertionError(f"{sum(map(len, kept))} of 4,000,000 draws are feasible")


BOXES = {
    "FLOPs and params": Domain(SPACE, Constraints(score_max=None, flop_max_m=330, param_max_m=4.0)),
    "ratios and combined score": Domain(STABLE, Constraints(score_max=1.05, flop_max=1.15, param_max=1.2)),
    "latency, FLOPs and params": with_latency(SPACE, 0.15, flop_max_m=290, param_max_m=4.0),
}


@pytest.mark.parametrize("domain", BOXES.values(), ids=BOXES)
def test_ten_thousand_draws_are_feasible_and_distributed_like_rejection(domain, rng):
    """The choices of every block are compared by chi-square; all tests together fail wrongly once in 1,000 times."""
    count = 10_000
    drawn, rejected = domain._sampler.draw_many(count, rng), rejection(domain, count, rng)
    architectures = [
        Architecture(*zip(*(pairs[choice] for pairs, choice in zip(domain.pairs, choices)))) for choices in drawn
    ]
    assert all(domain.admits(domain.space.validate(a)) for a in architectures)
    limit = NormalDist().inv_cdf(1 - 0.001 / len(BOXES) / drawn.shape[1])
    for i, pairs in enumerate(domain.pairs):
        own, other = (np.bincount(choices[:, i], minlength=len(pairs)) for choices in (drawn, rejected))
        own, other = np.array([(a, b) for a, b in zip(own, other) if a + b >= 10]).T
        degrees, chi_square = len(own) - 1, ((own - other) ** 2 / (own + other)).sum()
        cube_root = (chi_square / degrees) ** (1 / 3)  # Wilson and Hilferty, 1931: nearly normal
        assert (cube_root - 1 + 2 / (9 * degrees)) / np.sqrt(2 / (9 * degrees)) < limit
