"""Histories: the best and its ties, scores of older searches, what is read from them."""

import json

import pytest
from conftest import TINY

from search_tests.test_searcher import IDENTITY
from spos.core.errors import InputError
from spos.search.domain import Domain
from spos.search.history import (
    best_architectures,
    best_rows,
    check_history,
    find_ties,
    load_histories,
    load_history,
    mean_of_random,
    read_history,
)


def test_dropped_rows_are_neither_best_nor_ties_nor_in_the_mean():
    def row(evaluation, fitness, **more):
        return {
            "evaluation": evaluation,
            "iteration": 0,
            "fitness": fitness,
            "top1": fitness,
            "top1_interval": [fitness - 0.1, fitness + 0.1],
            **more,
        }

    rows = [row(0, 0.7), row(1, 1.0, dropped=True), row(2, 0.8), row(3, 0.5), row(4, 0.9, from_history=True)]
    assert [r["evaluation"] for r in best_rows(rows, 9)] == [4, 2, 0, 3]
    assert [r["evaluation"] for r in find_ties(rows, rows[2])] == [0, 4]
    assert mean_of_random(rows) == (3, pytest.approx(2 / 3))
    later = [row(0, 0.5), {**row(1, 0.7), "iteration": 1}, {**row(2, 0.9, dropped=True), "iteration": 1}]
    assert mean_of_random(later, "genetic") == (1, 0.5)
    assert mean_of_random(later, "random") == (2, pytest.approx(0.6))


def test_only_what_the_new_search_may_visit_is_bred_from(old):
    blocks = best_rows(old, 1)[0]["block_choices"]
    domain = Domain(TINY, fixed_block_choices=tuple(blocks))
    initial = best_architectures(old, domain, lambda row: row["fitness"], 50)
    assert initial and all(list(architecture.block_choices) == blocks for architecture in initial)


@pytest.mark.parametrize(
    "key, words",
    [("fingerprint", "another search space"), ("supernet", "another supernet"), ("images", "other images")],
)
def test_scores_of_something_else_are_refused(tmp_path, old, key, words):
    check_history(old, IDENTITY, "old")
    with pytest.raises(InputError, match=f"old: evaluation 0 was scored .*{words}"):
        check_history(old, {**IDENTITY, key: "other"}, "old")
    without = [{name: value for name, value in row.items() if name != key} for row in old]
    with pytest.raises(InputError, match=words):
        check_history(without, IDENTITY, "old")


def test_a_history_is_read_from_a_run_or_a_file(tmp_path, old, capsys):
    assert read_history(str(tmp_path / "old")) == read_history(str(tmp_path / "old" / "history.jsonl")) == old
    with open(tmp_path / "old" / "history.jsonl", "a") as file:
        file.write('{"evaluation": 9')
    assert read_history(str(tmp_path / "old")) == old
    assert "history.jsonl: the last line was cut short" in capsys.readouterr().err
    (tmp_path / "log.jsonl").write_text(json.dumps({"epoch": 1}) + "\n")
    for path, words in ((tmp_path / "gone", "does not exist"), (tmp_path / "log.jsonl", "no history")):
        with pytest.raises(InputError, match=words):
            read_history(str(path))


def test_a_search_is_summed_up_without_what_was_dropped(make_search):
    history = load_history(make_search("search"))
    assert (history.name, len(history.rows), len(history.scored)) == ("search", 12, 11)
    assert history.best["evaluation"] == 10
    assert [row["evaluation"] for row in history.ties] == [8, 11]
    assert history.best_so_far() == (
        [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 12],
        [0.5] * 4 + [0.6] * 3 + [0.64] * 2 + [0.65] * 3,
    )
    assert history.means() == [
        (1, 4, pytest.approx(0.4625)),
        (5, 8, pytest.approx(1.45 / 3)),
        (9, 12, pytest.approx(0.535)),
    ]


def test_the_front_holds_what_nothing_cheaper_reaches(make_search):
    """FLOPs of the evaluations are 1, 8, 3, 10, 5, 12, 7, 2, 9, 4, 11, 6 M."""
    history = load_history(make_search("search"))
    assert history.front("flops") == ([1, 5, 6], [0.5, 0.6, 0.65])
    assert history.front("params") == ([1], [0.65])


def test_searches_are_named_after_their_folders_where_that_tells_them_apart(make_search):
    first, second = make_search("one"), make_search("two")
    assert [history.name for history in load_histories([first, second])] == ["one", "two"]
    assert [history.name for history in load_histories([first, first / "history.jsonl"])] == [
        str(first),
        str(first / "history.jsonl"),
    ]


def test_the_best_is_of_highest_fitness_not_of_highest_top1(make_search):
    """As in the summary of the search and in its report: under balanced_flop_acc they differ."""
    changes = [(i, {"fitness": fitness}) for i, fitness in ((4, 0.9), (10, 0.1))]
    history = load_history(make_search("search", changes))
    assert history.best["evaluation"] == 4 == best_rows(history.rows, 1)[0]["evaluation"]
    assert [row["evaluation"] for row in history.ties] == [8, 10, 11]
    assert history.best_so_far()[1] == [0.5] * 4 + [0.6] * 8
    assert history.text("flops").startswith("12 architectures (1 dropped early), best top-1 60.00%")
