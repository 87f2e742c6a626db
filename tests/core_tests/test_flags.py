"""Flags: groups and parsers, values that are refused, and how a program ends."""

import argparse
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from signal import SIGINT, SIGPIPE, SIGTERM

import pytest
from conftest import ROOT

from spos.core.errors import InputError, Stopped
from spos.core.flags import (
    JoinFiles,
    OneLineParser,
    as_json,
    below_one,
    changed_flags,
    confidence,
    fill,
    flag,
    fraction,
    not_negative,
    number,
    pick,
    positive,
    run_program,
    split_arguments,
    split_files,
    truth,
)


@dataclass(frozen=True)
class Food:
    """What is eaten. More is not shown."""

    num_eggs: int = flag(2, "eggs, 50% of them boiled", type=not_negative, short="-n", aliases=("--eggs",))
    salt: bool = flag(False, "with salt")
    kind: str = flag("hen", "whose", choices=("hen", "duck"))
    weight: float = flag(0.5, "each in hg")


@dataclass(frozen=True)
class Drink:
    """What is drunk."""

    tea: str = flag("", "which one")


def parse(*argv):
    args = OneLineParser("Breakfast.", (Food, Drink)).parse_args(argv)
    return pick(Food, args), pick(Drink, args)


@pytest.mark.parametrize(
    "file, expected",
    (("/x/utils/report/__main__.py", "python -m utils.report"), ("/x/utils/summarize.py", "summarize.py")),
)
def test_the_usage_names_the_program(file, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [file])
    assert OneLineParser("Breakfast.", (Food,)).format_usage().startswith(f"usage: {expected} [-h]")


def test_without_flags_groups_have_their_defaults():
    assert parse() == (Food(), Drink())


def test_a_switch_that_was_set_can_be_taken_out():
    """By what stands behind it, as flags of a user stand behind those of a script."""
    assert parse("--salt")[0].salt and not parse("--salt", "--no-salt")[0].salt
    assert parse("--no-salt", "--salt")[0].salt and not parse("--no-salt")[0].salt


def test_a_group_is_filled_with_values():
    assert fill(Food) == Food()
    assert fill(Food, num_eggs=3, salt=True, kind="duck", weight=1) == Food(3, True, "duck", 1.0)


@pytest.mark.parametrize(
    "values, message",
    (
        ({"num_hens": 1}, "there is no num_hens; known: num_eggs, salt, kind, weight"),
        ({"num_eggs": -1}, "num_eggs is -1: must be at least 0"),
        ({"num_eggs": 1.5}, "num_eggs is 1.5: invalid literal"),
        ({"salt": "no"}, "salt must be True or False, not 'no'"),
        ({"kind": "goose"}, "kind is 'goose'; it must be one of hen, duck"),
        ({"weight": "heavy"}, "weight is 'heavy': could not convert"),
    ),
)
def test_a_value_that_a_flag_does_not_take_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        fill(Food, **values)


@pytest.mark.parametrize("name", ("-n", "--num-eggs", "--eggs"))
def test_a_flag_has_a_short_name_and_aliases(name):
    assert parse(name, "5", "--salt", "--tea", "green") == (Food(5, True), Drink("green"))


@pytest.mark.parametrize(
    "argv, words",
    (
        (["--num-eggs", "-1"], "must be at least 0, not -1"),
        (["--kind", "goose"], "invalid choice: 'goose'"),
        (["--num", "3"], "unrecognized arguments: --num 3"),
        (["--weight", "heavy"], "invalid float value: 'heavy'"),
    ),
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(argv, words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(*argv)
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and line.startswith("error: ") and words in line


def test_help_shows_groups_defaults_and_percent_signs(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    assert "What is eaten." in text and "eggs, 50% of them boiled [2]" in text and "which one\n" in text


@pytest.mark.parametrize(
    "kind, good, bad",
    (
        (positive, {"1": 1}, ("0", "-3", "x")),
        (not_negative, {"0": 0}, ("-1", "1.5")),
        (fraction, {"0": 0.0, "1": 1.0, ".5": 0.5}, ("-0.1", "1.1", "nan")),
        (below_one, {"0": 0.0, "0.999": 0.999}, ("1", "-0.1", "nan")),
        (confidence, {"0.95": 0.95}, ("0", "1", "nan")),
        (number, {"-2.5": -2.5}, ("nan", "inf", "-inf")),
    ),
)
def test_values_have_a_range(kind, good, bad):
    assert {text: kind(text) for text in good} == good
    for text in bad:
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            kind(text)


def test_flags_are_written_by_name():
    assert as_json(Food(3), Drink("mint")) == {
        "num_eggs": 3,
        "salt": False,
        "kind": "hen",
        "weight": 0.5,
        "tea": "mint",
    }


def test_changed_flags_are_named_as_the_user_writes_them():
    assert changed_flags(Food(3, True)) == ["--num-eggs", "--salt"]
    assert changed_flags(Food(3, True), {"salt", "kind"}) == ["--salt"]
    assert changed_flags(Food()) == []


@pytest.mark.parametrize(
    "argv, own, others",
    ((["a", "--", "b", "--", "c"], ["a"], ["b", "--", "c"]), (["a"], ["a"], []), (["--"], [], []), ([], [], [])),
)
def test_what_stands_behind_two_dashes_is_for_another_program(argv, own, others):
    assert split_arguments(argv) == (own, others)


MODULES_WITH_FLAGS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (*ROOT.glob("spos/*/*.py"), *ROOT.glob("utils/*.py"))
    if "= flag(" in path.read_text("utf-8")
]


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "error, code, text",
    (
        (InputError("no\n  such file"), 2, "error: no such file\n"),
        (FileNotFoundError(2, "No such file or directory", "a.rec"), 2, "error: No such file or directory: a.rec\n"),
        (OSError("disk"), 2, "error: disk\n"),
        (KeyboardInterrupt(), 128 + SIGINT, "\nstopped; run the same command again to go on\n"),
        (Stopped(SIGTERM), 128 + SIGTERM, "\nstopped; run the same command again to go on\n"),
    ),
)
def test_a_program_that_cannot_go_on_says_so_in_one_line(error, code, text, capsys):
    assert run_program(raising(error)) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", text)


def test_a_program_that_ends_well_gives_its_own_code():
    assert run_program(lambda argv: len(argv), ["a", "b", "c"]) == 3


class MXNetError(RuntimeError):
    """Of the name that counts."""


def caused_by(error):
    try:
        try:
            raise error
        except Exception as cause:
            raise ValueError("Deferred initialization failed") from cause
    except ValueError as outer:
        return outer


@pytest.mark.parametrize(
    "error, words",
    (
        (MemoryError(), "there is not enough memory"),
        (MXNetError("Traceback\n cuda.h:12: cudaMalloc retry failed: out of memory"), "there is not enough memory"),
        (caused_by(RuntimeError("std::bad_alloc")), "a smaller --batch-size"),
        (
            MXNetError("Stack trace\n  File x.cc\nMXNetError: kernel exceeds input"),
            "kernel exceeds input",
        ),
    ),
)
def test_errors_of_the_engine_are_one_line(error, words, capsys, monkeypatch):
    left = []
    monkeypatch.setattr("atexit.register", lambda *arguments: left.append(arguments))
    assert run_program(raising(error)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line
    assert len(left) == ("memory" in line)  # MXNet's own end would crash
    monkeypatch.setenv("SPOS_TRACEBACK", "1")
    with pytest.raises(type(error)):
        run_program(raising(error))


def test_errors_of_the_program_itself_are_not_hidden():
    with pytest.raises(KeyError):
        run_program(raising(KeyError("x")))


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "from spos.core.flags import run_program; exit(run_program(lambda argv: print('x' * 10**6) or 0))"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(30) == 128 + SIGPIPE


# --- How they may be written ---


@dataclass(frozen=True)
class Options:
    """Some flags."""

    save_dir: str = flag("", "a path")
    retain_length: int = flag(10, "a number")
    use_se: bool = flag(False, "a switch")
    shuffle_train: bool = flag(False, "a word", type=truth)


def parse_with_files(*argv):
    parser = OneLineParser("", (Options,))
    parser.add_argument("files", nargs="*", type=Path)
    return parser.parse_args(argv)


@pytest.mark.parametrize(
    "argv", (("--retain_length", "7", "--use_se"), ("--retain_length=7", "--use-se"), ("--retain-length=7", "--use_se"))
)
def test_underscores_are_hyphens(argv):
    options = pick(Options, parse_with_files(*argv))
    assert (options.retain_length, options.use_se) == (7, True)


def test_underscores_of_values_stay():
    args = parse_with_files("--save_dir", "runs/my_run_2", "a_file.params")
    assert (args.save_dir, args.files) == ("runs/my_run_2", [Path("a_file.params")])
    assert parse_with_files("--save_dir=runs/a_b=c_d").save_dir == "runs/a_b=c_d"


def test_unknown_flags_are_named_as_the_program_has_them(capsys):
    with pytest.raises(SystemExit):
        parse_with_files("--no_such_flag")
    assert capsys.readouterr().err == "error: unrecognized arguments: --no-such-flag\n"


@pytest.mark.parametrize("argv", (("--save-dir", "~/run"), ("--save-dir=~/run",), ("--save_dir=~/run",)))
def test_home_is_expanded(argv, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    args = parse_with_files(*argv, "~/a.params", "b~c")
    assert args.save_dir == "/home/somebody/run"
    assert args.files == [Path("/home/somebody/a.params"), Path("b~c")]


@pytest.mark.parametrize("text, expected", (("True", True), ("False", False), ("false", False), ("true", True)))
def test_false_is_false(text, expected):
    assert parse_with_files("--shuffle-train", text).shuffle_train is expected


def test_other_words_are_neither_true_nor_false(capsys):
    with pytest.raises(SystemExit):
        parse_with_files("--shuffle-train", "no")
    assert "--shuffle-train: must be True or False, not no" in capsys.readouterr().err


@pytest.mark.parametrize("value", ("nan", "inf", "-inf", "1e999"))
def test_no_flag_of_any_program_takes_a_number_that_is_none(value, capsys):
    """Those with a type of their own, and those that have the type of their default."""
    groups = {
        group
        for module in map(import_module, MODULES_WITH_FLAGS)
        for group in vars(module).values()
        if is_dataclass(group) and isinstance(group, type) and group.__module__ == module.__name__
    }
    checked = set()
    for group in groups:
        for item in fields(group):
            if isinstance(item.default, float) or item.metadata.get("type") is number:
                with pytest.raises(SystemExit):
                    OneLineParser("", (group,)).parse_args([f"--{item.name.replace('_', '-')}={value}"])
                assert "argument" in capsys.readouterr().err
                checked.add(item.name)
    assert {"wd", "warmup_lr", "score_acc_ratio", "flop_max", "temperature", "tolerance", "error"} <= checked


@dataclass(frozen=True)
class Files:
    """Several files."""

    files: str = flag("a/b", "them", action=JoinFiles, nargs="+")
    more: bool = flag(False, "something else")


@pytest.mark.parametrize(
    "line, files",
    [
        ("", ("a/b",)),
        ("--files x", ("x",)),
        ("--files x y/z --more", ("x", "y/z")),
        ("--files x,y", ("x", "y")),
        ("--files=x", ("x",)),
        ("--files odd,name", ("odd,name",)),
    ],
)
def test_several_files_are_one_text(line, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd,name").touch()
    text = pick(Files, OneLineParser("", (Files,)).parse_args(line.split())).files
    assert isinstance(text, str) and split_files(text) == files


def test_homes_and_commas_in_the_names_of_several_files(monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/x")
    parser = OneLineParser("", (Files,))
    assert split_files(parser.parse_args(["--files", "~/a", "~/b"]).files) == ("/home/x/a", "/home/x/b")
    with pytest.raises(SystemExit):
        parser.parse_args(["--files", "a,b", "c"])
    assert "--files: a,b has a comma in its name" in capsys.readouterr().err
