"""The searcher without MXNet: any order of scores and any stop give the same history; races; old histories."""

from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from conftest import TINY

from spos.core.errors import InputError, Stopped
from spos.core.executors import EmbeddedExecutor
from spos.core.stopping import StopRequest
from spos.runs.journal import Journal
from spos.scoring.racing import Racing
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, genetic_search, random_search, spos_search
from spos.search.flags import (
    SearchOptions,
    check_not_shortened,
    flags_that_may_change,
    initial_architectures,
    make_search,
    older_rows,
)
from spos.search.history import (
    ArrivedRow,
    best_rows,
    fitness_of,
    is_complete,
    open_history,
)
from spos.search.searcher import WINDOW, Searcher, Target
from spos.space.architecture import architecture_of

DOMAIN = Domain(TINY)
NUM_IMAGES = 300
ACCURACY = Target()
IDENTITY = {"fingerprint": TINY.fingerprint, "supernet": "0123", "images": "4567"}


@dataclass(frozen=True)
class Hits:
    """What an evaluator returns, without MXNet."""

    top1_hits: int
    num_images: int

    def to_json(self):
        top1 = self.top1_hits / self.num_images
        interval = [max(0.0, top1 - 0.02), min(1.0, top1 + 0.02)]
        counts = {"top1_hits": self.top1_hits, "num_images": self.num_images}
        return {"top1": top1, "top5": 1.0, "top1_interval": interval, **counts}


def correct_images(architecture):
    """Which images an architecture gets right, in the order of the races: better with wide channels."""
    rng = np.random.default_rng([*architecture.genes])
    return rng.random(NUM_IMAGES) < 0.4 + 0.05 * np.mean(architecture.channel_choices)


class Evaluator:
    """Counts what it is asked for."""

    def __init__(self):
        self.asked = []
        self.images = 0

    def __call__(self, architecture, race=None):
        self.asked.append(architecture)
        correct = correct_images(architecture)
        for seen in race.looks() if race else (NUM_IMAGES,):
            hits = int(correct[:seen].sum())
            if race and seen < NUM_IMAGES and race.is_lost(hits, seen):
                break
        self.images += seen
        return Hits(hits, seen)


class ShuffledExecutor(Executor):
    """Holds calls back and completes them in a random order, a few at a time, when the searcher waits."""

    def __init__(self, seed, num_workers=3):
        self.rng, self.num_workers, self.held = np.random.default_rng(seed), num_workers, []

    def submit(self, fn, *args):
        future = HeldFuture(self)
        self.held.append((future, partial(fn, *args)))
        return future

    def release(self):
        running = self.held[: self.num_workers]
        if running:
            future, call = running[self.rng.integers(len(running))]
            self.held.remove((future, call))
            future.set_result(call())


class HeldFuture(Future):
    def __init__(self, executor):
        super().__init__()
        self.executor = executor


@pytest.fixture(autouse=True)
def release_when_waiting(monkeypatch):
    from spos.search import searcher

    def wait(futures, return_when):
        for executor in {f.executor for f in futures if isinstance(f, HeldFuture)}:
            while not any(future.done() for future in futures):
                executor.release()
        return {future for future in futures if future.done()}, set()

    monkeypatch.setattr(searcher, "wait", wait)


def make_searcher(folder, score, executor=None, racing=None, target=ACCURACY, **more):
    arrived = Journal(folder / "arrived.jsonl", ArrivedRow, with_check=True)
    journals = open_history(folder / "history.jsonl"), arrived
    return Searcher(DOMAIN, target, score, *journals, executor or EmbeddedExecutor(), IDENTITY, racing, **more)


def genetic(num_iterations=5, seed=3, random_select=0.0):
    settings = GeneticSettings(20, 6, random_select, 0.2, num_iterations)
    return genetic_search(DOMAIN, settings, np.random.default_rng(seed))


def spos():
    settings = GeneticSettings(20, 6, 0.0, 0.2, 5)
    return spos_search(DOMAIN, settings, np.random.default_rng(3))


STRATEGIES = {
    "genetic": genetic,
    "with random survivors": lambda: genetic(random_select=0.3),
    "spos": spos,
    "random": lambda: random_search(DOMAIN, 3, 20, np.random.default_rng(3)),
}


@pytest.fixture(params=STRATEGIES, ids=str)
def strategy(request):
    return STRATEGIES[request.param]


@pytest.mark.parametrize("racing", [None, Racing(6)], ids=["full", "racing"])
def test_the_history_is_the_same_in_whatever_order_scores_come(tmp_path, strategy, racing):
    make_searcher(tmp_path / "one", Evaluator(), racing=racing).run(strategy())
    for seed in range(6):
        folder, evaluator = tmp_path / str(seed), Evaluator()
        make_searcher(folder, evaluator, ShuffledExecutor(seed, 1 + seed), racing).run(strategy())
        assert (folder / "history.jsonl").read_bytes() == (tmp_path / "one" / "history.jsonl").read_bytes()
        assert not (folder / "arrived.jsonl").exists()
        assert len(set(evaluator.asked)) == len(evaluator.asked)


def test_rows_say_what_they_hold_for_and_no_times(tmp_path):
    rows = make_searcher(tmp_path, Evaluator()).run(genetic(1))
    assert [row["evaluation"] for row in rows] == list(range(20))
    assert all({**row, **IDENTITY} == row for row in rows)
    own = "evaluation iteration block_choices channel_choices flops params flop_ratio param_ratio score fitness"
    accuracy = "top1 top5 top1_interval top1_hits num_images"
    assert set(rows[0]) == {*own.split(), *accuracy.split(), *IDENTITY}


class Killed(BaseException):
    """Stands for kill -9: nothing is tidied up after it."""


@pytest.mark.parametrize("racing", [None, Racing(6)], ids=["full", "racing"])
@pytest.mark.parametrize("gently", [True, False], ids=["stopped", "killed"])
def test_a_search_that_ends_early_again_and_again_ends_like_a_whole_one(tmp_path, monkeypatch, racing, gently):
    """Stopped between scores; or killed, with nothing done on the way out."""
    if not gently:
        monkeypatch.setattr(Searcher, "_keep_what_is_done", lambda *_: None)
    make_searcher(tmp_path / "whole", Evaluator(), racing=racing).run(genetic())
    whole, evaluator = (tmp_path / "whole" / "history.jsonl").read_bytes(), Evaluator()
    rng, starts, rows = np.random.default_rng(5), 0, None
    while rows is None:
        left = int(rng.integers(2, 9))

        def score(architecture, race, budget=[left]):  # noqa: B006  counts down within one start
            if not budget[0]:
                raise Killed
            budget[0] -= 1
            return evaluator(architecture, race)

        executor = ShuffledExecutor(starts)
        starts += 1
        try:
            rows = make_searcher(tmp_path / "killed", score, executor, racing).run(genetic())
        except Killed:
            kept = len(Journal(tmp_path / "killed" / "history.jsonl").rows)
            assert kept + len(Journal(tmp_path / "killed" / "arrived.jsonl").rows) >= len(evaluator.asked)
    assert starts > 5
    assert (tmp_path / "killed" / "history.jsonl").read_bytes() == whole
    assert len(set(evaluator.asked)) == len(evaluator.asked) == whole.count(b"\n")


def test_scores_that_are_done_when_another_fails_are_kept(tmp_path):
    first = next(genetic())

    def score(architecture, race):
        if architecture == first[3]:
            raise InputError("worker has other images")
        return Evaluator()(architecture, race)

    class AllAtOnce(EmbeddedExecutor):
        max_in_flight = 10

    with pytest.raises(InputError, match="other images"):
        make_searcher(tmp_path, score, AllAtOnce()).run(genetic())
    kept = {architecture_of(row) for name in ("history", "arrived") for row in Journal(tmp_path / f"{name}.jsonl").rows}
    assert kept == set(first[:10]) - {first[3]}


def test_a_signal_while_recording_ends_the_search_when_it_waits_again(tmp_path):
    stop = StopRequest("")

    class Stopping(Journal):
        def append(self, row):
            stop.signum = 15
            super().append(row)

    searcher = make_searcher(tmp_path, Evaluator(), stop=stop)
    searcher.history = Stopping(tmp_path / "history.jsonl")
    with pytest.raises(Stopped):
        searcher.run(genetic())
    assert len(Journal(tmp_path / "history.jsonl").rows) == 1


def test_an_architecture_that_ends_its_workers_is_named(tmp_path):
    def score(architecture, race):
        raise BrokenExecutor("3 processes died at it")

    with pytest.raises(InputError, match="block choices .* 3 processes died at it"):
        make_searcher(tmp_path, score).run(genetic())


def test_more_generations_go_on_where_the_search_ended(tmp_path):
    make_searcher(tmp_path / "long", Evaluator()).run(genetic(5))
    make_searcher(tmp_path / "short", Evaluator()).run(genetic(2))
    evaluator = Evaluator()
    make_searcher(tmp_path / "short", evaluator).run(genetic(5))
    long = (tmp_path / "long" / "history.jsonl").read_bytes()
    assert (tmp_path / "short" / "history.jsonl").read_bytes() == long
    assert len(evaluator.asked) == long.count(b"\n") - 20 - 14


def test_only_the_length_the_devices_and_what_comes_afterwards_may_change():
    finals = {"finalists", "finalist_epochs", "finalist_lr", "choose_by"}
    devices = {"scheduler", "num_gpus", "num_cpus_ctx"}
    assert set(flags_that_may_change(SearchOptions())) == {*devices, *finals, "search_iters"}
    assert "search_iters" not in flags_that_may_change(SearchOptions(search_mode="two-stage"))
    old = {"options": {"search_iters": 5}}
    check_not_shortened(old, SearchOptions(search_iters=5))
    check_not_shortened(None, SearchOptions(search_iters=1))
    with pytest.raises(InputError, match="--search-iters 4.*begun with 5"):
        check_not_shortened(old, SearchOptions(search_iters=4))


# --- Races ---


@pytest.mark.parametrize("target", [Target(), Target("balanced_flop_acc", 0.1)], ids=["acc", "balanced"])
def test_racing_visits_the_same_and_finds_the_same_for_fewer_images(tmp_path, strategy, target):
    """On these images; that it does so in general is what tests/scoring_tests/test_racing.py shows."""
    full, raced = Evaluator(), Evaluator()
    rows = make_searcher(tmp_path / "full", full, target=target).run(strategy())
    rows_raced = make_searcher(tmp_path / "raced", raced, racing=Racing(6), target=target).run(strategy())
    assert raced.asked == full.asked
    assert best_rows(rows_raced, 6) == best_rows(rows, 6)
    dropped = [row for row in rows_raced if not is_complete(row)]
    assert dropped and raced.images < 0.95 * full.images
    assert all(row["num_images"] < NUM_IMAGES for row in dropped)
    kept = [row for row in rows_raced if is_complete(row)]
    assert kept == [rows[row["evaluation"]] for row in kept]


def test_a_race_is_against_what_was_known_a_window_before(tmp_path):
    races = {}

    def score(architecture, race):
        races[architecture] = race
        return Hits(int(correct_images(architecture).sum()), NUM_IMAGES)

    rows = make_searcher(tmp_path, score, ShuffledExecutor(1, 5), Racing(3)).run(STRATEGIES["random"]())
    for row in rows:
        index, generation = row["evaluation"] % 20, row["evaluation"] // 20
        known = rows[: 20 * generation + max(0, index - WINDOW + 1)]
        race = races[architecture_of(row)]
        assert (race is None) == (len(known) < 3)
        if race:
            assert race.needed_hits == sorted(row["top1_hits"] for row in known)[-3]


def test_the_strategy_is_told_that_a_dropped_one_is_the_worst(tmp_path):
    sent = []

    def strategy():
        sent.extend((yield next(genetic())))

    def score(architecture, race):
        return Hits(32, 32) if race else Hits(int(correct_images(architecture).sum()), NUM_IMAGES)

    rows = make_searcher(tmp_path, score, racing=Racing(2)).run(strategy())
    assert [value == float("-inf") for value in sent] == [not is_complete(row) for row in rows]
    assert "Infinity" not in (tmp_path / "history.jsonl").read_text()


# --- A search seeded from an old one ---


def test_an_old_history_gives_scores_and_the_first_parents(tmp_path, old):
    complete = [row for row in old if is_complete(row)]
    evaluator, options = Evaluator(), SearchOptions(population_size=20, retain_length=6, search_iters=2)
    initial = initial_architectures(older_rows(old, DOMAIN, options), options)
    assert initial == [architecture_of(row) for row in best_rows(old, 6)]
    prior = {architecture_of(row): row for row in complete}
    rows = make_searcher(tmp_path / "new", evaluator, prior=prior).run(make_search(DOMAIN, options, 9, initial))
    assert [architecture_of(row) for row in rows[:6]] == initial
    taken = [row for row in rows if row.get("from_history")]
    assert [row["top1"] for row in taken[:6]] == [row["top1"] for row in best_rows(old, 6)]
    assert not set(evaluator.asked) & set(prior)
    assert len(evaluator.asked) + len(taken) == len(rows)


SURROGATE = SearchOptions(search_mode="surrogate", population_size=20, retain_length=6, search_iters=4)


def run_surrogate(folder, older=(), executor=None):
    folder.mkdir(exist_ok=True)
    prior = {architecture_of(row): row for row in older}
    searcher = make_searcher(folder, Evaluator(), executor, Racing(6), prior=prior)
    initial = initial_architectures(older, SURROGATE)
    return searcher.run(make_search(DOMAIN, SURROGATE, 4, initial, rows=searcher.history.rows, older=older))


def test_a_model_learns_from_all_old_scores_and_from_what_was_dropped(tmp_path, old):
    """The same rows whatever scores them, and from wherever the history is cut."""
    older = older_rows(old, DOMAIN, SURROGATE)
    assert len(older) > SURROGATE.retain_length
    rows = run_surrogate(tmp_path / "new", older)
    best, fewer = rows[:20], sorted(older, key=lambda row: -row["fitness"])[:6]
    assert not all(map(is_complete, rows))
    others = run_surrogate(tmp_path / "few", fewer)
    assert [architecture_of(row) for row in others[:20]] == [
        architecture_of(row) for row in best
    ]  # the first generation
    assert [architecture_of(row) for row in others] != [architecture_of(row) for row in rows]
    assert run_surrogate(tmp_path / "shuffled", older, ShuffledExecutor(7)) == rows
    path = tmp_path / "new" / "history.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (23, 40, len(lines) - 1):
        path.write_bytes(b"".join(lines[:kept]))
        assert run_surrogate(tmp_path / "new", older) == rows and path.read_bytes() == whole


def test_dropped_rows_tell_the_model_how_bad_they_were(tmp_path):
    """Another accuracy of what was dropped, in the same order of all, makes other proposals."""
    rows = run_surrogate(tmp_path / "new")[:20]
    assert not all(map(is_complete, rows))
    lower = [row if is_complete(row) else {**row, "fitness": 0.5 * row["fitness"]} for row in rows]
    proposed = []
    for own in (rows, lower):
        search = make_search(DOMAIN, SURROGATE, 4, rows=own)
        assert next(search) == [architecture_of(row) for row in rows]
        proposed.append(search.send([fitness_of(row) for row in own]))
    assert proposed[0] != proposed[1]
