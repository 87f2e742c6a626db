"""Figures: the numbers beside them, the phases of a run, the files, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, VARIANTS
from PIL import Image, ImageSequence

from spos.core.errors import InputError
from spos.core.flags import run_program
from spos.sampling.strips import Cell
from spos.search.history import load_history
from spos.space.space import search_space
from spos.training.flags import limits_of
from utils.plot import __main__ as plot
from utils.plot import animation
from utils.plot.coverage import PUBLISHED, Coverage, draw_costs
from utils.plot.training import LR_WARM_UP, load_run
from utils.plot.warm_up import CHANNEL_WARM_UP, FULL_WIDTH

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
    assert Coverage.of(costs, limits, cells) == Coverage(0.8, 2, 3, 0.0, 0.4)


def test_every_way_of_sampling_is_drawn_from_the_same_space():
    limits = limits_of(PUBLISHED)
    ways = draw_costs(VARIANTS["se-last-conv"], limits, 20, 0)
    assert list(ways) == ["uniform", "constrained, random", "constrained, evolution"]
    within = [np.all((costs >= (190e6, 2.8e6)) & (costs <= (330e6, 5e6))) for costs in ways.values()]
    assert within == [False, True, True]


PHASES = {
    "nothing": ({"warmup_epochs": 0}, 9, []),
    "learning rate": ({}, 9, [(LR_WARM_UP, 0, 1)]),
    "all": (
        {"epoch_start_cs": 3, "cs_warm_up": True},
        9,
        [(LR_WARM_UP, 0, 1), (FULL_WIDTH, 0, 3), (CHANNEL_WARM_UP, 3, 6)],
    ),
    "not there yet": (
        {"epoch_start_cs": 3, "cs_warm_up": True},
        4,
        [(LR_WARM_UP, 0, 1), (FULL_WIDTH, 0, 3), (CHANNEL_WARM_UP, 3, 4)],
    ),
    "without steps": ({"epoch_start_cs": 3}, 9, [(LR_WARM_UP, 0, 1), (FULL_WIDTH, 0, 3)]),
    "no selection": ({"epoch_start_cs": 3, "use_all_channels": True}, 9, [(LR_WARM_UP, 0, 1)]),
    "subnet": ({"epoch_start_cs": 3, "architecture": {}}, 9, [(LR_WARM_UP, 0, 1)]),
    "network of the zoo": ({"has_space": False}, 9, [(LR_WARM_UP, 0, 1)]),
}


@pytest.mark.parametrize("case", PHASES.values(), ids=PHASES)
def test_phases_of_a_run(case, make_run):
    options, num_epochs, expected = case
    assert load_run(make_run("run", num_epochs, **options)).phases == expected


def test_training_of_several_runs_is_plotted(make_run, tmp_path):
    runs = [str(make_run(name, epoch_start_cs=2)) for name in ("one", "two")]
    for chosen, kind in ((runs, "png"), (runs[:1], "svg"), (runs[:1], "pdf")):
        output = tmp_path / f"training.{kind}"
        assert run_program(plot.main, ["training", *chosen, "--output", str(output)]) == 0
        assert output.stat().st_size > 1000


def test_curves_have_the_rows_that_hold_a_value(make_run):
    run = load_run(make_run("run"))
    assert run.curve("val_top1") == ([4], [0.3])
    assert run.curve("loss")[0] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "argv, word",
    (
        ([], "coverage, training, search"),
        (["accuracy"], "not 'accuracy'"),
        (["coverage", "--output", "figure.jpg"], ".png, .svg, .pdf"),
        (["coverage", "--train-upper-constraints", "330"], "flops-330-params-5.0"),
        (["coverage", "--train-upper-constraints", "flops-3"], "reachable"),
        (["training", "gone"], "gone"),
        (["search", "gone"], "gone does not exist"),
    ),
)
def test_bad_input_is_one_line(argv, word, capsys):
    assert run_program(plot.main, argv) == 2
    printed = capsys.readouterr().err
    assert word in printed and printed.count("\n") == 1


def test_a_folder_that_is_no_training_run_is_refused(make_run):
    with pytest.raises(InputError, match="no epoch"):
        load_run(make_run("empty", 0))
    folder = make_run("search")
    (folder / "config.json").write_text(json.dumps({"program": "search_supernet.py"}))
    with pytest.raises(InputError, match="not a run of train_imagenet.py"):
        load_run(folder)


def test_the_figure_of_the_readme_is_small():
    assert (ROOT / "images" / "sampling_coverage.png").stat().st_size < 200_000


def test_searches_are_plotted_from_their_histories_alone(make_search, tmp_path, capsys):
    runs = [make_search(name, shift=shift, latency_ms=3.5) for name, shift in (("one", 0.0), ("two", 0.1))]
    cases = (([runs[0]], "flops", "png"), ([runs[1] / "history.jsonl"], "latency", "pdf"), (runs, "params", "svg"))
    for paths, x, kind in cases:
        output = tmp_path / f"search.{kind}"
        assert run_program(plot.main, ["search", *map(str, paths), "--x", x, "--output", str(output)]) == 0
        first = output.read_bytes()
        if kind == "png":
            run_program(plot.main, ["search", *map(str, paths), "--x", x, "--output", str(output)])
            assert output.read_bytes() == first
    assert all(label in first.decode() for label in ("one, best so far", "two, not dominated", "params (M)"))
    printed = capsys.readouterr().out
    assert "12 architectures (1 dropped early), best top-1 65.00% (95% interval 63.00% to 67.00%), 2 ties" in printed


def frames_of(file):
    """(picture, milliseconds) of the frames of a GIF."""
    with Image.open(file) as picture:
        return [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(picture)]


def test_a_search_is_animated_iteration_by_iteration(make_search, tmp_path, capsys):
    files = [tmp_path / name for name in ("one.gif", "two.gif", "other.gif")]
    for file, x in zip(files, ("flops", "flops", "params")):
        flags = ["animation", str(make_search(file.stem)), "--x", x, "--milliseconds", "300", "--output", str(file)]
        assert run_program(plot.main, flags) == 0
    frames = frames_of(files[0])
    assert [milliseconds for _, milliseconds in frames] == [300, 300, animation.PAUSE_MS]
    assert {picture.size for picture, _ in frames} == {(animation.WIDTH, animation.HEIGHT)}
    assert {picture.getpixel((1, 1)) for picture, _ in frames} == {(255, 255, 255)}
    first, second, other = (file.read_bytes() for file in files)
    assert first == second != other
    assert b"NETSCAPE2.0" in first  # it begins again
    assert "12 architectures (1 dropped early), best top-1 65.00%" in capsys.readouterr().out


def test_moments_of_a_search_grow_by_its_iterations(make_search):
    moments = animation.moments_of(load_history(make_search("search")))
    assert [(moment.num_earlier, moment.num_rows) for moment in moments] == [(0, 4), (4, 8), (8, 12)]
    assert [row["evaluation"] for row in moments[1].new] == [4, 5, 7]
    assert [row["evaluation"] for row in moments[2].earlier] == [0, 1, 2, 3, 4, 5, 7]
    assert moments[1].title() == "iteration 2 of 3: 8 architectures, best top-1 60.00%"


def test_iterations_of_long_searches_share_frames(make_search, monkeypatch):
    monkeypatch.setattr(animation, "MOST_FRAMES", 2)
    history = load_history(make_search("search", [(i, {"iteration": i}) for i in range(12)]))
    assert [(moment.num_earlier, moment.num_rows) for moment in animation.moments_of(history)] == [
        (0, 1),
        (1, 12),
    ]


def test_an_animation_begins_when_something_is_scored(make_search):
    history = load_history(make_search("search", [(i, {"dropped": True}) for i in range(4)]))
    assert [moment.num_rows for moment in animation.moments_of(history)] == [8, 12]


def test_a_search_of_equal_scores_is_animated(make_search):
    changes = [(i, {"top1": 0.0, "flops": 5}) for i in range(12)]
    (moment, *_) = animation.moments_of(load_history(make_search("search", changes)))
    assert animation.draw_frame(moment, "flops").size == (animation.WIDTH, animation.HEIGHT)


BAD_HISTORIES = {
    "no latency": ([], ["--x", "latency"], "tells no latency_ms; search with --latency-table"),
    "another file": ([(3, {"top1_interval": None})], [], "line 4 is no row of a search: it lacks top1_interval"),
    "nothing scored": ([(i, {"dropped": True}) for i in range(12)], [], "no evaluation that saw all images"),
}


@pytest.mark.parametrize("case", BAD_HISTORIES.values(), ids=BAD_HISTORIES)
def test_a_history_that_cannot_be_plotted_is_one_line(case, make_search, capsys):
    changes, flags, message = case
    folder = str(make_search("search", changes))
    for figure in ("search", "animation"):
        assert run_program(plot.main, [figure, folder, *flags]) == 2
        printed = capsys.readouterr().err
        assert message in printed and printed.count("\n") == 1
