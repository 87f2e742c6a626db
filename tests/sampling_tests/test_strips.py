"""Sampling under limits during training: when they hold, where each step draws, and what is refused."""

import copy
from collections import Counter

import numpy as np
import pytest
from conftest import VARIANTS

from sampling_tests.test_exact import TINY, all_costs, check_uniform
from spos.core.errors import InputError
from spos.sampling import strips as constrained_policy
from spos.sampling.limits import limits_in_millions, parse_bounds
from spos.sampling.strips import CheckedPolicy, ConstrainedPolicy, cell_samplers, split, walk
from spos.sampling.warm_up import SamplingPolicy
from spos.space.cost import Cost, cost_table
from spos.space.space_file import search_space
from spos.training.assembly import count_by_symbol
from spos.training.flags import TrainOptions, describe_sampling

PUBLISHED = {"train_upper_constraints": "flops-330-params-5.0", "train_bottom_constraints": "flops-190-params-2.8"}
SPACE = VARIANTS["se-last-conv"]


def limits(upper="", lower=""):
    return limits_in_millions(parse_bounds(upper, "--upper"), parse_bounds(lower, "--lower"))


BETWEEN = limits(*PUBLISHED.values())


def tiny_policy(method="evolution", steps_per_epoch=500, shares=(0.9, 0.1), **changes):
    """Limits that leave most of the tiny space."""
    ordered = [sorted(column) for column in zip(*all_costs(TINY).values())]
    high, low = ([column[int(share * len(column))] / 1e6 for column in ordered] for share in shares)
    return ConstrainedPolicy(SamplingPolicy(TINY, **changes), limits_in_millions(high, low), method, steps_per_epoch)


def test_crossed_bounds_are_refused():
    with pytest.raises(InputError, match="lower limit of params, 6 M, is above the upper one, 5 M"):
        limits("params-5", "params-6")


@pytest.mark.parametrize("method", ("random", "evolution"))
@pytest.mark.parametrize("lowest", (0, 2))
@pytest.mark.parametrize("layout", ("OneShot", "ShuffleNetV2+"))
def test_every_draw_keeps_the_limits(layout, lowest, method, rng):
    space = search_space(layout, use_se=True, last_conv_after_pooling=True, min_channel_choice=lowest)
    policy = ConstrainedPolicy(SamplingPolicy(space), BETWEEN, method, 112)
    for step in range(112):
        cost = cost_table(space).cost(space.validate(policy(0, step, rng)))
        assert 190e6 <= cost.macs <= 330e6 and 2.8e6 <= cost.params <= 5e6


def test_random_draws_are_uniform_within_the_limits(rng):
    policy = tiny_policy("random", shares=(0.4, 0.2))
    feasible = [a for a, cost in all_costs(TINY).items() if all(limit.keeps(cost) for limit in policy.limits)]
    check_uniform([policy(0, step, rng) for step in range(20 * len(feasible))], feasible)


@pytest.mark.parametrize("one_end", (limits("flops-0.6"), limits("", "params-0.03"), limits("flops-1", "params-0.01")))
def test_cells_are_exactly_the_architectures_between_their_bounds(one_end, rng):
    """Together they are all that keeps the limits, no two share one, and each draws uniformly what it holds."""
    costs = all_costs(TINY)
    feasible = {a for a, cost in costs.items() if all(limit.keeps(cost) for limit in one_end)}
    assert len(feasible) > 300
    met = Counter()
    for cell, sampler in (pair for strip in cell_samplers(TINY, 0, one_end) for pair in strip):
        own = [a for a in feasible if cell.holds(costs[a])]
        met.update(own)
        check_uniform(sampler.draw_many(20 * len(own), rng), own)
    assert set(met) == feasible and set(met.values()) == {1}


def test_cells_that_are_all_but_empty_get_a_finer_table_or_are_left_out(rng):
    """What few architectures a corner holds stand beside billions of billions, so that most tries miss it."""
    space = VARIANTS["v2plus"]
    cells = {cell: sampler for strip in cell_samplers(space, 0, BETWEEN) for cell, sampler in strip}
    assert len(cells) == 27 and (190_000_000, 210_000_000) in {cell.macs for cell in cells}
    for cell, sampler in cells.items():
        assert sampler.choices.acceptance(rng, 2000) > 0
        assert all(cell.holds(cost_table(space).cost(a)) for a in sampler.draw_many(3, rng))


@pytest.mark.parametrize(
    "upper, lower", (("flops-64.162984", ""), ("", "flops-849.514600"), ("params-2.403296", "params-2.403296"))
)
def test_a_walk_over_a_single_cost_stays_there(upper, lower, rng):
    own = limits(upper, lower)
    policy = ConstrainedPolicy(SamplingPolicy(SPACE), own, "evolution", 20)
    for step in range(20):
        assert all(limit.keeps(cost_table(SPACE).cost(policy(0, step, rng))) for limit in own)


def test_limits_too_narrow_to_be_cut_up_are_one_cell(rng, monkeypatch):
    monkeypatch.setattr(constrained_policy, "RARE", 1.1)
    monkeypatch.setattr(constrained_policy, "TOO_RARE", 1.1)  # so that no cell is worth keeping
    own = limits("flops-0.6", "flops-0.5")
    ((pair,),) = cell_samplers(TINY, 0, own)
    feasible = [a for a, cost in all_costs(TINY).items() if all(limit.keeps(cost) for limit in own)]
    check_uniform(pair[1].draw_many(20 * len(feasible), rng), feasible)


@pytest.mark.parametrize("low, high, count", ((0, 10, 3), (5, 5, 4), (7, 9, 7), (190, 330, 7), (-3, 100, 1)))
def test_split_shares_out_every_integer_once(low, high, count):
    parts = split(low, high, count)
    assert len(parts) == count
    assert [i for start, end in parts for i in range(start, end + 1)] == list(range(low, high + 1))


def test_one_epoch_walks_the_plane_down_and_up_and_stays_equally_long_everywhere():
    policy = ConstrainedPolicy(SamplingPolicy(SPACE), BETWEEN, "evolution", 1120)
    cells = [policy.cell(3, step) for step in range(1120)]
    strips = [cell.macs for cell in cells]
    assert strips[0][1] == 330_000_000 and strips[-1] == strips[0]
    assert strips[: 1120 // 2] == sorted(strips[: 1120 // 2], reverse=True)
    assert strips[1120 // 2 :] == sorted(strips[1120 // 2 :]) and strips[1120 // 2][0] == 190_000_000
    counts = Counter(cells)
    assert len(counts) == 7 * 4 and set(counts.values()) == {40}
    first_strip = [cell.params[0] for cell in cells[:80:10]]
    assert first_strip == [4450001, 3900001, 3350001, 2800000, 2800000, 3350001, 3900001, 4450001]


def test_short_epochs_go_on_with_the_walk():
    """With fewer steps than visits an epoch does a part of the walk, and the next goes on."""
    policy = ConstrainedPolicy(SamplingPolicy(SPACE), BETWEEN, "evolution", 7)
    visits = walk(SPACE, 0, BETWEEN)
    assert [policy.cell(epoch, step) for epoch in range(16) for step in range(7)] == [cell for cell, _ in visits]


def test_without_a_known_length_of_epochs_the_walk_has_a_fixed_one():
    policy = ConstrainedPolicy(SamplingPolicy(SPACE), BETWEEN, "evolution")
    cells = {policy.cell(0, step) for step in range(constrained_policy.STEPS_PER_WALK)}
    assert len(cells) == 28
    assert policy.cell(0, 0) == policy.cell(9, 0) == policy.cell(0, constrained_policy.STEPS_PER_WALK)


@pytest.mark.parametrize("method", ("random", "evolution"))
def test_a_resumed_run_draws_the_same_without_a_state(method):
    """Contract C4: a step's draw depends on epoch, step and generator; nothing that came before is remembered."""
    policy = tiny_policy(method, 40, cs_warm_up=True)
    rng = np.random.default_rng(5)
    draws, states = [], []
    for epoch in range(4):
        for step in range(40):
            states.append(copy.deepcopy(rng))
            draws.append(policy(epoch, step, rng))
    constrained_policy.random_sampler.cache_clear()
    constrained_policy.cell_samplers.cache_clear()
    constrained_policy.walk.cache_clear()
    fresh = tiny_policy(method, 40, cs_warm_up=True)
    for i in (159, 90, 3):
        assert fresh(i // 40, i % 40, states[i]) == draws[i]


@pytest.mark.parametrize("method", ("random", "evolution"))
def test_in_the_warm_up_both_the_widths_of_the_epoch_and_the_limits_are_kept(method, rng):
    policy = ConstrainedPolicy(SamplingPolicy(SPACE, 60, cs_warm_up=True), BETWEEN, method, 10)
    first = policy.first_epoch(120)
    assert first == 63 and not policy.holds(62) and policy.holds(63)  # widths from 1.2 on
    for epoch in (0, 62, 63, 80):
        for step in range(10):
            architecture = policy(epoch, step, rng)
            assert min(architecture.channel_choices) >= policy.policy.lowest_channel_choice(epoch)
            kept = all(limit.keeps(cost_table(SPACE).cost(architecture)) for limit in BETWEEN)
            assert kept or epoch < first


def test_the_line_at_the_start_says_from_when_the_constraints_hold():
    options = TrainOptions(epoch_start_cs=60, cs_warm_up=True, **PUBLISHED)
    assert describe_sampling(options, SPACE) == (
        "constraints hold from epoch 63 on (counted from 0); before it every width is too large, and sampling is "
        "unconstrained"
    )
    assert describe_sampling(TrainOptions(**PUBLISHED), SPACE) == "constraints hold from epoch 0 on (counted from 0)"
    assert describe_sampling(TrainOptions(), SPACE) == ""


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"num_epochs": 63}, "before 63 .* --num-epochs is 63"),
        ({"train_upper_constraints": "flops-100-params-2.5"}, "lower limit of FLOPs, 190 M"),
        ({"train_bottom_constraints": "flops-900", "train_upper_constraints": ""}, "FLOPs >= 900 M; reachable"),
    ),
)
def test_constraints_that_never_hold_are_refused(changes, message):
    options = TrainOptions(**{**PUBLISHED, "epoch_start_cs": 60, "cs_warm_up": True, **changes})
    with pytest.raises(InputError, match=message):
        describe_sampling(options, SPACE)


def test_a_constraint_that_full_widths_keep_holds_from_the_start():
    assert ConstrainedPolicy(SamplingPolicy(SPACE, 60), limits("", "flops-190")).first_epoch(1) == 0


def test_the_symbol_graph_agrees_with_the_table(rng):
    """Contract C3, as `--flop-param-method symbol` checks it."""
    policy = tiny_policy("random")
    checked = CheckedPolicy(policy, TINY, lambda a: count_by_symbol(TINY, a))
    first, second = (np.random.default_rng(1) for _ in range(2))
    assert [checked(0, step, first) for step in range(5)] == [policy(0, step, second) for step in range(5)]
    wrong = CheckedPolicy(policy, TINY, lambda a: cost_table(TINY).cost(a) + Cost(1, 0))
    with pytest.raises(RuntimeError, match="symbol graph"):
        wrong(0, 0, rng)
