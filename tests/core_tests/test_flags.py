"""How flags may be written: with underscores, with `~`, and as True or False."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from spos.core.flags import OneLineParser, flag, pick, split_arguments, truth


@dataclass(frozen=True)
class Options:
    """Some flags."""

    save_dir: str = flag("", "a path")
    retain_length: int = flag(10, "a number")
    use_se: bool = flag(False, "a switch")
    shuffle_train: bool = flag(False, "a word", type=truth)


def parse(*argv):
    parser = OneLineParser("", (Options,))
    parser.add_argument("files", nargs="*", type=Path)
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    "argv", (("--retain_length", "7", "--use_se"), ("--retain_length=7", "--use-se"), ("--retain-length=7", "--use_se"))
)
def test_underscores_are_hyphens(argv):
    options = pick(Options, parse(*argv))
    assert (options.retain_length, options.use_se) == (7, True)


def test_underscores_of_values_stay():
    args = parse("--save_dir", "runs/my_run_2", "a_file.params")
    assert (args.save_dir, args.files) == ("runs/my_run_2", [Path("a_file.params")])
    assert parse("--save_dir=runs/a_b=c_d").save_dir == "runs/a_b=c_d"


def test_unknown_flags_are_named_as_the_program_has_them(capsys):
    with pytest.raises(SystemExit):
        parse("--no_such_flag")
    assert capsys.readouterr().err == "error: unrecognized arguments: --no-such-flag\n"


@pytest.mark.parametrize("argv", (("--save-dir", "~/run"), ("--save-dir=~/run",), ("--save_dir=~/run",)))
def test_home_is_expanded(argv, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    args = parse(*argv, "~/a.params", "b~c")
    assert args.save_dir == "/home/somebody/run"
    assert args.files == [Path("/home/somebody/a.params"), Path("b~c")]


@pytest.mark.parametrize("text, expected", (("True", True), ("False", False), ("false", False), ("true", True)))
def test_false_is_false(text, expected):
    assert parse("--shuffle-train", text).shuffle_train is expected


def test_other_words_are_neither_true_nor_false(capsys):
    with pytest.raises(SystemExit):
        parse("--shuffle-train", "no")
    assert "--shuffle-train: must be True or False, not no" in capsys.readouterr().err


def test_what_follows_is_for_another_program():
    assert split_arguments(("--use-se", "--", "--save_dir", "~/x")) == (["--use-se"], ["--save_dir", "~/x"])
