"""What is logged of a search, and its summary."""

from search_tests.test_searcher import DOMAIN, Evaluator, genetic, make_searcher
from spos.runs.journal import Journal
from spos.scoring.racing import Racing
from spos.search.history import (
    best_record,
    best_rows,
    find_ties,
    is_complete,
)
from spos.search.report import SearchLog, describe_model, errors_row, summarize_search
from spos.search.surrogate import Errors


def test_iterations_are_logged_once(tmp_path):
    log = Journal(tmp_path / "log.jsonl")
    make_searcher(tmp_path, Evaluator(), racing=Racing(6), report=SearchLog(log)).run(genetic(2))
    make_searcher(tmp_path, Evaluator(), racing=Racing(6), report=SearchLog(log)).run(genetic(3))
    assert [(row["iteration"], row["evaluations"]) for row in log.rows] == [(0, 20), (1, 14), (2, 14)]
    assert all(row["candidates_per_hour"] > 0 and row["seconds"] >= 0 and row["best_top1"] for row in log.rows)
    assert sum(row["dropped"] for row in log.rows) == sum(
        not is_complete(r) for r in Journal(tmp_path / "history.jsonl").rows
    )


def test_the_summary_names_the_cheapest_tie(tmp_path):
    rows = make_searcher(tmp_path, Evaluator()).run(genetic(5))
    best = best_rows(rows, 1)[0]
    ties = find_ties(rows, best)
    assert ties and best not in ties
    cheapest = min(ties, key=lambda row: row["flops"])
    text = summarize_search(tmp_path, rows, "genetic")
    assert f"{len(ties)}, intervals overlap; the cheapest: evaluation {cheapest['evaluation']}," in text
    assert best_record(DOMAIN, best, {}, ties=len(ties)).to_json()["ties"] == len(ties)


def test_the_summary_names_a_latency_if_there_is_one(tmp_path):
    rows = make_searcher(tmp_path, Evaluator()).run(genetic(1))
    assert "latency" not in summarize_search(tmp_path, rows, "genetic")
    timed = [{**row, "latency_ms": 12.345} for row in rows]
    assert "latency               12.35 ms by the table" in summarize_search(tmp_path, timed, "genetic")


def test_a_model_is_described_by_its_errors(tmp_path):
    assert describe_model(None, True) == "" and errors_row(None, True) == {}
    errors = Errors(9, 0.021, 0.034)
    assert describe_model(errors, True) == "  model errs by 2.10%, the mean by 3.40% (9 uniform)"
    assert describe_model(errors, False).endswith("; bred instead, for the model told no more than the mean")
    row = {**errors_row(errors, False)}
    assert row == {"checks": 9, "model_error": 0.021, "mean_error": 0.034, "trusted": False}
