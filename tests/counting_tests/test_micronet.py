"""The MicroNet profile: the published totals and rows, single operators by hand, scores by the rules."""

from dataclasses import replace

import pytest
from ragged_spaces import MOBILE, RESNET, SPACES

from spos.core.errors import InputError
from spos.core.tables import render
from spos.counting.layers import subnet_layers
from spos.counting.micronet import (
    PRECISIONS,
    Operations,
    Operator,
    Profile,
    Row,
    _operators,
    micronet_score,
    profile,
    sum_of,
)
from spos.counting.profile import is_profiled, profile_json, profile_tables
from spos.space.architecture import Architecture
from spos.space.architecture_file import load_architecture
from spos.space.cost import count_architecture
from spos.space.layers import Conv, Dropout, GlobalPool, SqueezeExcite
from spos.space.published import MICRONET_SCORES, PROFILE_ROWS, PROFILE_TOTALS, agrees
from spos.space.space_file import search_space
from spos.space.stages import Stage

RECORD = load_architecture("oneshot-s+")
SPACE, ARCHITECTURE = RECORD.space, RECORD.architecture
COUNTED = profile(SPACE, ARCHITECTURE)
MULTS = {"hard_swish": 3, "hard_sigmoid": 2}  # multiplies of an element; the published operators have one each


def printed(cost):
    return tuple(f"{value / 1e6:.3f}" for value in (*cost, cost.operations))


def test_published_totals_follow_exactly():
    totals = (COUNTED.total(True), COUNTED.total(False), COUNTED.total())
    assert tuple(map(printed, totals)) == PROFILE_TOTALS
    assert PROFILE_TOTALS[2] == ("3.652", "299.621", "288.323", "587.943")


def test_totals_in_units():
    assert COUNTED.total(True) == (3_520_225, 292_819_840, 286_217_920)
    assert COUNTED.total(False) == (132_000, 6_800_832, 2_104_640)
    assert COUNTED.total().operations == 587_943_232


def thousandths(value):
    """Units to thousands, half away from zero, as print does here: 0.001 M."""
    return int(f"{value / 1e6:.3f}".replace(".", ""))


def test_every_published_row_is_the_sum_of_its_rounded_operators():
    """So all rows follow from the convention; those that differ from ours differ by rounding before adding."""
    assert len(COUNTED.rows) == len(PROFILE_ROWS) == 26
    for row, published in zip(COUNTED.rows, PROFILE_ROWS):
        params = sum(thousandths(op.cost.params) for op in row.operators)
        factors = [MULTS.get(op.name.split()[-1], 1) for op in row.operators]
        mults = sum(k * thousandths(op.cost.mults / k) for k, op in zip(factors, row.operators))
        adds = sum(thousandths(op.cost.adds) for op in row.operators)
        figures = tuple(f"{value / 1000:.3f}" for value in (params, mults, adds, mults + adds))
        assert figures == published.figures, row.name
        assert (row.in_size, row.in_channels) == (published.in_size, published.in_channels)


def test_the_first_choice_block_by_hand():
    """SNB-3 from 16 to 64 channels at 112 px with 57 in the middle, ReLU; the outputs have 56 px."""
    at_112, at_56 = 112 * 112, 56 * 56
    convolutions = (  # (outputs, length of the vector that each of them sums)
        (16 * at_56, 9),
        (16 * at_56, 16),
        (57 * at_112, 16),
        (57 * at_56, 9),
        (48 * at_56, 57),
    )
    relu = 16 * at_56 + 57 * at_112 + 48 * at_56
    assert COUNTED.rows[2].cost == (
        16 * 9 + 16 * 16 + 16 * 57 + 57 * 9 + 57 * 48,
        sum(outputs * length for outputs, length in convolutions) + relu,
        sum(outputs * (length - 1) for outputs, length in convolutions),
    )


@pytest.mark.parametrize(
    "spec, operators",
    (
        (Conv(3, 16, 3, 2), [("conv", (432, 16 * 16 * 27, 16 * 16 * 26))]),
        (Conv(4, 6, bn=False, bias=True), [("conv", (30, 6 * 64 * 4, 6 * 64 * 4))]),
        (Conv(8, 8, 5, groups=8), [("depthwise conv", (200, 8 * 64 * 25, 8 * 64 * 24))]),
        (Conv(4, 6, act="relu"), [("conv", (24, 6 * 64 * 4, 6 * 64 * 3)), ("relu", (0, 6 * 64, 0))]),
        (Conv(4, 6, act="hard_swish"), [("conv", (24, 1536, 1152)), ("hard_swish", (0, 3 * 384, 384))]),
        (GlobalPool(10), [("global pool", (0, 10, 10 * 63))]),
        (
            SqueezeExcite(32),
            [
                ("SE global pool", (0, 32, 32 * 63)),
                ("SE conv", (32 * 8 + 8, 32 * 8, 32 * 8)),
                ("SE relu", (0, 8, 0)),
                ("SE conv", (8 * 32 + 32, 8 * 32, 8 * 32)),
                ("SE hard_sigmoid", (0, 64, 32)),
            ],
        ),
        (Dropout(0.1), []),
    ),
    ids=lambda value: type(value).__name__,
)
def test_one_layer_on_8x8(spec, operators):
    assert [(op.name, op.cost) for op in _operators(spec, 8)] == operators


def test_an_unknown_layer_is_an_error():
    with pytest.raises(TypeError, match="no operations are known for layer"):
        _operators("pool", 8)


@pytest.mark.parametrize("channels, params", ((64, 64 + 256), (640, 640 + 25_600), (6, 6 + 3)))  # 36 bits: 3 words
def test_channel_shuffles_are_sparse_convolutions(channels, params):
    space = replace(SPACE, stages=(Stage(2, channels, False, False),), stem_channels=4, strides=(2, 2), input_size=32)
    shuffle = profile(space, Architecture((0, 0), (4, 4))).rows[3].operators[0]
    assert (shuffle.name, shuffle.quantizable) == ("channel shuffle", False)
    assert shuffle.cost == (params, channels * 8 * 8, 0)


def test_profile_agrees_with_the_count_of_multiply_adds(space, rng):
    """Multiplies of convolutions, their biases and the inputs of global pooling are the MACs; so for params."""
    architecture = space.sample(rng)
    counted = profile(space, architecture)
    macs = params = 0
    for op in counted.operators:
        if "conv" in op.name:
            has_bias = op.cost.adds == op.cost.mults
            macs += op.cost.mults + has_bias * op.out_channels  # layers with bias see single pixels
            params += op.cost.params
        elif "global pool" in op.name:
            macs += op.cost.operations
    layers = subnet_layers(space, architecture)
    batch_norm = sum(layer.cost.params for layer in layers if layer.kind == "BatchNorm")
    assert (macs, params + batch_norm) == count_architecture(space, architecture)
    assert sum_of(row.cost for row in counted.rows) == counted.total()


@pytest.mark.parametrize("name", SPACES)
def test_profiles_of_every_space_agree_with_the_count_of_its_convolutions(name, rng):
    space = replace(SPACES[name], count_additions=False)
    for _ in range(20):
        architecture = space.sample(rng)
        operators = [op for op in profile(space, architecture).operators if "conv" in op.name]
        layers = subnet_layers(space, architecture)
        batch_norm = sum(layer.cost.params for layer in layers if layer.kind == "BatchNorm")
        counted = sum(op.cost.mults for op in operators), sum(op.cost.params for op in operators) + batch_norm
        assert counted == count_architecture(space, architecture)


def test_sums_and_relu6_by_hand():
    """A residual MB6 block of 16 channels on 32 x 32 maps: two ReLU6 of 96 channels, then a sum of 16."""
    operators = {}
    for op in profile(MOBILE, Architecture((1,) * 5, (1,) * 5)).rows[2].operators:
        operators.setdefault(op.name, []).append(op)
    size = 32 * 32
    assert [op.cost for op in operators["relu6"]] == [(0, 2 * 96 * size, 0)] * 2
    assert [(op.cost, op.quantizable) for op in operators["sum"]] == [((0, 0, 16 * size), True)]


def test_a_sum_of_a_resnet_block_is_followed_by_its_activation():
    architecture = Architecture((0,) * 7, (0,) * 7)
    for row in profile(RESNET, architecture).rows[2:9]:
        names = [op.name for op in row.operators]
        assert names[-2] == "sum" and names[-1] in ("relu", "hard_swish")


def test_a_block_that_passes_its_input_on_is_a_row_of_nothing():
    identity = Architecture((2,) * 5, (1,) * 5)
    rows = profile(MOBILE, identity).rows
    names = [row.name for row in rows if row.name == "I"]
    assert len(names) == MOBILE.num_choice_blocks
    passing = [row for row in rows if row.name == "I" and not row.operators]
    assert len(passing) == 4  # the first block of the second stage begins at other channels
    assert all(row.cost == (0, 0, 0) and row.quantizable is None for row in passing)
    blocks, operators = (profile_json(MOBILE, identity, level)["rows"] for level in ("block", "operator"))
    assert len(blocks) == len(rows) and len(operators) == len(profile(MOBILE, identity).operators)
    assert [row["quantizable"] for row in blocks if row["block"] == "I"] == [None, None, "yes", None, None]


def test_rows_of_the_head_stand_alone():
    space = search_space(use_se=True)
    names = [row.name for row in profile(space, ARCHITECTURE).rows[-7:]]
    assert names == [
        "head conv",
        "head hard_swish",
        "head global pool",
        "head squeeze-and-excite",
        "head conv",
        "head hard_swish",
        "classifier conv",
    ]


def test_quantizable_or_not():
    rows = {row.name: row.quantizable for row in COUNTED.rows}
    assert rows["stem conv"] is True and rows["stem hard_swish"] is False and rows["SNB-5"] is None


def test_an_architecture_of_another_space_has_no_profile():
    with pytest.raises(InputError, match="19 block choices"):
        profile(SPACE, Architecture((0,) * 19, (0,) * 19))


# --- Scores ---

# By hand, in millions: quantizable are 3.520225 params, 292.819840 multiplies, 286.217920 adds; the others are 0.132,
# 6.800832, 2.104640.
BY_HAND = {
    # all of it
    "float32": (292.819840 + 286.217920 + 6.800832 + 2.104640, 3.520225 + 0.132),
    # multiplies and params at half
    "float16": ((292.819840 + 6.800832) / 2 + 286.217920 + 2.104640, (3.520225 + 0.132) / 2),
    # a quarter of the quantizable multiplies and params
    "int8": (292.819840 / 4 + 286.217920 + 6.800832 + 2.104640, 3.520225 / 4 + 0.132),
    # a quarter of all that is quantizable
    "int8, 8-bit sums": ((292.819840 + 286.217920) / 4 + 6.800832 + 2.104640, 3.520225 / 4 + 0.132),
}
GOLDEN = {"float32": 1.031824, "float16": 0.639127, "int8": 0.461485, "int8, 8-bit sums": 0.278012}


@pytest.mark.parametrize("precision", PRECISIONS, ids=lambda precision: precision.name)
def test_scores_by_hand(precision):
    operations, params = BY_HAND[precision.name]
    own = micronet_score(COUNTED, precision)
    assert (float(own.operations), float(own.params)) == pytest.approx((operations * 1e6, params * 1e6), rel=1e-12)
    assert own.score == pytest.approx(operations / 1170 + params / 6.9, rel=1e-12)
    assert own.score == pytest.approx(GOLDEN[precision.name], abs=5e-7)


def test_the_example_of_the_rules():
    """An entry with 3 million params and 500 million operations has 0.862."""
    cost = Operations(3_000_000, 500_000_000, 0)
    entry = Profile((Row("net", 1, None, 1, 1, (Operator("conv", True, 1, 1, 1, 1, cost),)),))
    assert micronet_score(entry, PRECISIONS[0]).score == pytest.approx(0.862, abs=5e-4)


def test_published_scores_follow_and_one_of_their_figures_does_not():
    wrong = []
    for precision in PRECISIONS:
        published = MICRONET_SCORES.get(precision.name)
        if published:
            own = micronet_score(COUNTED, precision)
            assert agrees(own.score, published.score)
            pairs = ((float(own.operations) / 1e6, published.operations), (float(own.params) / 1e6, published.params))
            wrong += [text for value, text in pairs if not agrees(value, text)]
    assert wrong == ["1.85"]


# --- Tables ---


@pytest.mark.parametrize("level, num_rows", (("block", 26), ("operator", len(COUNTED.operators))))
def test_tables_and_json_say_the_same(level, num_rows):
    table, scores = profile_tables("oneshot-s+", SPACE, ARCHITECTURE, level)
    report = profile_json(SPACE, ARCHITECTURE, level)
    assert table.records() == report["rows"] and len(report["rows"]) == num_rows
    assert sum(row["mults"] for row in report["rows"]) == report["totals"]["all"]["mults"] == 299_620_672
    assert [row[0] for row in scores.rows] == list(report["scores"])
    assert report["scores"]["float16"]["score"] == pytest.approx(GOLDEN["float16"], abs=5e-7)
    for style in ("text", "markdown", "csv"):
        assert "587943232" in render([table], style).replace(",", "") or "587.943" in render([table], style)


def test_differences_from_the_published_rows_are_said():
    note = profile_tables("oneshot-s+", SPACE, ARCHITECTURE, "block")[0].notes[1]
    same = {1, 4, 6, 25, 26}
    rows = ", ".join(str(number) for number in range(1, 27) if number not in same)
    assert f"rows {rows} differ from these by up to 0.005 M" in note
    assert "Row 19 has 640 output channels, printed 320." in note and note.count("Row ") == 1


def test_only_the_published_network_is_compared_with_it():
    assert is_profiled(SPACE, ARCHITECTURE)
    small = replace(SPACE, input_size=192)
    assert not is_profiled(small, ARCHITECTURE)
    table, scores = profile_tables("smaller", small, ARCHITECTURE, "block")
    assert len(table.notes) == 1 and "published" not in render([scores], "csv")
