"""Finals of searches, judged by accuracies that others measured, and by training."""

import json

import numpy as np
import pytest
from pipeline_runs import SPACE, make_search_run, make_training, rows_of

from spos.core.errors import InputError
from spos.space.architecture import architecture_of
from spos.study.finals import finals_of, gains, judge, longer_epochs, plan, trained_gains, true_finals
from spos.study.flags import FinalsOptions
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
    (row,) = true_finals(run, truth)
    assert (row.search, row.budget, row.num_finalists) == ("search", "", 3) and gains([row]) is None
    assert row[3:] == pytest.approx((0.04, 0.09, np.mean([0.04, 0.09, 0.06]), 0.09))
    hold(run, "budget-8M.json", (3, 8, 5), winner=8, first=3)
    hold(run, "budget-7.5M.json", (2, 4), winner=2, first=2)
    rows = true_finals(run, truth)
    assert [(row.budget, row.left) for row in rows] == [("7.5M", pytest.approx(0.03)), ("8M", pytest.approx(0.09))]
    over_first, over_mean = gains(rows)
    assert over_first.mean == pytest.approx(0.025) and over_mean.mean == pytest.approx((-0.01 + 0.02667) / 2, abs=1e-5)


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    truth = write_truth(tmp_path / "truth.json", rows_of(run)[:5], lambda number: [0.5])
    with pytest.raises(InputError, match="has held no finals"):
        true_finals(run, truth)
    hold(run, "best.json", (3, 8), winner=8, first=3)
    with pytest.raises(InputError, match="does not know .* a finalist of"):
        true_finals(run, truth)
    with pytest.raises(InputError, match="history.jsonl|no run of search_supernet.py"):
        true_finals(make_training(tmp_path / "supernet"), truth)


def test_who_was_left_is_trained_beside_the_first_and_beside_the_first_trained_longer(run):
    """Four finalists of one epoch and two of two: eight epochs; and nothing is trained twice."""
    hold(run, "budget-8M.json", (3, 8, 5), winner=8, first=3)
    hold(run, "budget-7.5M.json", (2, 4), winner=2, first=2)
    space, finals = finals_of(run)
    assert space == SPACE and [(one.budget, one.epochs) for one in finals] == [("7.5M", 3), ("8M", 4)]
    recipe = ["--dataset", "digits", "--num-epochs", "6", "--reduced-dataset-scale", "2"]
    assert [longer_epochs(one, recipe) for one in finals] == [6 + 2 * 3, 6 + 2 * 4]
    networks = plan(finals, recipe, FinalsOptions(seeds=2))
    history = {number: architecture_of(row) for number, row in enumerate(rows_of(run))}
    wanted = [(2, ""), (2, "12-epochs"), (3, ""), (8, ""), (3, "14-epochs")]
    assert [(one.architecture, one.variant) for one in networks] == [(history[n], name) for n, name in wanted] * 2
    assert [one.seed for one in networks] == [0] * 5 + [1] * 5
    assert [one.flags for one in networks[:2]] == [(), ("--num-epochs", "12")]

    tops = {wanted[0]: 0.5, wanted[1]: 0.6, wanted[2]: 0.4, wanted[3]: 0.7, wanted[4]: 0.55}
    rows = [
        {
            **{name: list(getattr(one.architecture, name)) for name in ("block_choices", "channel_choices")},
            **({"variant": one.variant} if one.variant else {}),
            "top1": top1 + one.seed / 100,
        }
        for one, top1 in zip(networks, [*tops.values()] * 2)
    ]
    judged = judge(finals, rows, recipe)
    assert [one[:3] for one in judged] == [("search", "7.5M", 2), ("search", "8M", 3)]
    np.testing.assert_allclose([one[3:] for one in judged], [(0.505, 0.505, 0.605, 12), (0.405, 0.705, 0.555, 14)])
    gained = trained_gains(judged)
    assert (gained["left"].mean, gained["longer"].mean) == pytest.approx((0.15, 0.125))
    assert trained_gains(judged[:1]) is None


def test_a_gain_has_an_interval(run):
    hold(run, "best.json", (3, 8), winner=8, first=3)
    with pytest.raises(InputError, match="--seeds must be at least 2"):
        plan(finals_of(run)[1], ["--num-epochs", "6"], FinalsOptions(seeds=1))
