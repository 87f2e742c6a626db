"""Histories: the best and its ties, scores of older searches, what is read from them."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY

from search_tests.test_searcher import IDENTITY, Evaluator, genetic, make_searcher
from spos.core.errors import InputError
from spos.runs.journal import as_lines
from spos.sampling.limits import Constraints
from spos.scoring.racing import Racing
from spos.search.domain import Domain
from spos.search.flags import SearchOptions, initial_architectures, older_rows
from spos.search.history import (
    best_rows,
    check_history,
    find_better,
    find_ties,
    is_complete,
    learned_from,
    load_histories,
    load_history,
    mean_of_random,
    open_history,
    read_history,
    read_search_rows,
)
from spos.space.architecture import architecture_of


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


def test_what_is_clearly_better_than_a_chosen_row_is_no_tie_of_it(make_search):
    rows = load_history(make_search("search")).rows
    assert [row["evaluation"] for row in find_ties(rows, rows[5])] == []  # 0.6 overlaps 0.55 in nothing
    assert [row["evaluation"] for row in find_better(rows, rows[5])] == [4, 8, 10, 11]
    assert [row["evaluation"] for row in find_ties(rows, rows[0])] == [3]
    assert find_better(rows, rows[10]) == []


def test_only_what_the_new_search_may_visit_is_bred_from(old):
    blocks = best_rows(old, 1)[0]["block_choices"]
    domain = Domain(TINY, fixed_block_choices=tuple(blocks))
    options = SearchOptions(retain_length=50)
    initial = initial_architectures(older_rows(old, domain, options), options)
    assert initial and all(list(architecture.block_choices) == blocks for architecture in initial)


def test_old_rows_have_the_fitness_of_the_new_search(old):
    options = SearchOptions(search_target="balanced_flop_acc", score_acc_ratio=0.5)
    domain = Domain(TINY, Constraints("ShuffleNetV2+_medium", score_max=None))
    rows = older_rows(old, domain, options)
    assert len(rows) == sum(map(is_complete, old)) > 0
    for row in rows:
        score = domain.cost_fields(architecture_of(row))["score"]
        assert score < row["score"] and row["fitness"] == row["top1"] - 0.5 * score


def test_a_model_learns_from_dropped_rows_by_the_images_that_they_saw():
    rows = [
        {"fitness": 0.1, "top1": 0.5, "num_images": 400},
        {"fitness": -0.2, "top1": 0.2, "num_images": 25, "dropped": True},
    ]
    fitness, variance = learned_from(rows)
    assert fitness.tolist() == [0.1, -0.2]
    assert variance == pytest.approx([0.205 / 400, 0.205 / 25])  # 0.205 = (0.5 x 0.5 + 0.2 x 0.8) / 2
    assert learned_from([{"fitness": 3.0}, {"fitness": 4.0}])[1].tolist() == [0.0, 0.0]


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
    changes = [(i, {"fitness": fitness}) for i, fitness in ((4, 0.64), (8, 0.61), (10, 0.1), (11, 0.1))]
    history = load_history(make_search("search", changes))
    assert history.best["evaluation"] == 4 == best_rows(history.rows, 1)[0]["evaluation"]
    assert [row["evaluation"] for row in history.ties] == [8]  # of fitness; the accuracy of 10 and 11 ties too
    assert history.best_so_far()[1] == [0.5] * 4 + [0.6] * 8
    assert history.text("flops").startswith("12 architectures (1 dropped early), best top-1 60.00%")


@pytest.fixture
def lines(tmp_path, old):
    return (tmp_path / "old" / "history.jsonl").read_bytes().splitlines(keepends=True)


def changed_history(path, rows, number, **changes):
    """The history with one row changed as a careful hand would: the check values fit."""
    rows = [dict(row) for row in rows]
    rows[number].update(changes)
    path.write_bytes(as_lines(rows, with_check=True))
    return path


@pytest.mark.parametrize(
    "changes, words",
    (
        ({"evaluation": 7}, "line 4 is evaluation 7, not 3"),
        ({"iteration": 2}, "of iteration 0, below iteration 2"),
        ({"top1": 0.25}, "line 4 has a top1 of 0.25"),
        ({"top1_hits": 301}, "line 4 has a top1"),
        ({"num_images": 150}, "line 4"),
        ({"num_supernets": 2}, "line 4 has a top1 of .* hits among .* images by 2 supernets"),
        ({"num_supernets": 0}, "line 4 is damaged.*num_supernets"),
        ({"top5": 0.01}, "line 4 has a top5 of 0.01, below its top1"),
        ({"top1_interval": [0.98, 0.99]}, "line 4 has a top1 of .* outside of its interval"),
        ({"block_choices": [0]}, None),
        ({"top1": "<img src=x onerror=alert(1)>"}, "line 4 is damaged.*top1"),
        ({"num_images": "<b>"}, "line 4 is damaged.*num_images"),
        ({"iteration": 1.5}, "line 4 is damaged.*iteration"),
        ({"flops": [1]}, "line 4 is damaged.*flops"),
        ({"dropped": "yes"}, "line 4 is damaged.*dropped"),
        ({"fitness": None}, "line 4 is damaged.*fitness"),
    ),
)
def test_a_row_that_breaks_a_rule_is_refused(tmp_path, old, changes, words):
    path = changed_history(tmp_path / "history.jsonl", old, 3, **changes)
    if words is None:
        make_searcher_on(path, "architecture has 1 block choices")
        return
    for read in (load_history, open_history, read_search_rows):
        with pytest.raises(InputError, match=words):
            read(path)


def make_searcher_on(path, words):
    searcher = make_searcher(path.parent, Evaluator(), racing=Racing(6))
    with pytest.raises(InputError, match=words):
        searcher.run(genetic(3))


@pytest.mark.parametrize("key", ("flops", "params", "flop_ratio", "param_ratio", "score", "fitness"))
def test_a_search_does_not_go_on_with_costs_that_are_not_its_own(tmp_path, old, key):
    path = changed_history(tmp_path / "history.jsonl", old, 3, **{key: old[3][key] + 1})
    make_searcher_on(path, f"line 4 has {key} .*; remove it and all lines after it to go on")


def test_costs_are_compared_with_the_space_beside_a_history(tmp_path, old):
    path = changed_history(tmp_path / "history.jsonl", old, 3, flops=old[3]["flops"] + 1)
    assert read_search_rows(path)
    (tmp_path / "config.json").write_text(json.dumps({"program": "search_supernet.py", "space": TINY.to_json()}))
    with pytest.raises(InputError, match="line 4 states .* its choices give"):
        read_search_rows(path)


@pytest.mark.parametrize("how", ("doubled", "missing", "swapped"))
def test_lines_that_are_doubled_missing_or_swapped_are_noticed(tmp_path, lines, how):
    changed = {
        "doubled": [*lines[:3], lines[2], *lines[3:]],
        "missing": [*lines[:2], *lines[3:]],
        "swapped": [*lines[:2], lines[3], lines[2], *lines[4:]],
    }[how]
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(changed))
    with pytest.raises(InputError, match=r"line [34] .*remove it and all lines after it to go on"):
        load_history(path)


def test_no_changed_digit_is_taken(tmp_path, old, lines):
    path, content = tmp_path / "history.jsonl", b"".join(lines)
    rng = np.random.default_rng(20261129)
    digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    for place in rng.choice(digits, 200, replace=False).tolist():
        digit = str((int(content[place : place + 1]) + int(rng.integers(1, 10))) % 10).encode()
        path.write_bytes(content[:place] + digit + content[place + 1 :])
        with pytest.raises(InputError, match="is damaged; remove it and all lines after it"):
            load_history(path)


def test_what_is_removed_is_scored_again_and_the_history_is_the_same(tmp_path, old, lines):
    path = tmp_path / "old" / "history.jsonl"
    path.write_bytes(b"".join(lines[: len(lines) // 2]))
    evaluator = Evaluator()
    make_searcher(tmp_path / "old", evaluator, racing=Racing(6)).run(genetic(3))
    assert path.read_bytes() == b"".join(lines) and len(evaluator.asked) == len(lines) - len(lines) // 2


def test_a_history_of_before_check_values_is_gone_on_with(tmp_path, old, lines, capsys):
    path = tmp_path / "old" / "history.jsonl"
    bare = [json.dumps(row).encode() + b"\n" for row in old]
    path.write_bytes(b"".join(bare[:5]))
    make_searcher(tmp_path / "old", Evaluator(), racing=Racing(6)).run(genetic(3))
    assert path.read_bytes() == b"".join([*bare[:5], *lines[5:]])
    assert load_history(path).rows == old
    assert capsys.readouterr().err.count("5 rows are of an earlier version") == 1


@pytest.mark.parametrize("whole_folder", (False, True))
def test_a_history_that_is_deleted_under_a_search_ends_it(tmp_path, whole_folder):
    path = tmp_path / "run" / "history.jsonl"

    class Deleting(Evaluator):
        def __call__(self, architecture, race=None):
            if len(self.asked) == 9:
                shutil.rmtree(path.parent) if whole_folder else path.unlink()
            return super().__call__(architecture, race)

    path.parent.mkdir()
    with pytest.raises(InputError, match="was removed while the program ran"):
        make_searcher(path.parent, Deleting()).run(genetic(3))
    assert not path.exists()


def test_a_history_that_is_deleted_at_the_very_end_is_noticed(tmp_path, old):
    path = tmp_path / "old" / "history.jsonl"
    searcher = make_searcher(tmp_path / "old", Evaluator(), racing=Racing(6))
    searcher.report = lambda progress: path.exists() and path.unlink()
    with pytest.raises(InputError, match="was removed while the program ran"):
        searcher.run(genetic(3))
