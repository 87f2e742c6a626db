"""Parents of what a search scored: learned without changing what is drawn, and found again from the history."""

import json
from dataclasses import asdict, replace

import pytest
from ragged_spaces import RAGGED

from search_tests.test_evolution import SPACE, make_fitness, run
from search_tests.test_flags import MODES, SMALL
from spos.core.errors import InputError
from spos.runs.run import open_run_directory
from spos.search.ancestry import Ancestry, replay
from spos.search.flags import SEARCHES, ConstraintOptions, SearchOptions, make_domain, make_search
from spos.space.space_file import load_space

LIMITS = ConstraintOptions(flop_max_m=310.0)


def options_of(mode, evolution):
    return replace(SMALL, search_mode=mode, evolution=evolution)


def search_of(options, lineage=None, space=SPACE):
    return make_search(make_domain(space, options, LIMITS), options, 3, lineage=lineage)


def rows_of(generations, fitness):
    numbered = [(i, a) for i, generation in enumerate(generations) for a in generation]
    return [
        {
            "evaluation": number,
            "iteration": iteration,
            "block_choices": list(architecture.block_choices),
            "channel_choices": list(architecture.channel_choices),
            "fitness": fitness(architecture),
        }
        for number, (iteration, architecture) in enumerate(numbered)
    ]


@pytest.fixture
def make_run(tmp_path):
    def make(options, seed=3, space=SPACE):
        config = {
            "program": "search_supernet.py",
            "options": {**asdict(options), **asdict(LIMITS), "seed": seed},
            "space": space.to_json(),
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        return open_run_directory(tmp_path)

    return make


@MODES
def test_a_lineage_changes_nothing_that_is_drawn(mode, evolution):
    options, fitness = options_of(mode, evolution), make_fitness()
    assert run(search_of(options), fitness) == run(search_of(options, {}), fitness)


@MODES
def test_children_have_earlier_parents_and_mostly_their_genes(mode, evolution):
    options, lineage = options_of(mode, evolution), {}
    generations = run(search_of(options, lineage), make_fitness())
    iteration = {a: i for i, generation in enumerate(generations) for a in generation}
    scored = {child: parents for child, parents in lineage.items() if child in iteration}
    assert bool(scored) == (SEARCHES[mode].breeds)
    for child, parents in scored.items():
        assert 1 <= len(parents) <= 2
        assert all(iteration[parent] < iteration[child] for parent in parents)
    shares = [
        sum(gene in found for gene, *found in zip(child.genes, *(parent.genes for parent in parents))) / 40
        for child, parents in scored.items()
    ]
    assert not shares or sum(shares) / len(shares) > 0.85  # the others mutated or were repaired


@MODES
@pytest.mark.parametrize("space", (SPACE, RAGGED, load_space("tiny")), ids=lambda space: space.layout)
def test_parents_are_found_again_from_the_recorded_scores(space, mode, evolution, make_run):
    options, lineage, fitness = options_of(mode, evolution), {}, make_fitness()
    generations = run(search_of(options, lineage, space), fitness)
    architectures = [a for generation in generations for a in generation]
    rows = rows_of(generations, fitness)
    for count in (len(rows), len(rows) - 3):  # ended, and stopped within a generation
        found = replay(make_run(options, space=space), rows[:count])
        assert len(found.parents) == count
        for number, parents in found.parents.items():
            expected = lineage.get(architectures[number], ())
            assert {architectures[parent] for parent in parents} == set(expected)


def test_what_was_dropped_is_no_reason_to_breed_from_it(make_run):
    options, fitness = replace(SMALL, random_select=0.0), make_fitness()
    rows = rows_of([next(search_of(options))], fitness)
    best = max(rows, key=lambda row: row["fitness"])
    best["dropped"] = True
    search, scores = search_of(options), [float("-inf") if "dropped" in row else row["fitness"] for row in rows]
    next(search)
    rows = [*rows, *({**row, "iteration": 1} for row in rows_of([search.send(scores)], fitness))]
    found = replay(make_run(options), rows)
    assert best["evaluation"] not in {parent for parents in found.parents.values() for parent in parents}


@pytest.mark.parametrize("change", ({"seed": 4}, {"options": replace(SMALL, population_size=11)}))
def test_a_history_that_the_search_would_not_write_is_refused(change, make_run):
    fitness = make_fitness()
    rows = rows_of(run(search_of(SMALL), fitness), fitness)
    with pytest.raises(InputError, match="asks for other architectures"):
        replay(make_run(**{"options": SMALL, **change}), rows)


def test_the_line_of_descent_follows_the_fitter_parent():
    rows = [{"fitness": fitness} for fitness in (0.1, 0.3, 0.2, 0.5, 0.4, 0.6)]
    ancestry = Ancestry(rows, {0: (), 1: (), 2: (), 3: (0, 1), 4: (2,), 5: (4, 3)})
    assert ancestry.descent(5) == [1, 3, 5]
    assert ancestry.ancestors(5) == [0, 1, 2, 3, 4, 5]
    assert ancestry.ancestors(4) == [2, 4]
    assert ancestry.descent(0) == [0]


def test_flags_newer_than_a_run_have_their_defaults(make_run):
    opened = make_run(SMALL)
    del opened.options["topk"]
    assert opened.flags(SearchOptions) == SMALL
