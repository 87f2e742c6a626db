"""Names on terminals: nothing acts on them, and every letter can be shown somehow."""

import io
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from spos.core.errors import warn, warn_once
from spos.core.tables import Column, Table, render
from spos.core.terminal import escape_missing_letters, printable


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
