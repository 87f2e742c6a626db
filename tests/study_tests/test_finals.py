"""Finals against accuracies that others measured."""

import json

import numpy as np
import pytest
from pipeline_runs import make_search_run, make_training, rows_of

from spos.core.errors import InputError
from spos.study.finals import finals_of, gains
from spos.study.truth import TruthOptions


def hold(folder, name, numbers, winner, first):
    """An architecture file that tells of finals of two rounds."""
    standings = [
        {"evaluation": number, "epochs": 1, "top1": 0.6, "top1_interval": [0.5, 0.7], "combined": 0.0}
        for number in numbers
    ]
    last = [one for one in standings if one["evaluation"] == winner]
    (folder / name).write_text(json.dumps({"finals": {"first_by_search": first, "rounds": [standings, last]}}))


def write_truth(path, rows, accuracy):
    entries = [
        {**{key: row[key] for key in ("block_choices", "channel_choices")}, "top1": accuracy(row["evaluation"])}
        for row in rows
    ]
    path.write_text(json.dumps(entries))
    return TruthOptions(str(path))


@pytest.fixture
def run(tmp_path):
    return make_search_run(tmp_path / "search")


def test_each_budget_is_a_line_with_true_accuracies(run, tmp_path):
    truth = write_truth(tmp_path / "truth.json", rows_of(run), lambda number: [number / 100, number / 100 + 0.02])
    hold(run, "best.json", (3, 8, 5), winner=8, first=3)
    (row,) = finals_of(run, truth)
    assert (row.search, row.budget, row.num_finalists) == ("search", "", 3) and gains([row]) is None
    assert row[3:] == pytest.approx((0.04, 0.09, np.mean([0.04, 0.09, 0.06]), 0.09))
    hold(run, "budget-8M.json", (3, 8, 5), winner=8, first=3)
    hold(run, "budget-7.5M.json", (2, 4), winner=2, first=2)
    rows = finals_of(run, truth)
    assert [(row.budget, row.left) for row in rows] == [("7.5M", pytest.approx(0.03)), ("8M", pytest.approx(0.09))]
    over_first, over_mean = gains(rows)
    assert over_first.mean == pytest.approx(0.025) and over_mean.mean == pytest.approx((-0.01 + 0.02667) / 2, abs=1e-5)


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    truth = write_truth(tmp_path / "truth.json", rows_of(run)[:5], lambda number: [0.5])
    with pytest.raises(InputError, match="has held no finals"):
        finals_of(run, truth)
    hold(run, "best.json", (3, 8), winner=8, first=3)
    with pytest.raises(InputError, match="does not know .* a finalist of"):
        finals_of(run, truth)
    with pytest.raises(InputError, match="history.jsonl|no run of search_supernet.py"):
        finals_of(make_training(tmp_path / "supernet"), truth)
