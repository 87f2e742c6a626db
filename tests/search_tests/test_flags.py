"""From flags to a domain and a strategy: defaults that depend on others, and flags that contradict each other."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest

from search_tests.test_evolution import DOMAIN, SPACE, flat, make_fitness, run
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, pick
from spos.runs.journal import Journal
from spos.search.flags import (
    SEARCHES,
    ConstraintOptions,
    SearchOptions,
    check_search_flags,
    make_domain,
    make_search,
)
from spos.search.searcher import Searcher, Target

SMALL = SearchOptions(search_iters=4, population_size=12, retain_length=4)
ZEROS = "0, " * 20

MODES = pytest.mark.parametrize(
    "mode, evolution", [*product(SEARCHES, ["published"]), ("genetic", "spos"), ("two-stage", "spos")]
)

REFUSALS = {
    "evolution of random": ({"search_mode": "random", "evolution": "spos"}, "--evolution spos .* not for random"),
    "evolution of nsga2": ({"search_mode": "nsga2", "evolution": "spos"}, "--evolution spos .* not for nsga2"),
    "stages of one": ({"two_stage_blocks": 2}, "--two-stage-blocks is for --search-mode two-stage, not for genetic"),
    "objectives of one": ({"objectives": "params"}, "--objectives is for --search-mode nsga2 or surrogate-front, not"),
    "fixed blocks": ({"search_mode": "two-stage", "fixed_block_choices": ZEROS}, "leave out --fixed-block-choices"),
    "mixed target": (
        {"search_mode": "nsga2", "search_target": "balanced_flop_acc"},
        "--search-target balanced_flop_acc .* use --search-target acc",
    ),
    "history for random": (
        {"search_mode": "random", "seed_history": "runs/old"},
        "--search-mode random draws its first generation itself",
    ),
    "history for two stages": (
        {"search_mode": "two-stage", "seed_history": "runs/old"},
        "--seed-history is for genetic",
    ),
    "race for a front": ({"search_mode": "nsga2", "racing": True}, "--racing drops .* nsga2 has several"),
    "race in stages": ({"search_mode": "two-stage", "racing": True}, "--racing keeps one list .* two-stage"),
    "race for budgets": (
        {"search_mode": "surrogate", "budgets": "flops:300", "racing": True},
        "--racing drops .* --budgets keeps a best for each",
    ),
    "budgets of one": (
        {"budgets": "flops:300,400"},
        "--budgets is for --search-mode random or surrogate or nsga2 or surrogate-front, not for genetic",
    ),
    "refit in INT8": ({"refit_classifier": 9, "score_dtype": "int8"}, "leave out --score-dtype int8"),
    "one finalist": ({"finalists": 1}, "--finalists 1 decides nothing; give at least 2"),
    "epochs of no finalists": ({"finalist_epochs": 3}, "--finalist-epochs is for --finalists"),
    "FLOPs for and against": (
        {"choose_by": "model+flops", "search_target": "balanced_flop_acc"},
        "counts FLOPs for an architecture, --search-target balanced_flop_acc against it; use --choose-by model$",
    ),
    "confidence alone": ({"confidence": 0.9}, "--confidence is for --racing"),
    "unknown objective": ({"search_mode": "nsga2", "objectives": "flops,speed"}, "'flops,speed' .* flops, params"),
    "objective twice": ({"search_mode": "nsga2", "objectives": "flops,flops"}, "'flops,flops' .* each once"),
    "no objective": ({"search_mode": "nsga2", "objectives": ""}, "--objectives '' must name one or more"),
    "too few iterations": ({"search_mode": "two-stage", "search_iters": 1}, "--search-iters 1 is too few"),
    "retained too many": ({"search_mode": "nsga2", "retain_length": 12}, "--retain-length"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_flags_that_cannot_work_together_are_refused(case):
    changes, message = REFUSALS[case]
    options = replace(SMALL, **changes)
    with pytest.raises(InputError, match=message) as error:
        check_search_flags(options)
        make_search(make_domain(SPACE, options, ConstraintOptions()), options, 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode, evolution", (("genetic", "published"), ("genetic", "spos"), ("nsga2", "published")))
def test_a_first_generation_can_be_given(mode, evolution, rng):
    initial = DOMAIN.sample_many(3, rng)
    search = make_search(DOMAIN, replace(SMALL, search_mode=mode, evolution=evolution), 0, initial)
    assert next(search)[:3] == initial


@MODES
def test_every_mode_goes_on_from_recorded_scores(mode, evolution, tmp_path):
    """Contract C4: cut the history anywhere, and the same rows come again without scoring the old ones again."""
    options = replace(SMALL, search_mode=mode, evolution=evolution)
    path, fitness, scored = tmp_path / "history.jsonl", make_fitness(), []

    def evaluate(architecture, race):
        scored.append(architecture)
        top1 = 1 + fitness(architecture) / 1000
        return SimpleNamespace(to_json=lambda: {"top1": top1, "top1_interval": [top1, top1], "num_images": 9})

    def search():
        scored.clear()
        searcher = Searcher(DOMAIN, Target(), evaluate, Journal(path), Journal(tmp_path / "arrived.jsonl"))
        return searcher.run(make_search(DOMAIN, options, 0))

    rows = search()
    assert len(scored) == len(rows)
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in (1, 17, len(lines) - 1):
        path.write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
        assert search() == rows
        assert len(scored) == len(rows) - kept


@pytest.mark.parametrize(
    "mode, evolution", (("random", "published"), ("genetic", "published"), ("genetic", "spos"), ("nsga2", "published"))
)
def test_more_iterations_go_on_where_fewer_end(mode, evolution):
    """Not so with two stages, whose first one then is longer."""
    options = replace(SMALL, search_mode=mode, evolution=evolution)
    short, long = (run(make_search(DOMAIN, replace(options, search_iters=n), 0), make_fitness()) for n in (4, 7))
    assert len(short) == 4 and len(long) == 7 and long[:4] == short


@MODES
def test_every_mode_is_repeatable(mode, evolution):
    options = replace(SMALL, search_mode=mode, evolution=evolution)
    first, second, other = (run(make_search(DOMAIN, options, seed), make_fitness()) for seed in (1, 1, 2))
    assert first == second != other
    assert len(flat(first)) == len(set(flat(first)))


@pytest.mark.parametrize(
    "evolution, flags, expected",
    (
        ("published", "", ["FLOPs <= 1 x", "combined score <= 1"]),
        ("published", "--score-max -1", ["FLOPs <= 1 x"]),
        ("published", "--score-max -1 --flop-max -1", []),
        ("published", "--flop-max-m 300", ["combined score <= 1", "FLOPs <= 300 M"]),
        ("published", "--flop-max-m 300 --flop-max 1", ["FLOPs <= 1 x", "combined score <= 1", "FLOPs <= 300 M"]),
        ("published", "--score-max 0.9 --flop-max 1.1", ["FLOPs <= 1.1", "combined score <= 0.9"]),
        ("spos", "", ["FLOPs <= 1 x"]),
        ("spos", "--flop-max 0.9", ["FLOPs <= 0.9 x"]),
        ("spos", "--flop-max -1", []),
        ("spos", "--flop-max-m 300", ["FLOPs <= 300 M"]),
        ("spos", "--score-max 1", ["FLOPs <= 1 x", "combined score <= 1"]),
        ("spos", "--param-max 1.1", ["FLOPs <= 1 x", "params <= 1.1 x"]),
    ),
)
def test_default_limits_depend_on_the_evolution(evolution, flags, expected):
    limits = pick(ConstraintOptions, OneLineParser("", (ConstraintOptions,)).parse_args(flags.split()))
    domain = make_domain(SPACE, replace(SMALL, evolution=evolution), limits)
    found = list(map(str, domain.constraints.limits()))
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected))
