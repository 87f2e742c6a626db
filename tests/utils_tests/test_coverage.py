"""The figure of where sampling under limits draws."""

import numpy as np
import pytest
from conftest import ROOT, VARIANTS
from drawn_spaces import SPACES

from spos.core.flags import run_program
from spos.sampling.strips import Cell
from spos.space.cost import cost_table
from spos.training.flags import limits_of
from utils.plot import __main__ as plot
from utils.plot.coverage import PUBLISHED, Coverage, draw_costs, usual_limits
from utils_tests.test_plot import SE


def test_coverage_is_plotted_and_its_numbers_printed(tmp_path, capsys):
    files = [tmp_path / name for name in ("one.png", "two.png")]
    for file in files:
        assert run_program(plot.main, ["coverage", *SE, "--samples", "112", "--output", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "190 <= FLOPs <= 330 M and 2.8 <= params <= 5 M" in printed
    assert "100.0% within, 28 of 28 cells visited, 3.57% to 3.57% of the draws in a cell" in printed
    assert files[0].read_bytes() == files[1].read_bytes()


def test_coverage_of_other_constraints_draws_their_cells(tmp_path, capsys):
    flags = ["--train-upper-constraints", "params-3.0", "--samples", "5", "--output", str(tmp_path / "c.svg")]
    assert run_program(plot.main, ["coverage", *SE, *flags]) == 0
    assert "cells within the constraints" in (tmp_path / "c.svg").read_text()


@pytest.mark.parametrize("name", ("tiny", "nas-bench-macro"))
def test_a_space_out_of_the_published_ranges_has_its_own(name, tmp_path, capsys):
    output = tmp_path / "coverage.svg"
    assert run_program(plot.main, ["coverage", "--space", name, "--samples", "56", "--output", str(output)]) == 0
    printed, drawn = capsys.readouterr().out, output.read_text()
    (evolution,) = (line for line in printed.splitlines() if line.startswith("constrained, evolution"))
    assert "100.0% within, 28 of 28 cells visited" in evolution
    assert "cells within the constraints" in drawn and "published" not in drawn


@pytest.mark.parametrize("name", SPACES)
def test_usual_limits_can_be_kept(name):
    smallest, largest = cost_table(SPACES[name]).range()
    for limit in usual_limits(SPACES[name], 0):
        assert limit.value(smallest) <= limit.upper and limit.value(largest) >= limit.lower
    assert (usual_limits(SPACES[name], 0) == limits_of(PUBLISHED)) == name.startswith("mobilenet")


def test_coverage_counts_draws_in_cells():
    cells = [Cell((0, 10), (0, 10)), Cell((11, 20), (0, 10)), Cell((0, 10), (11, 20))]
    limits = Cell((0, 20), (0, 20)).limits()
    costs = np.array([(0, 0), (10, 10), (11, 3), (30, 3), (20, 20)])
    assert Coverage.of(costs, limits, cells) == Coverage(0.8, 2, 3, 0.0, 0.4)


def test_every_way_of_sampling_is_drawn_from_the_same_space():
    limits = limits_of(PUBLISHED)
    ways = draw_costs(VARIANTS["se-last-conv"], limits, 20, 0)
    assert list(ways) == ["uniform", "constrained, random", "constrained, evolution"]
    within = [np.all((costs >= (190e6, 2.8e6)) & (costs <= (330e6, 5e6))) for costs in ways.values()]
    assert within == [False, True, True]


def test_the_figure_of_the_readme_is_small():
    assert (ROOT / "images" / "sampling_coverage.png").stat().st_size < 200_000
