"""What is logged of a search, and its summary."""

import re

import pytest

from search_tests.test_searcher import DOMAIN, Evaluator, genetic, make_searcher
from spos.runs.journal import Journal
from spos.scoring.racing import Racing
from spos.search.budgets import Budgets
from spos.search.flags import SearchOptions
from spos.search.history import (
    best_record,
    best_rows,
    find_ties,
    is_complete,
)
from spos.search.report import SearchLog, SearchLogRow, describe_model, errors_row, summarize_search, write_budgets
from spos.search.surrogate import Errors
from spos.space.architecture import architecture_of
from spos.space.architecture_file import load_architecture
from spos.space.cost import count_architecture


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
    text = summarize_search(tmp_path, rows, SearchOptions())
    assert f"{len(ties)}, intervals overlap; the cheapest: evaluation {cheapest['evaluation']}," in text
    assert best_record(DOMAIN, best, {}, ties=len(ties)).to_json()["ties"] == len(ties)


def test_the_summary_names_a_latency_if_there_is_one(tmp_path):
    rows = make_searcher(tmp_path, Evaluator()).run(genetic(1))
    assert "latency" not in summarize_search(tmp_path, rows, SearchOptions())
    timed = [{**row, "latency_ms": 12.345} for row in rows]
    assert "latency               12.35 ms by the table" in summarize_search(tmp_path, timed, SearchOptions())


def test_a_model_is_described_by_its_errors(tmp_path):
    assert describe_model(None, True) == "" and errors_row(None, True) == {}
    errors = Errors(9, 0.021, 0.034)
    assert describe_model(errors, True) == "  model errs by 2.10%, the mean by 3.40% (9 uniform)"
    assert describe_model(errors, False).endswith("; bred instead, for the model told no more than the mean")
    row = {**errors_row(errors, False)}
    assert row == {"checks": 9, "model_error": 0.021, "mean_error": 0.034, "trusted": False}


def test_the_summary_has_a_line_for_each_budget_and_one_for_the_model(tmp_path):
    rows = make_searcher(tmp_path, Evaluator()).run(genetic(3))
    flops = sorted(row["flops"] for row in rows)
    middle = flops[len(flops) // 2] / 1e6
    options = SearchOptions(search_mode="surrogate", budgets=f"flops:0.01,{middle},900")
    log = Journal(tmp_path / "log.jsonl")
    log.append(dict(zip(SearchLogRow.__struct_fields__, (1, 1.5, 6, 14400.0, 0, 0.5))))
    summary = summarize_search(tmp_path, rows, options).splitlines()
    lines = dict(line.split(maxsplit=2)[1:] for line in summary if "within" in line)
    assert lines["0.01M"] == "nothing was scored"
    best = best_rows([row for row in rows if row["flops"] <= middle * 1e6], 1)[0]
    assert f"evaluation {best['evaluation']}" in lines[f"{middle:g}M"]
    assert f"evaluation {best_rows(rows, 1)[0]['evaluation']}" in lines["900M"]
    log.append({**log.rows[0], "iteration": 2, **errors_row(Errors(9, 0.021, 0.034), True)})
    assert re.search("model of the scores +errs by 2.10% on 9 uniform", summarize_search(tmp_path, rows, options))


@pytest.mark.parametrize("text", ("flops:0.24,0.3,900", "params:3"))
def test_each_budget_has_files_of_its_best_and_of_a_random_one(text, tmp_path):
    rows = make_searcher(tmp_path, Evaluator()).run(genetic(3))
    budgets = Budgets.parse(text)
    write_budgets(tmp_path, DOMAIN, rows, budgets, {"seed": 0}, {})
    for name, most, within in zip(budgets.names, budgets.most, budgets.rows_within(rows)):
        best = next(iter(best_rows(within, 1)), None)
        path = tmp_path / f"budget-{name}.json"
        assert path.is_file() == (best is not None) == (tmp_path / f"control-{name}.json").is_file()
        if best is not None:
            record, control = load_architecture(path), load_architecture(tmp_path / f"control-{name}.json")
            assert record.architecture == architecture_of(best) and record.more["evaluation"] == best["evaluation"]
            costs = [count_architecture(DOMAIN.space, one.architecture) for one in (record, control)]
            assert all((cost.macs if budgets.cost == "flops" else cost.params) <= most * 1e6 for cost in costs)
