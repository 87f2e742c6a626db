"""Figures: the numbers beside them, the phases of a run, the files, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, VARIANTS

from spos.constrained_policy import Cell
from spos.errors import InputError
from spos.options import run_program
from spos.search_space import search_space
from utils import plot

SE = ["--use-se", "--last-conv-after-pooling"]


@pytest.fixture
def make_run(tmp_path):
    """A run directory with a given number of finished epochs."""

    def make(name, num_epochs=4, architecture=None, has_space=True, **options):
        folder = tmp_path / name
        folder.mkdir()
        config = {
            "program": "train_imagenet.py",
            "options": {"warmup_epochs": 1, "epoch_start_cs": -1, "cs_warm_up": False, **options},
            "architecture": architecture,
            "space": replace(search_space(), warm_up_durations=(1, 2)).to_json() if has_space else None,
        }
        (folder / "config.json").write_text(json.dumps(config))
        rows = [{"epoch": epoch, "loss": 2 - epoch / 10, "top1": epoch / 10} for epoch in range(num_epochs)]
        if rows:
            rows[-1]["val_top1"] = 0.3
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return make


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


def test_coverage_counts_draws_in_cells():
    cells = [Cell((0, 10), (0, 10)), Cell((11, 20), (0, 10)), Cell((0, 10), (11, 20))]
    limits = Cell((0, 20), (0, 20)).limits()
    costs = np.array([(0, 0), (10, 10), (11, 3), (30, 3), (20, 20)])
    assert plot.Coverage.of(costs, limits, cells) == plot.Coverage(0.8, 2, 3, 0.0, 0.4)


def test_every_way_of_sampling_is_drawn_from_the_same_space():
    limits = plot.limits_of(plot.PUBLISHED)
    ways = plot.draw_costs(VARIANTS["se-last-conv"], limits, 20, 0)
    assert list(ways) == ["uniform", "constrained, random", "constrained, evolution"]
    within = [np.all((costs >= (190e6, 2.8e6)) & (costs <= (330e6, 5e6))) for costs in ways.values()]
    assert within == [False, True, True]


PHASES = {
    "nothing": ({"warmup_epochs": 0}, 9, []),
    "learning rate": ({}, 9, [(plot.LR_WARM_UP, 0, 1)]),
    "all": (
        {"epoch_start_cs": 3, "cs_warm_up": True},
        9,
        [(plot.LR_WARM_UP, 0, 1), (plot.FULL_WIDTH, 0, 3), (plot.CHANNEL_WARM_UP, 3, 6)],
    ),
    "not there yet": (
        {"epoch_start_cs": 3, "cs_warm_up": True},
        4,
        [(plot.LR_WARM_UP, 0, 1), (plot.FULL_WIDTH, 0, 3), (plot.CHANNEL_WARM_UP, 3, 4)],
    ),
    "without steps": ({"epoch_start_cs": 3}, 9, [(plot.LR_WARM_UP, 0, 1), (plot.FULL_WIDTH, 0, 3)]),
    "no selection": ({"epoch_start_cs": 3, "use_all_channels": True}, 9, [(plot.LR_WARM_UP, 0, 1)]),
    "subnet": ({"epoch_start_cs": 3, "architecture": {}}, 9, [(plot.LR_WARM_UP, 0, 1)]),
    "network of the zoo": ({"has_space": False}, 9, [(plot.LR_WARM_UP, 0, 1)]),
}


@pytest.mark.parametrize("case", PHASES.values(), ids=PHASES)
def test_phases_of_a_run(case, make_run):
    options, num_epochs, expected = case
    assert plot.load_run(make_run("run", num_epochs, **options)).phases == expected


def test_training_of_several_runs_is_plotted(make_run, tmp_path):
    runs = [str(make_run(name, epoch_start_cs=2)) for name in ("one", "two")]
    for chosen, kind in ((runs, "png"), (runs[:1], "svg"), (runs[:1], "pdf")):
        output = tmp_path / f"training.{kind}"
        assert run_program(plot.main, ["training", *chosen, "--output", str(output)]) == 0
        assert output.stat().st_size > 1000


def test_curves_have_the_rows_that_hold_a_value(make_run):
    run = plot.load_run(make_run("run"))
    assert run.curve("val_top1") == ([4], [0.3])
    assert run.curve("loss")[0] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "argv, word",
    (
        ([], "coverage or training"),
        (["accuracy"], "not 'accuracy'"),
        (["coverage", "--output", "figure.jpg"], ".png, .svg, .pdf"),
        (["coverage", "--train-upper-constraints", "330"], "flops-330-params-5.0"),
        (["coverage", "--train-upper-constraints", "flops-3"], "reachable"),
        (["training", "gone"], "gone"),
    ),
)
def test_bad_input_is_one_line(argv, word, capsys):
    assert run_program(plot.main, argv) == 2
    printed = capsys.readouterr().err
    assert word in printed and printed.count("\n") == 1


def test_a_folder_that_is_no_training_run_is_refused(make_run):
    with pytest.raises(InputError, match="no epoch"):
        plot.load_run(make_run("empty", 0))
    folder = make_run("search")
    (folder / "config.json").write_text(json.dumps({"program": "search_supernet.py"}))
    with pytest.raises(InputError, match="not a run of train_imagenet.py"):
        plot.load_run(folder)


def test_the_figure_of_the_readme_is_small():
    assert (ROOT / "images" / "sampling_coverage.png").stat().st_size < 200_000
