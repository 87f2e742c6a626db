"""Searches where the input size is a choice: genes, repair, histories, and scores of one's own."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from latency_tests.test_table import make_table
from sized_spaces import DIGITS, FEW, SIZED, everything

from search_tests.test_searcher import Evaluator, make_searcher
from spos.core.errors import InputError
from spos.latency.tables import LatencyTables
from spos.runs.files import read_json
from spos.sampling.limits import Constraints, Limits
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, drive, genetic_search
from spos.search.flags import SearchOptions
from spos.search.front import nsga2_search
from spos.search.function import sample_architectures, search_architectures
from spos.search.history import (
    SCORES,
    best_record,
    best_rows,
    check_costs,
    check_rules,
    load_history,
    open_history,
)
from spos.search.report import summarize_search
from spos.space.architecture import architecture_of, choices_of
from spos.space.architecture_file import load_architecture
from spos.space.cost import cost_table
from spos.study.oracles import AdditiveOracle, RecordedDomain

UNBOUNDED = Constraints(score_max=None)


@pytest.mark.parametrize("space", (SIZED, FEW, DIGITS), ids=("tiny", "few", "file"))
def test_the_size_is_one_more_gene(space, rng):
    domain = Domain(space, UNBOUNDED)
    assert domain.genes[-1] == space.input_sizes and len(domain.genes) == 2 * space.num_choice_blocks + 1
    for _ in range(50):
        drawn = domain.sample(rng)
        assert domain.from_genes(drawn.genes) == drawn and domain.contains(drawn)
        assert domain.cost(drawn) == cost_table(space).cost(drawn) and domain.cost_fields(drawn)["flops"]
        assert not domain.contains(replace(drawn, input_size=None)) and not domain.contains(
            replace(drawn, input_size=8)
        )


def test_repair_may_change_the_size(rng):
    """What breaks the limits at the larger size alone is often repaired by the smaller one, or by its blocks."""
    costs = {one: cost_table(FEW).cost(one).macs for one in everything(FEW)}
    limit = sorted(costs.values())[100]
    domain = Domain(FEW, replace(UNBOUNDED, flop_max_m=limit / 1e6))
    largest, sizes = max(costs, key=costs.__getitem__), Counter()
    assert largest.input_size == 32
    for _ in range(60):
        repaired = domain.repair(largest, rng)
        assert domain.admits(repaired) and FEW.validate(repaired) == repaired
        sizes[repaired.input_size] += 1
    assert set(sizes) == {24, 32}
    kept = domain.sample(rng)
    assert domain.repair(kept, rng) == kept


def test_what_no_size_keeps_names_the_smallest_reachable_cost():
    smallest = cost_table(FEW).range()[0].macs
    Domain(FEW, replace(UNBOUNDED, flop_max_m=smallest / 1e6)).check()
    with pytest.raises(InputError, match=f"the smallest reachable is {smallest / 1e6:.6g} M"):
        Domain(FEW, replace(UNBOUNDED, flop_max_m=(smallest - 1) / 1e6)).check()


def test_a_limit_that_the_larger_size_alone_keeps_is_possible(rng):
    """Whatever is thought of such tables."""
    tables = LatencyTables((make_table(FEW.at(24), fixed_ms=9.0), make_table(FEW.at(32), fixed_ms=0.1)))
    domain = Domain(FEW, replace(UNBOUNDED, latency_max_ms=5.0), latency=tables)
    domain.check()
    assert {domain.sample(rng).input_size for _ in range(20)} == {32}


@pytest.mark.parametrize("mode", ("genetic", "random", "surrogate", "two-stage"))
def test_a_search_by_scores_of_ones_own_finds_the_best_size(mode, tmp_path):
    """The same call goes on with a search that was stopped; rows and `best.json` tell the size."""
    asked = []

    def score(architecture):
        asked.append(architecture)
        if len(asked) == 7:
            raise KeyboardInterrupt
        return architecture.input_size - 0.001 * sum(architecture.genes[:-1])

    settings = {"limits": Limits(flops=3e6), "mode": mode, "iterations": 6, "population": 12, "retain": 4}
    with pytest.raises(KeyboardInterrupt):
        search_architectures(SIZED, score, tmp_path / "stopped", **settings)
    found = search_architectures(SIZED, score, tmp_path / "stopped", **settings)
    whole = search_architectures(SIZED, score, tmp_path / "whole", **settings)
    for name in ("history.jsonl", "best.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert whole.rows == found.rows and {row["input_size"] for row in found.rows} == {12, 16}
    assert found.best.input_size == read_json(tmp_path / "whole" / "best.json")["input_size"] == 16
    assert load_architecture(tmp_path / "whole" / "best.json").architecture == found.best
    assert all(row["flops"] == cost_table(SIZED).cost(architecture_of(row)).macs <= 3e6 for row in found.rows)


def test_nsga2_searches_sizes():
    pytest.importorskip("pymoo")
    domain, seen = Domain(SIZED, UNBOUNDED), []
    settings = GeneticSettings(population_size=10, retain_length=4, num_iterations=4)
    search = nsga2_search(domain, ("flops",), settings, np.random.default_rng(0))
    drive(search, lambda generation: seen.extend(generation) or [float(one.input_size) for one in generation])
    assert len(seen) == len(set(seen)) == 40 and {one.input_size for one in seen} == {12, 16}
    assert all(domain.contains(one) for one in seen)


@pytest.fixture
def rows(tmp_path):
    """A history in SIZED."""
    domain = Domain(SIZED, UNBOUNDED)
    searcher = replace(make_searcher(tmp_path, Evaluator()), domain=domain)
    return searcher.run(genetic_search(domain, GeneticSettings(20, 6, 0.0, 0.2, 3), np.random.default_rng(3)))


def test_rows_tell_the_size(rows, tmp_path):
    assert len({architecture_of(row) for row in rows}) == len(rows) and {row["input_size"] for row in rows} == {12, 16}
    assert open_history(tmp_path / "history.jsonl").rows == load_history(tmp_path / "history.jsonl").rows == rows
    assert best_record(Domain(SIZED), rows[0], {}).to_json()["input_size"] == rows[0]["input_size"]
    summary = summarize_search(tmp_path, rows, SearchOptions())
    assert re.search(rf"input size +{best_rows(rows, 1)[0]['input_size']} px", summary)
    check_costs(rows, SIZED, "history.jsonl")
    with pytest.raises(InputError, match="line 1 states"):
        check_costs([{**rows[0], "input_size": 28 - rows[0]["input_size"]}], SIZED, "history.jsonl")


def test_equal_choices_at_two_sizes_are_two_architectures(rows):
    twice = [rows[0], {**rows[0], "evaluation": 1}]
    with pytest.raises(InputError, match="line 2 holds an architecture that stands above"):
        check_rules(twice, "history.jsonl")
    check_rules([rows[0], {**twice[1], "input_size": 28 - rows[0]["input_size"]}], "history.jsonl")


def test_a_search_of_sizes_goes_on_to_the_same_history(rows, tmp_path):
    """Scores that waited for their turn are found by their size too."""
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    domain, whole = Domain(SIZED, UNBOUNDED), (tmp_path / "history.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (stopped / "history.jsonl").write_bytes(b"".join(lines[:9]))
    searcher = replace(make_searcher(stopped, Evaluator()), domain=domain)
    for row in reversed(rows[10:14]):
        searcher.arrived.append({key: row[key] for key in (*choices_of(architecture_of(row)), *SCORES)})
    score = searcher.score = Evaluator()
    searcher.run(genetic_search(domain, GeneticSettings(20, 6, 0.0, 0.2, 3), np.random.default_rng(3)))
    assert (stopped / "history.jsonl").read_bytes() == whole
    assert len(score.asked) == len(rows) - 13


def test_recorded_architectures_have_a_gene_of_the_size(rng):
    table = {Domain(SIZED, UNBOUNDED).sample(rng): float(i) for i in range(20)}
    recorded = RecordedDomain.from_rows([{**choices_of(one), "fitness": value} for one, value in table.items()])
    assert recorded.scores == table and recorded.genes[-1] == (12, 16)
    assert all(recorded.from_genes(one.genes) == one for one in table)


def test_drawn_utilities_are_refused(rng):
    with pytest.raises(InputError, match="know no input sizes"):
        AdditiveOracle.draw(SIZED, rng)


def test_samples_of_a_script_have_sizes():
    drawn = sample_architectures(SIZED, 40, Limits(flops=3e6), seed=1)
    assert {one.input_size for one in drawn} == {12, 16}
    assert all(cost_table(SIZED).cost(one).macs <= 3e6 for one in drawn)
