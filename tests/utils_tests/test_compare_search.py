"""The comparison of searches: what its program prints, draws and refuses."""

import json

import numpy as np
import pytest
from conftest import fails
from search_tests.test_evolution import SPACE
from study_tests.test_oracles import recorded_domain
from study_tests.test_strategies import SETTINGS

from spos.core.intervals import student_interval
from spos.search.domain import Domain
from spos.study.strategies import Task, compare
from utils import compare_search


class FakeArguments:
    history, supernet, table, noise, evaluations, seed, seeds = None, None, "", 0.0, 60, 0, 3
    baseline = "random"


SMALL = ["--use-se", "--evaluations", "40", "--seeds", "3", "--population-size", "10", "--retain-length", "4"]


def test_program_prints_a_table_and_draws_a_figure(tmp_path, capsys):
    files = [tmp_path / name for name in ("first.png", "second.png")]
    for file in files:
        assert compare_search.main([*SMALL, "--flop-max", "-1", "--output", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("genetic") == 2 and "regret (95% t)" in printed
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_optimum_within_two_limits_is_a_bound(capsys):
    assert compare_search.main([*SMALL, "--flop-max", "1", "--score-max", "1"]) == 0
    assert "regret at most (95% t)" in capsys.readouterr().out


def test_program_compares_on_a_history(tmp_path, capsys):
    history = tmp_path / "history.jsonl"
    domain = recorded_domain()
    rows = [
        {"block_choices": a.block_choices, "channel_choices": a.channel_choices, "fitness": value}
        for a, value in domain.scores.items()
    ]
    history.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert compare_search.main([*SMALL[1:], "--history", str(history), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    best = max(domain.scores.values())
    for result in found["searches"].values():
        assert len(result["curve"]) == 40
        assert result["best"]["mean"] + result["regret"]["mean"] == pytest.approx(best)
    fails(
        compare_search.main, [*SMALL[1:], "--history", history, "--evaluations", "60"], capsys, "all 60 architectures"
    )
    history.write_text('{"block_choices": [0]}\n')
    fails(compare_search.main, ["--history", history], capsys, "row 1 lacks")
    history.write_text("")
    fails(compare_search.main, ["--history", history], capsys, "holds no architecture")


@pytest.mark.parametrize(
    "flags, words",
    (
        (["--seeds", "1"], ["--seeds must be at least 2"]),
        (["--output", "figure.bmp"], [".png"]),
        (["--history", "gone.jsonl"], ["gone.jsonl does not exist"]),
        (["--history", "gone.jsonl", "--flop-max-m", "300"], ["--history says what can be visited"]),
        (["--flop-max-m", "1"], ["FLOPs <= 1 M", "smallest reachable"]),
        (["--retain-length", "50"], ["--retain-length"]),
    ),
)
def test_program_refuses(flags, words, capsys):
    fails(compare_search.main, flags, capsys, *words)


def test_the_interval_is_that_of_student():
    """Tables give t = 4.303 for 2 degrees of freedom."""
    mean, low, high = student_interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2 and (high - mean, mean - low) == pytest.approx([4.3027 / np.sqrt(3)] * 2, abs=1e-4)


def test_any_function_of_an_architecture_can_be_the_oracle():
    """The hook for a supernet: `compare` needs a domain and a function, no known optimum."""
    task = Task(Domain(SPACE), lambda architecture: -float(sum(architecture.channel_choices)))
    results = compare(lambda seed: task, SETTINGS, 60, range(3))
    assert all(result.regret is None for result in results.values())
    assert "-" in compare_search.text(results, FakeArguments())


def test_program_compares_on_a_table_of_ones_own(tmp_path, capsys):
    table = tmp_path / "table.csv"
    rows = [f"{a} {b} {c},{0.5 + a / 10 + b / 50} {0.5 + a / 9}" for a in range(3) for b in range(3) for c in range(3)]
    table.write_text("block_choices,top1\n" + "".join(row + "\n" for row in rows))
    flags = ["--evaluations", "12", "--seeds", "3", "--population-size", "6", "--retain-length", "3"]
    assert compare_search.main([*flags, "--table", str(table), "--searches", "surrogate"]) == 0
    printed = capsys.readouterr().out
    assert (
        "regret of the best scored" in printed
        and "regret by the model" in printed
        and "genetic" not in printed
        and "random" in printed
    )
    fails(compare_search.main, [*flags, "--table", table, "--noise", "1"], capsys, "--noise is for additive fitness")
    fails(compare_search.main, [*flags, "--table", table, "--use-se"], capsys, "--table says what can be visited")
    fails(compare_search.main, [*flags, "--table", table, "--format", "nas-bench-macro"], capsys, "table.csv")
