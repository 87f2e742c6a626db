"""Multiply-adds and parameters: the published numbers, the graph of the network, ranges and scores.

Random architectures of all spaces (contract C3): test_one_count.py.
"""

import itertools
import json
from dataclasses import replace

import pytest

from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.counting.symbol import count_symbol
from spos.engine.compat import mx
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.architecture_file import load_architecture
from spos.space.cost import (
    COMPARISON_MODELS,
    ZERO,
    Cost,
    CostTable,
    cost_score,
    cost_table,
    count,
    count_architecture,
    count_choice_block,
    count_supernet,
)
from spos.space.layers import Conv, Dropout, GlobalPool, SqueezeExcite
from spos.space.space import SearchSpace
from spos.space.space_file import search_space
from spos.space.stages import Stage

ONESHOT = load_architecture("oneshot").architecture
ONESHOT_S = load_architecture("oneshot-s+").architecture
SE = {"use_se": True}
SE_LAST = {"use_se": True, "last_conv_after_pooling": True}


def uniform(block_choice, channel_choice):
    return Architecture((block_choice,) * 20, (channel_choice,) * 20)


@pytest.mark.parametrize(
    "space, architecture, macs, params",
    (
        (search_space(), ONESHOT, 327_909_096, 3_433_579),
        (search_space(**SE_LAST), ONESHOT, 297_058_024, 3_742_955),
        (search_space(**SE), ONESHOT, 321_576_488, 4_662_955),
        (search_space(**SE_LAST), ONESHOT_S, 291_475_944, 3_541_829),
        (search_space("ShuffleNetV2+", **SE_LAST), ONESHOT_S, 189_272_970, 2_755_117),
        (search_space(**SE_LAST), uniform(0, 2), 168_064_936, 2_934_276),
        (search_space(), uniform(3, 9), 841_896_360, 7_170_504),
    ),
)
def test_published_numbers(space, architecture, macs, params):
    assert count_architecture(space, architecture) == (macs, params)


@pytest.mark.parametrize("space, params", ((search_space(**SE_LAST), 17_180_216), (search_space(), 15_937_592)))
def test_supernet_parameters(space, params):
    assert count_supernet(space).params == params


def test_reference_cases(reference):
    for name, case in json.loads((reference / "cases.json").read_text())["subnets"].items():
        space = search_space(
            case["channels_layout"],
            use_se=case["use_se"],
            last_conv_after_pooling=case["last_conv_after_pooling"],
        )
        cost = count_architecture(space, Architecture(case["block_choices"], case["channel_choices"]))
        assert cost.macs == round(case["macs_m_224"] * 1e6), name
        assert cost.params == round(case["params_m"] * 1e6), name


@pytest.mark.parametrize(
    "spec, expected",
    (
        (Conv(3, 16, 3, 2), (16 * 4 * 4 * 27, 16 * 27 + 32)),
        (Conv(4, 6, bn=False, bias=True), (6 * 8 * 8 * (4 + 1), 6 * 4 + 6)),
        (Conv(8, 8, 5, groups=8), (8 * 8 * 8 * 25, 8 * 25 + 16)),
        (GlobalPool(10), (10 * 8 * 8, 0)),
        (Dropout(0.1), (0, 0)),
        (SqueezeExcite(32), (32 * 64 + 32 * 8 + 8 + 8 * 32 + 32, 32 * 8 + 8 + 8 * 32 + 32)),
    ),
    ids=lambda value: type(value).__name__,
)
def test_one_layer_on_8x8(spec, expected):
    assert count((spec,), 8)[0] == expected


def test_an_unknown_layer_is_an_error():
    with pytest.raises(TypeError, match="no cost is known for layer"):
        count(("pool",), 8)  # type: ignore[arg-type]


def test_table_is_the_sum_of_what_is_built(space, rng):
    """Closed form == the descriptions that the network is built from, part by part."""
    for _ in range(3):
        architecture = space.sample(rng)
        parts, size = count(layer_specs.stem(space), space.input_size)
        for index, choices in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
            layers = space.block_layers(index, *choices)
            main, projection = layers.main, layers.projection
            beside, _ = count(projection, size)
            cost, size = count(main, size)
            assert cost + beside == count_choice_block(space, index, *choices)
            parts += cost + beside
        parts += count(layer_specs.head(space) + layer_specs.classifier(space), size)[0]
        assert size == space.out_size
        assert parts == count_architecture(space, architecture)


def trace(space, architecture):
    """The symbol graph of a subnet; no parameter is allocated."""
    return Subnet(space, architecture)(mx.sym.var("data"))


@pytest.mark.parametrize("size", (33, 64, 97, 160))
def test_closed_form_equals_the_graph_at_odd_sizes(size, rng):
    space = search_space(**SE, input_size=size)
    architecture = space.sample(rng)
    assert count_symbol(trace(space, architecture), (1, 3, size, size)) == count_architecture(space, architecture)


TINY = SearchSpace(
    "tiny",
    (Stage(1, 8, False, False), Stage(2, 16, True, True)),
    stem_channels=4,
    warm_up_durations=(1,),
    blocks=search_space().blocks[1:],
    channel_scales=(0.5, 1.0, 2.0),
    strides=(1, 2, 2),
    input_size=8,
    num_classes=3,
    use_se=True,
)


@pytest.mark.parametrize("lowest", (0, 1, 2))
def test_range_equals_brute_force(lowest):
    space = replace(TINY, min_channel_choice=lowest)
    pairs = list(itertools.product(range(3), range(lowest, 3)))
    costs = [count_architecture(space, Architecture(*zip(*path))) for path in itertools.product(pairs, repeat=3)]
    smallest, largest = CostTable(space).range()
    assert smallest == (min(c.macs for c in costs), min(c.params for c in costs))
    assert largest == (max(c.macs for c in costs), max(c.params for c in costs))


def test_supernet_counts_its_largest_path():
    assert count_supernet(TINY).macs == CostTable(TINY).range()[1].macs


def test_architecture_of_another_space_is_not_counted():
    with pytest.raises(InputError, match="19 block choices"):
        count_architecture(search_space(), Architecture((0,) * 19, (0,) * 19))


def test_table_is_made_once():
    assert cost_table(search_space()) is cost_table(search_space())


def test_costs_add():
    assert sum([Cost(1, 2), Cost(3, 4)], ZERO) == (4, 6)


@pytest.mark.parametrize("name", COMPARISON_MODELS)
def test_a_comparison_model_is_on_par_with_itself(name):
    model = COMPARISON_MODELS[name]
    own = cost_score(Cost(model.macs, model.params), name)
    assert (own.flop_ratio, own.param_ratio, own.combined, own.normalized_sum) == (1, 1, 1, 2)


def test_scores_are_ratios():
    own = cost_score(Cost(164_000_000, 3_400_000))
    assert (own.flop_ratio, own.param_ratio, own.combined, own.normalized_sum) == (0.5, 1, 0.75, 1.5)
