"""Space files: those that ship, what may be left out, and wrong ones, each refused in one line by a program too."""

import copy
import json
from dataclasses import replace

import pytest
from conftest import ROOT, fails

import calculate_flops
from spos.core.errors import InputError
from spos.runs.files import read_json, write_json
from spos.space.architecture_file import ArchitectureRecord, published_architectures
from spos.space.layers import stride_plan
from spos.space.space import SearchSpace
from spos.space.space_file import load_space, parse_space, search_space, shipped_spaces, usual_durations

SOUND = {
    "schema": 1,
    "name": "sound",
    "input_size": 32,
    "num_classes": 10,
    "stem": {"channels": 16, "stride": 2},
    "blocks": {
        "MB": {"kind": "mbconv", "kernel_size": 3, "expand": 2},
        "S": {"kind": "shuffle"},
        "I": {"kind": "identity"},
    },
    "channel_scales": [0.5, 0.75, 1.0],
    "stages": [
        {"num_blocks": 2, "out_channels": 32, "stride": 2, "choice_blocks": {"1": {"block_choices": ["I", "MB"]}}},
        {"num_blocks": 1, "out_channels": 48, "stride": 1, "block_choices": ["MB", "S"]},
    ],
    "head": {"before_pooling": 64, "dropout": 0.1},
}
LEFT_OUT = object()


def changed(*path_and_value):
    """The sound file with another value at a path; LEFT_OUT takes it away."""
    *path, last, value = path_and_value
    values = copy.deepcopy(SOUND)
    place = values
    for name in path:
        place = place[name]
    if value is LEFT_OUT:
        del place[last]
    else:
        place[last] = value
    return values


# A wrong file, and what its one line says: the field, its value, what is allowed.
WRONG = {
    "no object": ([SOUND], ["an object is wanted"]),
    "no schema": (changed("schema", LEFT_OUT), ["has schema None, this version reads 1"]),
    "a later schema": (changed("schema", 2), ["has schema 2, this version reads 1"]),
    "no name": (changed("name", LEFT_OUT), ["missing required field `name`"]),
    "a name of the wrong type": (changed("name", 5), ["$.name", "`str`", "not 5"]),
    "an empty name": (changed("name", ""), ["$.name", "length >= 1", 'not ""']),
    "no stages": (changed("stages", LEFT_OUT), ["missing required field `stages`"]),
    "an empty list of stages": (changed("stages", []), ["$.stages", "length >= 1", "not []"]),
    "no blocks": (changed("blocks", {}), ["$.blocks", "length >= 1", "not {}"]),
    "an unknown field": (changed("clases", 10), ["unknown field 'clases'; known here: schema, name, blocks"]),
    "an unknown field of the stem": (
        changed("stem", "kernel", 3),
        ["'stem.kernel'; known here: channels, stride, act"],
    ),
    "an unknown field of a stage": (changed("stages", 1, "repeats", 2), ["'stages[1].repeats'", "num_blocks"]),
    "an unknown field of a choice block": (
        changed("stages", 0, "choice_blocks", "1", "act", "relu"),
        ["'stages[0].choice_blocks.1.act'; known here: block_choices, channel_scales"],
    ),
    "a size that is text": (changed("input_size", "32"), ["$.input_size", "`int`", 'not "32"']),
    "a size of nothing": (changed("input_size", 0), ["$.input_size", ">= 1", "not 0"]),
    "no classes": (changed("num_classes", 0), ["$.num_classes", ">= 1", "not 0"]),
    "no choice blocks": (changed("stages", 0, "num_blocks", 0), ["$.stages[0].num_blocks", ">= 1", "not 0"]),
    "half a block": (changed("stages", 0, "num_blocks", 1.5), ["$.stages[0].num_blocks", "`int`", "not 1.5"]),
    "stride 3": (changed("stages", 0, "stride", 3), ["$.stages[0].stride", "<= 2", "not 3"]),
    "stride 3 in the stem": (changed("stem", "stride", 3), ["$.stem.stride", "<= 2", "not 3"]),
    "some strides, not all": (
        changed("stages", 1, "stride", LEFT_OUT),
        ["strides of stem", "[2, 2, None]", "all of them"],
    ),
    "no strides for two stages": (
        {**changed("stem", {}), "stages": [{"num_blocks": 1, "out_channels": 32}] * 2},
        ["2 stages need strides"],
    ),
    "an odd number of channels to shuffle": (
        changed("stages", 0, {"num_blocks": 2, "out_channels": 33, "stride": 2, "block_choices": ["S"]}),
        ["stage 1, choice block 1: block 'S'", "odd number of channels, 33"],
    ),
    "fewer channels than come in, where a shuffle begins": (
        changed("stages", 1, {"num_blocks": 1, "out_channels": 32, "stride": 2, "block_choices": ["S"]}),
        ["choice block 2: block 'S' needs more channels than the 32 that come in", "not 32"],
    ),
    "identity alone in a stage": (
        changed("stages", 1, "block_choices", ["I"]),
        ["stage 2: its only choice is 'I', which computes nothing; add a block"],
    ),
    "an unknown kind": (
        changed("blocks", "MB", "kind", "mbconf"),
        ["blocks.MB: no kind", "'mbconf'", "known: shuffle"],
    ),
    "no kind": (changed("blocks", "MB", "kind", LEFT_OUT), ["blocks.MB: no kind", "known: shuffle"]),
    "an option of another kind": (
        changed("blocks", "S", "expand", 6),
        ["blocks.S: block of kind 'shuffle'", "`expand`", "its options are kernel_size"],
    ),
    "an option of identity": (changed("blocks", "I", "kernel_size", 3), ["blocks.I:", "its options are none"]),
    "an option out of range": (
        changed("blocks", "MB", "expand", 99),
        ["blocks.MB", "<= 16.0", "$.expand", "not 99"],
    ),
    "an even kernel": (changed("blocks", "MB", "kernel_size", 4), ["blocks.MB", "$.kernel_size", "4"]),
    "an attribute that is no name": (
        changed("blocks", "MB", "attribute", "conv"),
        ["blocks.MB: attribute 'conv'", "block_"],
    ),
    "two blocks of one attribute": (
        changed("blocks", {"A b": {"kind": "mbconv"}, "a-b": {"kind": "mbconv"}}),
        ["two blocks have one attribute: block_a_b"],
    ),
    "a block that is not there": (
        changed("stages", 1, "block_choices", ["MB", "MB6"]),
        ["stage 2: block_choices MB, MB6", "known: MB, S, I"],
    ),
    "a block twice": (
        changed("stages", 1, "block_choices", ["MB", "MB"]),
        ["stage 2: block_choices MB, MB", "different"],
    ),
    "an empty list of blocks": (changed("stages", 1, "block_choices", []), ["$.stages[1].block_choices", "not []"]),
    "an empty list of widths": (changed("channel_scales", []), ["$.channel_scales", "length >= 1", "not []"]),
    "an empty list of a choice block": (
        changed("stages", 0, "choice_blocks", "1", "block_choices", []),
        ["stages[0].choice_blocks.1: Expected `array` of length >= 1", "$.block_choices", "not []"],
    ),
    "widths that do not rise": (changed("channel_scales", [1.0, 0.5]), ["channel_scales must rise, not be [1.0, 0.5]"]),
    "a width of nothing": (changed("channel_scales", [0.0, 1.0]), ["$.channel_scales[0]", "> 0.0", "not 0.0"]),
    "a width of no channels": (
        changed("channel_scales", [0.01, 1.0]),
        ["block 'MB' layer 0 has", "and 0 channels", "a channel"],
    ),
    "no object where choice blocks are due": (
        changed("stages", 0, "choice_blocks", ["MB"]),
        ["$.stages[0].choice_blocks", "`object`", 'not ["MB"]'],
    ),
    "choices of a choice block that is not there": (
        changed("stages", 0, "choice_blocks", {"2": {"block_choices": ["MB"]}}),
        ["stage 1: choice_blocks [2]", "from 0 to 1"],
    ),
    "choices of a choice block twice": (
        changed("stages", 0, "choice_blocks", {"1": {"block_choices": ["MB"]}, "01": {}}),
        ["stage 1: choice_blocks [1, 1] must be different"],
    ),
    "choices of no number": (
        changed("stages", 0, "choice_blocks", {"first": {}}),
        ["stages[0].choice_blocks: 'first' is no number of a choice block"],
    ),
    "an unknown activation": (changed("stages", 0, "act", "gelu"), ["'gelu'; known: relu, relu6, hard_swish"]),
    "an unknown activation of the stem": (changed("stem", "act", "swish"), ["'swish'; known: relu"]),
    "an unknown activation of the head": (changed("head", "act", 1), ["$.head.act", "`str`", "not 1"]),
    "a dropout of everything": (changed("head", "dropout", 1), ["$.head.dropout", "< 1.0", "not 1"]),
    "a head that is no object": (changed("head", 1024), ["$.head", "`object | null`", "not 1024"]),
    "two heads": (changed("last_conv_after_pooling", True), ["last_conv_after_pooling is true", "a head"]),
    "a longer warm-up than there are widths": (
        changed("warm_up_durations", [1, 1, 1]),
        ["warm_up_durations has 3 entries; of 3 widths it is at most 2"],
    ),
    "too many choice blocks": (
        changed("stages", [{"num_blocks": 60, "out_channels": 32 * n, "stride": 2} for n in (1, 2)]),
        ["120 choice blocks; the most are 100"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_in_one_line(name, tmp_path, capsys):
    values, words = WRONG[name]
    path = tmp_path / "wrong.json"
    write_json(path, values)
    with pytest.raises(InputError) as refused:
        load_space(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    fails(calculate_flops.main, ["--supernet", "--space", path], capsys, str(path), *words)


def test_there_are_many_wrong_files():
    assert len(WRONG) >= 30


@pytest.mark.parametrize(
    "content, words",
    (
        ("{", ["is not a JSON file"]),
        ("5", ["an object is wanted, not 5"]),
        ('{"schema": 1' + "," * 3, ["is not a JSON file"]),
    ),
)
def test_what_is_no_json_is_refused(content, words, tmp_path, capsys):
    (tmp_path / "wrong.json").write_text(content)
    fails(calculate_flops.main, ["--supernet", "--space", tmp_path / "wrong.json"], capsys, *words)


def test_a_name_that_is_none_lists_those_that_are(capsys):
    fails(calculate_flops.main, ["--supernet", "--space", "huge"], capsys, "no space 'huge'", *shipped_spaces())


def test_the_sound_file_is_what_it_says():
    space = parse_space(SOUND, "sound")
    assert space.num_choice_blocks == 3 and space.strides == (2, 2, 1)
    assert [[kind.name for kind in choices.blocks] for choices in space.choices] == [
        ["MB", "S", "I"],
        ["I", "MB"],
        ["MB", "S"],
    ]
    assert (space.own_head.before_pooling, space.own_head.act) == (64, "relu")


def test_comments_may_stand_anywhere():
    values = changed("stages", 0, "comment", ["any", {"thing": 1}])
    values["stem"]["comment"] = values["blocks"]["MB"]["comment"] = values["comment"] = "text"
    assert parse_space(values, "sound") == parse_space(SOUND, "sound")


@pytest.mark.parametrize("field", ("stem", "head", "use_se", "warm_up_durations"))
def test_null_is_what_is_left_out(field):
    values = changed(field, None)
    if field == "stem":
        values["stages"] = [{"num_blocks": 1, "out_channels": 32 * n} for n in (1, 2, 3, 4)]
    without = {name: value for name, value in values.items() if name != field}
    assert parse_space(values, "sound") == parse_space(without, "sound")


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_space_that_ships_goes_through_json(name):
    space = load_space(name)
    assert load_space(name.upper()) is space
    assert load_space(ROOT / "spaces" / f"{name}.json") == space
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


@pytest.mark.parametrize(
    "layout, name", (("OneShot", "oneshot"), ("ShuffleNetV2+", "shufflenetv2+"), ("Small", "small"))
)
def test_layouts_are_files(layout, name):
    assert search_space(layout) == load_space(name)


def test_what_says_its_space_stands_for_it(tmp_path, rng):
    """An architecture file, or the config of a run."""
    space = load_space("tiny")
    write_json(tmp_path / "best.json", ArchitectureRecord(space, space.sample(rng), {}).to_json())
    write_json(tmp_path / "config.json", {"options": {}, "space": space.to_json(), "fingerprint": space.fingerprint})
    assert load_space(tmp_path / "best.json") == load_space(tmp_path / "config.json") == space
    published = ROOT / "architectures" / f"{published_architectures()[0]}.json"
    assert load_space(published).to_json() == read_json(published)["space"]


def test_a_space_that_is_not_what_it_was_is_refused(tmp_path):
    write_json(tmp_path / "config.json", {"space": load_space("tiny").to_json(), "fingerprint": "0" * 16})
    with pytest.raises(InputError, match="fingerprint 0000000000000000 does not fit its space"):
        load_space(tmp_path / "config.json")


@pytest.mark.parametrize("size", (16, 32, 47, 48, 64, 112, 224))
def test_stride_plans_leave_a_small_map(size):
    space = search_space(input_size=size, strides=stride_plan(size))
    assert 1 <= space.out_size <= 7


def test_the_usual_warm_up_is_the_published_one():
    assert usual_durations(10) == list(search_space().warm_up_durations)
    assert usual_durations(2) == usual_durations(1) == []


def test_changes_of_a_layout_are_fields():
    assert search_space(use_se=True) == replace(search_space(), use_se=True)
    with pytest.raises(InputError, match="known: OneShot"):
        search_space("oneshot")
