"""The choice of the best: by scores, or by what a model of all scores expects."""

import json

import numpy as np
import pytest
from drawn_spaces import SPACES
from sized_spaces import SIZED

from search_tests.test_searcher import DOMAIN, Evaluator, genetic, make_searcher
from spos.core.errors import InputError
from spos.core.ranking import kendall_tau
from spos.sampling.limits import Constraints
from spos.scoring.racing import Racing
from spos.search.budgets import Budgets, budget_file
from spos.search.choice import (
    BY_SCORE,
    MODEL,
    MODEL_AND_FLOPS,
    SCORE,
    Choice,
    HeldChoice,
    additive_fitness,
    weighed_with_flops,
)
from spos.search.domain import Domain
from spos.search.finals import chosen_of, finalists_of, read_choice
from spos.search.flags import SearchOptions
from spos.search.history import best_rows, is_complete, learned_from
from spos.search.linear_model import NEIGHBOURS, LinearModel, variance_of
from spos.search.report import summarize_search, write_best, write_budgets
from spos.space.architecture import architecture_of, choices_of
from spos.space.architecture_file import load_architecture


def additive_scores(count, noise, seed=0):
    """(architectures, what is true of them, scores on 1,000 images of which `noise` is the standard deviation)."""
    rng = np.random.default_rng(seed)
    architectures = DOMAIN.sample_many(count, rng)
    effects = DOMAIN.effects
    columns = np.zeros(effects.num_effects)
    for group in effects.additive:
        columns[group.columns] = rng.normal(size=group.columns.stop - group.columns.start)
    true = effects.of(architectures) @ columns
    true = 0.5 + 0.03 * (true - true.mean()) / true.std()
    return architectures, true, true + noise * rng.normal(size=count)


@pytest.mark.parametrize("seed", range(3))
def test_an_additive_model_orders_better_than_noisy_scores(seed):
    architectures, true, scores = additive_scores(300, 0.03, seed)
    expected = additive_fitness(DOMAIN.effects, architectures, scores, variance_of(scores, 1000))
    assert kendall_tau(expected, true) > kendall_tau(scores, true) + 0.1
    exact = additive_fitness(DOMAIN.effects, architectures, true)
    assert kendall_tau(exact, true) > 0.9


def raced_rows(architectures, top1, rng, num_images=1000):
    """Rows of architectures whose images are hits by chance, scored on all of them and in a race for the best 10."""
    whole, raced = [], []
    for architecture, chance in zip(architectures, top1):
        hits, row = (rng.random(num_images) < chance).cumsum(), choices_of(architecture)
        complete = [one["fitness"] for one in raced if is_complete(one)]
        race = Racing(10).race(complete, num_images, lambda share: share)
        seen = next((n for n in race.looks() if race.is_lost(hits[n - 1], n)), num_images) if race else num_images
        for rows, count in ((whole, num_images), (raced, seen)):
            share, dropped = hits[count - 1] / count, {"dropped": True} if count < num_images else {}
            rows.append({**row, "top1": share, "fitness": share, "num_images": count, **dropped})
    return whole, raced


def test_a_race_leaves_the_model_most_of_what_it_knows():
    """Kendall's tau of new architectures by the scores of 300; far above that with what was dropped taken for worst."""
    taus = []
    for seed in range(3):
        architectures, true, _ = additive_scores(700, 0.0, seed)
        known, new = architectures[:300], architectures[300:]
        whole, raced = raced_rows(known, true[:300], np.random.default_rng(seed))
        assert sum(map(is_complete, raced)) < 200
        worst = [row["fitness"] if is_complete(row) else -np.inf for row in raced], variance_of([0.5] * 300, 1000)
        learned = learned_from(whole), learned_from(raced), worst
        taus.append([kendall_tau(additive_fitness(DOMAIN.effects, known, *own, new), true[300:]) for own in learned])
    whole, raced, worst = np.mean(taus, axis=0)
    assert raced > worst + 0.03 and whole - raced < 0.6 * (whole - worst)


def test_it_has_no_effects_of_neighbours():
    architectures, true, scores = additive_scores(60, 0.01)
    effects = DOMAIN.effects
    rows = effects.of(architectures)
    model = LinearModel(effects, rows, scores, 1e-4, effects.additive)
    neighbours = next(group.columns for group in effects.groups if group.name == NEIGHBOURS)
    assert not model.mean()[neighbours].any() and model.mean().any()
    without = rows.copy()
    without[:, neighbours] = 0
    assert (model.predict(without) == model.predict(rows)).all()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Of a search whose races dropped some."""
    folder = tmp_path_factory.mktemp("search")
    rows = make_searcher(folder, Evaluator(), racing=Racing(6)).run(genetic(4))
    assert not all(map(is_complete, rows))
    return rows


def test_the_score_decides_unless_a_model_is_asked_for(rows):
    assert Choice.by(SCORE, DOMAIN, rows) == BY_SCORE and BY_SCORE.to_json(rows) == {}
    assert BY_SCORE.best(rows, 5) == best_rows(rows, 5)
    assert Choice.by(MODEL, DOMAIN, []) == BY_SCORE  # nothing is scored yet


def test_the_model_chooses_whom_it_expects_the_most_of(rows):
    choice = Choice.by(MODEL, DOMAIN, rows)
    architectures = [architecture_of(row) for row in rows]
    expected = additive_fitness(DOMAIN.effects, architectures, *learned_from(rows))
    best = choice.best(rows, len(rows))
    assert [row["evaluation"] for row in best] == [
        i for i in np.argsort(-expected, kind="stable").tolist() if is_complete(rows[i])
    ]
    assert choice.to_json(rows) == {
        "choice": {
            "chosen": best[0]["evaluation"],
            "expected": expected[best[0]["evaluation"]],
            "first_by_score": best_rows(rows, 1)[0]["evaluation"],
        }
    }
    assert finalists_of(rows, 4, choice) == best[:4]


def test_flops_count_as_much_as_the_model_leaves_unexplained():
    expected, flops = np.array([1.0, 2.0, 4.0, 3.0]), np.array([8.0, 4.0, 1.0, 2.0])
    values, share = weighed_with_flops(expected, expected, flops)
    assert share == 1 and np.argsort(values).tolist() == np.argsort(expected).tolist()
    values, share = weighed_with_flops(np.full(4, 0.5), np.array([0.4, 0.5, 0.6, 0.5]), flops)
    assert share == 0 and np.argsort(values).tolist() == np.argsort(flops).tolist()
    assert values == pytest.approx((np.log(flops) - np.log(flops).mean()) / np.log(flops).std())
    noise = np.array([1.0, -1.0, 1.0, -1.0])
    fitness = expected + noise * np.sqrt(3 * np.var(expected))
    values, share = weighed_with_flops(expected, fitness, flops)
    assert share == pytest.approx(np.var(expected) / np.var(fitness)) and 0 < share < 1
    own, cost = ((one - one.mean()) / one.std() for one in (expected, np.log(flops)))
    assert values == pytest.approx(np.sqrt(share) * own + np.sqrt(1 - share) * cost)
    assert weighed_with_flops(np.ones(3), np.ones(3), np.ones(3))[0].tolist() == [0, 0, 0]  # nothing tells anything


def test_model_and_flops_choose_among_complete_rows(rows):
    choice = Choice.by(MODEL_AND_FLOPS, DOMAIN, rows)
    complete = [row for row in rows if is_complete(row)]
    model = Choice.by(MODEL, DOMAIN, rows)
    expected = np.array([model.expected[row["evaluation"]] for row in complete])
    flops, fitness = (np.array([row[key] for row in complete], float) for key in ("flops", "fitness"))
    values, share = weighed_with_flops(expected, fitness, flops)
    best = choice.best(rows, len(rows))
    assert best == [complete[i] for i in np.argsort(-values, kind="stable")]
    held = choice.to_json(rows)["choice"]
    assert held["share"] == share and held["chosen"] == best[0]["evaluation"]
    assert held["expected"] == model.expected[best[0]["evaluation"]]
    assert f"(it explains {share:.0%} of them; FLOPs count for the rest)" in HeldChoice(**held).text


def test_files_and_summary_say_who_was_chosen(rows, tmp_path):
    number = best_rows(rows, 3)[2]["evaluation"]
    choice = Choice({row["evaluation"]: float(row["evaluation"] == number) for row in rows})
    write_best(tmp_path / "best.json", DOMAIN, rows, {"seed": 0}, None, choice)
    record = load_architecture(tmp_path / "best.json")
    assert record.architecture == architecture_of(rows[number])
    assert chosen_of(tmp_path / "best.json", rows) == rows[number]
    text = read_choice(tmp_path / "best.json").text
    first = best_rows(rows, 1)[0]["evaluation"]
    assert text == (
        f"evaluation {number}, of which the additive model of all scores expects 100.00%; evaluation {first} has the "
        "highest score"
    )
    assert text in summarize_search(tmp_path, rows, SearchOptions())


def test_the_summary_says_how_many_were_clearly_better_than_the_chosen_one(rows, tmp_path):
    ranked = best_rows(rows, len(rows))
    for chosen in (ranked[0], ranked[-1]):
        choice = Choice({row["evaluation"]: float(row is chosen) for row in rows})
        write_best(tmp_path / "best.json", DOMAIN, rows, {"seed": 0}, None, choice)
        better = [row for row in ranked if row["top1_interval"][0] > chosen["top1_interval"][1]]
        summary = summarize_search(tmp_path, rows, SearchOptions())
        line = f"clearly better scored {len(better)} with an interval wholly above its own"
        assert (line in " ".join(summary.split())) == bool(better) == (chosen is ranked[-1])


def test_one_model_chooses_within_every_budget(rows, tmp_path):
    flops = sorted(row["flops"] / 1e6 for row in rows)
    budgets = Budgets.parse(f"flops:{flops[len(flops) // 3]},{flops[-1]}")
    choice = Choice.by(MODEL, DOMAIN, rows)
    write_budgets(tmp_path, DOMAIN, rows, budgets, {"seed": 0}, {}, choice)
    for name, within in zip(budgets.names, budgets.rows_within(rows)):
        assert chosen_of(tmp_path / budget_file(name), within) == choice.best(within, 1)[0]


@pytest.mark.parametrize("damage", ({"chosen": -1}, {"expected": "much"}, {"first_by_score": None}))
def test_a_damaged_choice_is_refused(damage, tmp_path):
    path = tmp_path / "best.json"
    path.write_text(json.dumps({"choice": {"chosen": 3, "expected": 0.5, "first_by_score": 2, **damage}}))
    with pytest.raises(InputError, match="best.json"):
        read_choice(path)


@pytest.mark.parametrize("name", (*SPACES, "sized"))
def test_a_model_chooses_in_any_space_from_one_row_on(name):
    domain = Domain(SIZED if name == "sized" else SPACES[name], Constraints(score_max=None))
    rng = np.random.default_rng(0)
    for count in (1, 2, 40):
        rows = [
            {**choices_of(one), "evaluation": i, "fitness": share, "top1": share, "num_images": 100}
            for i, (one, share) in enumerate(zip(domain.sample_many(count, rng), rng.random(count).tolist()))
        ]
        choice = Choice.by(MODEL, domain, rows)
        assert np.isfinite(list(choice.expected.values())).all() and len(choice.best(rows, 2)) == min(count, 2)
