"""Finals: who takes part, who goes on, how two accuracies count together, and what an architecture file says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.core.intervals import wilson_interval
from spos.search.finals import chosen_of, combine, finalists_of, hold_all_finals, hold_finals, read_finals


def make_row(evaluation, top1, num_images=100, flops=10, **more):
    interval = list(wilson_interval(round(top1 * num_images), num_images))
    about = {"evaluation": evaluation, "fitness": top1, "top1": top1, "top1_interval": interval}
    return {**about, "num_images": num_images, "flops": flops, "iteration": 0, **more}


ROWS = [make_row(i, top1) for i, top1 in enumerate((0.5, 0.62, 0.2, 0.6, 0.61, 0.58, 0.62))]


class Training:
    """Accuracies after a round, by evaluation; what was asked for."""

    def __init__(self, top1, num_images=400):
        self.top1, self.num_images, self.asked = top1, num_images, []

    def __call__(self, row, number):
        self.asked.append((row["evaluation"], number))
        return {**make_row(row["evaluation"], self.top1[row["evaluation"]], self.num_images), "epochs": 2**number}


def options(finalists, budgets=""):
    return SimpleNamespace(finalists=finalists, budgets=budgets)


def test_finalists_are_the_best_and_its_ties():
    assert [row["evaluation"] for row in finalists_of(ROWS, 4)] == [1, 6, 4, 3]
    assert [row["evaluation"] for row in finalists_of(ROWS, 50)] == [1, 6, 4, 3, 5, 0]  # 0.2 does not tie
    dropped = [*ROWS[:3], {**ROWS[3], "dropped": True}, *ROWS[4:]]
    assert 3 not in [row["evaluation"] for row in finalists_of(dropped, 50)]
    assert finalists_of([], 4) == [] and finalists_of(ROWS, 0) == []


def test_the_better_half_goes_on_until_one_is_left():
    training = Training({1: 0.5, 6: 0.5, 4: 0.5, 3: 0.9, 5: 0.7})
    finals = hold_finals(finalists_of(ROWS, 5), training)
    assert training.asked == [(i, 0) for i in (1, 6, 4, 3, 5)] + [(i, 1) for i in (3, 5, 1)] + [(3, 2), (5, 2)]
    assert finals.winner["evaluation"] == 3
    assert [[one.row["evaluation"] for one in own] for own in finals.rounds] == [[3, 5, 1, 6, 4], [3, 5, 1], [3, 5]]


def test_who_is_alone_needs_no_finals():
    training = Training({})
    assert (
        hold_all_finals([ROWS[1], ROWS[2]], options(4), training) == {} == hold_all_finals(ROWS, options(0), training)
    )
    assert training.asked == []


def test_accuracies_count_by_the_inverse_of_their_variance():
    rows = [make_row(0, 0.5, 100), make_row(1, 0.6, 100)]
    measured = [make_row(0, 0.8, 400), make_row(1, 0.78, 400)]
    weights = np.array([100 / (0.55 * 0.45), 400 / (0.79 * 0.21)])
    expected = np.average([[-0.05, 0.05], [0.01, -0.01]], axis=0, weights=weights)
    assert combine(rows, measured) == pytest.approx(expected.tolist(), abs=1e-12)
    perfect = combine(rows, [make_row(0, 1.0, 400), make_row(1, 1.0, 400)])
    assert np.isfinite(perfect).all() and perfect[1] > perfect[0]


def test_what_the_target_subtracts_counts_in_the_finals_too():
    """The second is the more accurate one of both, by less than it costs more."""
    rows = [make_row(0, 0.5, 100, fitness=0.4), make_row(1, 0.6, 100, fitness=0.35)]
    measured = [make_row(0, 0.8, 400), make_row(1, 0.85, 400)]
    weights = np.array([100 / (0.55 * 0.45), 400 / (0.825 * 0.175)])
    expected = np.average([[0.025, -0.025], [0.05, -0.05]], axis=0, weights=weights)
    assert combine(rows, measured) == pytest.approx(expected.tolist(), abs=1e-12)


def test_finalists_tie_in_what_is_maximised():
    costly = make_row(0, 0.9, fitness=0.5)
    cheap = make_row(1, 0.55, fitness=0.52)
    assert [row["evaluation"] for row in finalists_of([costly, cheap, make_row(2, 0.55, fitness=0.1)], 3)] == [1, 0]


def test_every_budget_has_finals_and_each_network_is_trained_once_a_round():
    rows = [{**row, "flops": (1 + i) * 1e6} for i, row in enumerate(ROWS)]
    training = Training({i: 0.5 + i / 100 for i in range(7)})
    finals = hold_all_finals(rows, options(3, "flops:1,5,6,9"), training)
    assert list(finals) == ["", "5M", "6M", "9M"]  # one alone is within 1M
    assert [finals[name].winner["evaluation"] for name in finals] == [6, 4, 4, 6]


def test_an_architecture_file_tells_of_them(tmp_path):
    finals = hold_finals(finalists_of(ROWS, 4), Training({1: 0.5, 6: 0.5, 4: 0.5, 3: 0.9}))
    path = tmp_path / "best.json"
    assert read_finals(path) is None
    path.write_text(json.dumps({"name": "searched"}))
    assert read_finals(path) is None and chosen_of(path, ROWS) == ROWS[1] and chosen_of(path, []) is None
    path.write_text(json.dumps({"finals": finals.to_json()}))
    held = read_finals(path)
    assert (held.winner, held.first_by_search) == (3, 1) and chosen_of(path, ROWS) == ROWS[3]
    assert [[one.evaluation for one in own] for own in held.rounds] == [
        [one.row["evaluation"] for one in own] for own in finals.rounds
    ]
    assert held.text == (
        "evaluation 3 of 4 finalists, after 3 epochs of its own 90.00% (95% interval 86.67% to 92.57%); evaluation 1 "
        "was the first by the search"
    )


@pytest.mark.parametrize("damage", ({"rounds": []}, {"rounds": [[]]}, {"first_by_search": -1}, {"rounds": [[{}]]}))
def test_damaged_finals_are_refused(damage, tmp_path):
    finals = hold_finals(finalists_of(ROWS, 2), Training({1: 0.5, 6: 0.5})).to_json()
    path = tmp_path / "best.json"
    path.write_text(json.dumps({"finals": {**finals, **damage}}))
    with pytest.raises(InputError, match="best.json"):
        read_finals(path)
