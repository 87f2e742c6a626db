"""Figures of counted costs: what they are drawn from, the same file from the same numbers, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, TINY, fails
from drawn_spaces import SPACES

from spos.core.flags import run_program
from spos.counting.distribution import sample_costs
from spos.space.cost import cost_table
from utils.plot import __main__ as plot
from utils.plot.distribution import reachable_hull

SE = ["--use-se", "--last-conv-after-pooling"]


def cross(origin, first, second):
    """Above 0 where `second` lies to the left of the way from `origin` to `first`."""
    (x, y), (u, v) = np.transpose(first - origin), np.transpose(second - origin)
    return x * v - y * u


def test_a_distribution_is_plotted_and_its_numbers_printed(tmp_path, capsys):
    files = [tmp_path / name for name in ("one.png", "two.png", "other.png")]
    for file, seed in zip(files, ("0", "0", "1")):
        flags = ["distribution", *SE, "--samples", "500", "--seed", seed, "--output", str(file)]
        assert run_program(plot.main, flags) == 0
    printed = capsys.readouterr().out
    assert "FLOPs          64.163 to 849.515 M, mean 332.961 M, standard deviation 43.616 M; drawn" in printed
    assert "params         2.403 to 7.480 M, mean 3.919 M" in printed and "correlation    0.631" in printed
    first, second, other = (file.read_bytes() for file in files)
    assert first == second != other


def test_the_figure_names_the_comparison_model(tmp_path):
    output = tmp_path / "distribution.svg"
    flags = ["distribution", "--samples", "50", "--comparison-model", "MobileNetV3_large", "--output", str(output)]
    assert run_program(plot.main, flags) == 0
    assert "combined score 1 (MobileNetV3_large)" in output.read_text()


def test_published_networks_are_drawn_where_costs_compare(tmp_path, capsys):
    for name, is_compared in (("mobilenet", True), ("tiny", False), ("nas-bench-macro", False)):
        output = tmp_path / f"{name}.svg"
        flags = ["distribution", "--space", name, "--samples", "50", "--output", str(output)]
        assert run_program(plot.main, flags) == 0
        for words in ("oneshot (published)", "combined score 1 (SinglePathOneShot)"):
            assert (words in output.read_text()) == is_compared
    assert "0.760 to 10.206 M" in capsys.readouterr().out


@pytest.mark.parametrize("name", ("tiny", "residual", "random-0"))
def test_the_hull_of_a_space_whose_blocks_differ_holds_its_architectures(name, rng):
    corners = reachable_hull(SPACES[name])
    following = np.roll(corners, -1, axis=0)
    inside = [cross(start, end, sample_costs(SPACES[name], 300, rng)) for start, end in zip(corners, following)]
    left_out = 1e-3 * np.prod(np.ptp(corners, axis=0))  # corners between two directions
    assert (np.array(inside) >= -left_out).all()


@pytest.mark.parametrize("lowest", (0, 5))
def test_no_architecture_lies_outside_the_hull(space, lowest, rng):
    space = replace(space, min_channel_choice=lowest)
    corners = reachable_hull(space)
    assert len(np.unique(corners, axis=0)) == len(corners) > 4
    following = np.roll(corners, -1, axis=0)
    assert (cross(corners, following, np.roll(corners, -2, axis=0)) > 0).all()  # convex, counterclockwise
    (low_macs, low_params), (high_macs, high_params) = cost_table(space).range()
    assert (corners.min(0) == (low_macs, low_params)).all() and (corners.max(0) == (high_macs, high_params)).all()
    inside = [cross(start, end, sample_costs(space, 500, rng)) for start, end in zip(corners, following)]
    assert (np.array(inside) >= 0).all()


def test_the_hull_of_a_single_architecture_is_its_cost():
    space = replace(TINY, blocks=TINY.blocks[:1], min_channel_choice=TINY.max_channel_choice)
    assert reachable_hull(space).tolist() == [list(cost_table(space).range()[0])]


@pytest.mark.parametrize(
    "argv, word",
    (
        (["distribution", "--output", "figure.jpg"], ".png, .svg, .pdf"),
        (["distribution", "--strides", "2,2"], "needs 5 entries"),
        (["distribution", "--space", "mobilenetv2"], "space mobilenetv2 has one architecture only"),
        (["stages", "--architecture", "twoshot"], "no architecture 'twoshot'"),
        (["stages", "--output", "figure"], ".png, .svg, .pdf"),
    ),
)
def test_bad_input_is_one_line(argv, word, capsys):
    fails(plot.main, argv, capsys, word)


def test_the_figure_of_the_readme_is_small():
    assert (ROOT / "images" / "distribution.png").stat().st_size < 200_000
