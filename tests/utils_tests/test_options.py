"""utils.options, and the page that it writes."""

import re
from argparse import SUPPRESS
from importlib import import_module

from conftest import ROOT

from spos.core.flags import OneLineParser
from utils import options

PAGE = ROOT / "logs" / "train_search_options.md"


def test_the_committed_page_is_what_the_parsers_have():
    assert PAGE.read_text(encoding="utf-8") == options.page()


def test_every_flag_has_its_row_and_nothing_is_left_of_argparse():
    text = options.page()
    for program in options.PROGRAMS:
        part = text.split(f"## {program}.py\n")[1].split("\n## ")[0]
        actions = OneLineParser("", import_module(program).GROUPS)._option_string_actions.items()
        flags = {name for name, action in actions if action.help != SUPPRESS} - {"-h", "--help"}
        assert flags == set(re.findall(r"`(--?[\w-]+)`", "\n".join(re.findall(r"^\| (.*?) \|", part, re.MULTILINE))))
    assert "%(" not in text and "%%" not in text
    assert (
        "| `--flop-max` |  | largest FLOPs, as a ratio to the comparison model (-1: no limit) [1.0 in a search" in text
    )
    modes = "genetic, random, two-stage, surrogate, nsga2, surrogate-front"
    assert "| `--search-mode` | genetic |" in text and f"({modes}) |" in text


def test_the_page_is_written(tmp_path, capsys):
    assert options.main(["--output", str(tmp_path / "page.md")]) == 0
    assert options.main([]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == capsys.readouterr().out
