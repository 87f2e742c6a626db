"""Figures: the numbers beside them, the phases of a run, the files, and what is refused."""

import json
from dataclasses import replace

import pytest
from conftest import fails

from spos.core.errors import InputError
from spos.core.flags import run_program
from spos.space.space_file import search_space
from utils.plot import __main__ as plot
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
    fails(plot.main, argv, capsys, word)


def test_a_folder_that_is_no_training_run_is_refused(make_run):
    with pytest.raises(InputError, match="no epoch"):
        load_run(make_run("empty", 0))
    folder = make_run("search")
    (folder / "config.json").write_text(json.dumps({"program": "search_supernet.py"}))
    with pytest.raises(InputError, match="not a run of train_imagenet.py"):
        load_run(folder)


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
