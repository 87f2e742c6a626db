"""Sampling under limits: always within them, uniform over what keeps them, and possible however tight they are."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from spos.constraints import Constraints
from spos.cost import cost_table
from spos.errors import InputError
from spos.evolution import Domain
from spos.search_space import Architecture, Stage, search_space

SPACE = search_space(use_se=True, last_conv_after_pooling=True)
STABLE = replace(SPACE, min_channel_choice=2)
TINY = replace(SPACE, stages=(Stage(2, 32, False, False), Stage(1, 48, True, True)), strides=(2, 2, 2), num_classes=5)
TINY = replace(TINY, channel_scales=(0.5, 1.0, 2.0), input_size=32)  # (4 x 3) ^ 3 = 1,728 architectures


def all_architectures(space):
    genes = [range(space.num_block_choices)] * space.num_choice_blocks
    widths = [range(space.num_channel_choices)] * space.num_choice_blocks
    count = space.num_choice_blocks
    return [Architecture(choices[:count], choices[count:]) for choices in product(*genes, *widths)]


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
    costs = {a: cost_table(TINY).cost(a) for a in all_architectures(TINY)}
    macs = sorted(cost.macs for cost in costs.values())
    params = sorted(cost.params for cost in costs.values())
    constraints = Constraints(score_max=None, flop_max_m=macs[300] / 1e6, param_max_m=params[500] / 1e6)
    feasible = [a for a, cost in costs.items() if constraints.admits(cost)]
    assert 50 < len(feasible) < 300
    domain = Domain(TINY, constraints)
    draws = 60 * len(feasible)
    counts = Counter(domain.sample(rng) for _ in range(draws))
    assert set(counts) == set(feasible)
    chi_square = sum((counts[a] - 60) ** 2 / 60 for a in feasible)
    degrees = len(feasible) - 1
    assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


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
