"""docs/api.md: every piece is short, runs as it stands, and prints what the page says."""

import contextlib
import io
import re

import pytest
from conftest import ROOT
from latency_tests.test_table import make_table

from spos.runs.files import write_json
from spos.space.space_file import search_space

MOST_LINES = 15
# A piece and, if one follows, what it prints.
PIECE = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
PIECES = PIECE.findall((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all pieces run, in their order: later ones use files of earlier ones."""
    folder = tmp_path_factory.mktemp("api")
    space = search_space("Small", use_se=True, input_size=32)
    write_json(folder / "latency.json", make_table(space).to_json())
    return folder


def test_pieces_are_found_and_short():
    assert len(PIECES) >= 8
    assert max(len(code.splitlines()) for code, _ in PIECES) <= MOST_LINES


@pytest.mark.parametrize("number", range(len(PIECES)))
def test_a_piece_runs_and_prints_what_the_page_says(number, folder, monkeypatch):
    code, printed = PIECES[number]
    monkeypatch.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(code, f"docs/api.md, piece {number + 1}", "exec"), {"__name__": "__main__"})
    assert output.getvalue()
    if printed:
        assert output.getvalue() == printed
