"""The harness of rank correlation: its plan, its numbers from known accuracies, and a whole run of the programs."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY, data_flags, fails
from study_tests.test_alone import trainer  # noqa: F401  a fixture
from study_tests.test_rank import make_rows

import train_imagenet
from spos.core.errors import InputError
from spos.core.ranking import Ranked, correlate
from spos.native.build import are_ready
from spos.runs.files import read_json, without_nan, write_json
from spos.runs.journal import read_rows
from spos.runs.run import PIXELS_FOLDER
from spos.scoring.many import SCORES_FILE
from spos.scoring.trained import open_supernets
from spos.space.architecture import architecture_of
from spos.study.alone import ALONE_FILE
from spos.study.rank import FLOPS, PARAMS, rank
from spos.study.truth import TRUTH_FILE, TruthRow
from utils import rank_correlation


def test_the_text_has_a_line_for_each_predictor(capsys):
    rows = make_rows(6, seeds=(0, 1))
    ranked = rank(rows, {"supernet": [{"top1": i / 10} for i in range(6)]}, TINY)
    found = rank_correlation.correlate(ranked, FLOPS, np.random.default_rng(0))
    text = rank_correlation.text(ranked, found, rows)
    assert "6 architectures in 2 strata of FLOPs, 12 networks trained alone: top-1 49.95% to 54.95%" in text
    lines = [line.split()[0] for line in text.splitlines()]
    assert lines[2:7] == ["supernet", "supernet/additive", "supernet/additive+FLOPs", FLOPS, PARAMS]
    assert text.splitlines()[2].split()[1] == "+1.000"
    assert "two seeds" in text.splitlines()[-1]


RECIPE = ["--num-epochs", "1", "--lr", "0.1", "--batch-size", "32"]


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    """A supernet of the small layout, hardly trained."""
    from conftest import make_work

    work = make_work(tmp_path_factory.mktemp("supernet"))
    flags = data_flags(work, strides="2,2,2,2,2")
    argv = ["--model", "ShuffleNas", "--channels-layout", "Small", "--val-architectures", "1", *RECIPE, *flags]
    assert train_imagenet.main([*argv, "--save-dir", str(work / "supernet")]) == 0
    return work


def ranking_flags(work, folder, *more):
    own = ["--supernet", work / "supernet", "--num-architectures", 6, "--strata", 2, "--save-dir", folder]
    return [str(item) for item in [*own, *more, "--"]]


def test_a_program_run_ranks_by_a_real_supernet(supernet, trainer, tmp_path, capsys):  # noqa: F811
    """Real scores by a supernet, in two processes; a program that stands for the trainer."""
    out = tmp_path / "ranking"
    argv = ranking_flags(supernet, out, "--jobs", 2, "--output", tmp_path / "ranking.png", "--json")
    argv += ["--seconds", "0"]
    assert rank_correlation.main(argv) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record == read_json(out / "correlation.json")
    assert set(record["predictors"]) == {"supernet", "supernet/additive", "supernet/additive+FLOPs", FLOPS, PARAMS}
    assert record["architectures"] == record["networks"] == 6
    assert record["predictors"][FLOPS]["gain_over_baseline"] is None
    assert (tmp_path / "ranking.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / PIXELS_FOLDER).exists()  # decoded once, for both processes
    files = {name: (out / name).read_bytes() for name in (ALONE_FILE, SCORES_FILE)}
    assert {architecture_of(row) for row in read_rows(out / SCORES_FILE)} == {
        architecture_of(row) for row in read_rows(out / ALONE_FILE)
    }
    assert rank_correlation.main(argv) == 0  # nothing is trained or scored again
    assert {name: (out / name).read_bytes() for name in files} == files
    fails(rank_correlation.main, [*argv, "--seconds", "1"], capsys, "recipe", "another --save-dir")


def test_networks_can_be_trained_before_there_is_a_supernet(supernet, trainer, tmp_path, capsys):  # noqa: F811
    """In the space that a supernet on the images of the recipe has, which can follow."""
    own = ["--num-architectures", "6", "--strata", "2", "--save-dir", str(tmp_path / "ranking"), "--json"]
    recipe = ["--", *RECIPE, *data_flags(supernet, strides="2,2,2,2,2")]
    assert rank_correlation.main([*own, "--channels-layout", "Small", *recipe]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(record["predictors"]) == {FLOPS, PARAMS} and record["networks"] == 6
    before = (tmp_path / "ranking" / ALONE_FILE).read_bytes()
    assert rank_correlation.main([*own, "--supernet", str(supernet / "supernet"), *recipe]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "supernet" in record["predictors"] and (tmp_path / "ranking" / ALONE_FILE).read_bytes() == before
    both = [*own, "--supernet", str(supernet / "supernet"), "--channels-layout", "Small", *recipe]
    fails(rank_correlation.main, both, capsys, "--supernet says the space; leave out --channels-layout")
    alone = [*own[:-1], "--truth", str(tmp_path / "truth.csv")]
    fails(rank_correlation.main, alone, capsys, "give a --supernet")


def test_truth_that_others_measured_takes_the_place_of_trainings(supernet, tmp_path, capsys):
    (space,) = (one.space for one in open_supernets([supernet / "supernet"], 32))
    rng = np.random.default_rng(0)
    rows = [
        " ".join(map(str, one.block_choices))
        + ","
        + " ".join(map(str, one.channel_choices))
        + f",{top1:.3f} {top1:.3f}"
        for one, top1 in ((space.sample(rng), rng.random()) for _ in range(12))
    ]
    (tmp_path / "truth.csv").write_text("\n".join(["block_choices,channel_choices,top1", *rows]))
    argv = [*ranking_flags(supernet, tmp_path / "ranking")[:-1], "--truth", str(tmp_path / "truth.csv"), "--json"]
    assert rank_correlation.main(argv) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["architectures"], record["networks"], record["seed_agreement"]) == (6, 12, 1.0)
    assert set(record["others"]) == {FLOPS, "supernet/additive"}
    assert not (tmp_path / "ranking" / ALONE_FILE).exists()
    truth = read_rows(tmp_path / "ranking" / TRUTH_FILE, TruthRow)
    assert len(truth) == 12 and {row["seed"] for row in truth} == {0, 1}
    assert rank_correlation.main([*argv, "--baseline", "supernet"]) == 0
    against = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert against["baseline"] == "supernet" and against["predictors"]["supernet"]["gain_over_baseline"] is None
    gains = [one["predictors"][name]["gain_over_baseline"][0] for one, name in ((record, "supernet"), (against, FLOPS))]
    assert gains[0] == pytest.approx(-gains[1])
    assert rank_correlation.main(argv) == 0 and json.loads(capsys.readouterr().out.splitlines()[-1]) == record
    (tmp_path / "truth.csv").write_text("\n".join(["block_choices,channel_choices,top1", *rows[::-1]]))
    fails(rank_correlation.main, argv, capsys, "truth", "another --save-dir")
    fails(rank_correlation.main, [*argv, "--", *RECIPE], capsys, "--truth: nothing is trained")
    if are_ready():
        refit = [*argv, "--save-dir", str(tmp_path / "refit"), "--refit-classifier", "32"]
        assert rank_correlation.main([*refit, "--baseline", "supernet/refit/additive"]) == 0
        predictors = json.loads(capsys.readouterr().out.splitlines()[-1])["predictors"]
        own = {f"supernet/refit{ending}" for ending in ("", "/additive", "/additive+FLOPs")}
        assert set(predictors) == {*own, FLOPS, PARAMS}


@pytest.mark.parametrize(
    "change, words",
    (
        (["--supernet", "nowhere"], ["nowhere is no folder"]),
        (["--num-architectures", "7"], ["shared out evenly"]),
        (["--num-architectures", "2", "--strata", "1"], ["--num-architectures 2", "at least 3"]),
        (["--output", "figure.txt"], ["must end in"]),
        (["--baseline", "other"], ["--baseline other", "FLOPs, params, supernet"]),
    ),
)
def test_bad_flags_are_one_line(supernet, tmp_path, capsys, change, words):
    own = ranking_flags(supernet, tmp_path / "out")[:-1]
    fails(rank_correlation.main, [*own, *change, "--", *RECIPE], capsys, *words)
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_needed(supernet, tmp_path, capsys):
    fails(rank_correlation.main, ranking_flags(supernet, tmp_path / "out"), capsys, "the recipe is missing")


def test_supernets_must_be_finished_and_differ_in_name(supernet, tmp_path):
    shutil.copytree(supernet / "supernet", tmp_path / "half")
    (tmp_path / "half" / "model.params").unlink()
    with pytest.raises(InputError, match="is not finished: it has no model.params"):
        open_supernets([tmp_path / "half"], 32)
    with pytest.raises(InputError, match="two of the supernets are named supernet"):
        open_supernets([supernet / "supernet"] * 2, 32)


@pytest.mark.slow
def test_networks_are_trained_by_the_real_program(supernet, tmp_path, capsys):
    argv = ranking_flags(supernet, tmp_path / "ranking", "--num-architectures", 4, "--jobs", 2)
    assert rank_correlation.main([*argv, *RECIPE, *data_flags(supernet, strides="2,2,2,2,2")]) == 0
    assert "4 architectures in 2 strata of FLOPs, 4 networks trained alone" in capsys.readouterr().out
    rows = read_rows(tmp_path / "ranking" / ALONE_FILE)
    assert [row["num_images"] for row in rows] == [40] * 4 and all(0 <= row["top1"] <= 1 for row in rows)


@pytest.mark.parametrize(
    "tops, told, agreement", (((0.5, 0.5, 0.5), "unknown", None), ((0.2, 0.3, 0.2), "+0.000", 0.0), (None, "", None))
)
def test_an_agreement_of_zero_is_told_and_one_that_is_none_is_null(tops, told, agreement, tmp_path):
    rows = [
        {"block_choices": [i], "channel_choices": [0], "seed": 0, "top1": top1, "flops": i, "params": i, "stratum": 0}
        for i, top1 in enumerate((0.1, 0.2, 0.3))
    ]
    rows += [{**row, "seed": 1, "top1": top1} for row, top1 in zip(rows, tops or ())]
    equal = np.zeros(3)
    ranked = Ranked(np.array([0.1, 0.2, 0.3]), {FLOPS: np.arange(3.0), "a": equal}, np.zeros(3, dtype=int))
    correlations = correlate(ranked, FLOPS, np.random.default_rng(0))
    printed = rank_correlation.text(ranked, correlations, rows)
    assert printed.endswith(f"two seeds of the same networks: {told}") if told else "two seeds" not in printed
    record = without_nan(rank_correlation.as_json(ranked, correlations, rows))
    write_json(tmp_path / "correlation.json", record)
    assert read_json(tmp_path / "correlation.json") == record
    assert record["seed_agreement"] == agreement and record["predictors"]["a"]["tau_b"] == [None, None, None]
