"""Progress bars: for eyes at a terminal, and for nobody else."""

import sys

import pytest

from spos.core.progress import progress_bar


@pytest.mark.parametrize(
    "is_terminal, shown, expected", ((True, True, True), (False, True, False), (True, False, False))
)
def test_a_bar_shows_where_somebody_looks(is_terminal, shown, expected, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert list(progress_bar(range(3), shown=shown, desc="counting", leave=True)) == [0, 1, 2]
    assert ("counting: 100%" in capsys.readouterr().err) == expected


def test_a_bar_that_the_caller_moves_says_whether_it_shows(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with progress_bar(total=2, unit="img") as bar:
        bar.update()
    assert bar.disable
