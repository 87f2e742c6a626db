"""JSON from files: what is no JSON, too deep, too large or of another shape is one line, at once."""

import os
import time
from typing import Dict

import pytest
from msgspec import Struct

from spos.core.errors import InputError
from spos.runs.files import MOST_LEVELS, SHOWN, SHOWN_VALUE, check_shape, parse_json, read_json, read_text
from spos.runs.schema import Scored, Text

ROW = {"block_choices": [0, 1], "channel_choices": [3, 4], "top1": 0.5}


@pytest.mark.parametrize(
    "text, words",
    (
        ("", "not a JSON file"),
        ('{"a": 1', "not a JSON file"),
        ("[" * 40_000, "levels deep"),
        ('{"a":' * 40_000, "levels deep"),
        ('["\\\\", ' + "[" * 40_000, "levels deep"),
        ("[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1), "levels deep"),
        ("[%s]" % ("7" * 6000), "an integer of 6000 digits"),
        ("[-%s]" % ("7" * 6000), "an integer of 6001 digits"),
        ("[1e999]", "1e999 is no finite number"),
        ("[-1e999]", "no finite number"),
        ("[NaN]", "NaN is no finite number"),
        ("[-Infinity]", "-Infinity is no finite number"),
        (b'{"a": "\xff"}', "not a JSON file"),
        ('{"a": 1, "b": 2, "a": 1}', "some.json: has 'a' twice in one object"),
        ('[{"b": {"a": 1, "a": 2}}]', "has 'a' twice in one object"),
        (str({str(i): 1 for i in range(40_000)}).replace("'", '"')[:-1] + ', "7": 1}', "has '7' twice in one object"),
        ('"%s' % ("x" * 40_000), "not a JSON file"),
    ),
)
def test_what_is_no_sound_json_is_one_short_line_at_once(text, words):
    begin = time.monotonic()
    with pytest.raises(InputError, match=words) as caught:
        parse_json(text, "some.json")
    assert time.monotonic() - begin < 1
    assert str(caught.value).startswith(("some.json ", "some.json: ")) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < SHOWN + 100


@pytest.mark.parametrize(
    "text, value",
    (
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ("[" * MOST_LEVELS + "]" * MOST_LEVELS, None),
        ('["' + "[" * 100 + '"]', ["[" * 100]),
        ('["\\"' + "{" * 100 + '"]', ['"' + "{" * 100]),
        ('["\\\\", ' + ", ".join(["[]"] * 50) + "]", ["\\"] + [[]] * 50),
        ("1.5e300", 1.5e300),
        ("9" * 30, int("9" * 30)),
    ),
)
def test_sound_json_is_read(text, value):
    assert value is None or parse_json(text, "some.json") == value


@pytest.mark.parametrize(
    "change, place",
    (
        ({"top1": 1.5}, "$.top1"),
        ({"top1": [0.5]}, "$.top1"),
        ({"top1": None}, "$.top1"),
        ({"top1": True}, "$.top1"),
        ({"block_choices": []}, "$.block_choices"),
        ({"block_choices": [0.5]}, "$.block_choices"),
        ({"channel_choices": [-1]}, "$.channel_choices"),
        ({"channel_choices": {"a": 1}}, "$.channel_choices"),
        ({"num_images": 0}, "$.num_images"),
        ({"top1_interval": [0.1]}, "$.top1_interval"),
        ({"supernet": 5}, "$.supernet"),
    ),
)
def test_another_shape_is_named_with_its_place(change, place):
    assert check_shape(ROW, "row", Scored) is ROW
    with pytest.raises(InputError, match="^row: ") as caught:
        check_shape({**ROW, **change}, "row", Scored)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    "change, end",
    (
        ({"top1": 1.5}, "at `$.top1`, not 1.5"),
        ({"top1": None}, "at `$.top1`, not null"),
        ({"block_choices": [3, 0.5]}, "at `$.block_choices[1]`, not 0.5"),
        ({"block_choices": ["x" * 100]}, 'at `$.block_choices[0]`, not "' + "x" * (SHOWN_VALUE - 1) + " ..."),
    ),
)
def test_a_value_of_another_shape_is_shown(change, end):
    with pytest.raises(InputError) as caught:
        check_shape({**ROW, **change}, "row", Scored)
    assert str(caught.value).endswith(end)


def test_a_place_that_has_no_name_shows_no_value():
    """Of the values of an object msgspec does not say which; a field that is missing has none."""
    for value, schema in (({"a": 1, "b": "x"}, Dict[str, int]), ({}, Scored)):
        with pytest.raises(InputError) as caught:
            check_shape(value, "file", schema)
        assert ", not " not in str(caught.value)


def test_keys_that_a_schema_does_not_name_are_kept():
    assert check_shape({**ROW, "more": [1]}, "row", Scored)["more"] == [1]


@pytest.mark.parametrize("escape", ("\\ud800", "\\udbff", "\\uDC00", "\\udc7f", "x\\ud812y"))
def test_half_a_character_is_refused(escape):
    for text in (f'["{escape}"]', f'{{"{escape}": 1}}'):
        with pytest.raises(InputError, match="half a character"):
            parse_json(text, "some.json")


@pytest.mark.parametrize("escape, text", (("\\ud83d\\ude00", "\U0001f600"), ("\\udcff", "\udcff")))
def test_whole_characters_and_bytes_of_file_names_are_read(escape, text):
    class Named(Struct):
        name: Text

    assert parse_json(f'{{"name": "{escape}"}}', "some.json", Named) == {"name": text}


def test_files_begin_with_a_byte_order_mark_or_not(tmp_path):
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "a.txt").write_bytes(mark + "größer\r\n".encode())
        (tmp_path / "a.json").write_bytes(mark + b'{"a": [1]}')
        assert read_text(tmp_path / "a.txt").splitlines() == ["größer"]
        assert read_json(tmp_path / "a.json") == {"a": [1]}


@pytest.mark.parametrize("make", (lambda path: path.mkdir(), os.mkfifo, lambda path: path.write_bytes(b"\xff\xfe")))
def test_what_is_no_text_file_is_refused(make, tmp_path):
    make(tmp_path / "a.txt")
    with pytest.raises(InputError, match="a.txt is no"):
        read_text(tmp_path / "a.txt")
