"""utils.compare_finals: its table, the same as JSON, and what it refuses."""

import json

import pytest
from conftest import TINY, fails
from pipeline_runs import make_search_run, rows_of
from study_tests.test_alone import trainer  # noqa: F401  a fixture
from study_tests.test_finals import hold, write_truth

from spos.runs.files import read_json
from utils import compare_finals


def test_the_table_and_the_same_as_json(tmp_path, capsys):
    runs = [make_search_run(tmp_path / name) for name in ("one", "two")]
    truth = write_truth(tmp_path / "truth.json", rows_of(runs[0]), lambda number: [number / 100])
    for number, run in enumerate(runs):
        hold(run, "best.json", (3, 8, 5), winner=8 - number * 3, first=3)
    flags = [*map(str, runs), "--truth", truth.truth]
    assert compare_finals.main(flags) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if "%" in line][:2] == ["one", "two"]
    assert "Left by the finals against first by the search: +3.500% (95% -15.559% to +22.559%)." in out
    assert compare_finals.main([*flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["left"] for row in found["finals"]] == [0.08, 0.05]
    assert abs(found["gain"]["over_first"]["mean"] - 0.035) < 1e-12


def test_without_truth_networks_are_trained(trainer, tmp_path, capsys):  # noqa: F811
    """The stand-in's accuracy is a function of architecture, seed and epochs."""
    runs = [make_search_run(tmp_path / name, space=TINY) for name in ("one", "two")]
    for number, run in enumerate(runs):
        hold(run, "best.json", (3, 8, 5), winner=8 - number * 3, first=3)
    own = [*map(str, runs), "--seeds", "2", "--jobs", "2", "--save-dir", str(tmp_path / "out")]
    argv = [*own, "--json", "--", "--num-epochs", "6"]
    assert compare_finals.main(argv) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found == read_json(tmp_path / "out" / "finals.json")
    sums = {number: sum(rows_of(runs[0])[number]["channel_choices"]) for number in (3, 5, 8)}
    for row, left in zip(found["finals"], (8, 5)):
        wanted = [sums[number] / 100 + epochs / 10000 + 0.0005 for number, epochs in ((3, 6), (left, 6), (3, 10))]
        assert [row[name] for name in ("first", "left", "longer")] == pytest.approx(wanted)
        assert row["longer_epochs"] == 10  # three finalists and one epoch of the winner's in the second round
    gain = (sums[8] + sums[5] - 2 * sums[3]) / 200
    assert found["gain"]["left"][0] == pytest.approx(gain) and found["gain"]["longer"][0] == pytest.approx(0.0004)
    assert compare_finals.main([word for word in argv if word != "--json"]) == 0
    printed = capsys.readouterr().out
    assert f"Left by the finals against the first by the search: {gain:+.3%} (95% " in printed
    assert len(list((tmp_path / "out" / "networks").glob("*/starts"))) == 8  # two of them are of both searches
    hold(runs[0], "best.json", (3, 5), winner=5, first=3)
    fails(compare_finals.main, argv, capsys, "the architecture has changed")


def test_either_truth_or_a_recipe_is_needed(tmp_path, capsys):
    run = str(make_search_run(tmp_path / "one"))
    for more in ([], ["--truth", "truth.json", "--", "--dataset", "digits"]):
        fails(compare_finals.main, [run, *more], capsys, "either --truth", "or a recipe behind --")


def test_flags_of_a_training_are_refused_where_nothing_is_trained(tmp_path, capsys):
    run = str(make_search_run(tmp_path / "one"))
    fails(compare_finals.main, [run, "--truth", "truth.json", "--seeds", "5"], capsys, "--seeds is for a recipe")


def test_searches_of_two_spaces_are_refused(tmp_path, capsys):
    runs = [make_search_run(tmp_path / "one"), make_search_run(tmp_path / "two", space=TINY)]
    for run in runs:
        hold(run, "best.json", (3, 8), winner=8, first=3)
    fails(compare_finals.main, [*runs, "--", "--num-epochs", "6"], capsys, "two searched another space than")
