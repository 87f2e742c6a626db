"""The registry of kinds: who may register what, options by signature, files that are run, what a block may not give."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from typing_extensions import Literal

from spos.core.errors import InputError
from spos.runs.files import write_json
from spos.space.blocks import (
    KINDS,
    BlockKind,
    BlockLayers,
    ChoiceBlockGeometry,
    any_own,
    block_files,
    find_kind,
    load_blocks,
    register_block,
)
from spos.space.layers import Conv
from spos.space.space_file import parse_space

pytestmark = pytest.mark.usefixtures("own_kinds")
PLACE = ChoiceBlockGeometry(0, 0, 16, 16, 1, False, False, "relu", 8)
CHANGES = replace(PLACE, out_channels=32, stride=2, projects=True)
GOOD = (
    "from spos import BlockLayers, Conv, register_block\n"
    "@register_block('{name}')\n"
    "def block(place, *, kernel_size: int = 3):\n"
    "    middle = place.width(place.out_channels)\n"
    "    first = Conv(place.in_channels, middle, kernel_size, place.stride, act=place.act, selects=True)\n"
    "    return BlockLayers('chain', (first, Conv(middle, place.out_channels)))\n"
)


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "scale, multiple, pad_to, width", ((1.0, 1, 1, 30), (0.5, 1, 1, 15), (0.5, 8, 1, 16), (0.51, 1, 4, 16))
)
def test_the_width_rule_truncates_then_rounds_up(scale, multiple, pad_to, width):
    assert replace(PLACE, scale=scale, width_multiple=multiple, pad_to=pad_to).width(30) == width


def test_stochastic_depth_grows_linearly_where_there_is_a_sum():
    """Of L blocks, block l (from 1) leaves out rate * l / L (arXiv:1603.09382, its linear decay)."""
    layers = BlockLayers("residual", (Conv(16, 16),))
    rates = [layers.with_stochastic_depth(0.4, index, 4).drop_rate for index in range(4)]
    np.testing.assert_allclose(rates, (0.1, 0.2, 0.3, 0.4), rtol=1e-15)
    assert layers.with_stochastic_depth(0.0, 3, 4) == layers
    for wiring in ("chain", "shuffle"):
        other = BlockLayers(wiring, (Conv(8, 8),))
        assert other.with_stochastic_depth(0.4, 3, 4) == other


def test_options_are_those_of_the_signature():
    @register_block("signed")
    def describe(place, *, kernel_size: Literal[3, 5], depth: int = 2, se: bool = False):
        return BlockLayers("chain")

    kind = BlockKind("Signed", "block_signed", "signed", (("kernel_size", 5), ("depth", 3)))
    assert kind.options == (("kernel_size", 5), ("depth", 3), ("se", False))
    assert BlockKind.from_json(kind.to_json()) == kind and kind.kernel_size == 5
    for options, message in (
        ((), "missing required field `kernel_size`"),
        ((("kernel_size", 7),), "Invalid enum value 7"),
        ((("kernel_size", 5), ("depth", "2")), 'not "2"; its options are kernel_size, depth, se'),
        ((("kernel_size", 5), ("width", 1)), "unknown field `width`"),
    ):
        with pytest.raises(InputError, match="block of kind 'signed'.*" + message):
            BlockKind("Signed", "block_signed", "signed", options)


def test_a_name_is_taken_once():
    def describe(place):
        return BlockLayers("chain")

    def other(place):
        return BlockLayers("residual")

    assert register_block("once")(describe) is register_block("once")(describe)  # a notebook's cell that runs again
    for name in ("once", "shuffle"):
        with pytest.raises(InputError, match=f"called '{name}' already; known: shuffle, xception"):
            register_block(name)(other)


def test_options_need_names_and_types():
    for describe in (lambda place, kernel_size: None, lambda place, *, kernel_size=3: None):
        with pytest.raises(InputError, match="'kernel_size' must be keyword-only, with an annotation"):
            register_block("untyped")(describe)
    assert "untyped" not in KINDS


def test_an_unknown_kind_says_that_no_file_is_run_for_it():
    with pytest.raises(
        InputError, match="no kind of blocks is called 'ghost'; known: shuffle, .* by --blocks: no space"
    ):
        find_kind("ghost")


def test_a_file_is_run_once_and_remembered(tmp_path):
    ran = tmp_path / "ran"
    path = write(tmp_path / "blocks.py", f"open({str(ran)!r}, 'a').write('x')\n" + GOOD.format(name="filed"))
    load_blocks(path)
    load_blocks(str(path))
    assert ran.read_text() == "x"
    kinds = [BlockKind("F", "block_f", "filed"), BlockKind("I", "block_i", "identity")]
    assert block_files(kinds) == (str(path.resolve()),) and any_own(kinds)
    assert not any_own(kinds[1:]) and block_files(kinds[1:]) == ()
    path.write_text(path.read_text() + "\n")
    with pytest.raises(InputError, match="blocks.py has changed since this program ran it"):
        load_blocks(path)


@pytest.mark.parametrize(
    "text, message",
    (
        (None, "no such file"),
        ("x = 1\n", "registers no kind of blocks by spos.register_block"),
        ("x = 1\ny = x / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("def (:\n", "SyntaxError"),
        ("import nothing_like_it\n", "line 1: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "line 1: SystemExit: 3"),
        (GOOD.format(name="mbconv"), "a kind of blocks is called 'mbconv' already"),
        (GOOD.format(name="half") + "raise ValueError('at its end')\n", "line 7: ValueError: at its end"),
    ),
)
def test_a_file_that_cannot_be_used_is_refused(text, message, tmp_path):
    path = tmp_path / "blocks.py"
    if text is not None:
        write(path, text)
    for _ in range(2):  # it is not taken for loaded the next time
        with pytest.raises(InputError, match=message) as refused:
            load_blocks(path)
        assert str(refused.value).startswith(f"--blocks {path}")
    assert "half" not in KINDS


def space_of(kind):
    """A space file of one block of a kind."""
    return {
        "schema": 1,
        "name": "one",
        "stem": {"stride": 2},
        "blocks": {"B": {"kind": kind}},
        "stages": [{"num_blocks": 1, "out_channels": 16, "stride": 1}],
    }


def test_a_kind_of_ones_own_is_in_the_fingerprint(tmp_path):
    """By what it describes: another file with the same content is the same, another description is not."""
    code = (
        "import sys; from spos.space.blocks import load_blocks; from spos.space.space_file import load_space; "
        "load_blocks(sys.argv[1]); print(load_space(sys.argv[2]).fingerprint)"
    )
    write_json(tmp_path / "space.json", space_of("mine"))
    texts = [GOOD.format(name="mine"), "# elsewhere\n" + GOOD.format(name="mine")]
    texts.append(texts[0].replace("kernel_size, place", "1, place"))
    files = [write(tmp_path / f"{i}.py", text) for i, text in enumerate(texts)]
    commands = [[sys.executable, "-c", code, file, tmp_path / "space.json"] for file in files]
    prints = [subprocess.run(one, cwd=ROOT, capture_output=True, text=True, check=True).stdout for one in commands]
    assert prints[0] == prints[1] != prints[2] and len(prints[0]) == len("0123456789abcdef\n")


def test_an_error_in_a_users_own_code_is_one_line():
    @register_block("failing")
    def describe(place, *, divisor: int = 0):
        return BlockLayers("chain", (Conv(place.in_channels, place.out_channels // divisor),))

    with pytest.raises(InputError, match=r"block 'B' fails in its own code, line \d+: ZeroDivisionError"):
        parse_space(space_of("failing"), "failing.json")
