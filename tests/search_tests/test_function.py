"""Search by one's own scoring function: limits, the journal, resume after a kill, and what is refused."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, TINY
from latency_tests.test_table import make_table

from spos.core.errors import InputError
from spos.runs.files import read_json
from spos.runs.journal import read_rows
from spos.sampling.limits import Limits
from spos.search.function import sample_architectures, search_architectures
from spos.space.architecture import Architecture, architecture_of
from spos.space.architecture_file import load_architecture
from spos.space.cost import cost_table, count_architecture

SMALLEST, LARGEST = cost_table(TINY).range()
LIMITS = Limits(flops=(SMALLEST.macs + LARGEST.macs) / 2, params=(SMALLEST.params + LARGEST.params) / 2)
SETTINGS = {"limits": LIMITS, "iterations": 3, "population": 6, "retain": 2, "seed": 0}


def score(architecture):
    """As many third blocks as possible, of widths that fall."""
    first, *_, last = architecture.channel_choices
    return sum(choice == 2 for choice in architecture.block_choices) + 0.1 * (first - last)


class Counting:
    """`score`, and what it was asked for; raises KeyboardInterrupt at a call."""

    def __init__(self, stop_at=None):
        self.asked, self.stop_at = [], stop_at

    def __call__(self, architecture):
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(architecture)
        return score(architecture)


def test_samples_are_repeatable_and_keep_the_limits():
    drawn = sample_architectures(TINY, 40, LIMITS, seed=5)
    assert drawn == sample_architectures(TINY, 40, LIMITS, seed=5) != sample_architectures(TINY, 40, LIMITS, seed=6)
    costs = [count_architecture(TINY, architecture) for architecture in drawn]
    assert max(cost.macs for cost in costs) <= LIMITS.flops and max(cost.params for cost in costs) <= LIMITS.params
    free = [count_architecture(TINY, architecture) for architecture in sample_architectures(TINY, 40)]
    assert max(cost.macs for cost in free) > LIMITS.flops


def test_samples_within_a_latency(tmp_path):
    table = make_table(TINY)
    times = sorted(table.latency_ms(architecture) for architecture in sample_architectures(TINY, 40))
    drawn = sample_architectures(TINY, 40, Limits(latency_ms=times[20]), latency=table)
    assert max(map(table.latency_ms, drawn)) <= times[20]


@pytest.mark.parametrize("mode", ("genetic", "random", "two-stage"))
def test_rows_are_complete_and_the_best_is_written(mode, tmp_path):
    asked = Counting()
    found = search_architectures(TINY, asked, tmp_path / "run", mode=mode, **SETTINGS)
    assert list(found.rows) == read_rows(tmp_path / "run" / "history.jsonl")
    assert [architecture_of(row) for row in found.rows] == asked.asked and len(set(asked.asked)) == len(asked.asked)
    for number, row in enumerate(found.rows):
        architecture = architecture_of(row)
        assert (row["evaluation"], row["fitness"]) == (number, score(architecture))
        assert (row["flops"], row["params"]) == count_architecture(TINY, architecture)
        assert row["flops"] <= LIMITS.flops and row["params"] <= LIMITS.params
    assert found.best_score == max(map(score, asked.asked)) == score(found.best)
    record = load_architecture(tmp_path / "run" / "best.json")
    assert (record.space, record.architecture, record.more["fitness"]) == (TINY, found.best, found.best_score)


def test_a_genetic_search_finds_more_than_chance(tmp_path):
    settings = {**SETTINGS, "iterations": 8, "population": 10}
    bred = search_architectures(TINY, score, tmp_path / "bred", **settings)
    drawn = search_architectures(TINY, score, tmp_path / "drawn", mode="random", **settings)
    assert len(bred.rows) <= len(drawn.rows) and bred.best_score > drawn.best_score


@pytest.mark.parametrize("stop_at", (0, 4, 9))
def test_a_stopped_search_goes_on_as_if_it_had_not_been(stop_at, tmp_path):
    search_architectures(TINY, score, tmp_path / "whole", **SETTINGS)
    first, second = Counting(stop_at), Counting()
    with pytest.raises(KeyboardInterrupt):
        search_architectures(TINY, first, tmp_path / "stopped", **SETTINGS)
    found = search_architectures(TINY, second, tmp_path / "stopped", **SETTINGS)
    assert len(first.asked) == stop_at and not set(first.asked) & set(second.asked)
    assert len(first.asked) + len(second.asked) == len(found.rows)
    for name in ("history.jsonl", "best.json", "config.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_killed_process_goes_on(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(
        "import sys, time\nfrom search_tests.test_function import SETTINGS, TINY, score, search_architectures\n\n\n"
        "def slow(architecture):\n    time.sleep(0.05)\n    return score(architecture)\n\n\n"
        "search_architectures(TINY, slow, sys.argv[1], **SETTINGS)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "run")], env=environ)
    while len(read_rows(tmp_path / "run" / "history.jsonl")) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read_rows(tmp_path / "run" / "history.jsonl")
    asked = Counting()
    found = search_architectures(TINY, asked, tmp_path / "run", **SETTINGS)
    assert asked.asked and list(found.rows[: len(before)]) == before
    search_architectures(TINY, score, tmp_path / "whole", **SETTINGS)
    one, other = (tmp_path / name / "history.jsonl" for name in ("run", "whole"))
    assert one.read_bytes() == other.read_bytes()


def test_a_search_is_made_longer_but_not_shorter(tmp_path):
    search_architectures(TINY, score, tmp_path / "grown", **SETTINGS)
    longer = {**SETTINGS, "iterations": 5}
    asked = Counting()
    grown = search_architectures(TINY, asked, tmp_path / "grown", **longer)
    assert 0 < len(asked.asked) < len(grown.rows)
    assert grown.rows == search_architectures(TINY, score, tmp_path / "long", **longer).rows
    with pytest.raises(InputError, match="another search: iterations is not what it was"):
        search_architectures(TINY, score, tmp_path / "grown", **SETTINGS)


def test_scores_may_be_numpy_numbers(tmp_path):
    found = search_architectures(TINY, lambda a: np.float32(score(a)), tmp_path, **SETTINGS)
    assert type(found.best_score) is float


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"seed": 4}, "holds another search: seed"),
        ({"limits": Limits(params=LIMITS.params)}, "holds another search: limits"),
        ({"mode": "random"}, "holds another search: mode"),
        ({"limits": Limits(flops=1)}, "no architecture of this space has FLOPs"),
        ({"population": 2}, "must be at least 2 and below"),
        ({"limits": Limits(latency_ms=1)}, "needs a latency table"),
    ),
)
def test_other_arguments_are_refused(changes, message, tmp_path):
    search_architectures(TINY, score, tmp_path, **SETTINGS)
    before = read_json(tmp_path / "config.json")
    with pytest.raises(InputError, match=message):
        search_architectures(TINY, score, tmp_path, **{**SETTINGS, **changes})
    assert read_json(tmp_path / "config.json") == before


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown mode 'evolution'; known: genetic, random, two-stage"):
        search_architectures(TINY, score, tmp_path / "run", mode="evolution")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="is not empty and holds no search"):
        search_architectures(TINY, score, tmp_path, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "value, what",
    (
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (-sys.float_info.max, r"-1.79769e\+308"),
        (10**5000, "of type int"),
        (None, "of type NoneType"),
        ("0.5", "of type str"),
        (1j, "of type complex"),
        (np.array(0.5), "of type ndarray"),
        ([0.5], "of type list"),
    ),
    ids=lambda value: type(value).__name__,
)
def test_a_score_that_is_no_real_number_or_too_large_is_refused(value, what, tmp_path):
    with pytest.raises(InputError, match=f"is {what}; it must be a real number between -1e\\+100 and 1e\\+100$"):
        search_architectures(TINY, lambda architecture: value, tmp_path, **SETTINGS)


@pytest.mark.parametrize("mode", ("genetic", "surrogate"))
def test_the_largest_penalty_does_not_end_a_search(mode, tmp_path):
    scores = {}

    def penalised(architecture):
        return scores.setdefault(architecture, -1e100 if len(scores) % 3 else score(architecture))

    found = search_architectures(TINY, penalised, tmp_path, mode=mode, **SETTINGS)
    assert found.best_score == max(scores.values())


@pytest.mark.parametrize("values", ({"flops": 0}, {"params": -1}, {"latency_ms": float("nan")}))
def test_limits_are_above_zero(values):
    with pytest.raises(InputError, match=f"the limit of {next(iter(values))} must be above 0"):
        Limits(**values)


def test_a_space_of_few_architectures_is_used_up(tmp_path):
    cheapest = Limits(flops=SMALLEST.macs)
    found = search_architectures(TINY, score, tmp_path, **{**SETTINGS, "limits": cheapest})
    assert {row["flops"] for row in found.rows} == {SMALLEST.macs}
    assert isinstance(found.best, Architecture)
