"""utils.compare_finals: its table, the same as JSON, and what it refuses."""

import json

from pipeline_runs import make_search_run, rows_of
from study_tests.test_finals import hold, write_truth

from spos.core.flags import run_program
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


def test_truth_is_needed(tmp_path, capsys):
    assert run_program(compare_finals.main, [str(make_search_run(tmp_path / "one"))]) == 2
    assert "--truth is missing" in capsys.readouterr().err
