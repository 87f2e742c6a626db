"""Pareto search on made-up accuracies, and the front of a history."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search_tests.test_evolution import make_fitness
from search_tests.test_nsga2 import DOMAIN, nsga2, rows_of
from spos.core.errors import InputError
from spos.runs.files import read_json
from spos.search import front as pareto
from spos.search.costs import COSTS
from spos.search.front import find_knee, hypervolume, pareto_front, parse_objectives, write_front
from spos.space.architecture_file import load_architecture


@pytest.mark.parametrize("text, names", (("flops", ("flops",)), ("params, flops", ("params", "flops"))))
def test_objectives_are_read(text, names):
    assert parse_objectives(text) == names


@pytest.mark.parametrize("text", ("", "flop", "flops,", "flops,flops", "top1"))
def test_other_objectives_are_refused(text):
    with pytest.raises(InputError, match=f"--objectives '{text}' must name .*{', '.join(COSTS)}"):
        parse_objectives(text)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    monkeypatch.delitem(sys.modules, "spos.search.nsga2", raising=False)
    with pytest.raises(InputError, match="needs pymoo .*scripts/setup.sh"):
        nsga2()


def test_nothing_else_loads_pymoo():
    code = "import sys, spos.search.flags, spos.search.front; assert 'pymoo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2], check=True)


@pytest.mark.parametrize("objectives", (("flops",), ("flops", "params")))
def test_the_front_is_what_nothing_beats(objectives, rng):
    rows = [
        {"top1": int(a), "flops": int(b), "params": int(c), "evaluation": i}
        for i, (a, b, c) in enumerate(rng.integers(0, 8, (60, 3)))
    ]
    front = pareto_front(rows, objectives)

    def beats(one, other):
        values = [(-row["top1"], *(row[name] for name in objectives)) for row in (one, other)]
        return values[0] != values[1] and all(a <= b for a, b in zip(*values))

    kept = {row["evaluation"] for row in front}
    assert kept
    for row in rows:
        twins = [
            other for other in rows[: row["evaluation"]] if all(other[key] == row[key] for key in ("top1", *objectives))
        ]
        assert (row["evaluation"] in kept) == (not any(beats(other, row) for other in rows) and not twins)
    assert [row["flops"] for row in front] == sorted(row["flops"] for row in front)


def test_each_point_of_the_front_is_an_architecture_file(tmp_path, rng):
    fitness = make_fitness()
    rows = [
        {
            **row,
            "top1": 1 + row["top1"] / 1000,
            "block_choices": list(row["architecture"].block_choices),
            "channel_choices": list(row["architecture"].channel_choices),
            **dict.fromkeys(("fitness", "score", "top5", "top1_interval", "top1_hits", "num_images"), 0),
            "evaluation": i,
            "iteration": 0,
        }
        for i, row in enumerate(rows_of(DOMAIN.sample_many(40, rng), fitness))
    ]
    (tmp_path / "front-1000.json").write_text("{}")
    (tmp_path / "front-page.json").write_text("{}")
    records = write_front(tmp_path, DOMAIN, rows, ("flops",), {"seed": 0})
    front = pareto_front(rows, ("flops",))
    assert len(records) == len(front) > 1
    assert read_json(tmp_path / pareto.FRONT_FILE) == records
    assert [record["flops"] for record in records] == sorted(row["flops"] for row in front)
    for rank, row in enumerate(front, 1):
        record = load_architecture(tmp_path / f"front-{rank}.json")
        assert record.architecture == row["architecture"]
        assert record.more["searched_accuracy"]["top1"] == row["top1"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"front.json", "front-page.json", *(f"front-{i}.json" for i in range(1, len(front) + 1))}


def test_hypervolume_is_the_mean_over_budgets(rng):
    rows = [
        {"flops": int(flops), "top1": float(top1), **({"dropped": True} if i % 7 == 3 else {})}
        for i, (flops, top1) in enumerate(zip(rng.integers(0, 1200, 40), rng.random(40)))
    ]
    areas = hypervolume(rows, "flops", 100, 1100)
    assert len(areas) == 40 and (np.diff(areas) >= -1e-12).all()
    for count in (1, 5, 40):
        known = [row for row in rows[:count] if not row.get("dropped")]
        # costs are whole numbers, so the best within a budget is the same from one to the next
        best = [max((row["top1"] for row in known if row["flops"] <= most), default=0.0) for most in range(100, 1100)]
        assert areas[count - 1] == pytest.approx(np.mean(best))


def test_the_knee_is_farthest_above_the_line_between_the_ends():
    front = [{"flops": cost, "top1": top1} for cost, top1 in ((100, 0.1), (200, 0.6), (300, 0.7), (500, 0.8))]
    assert find_knee(front, "flops") == front[1]
    assert find_knee(front[:2], "flops") is None
    assert find_knee([front[0], {"flops": 300, "top1": 0.3}, {"flops": 400, "top1": 0.9}], "flops") is None
