"""Errors and warnings: what they say in one line, whatever names hold and terminals can show."""

import io
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from spos.core.errors import (
    InputError,
    Stopped,
    engine_reason,
    escape_missing_letters,
    printable,
    warn,
    warn_once,
)
from spos.core.tables import Column, Table, render


@pytest.mark.parametrize(
    "text, reason",
    (
        ("[12:00:00] file.cc:30: MXNetError: Check failed: x > 0", "[12:00:00] file.cc:30: Check failed: x > 0"),
        ("MXNetError: no such file\nStack trace:\n", "no such file"),
        ("Stack trace (most recent call last):\n\n  MXNetError: shapes differ  \n", "shapes differ"),
        ("", "RuntimeError"),
    ),
)
def test_the_reason_stands_without_the_stack_trace(text, reason):
    assert engine_reason(RuntimeError(text)) == reason


def test_a_stop_knows_its_signal():
    assert Stopped(15).signum == 15 and str(Stopped(15)) == "stopped by signal 15"


def test_a_warning_is_one_line_of_standard_error(capsys):
    warn("this is odd")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: this is odd\n")


def test_bad_input_is_a_value_error():
    with pytest.raises(ValueError, match="no such file"):
        raise InputError("no such file")


@pytest.mark.parametrize(
    "name, shown",
    (
        ("Löwe 犬 🐈", "Löwe 犬 🐈"),
        ("\x1b[2Jred\x1b]0;title\x07", "\\x1b[2Jred\\x1b]0;title\\x07"),
        ("two\nlines\r\tand more", "two\\nlines\\r\\tand more"),
        ("\x9b31m", "\\x9b31m"),
        ("gnp\u202egpj", "gnp\\u202egpj"),
        (os.fsdecode(b"na\xefve.png"), "na\\xefve.png"),
        ("\ud800", "\\ud800"),
    ),
)
def test_what_acts_on_a_terminal_is_escaped(name, shown):
    assert printable(name) == printable(shown) == shown


@pytest.mark.parametrize("style", ("text", "markdown", "csv"))
def test_tables_are_free_of_escape_codes(style):
    table = Table("\x1b]0;title\x07", (Column("class"),), (("\x1b[31mred",), (1.5,)))
    shown = render([table], style)
    assert "\x1b" not in shown and "\\x1b[31mred" in shown


def test_warnings_are_one_line_without_escape_codes(capsys):
    warn("a\x1b[1m\nb")
    warn_once("once \x1b")
    warn_once("once \x1b")
    assert capsys.readouterr().err.splitlines() == ["warning: a\\x1b[1m\\nb", "warning: once \\x1b"]


def test_letters_that_an_encoding_has_not_are_escaped(monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, "ascii", "strict"))
    escape_missing_letters()
    print("Bär \udce9", flush=True)
    assert content.getvalue() == b"B\\xe4r \\udce9\n"


def test_a_program_prints_any_name_on_a_terminal_of_few_letters():
    code = (
        "import sys; from spos.core.flags import run_program; from spos.core.errors import InputError\n"
        "def main(argv):\n print('Žluťoučký \\udcff')\n raise InputError('kůň \\x1b[2J')\n"
        "sys.exit(run_program(main))"
    )
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, env=environ, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"\\u017dlu\\u0165ou\\u010dk\xfd \\udcff\n")
    assert done.stderr == b"error: k\\u016f\\u0148 \\x1b[2J\n"
