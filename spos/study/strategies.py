"""Strategies of search compared at equal numbers of evaluations."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.intervals import Interval, student_interval
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng
from spos.runs.journal import read_rows
from spos.runs.lock import locked
from spos.runs.run import open_run_directory
from spos.search.breeder import SearchDomain
from spos.search.choice import additive_fitness
from spos.search.evolution import GeneticSettings, Search, drive, genetic_search, random_search, spos_search
from spos.search.flags import ConstraintOptions, SearchOptions, make_domain
from spos.search.history import HistoryRow, check_rules
from spos.search.surrogate import surrogate_search
from spos.space.architecture import Architecture
from spos.space.flags import SpaceOptions, fit, space_of
from spos.study.oracles import AdditiveOracle, RecordedDomain, renumbered
from spos.study.truth import read_accuracies

Oracle = Callable[[Architecture], float]
BASELINE = "random"


class Task(NamedTuple):
    """What is searched under one seed.

    Attributes:
        oracle: the fitness that the search sees.
        optimum: the highest value there is, or an upper bound, if known.
        judge: the value of an architecture that was chosen by its fitness; None: its fitness itself.
    """

    domain: SearchDomain
    oracle: Oracle
    optimum: Optional[float] = None
    is_bound: bool = False
    judge: Optional[Oracle] = None


@dataclass(frozen=True)
class Result:
    """One search over all seeds. `curve` is the value of the chosen after each evaluation, averaged over the seeds."""

    best: Interval
    gain: Optional[Interval]  # over the baseline; None for itself
    regret: Optional[Interval]
    curve: List[Interval]
    is_bound: bool = False  # of the regret: it may be smaller
    regret_of_scored: Optional[Interval] = None  # of the best of all that was scored, where choosing it is an art
    regret_by_model: Optional[Interval] = None  # of the one that an additive model of all scores would choose


def additive(space_options: SpaceOptions, limits: ConstraintOptions, noise: float = 0.0) -> Callable[[int], Task]:
    """Another additive oracle for every seed. Without limits given there are none.

    Args:
        noise: standard deviation of what is added to the fitness that a search sees, the same for an architecture.
    """
    space = fit(space_of(space_options), space_options)
    no_defaults: Dict[str, Any] = {name: -1.0 for name in ("flop_max", "score_max") if getattr(limits, name) is None}
    domain = make_domain(space, SearchOptions(), replace(limits, **no_defaults))
    domain.check()

    def make_task(seed: int) -> Task:
        oracle = AdditiveOracle.draw(space, derive_rng(seed, "oracle"))
        optimum, is_bound = oracle.optimum(domain), bool(domain.constraints.limits())
        if not noise:
            return Task(domain, oracle, optimum, is_bound)

        def seen(architecture: Architecture) -> float:
            return oracle(architecture) + noise * derive_rng(seed, "noise", *architecture.genes).standard_normal()

        return Task(domain, seen, optimum, is_bound, judge=oracle)

    return make_task


def recorded(history: Path, num_evaluations: int) -> Callable[[int], Task]:
    """The same table for every seed."""
    if not history.is_file():
        raise InputError(f"--history {history} does not exist")
    domain = RecordedDomain.from_rows(read_table(history), str(history))
    if len(domain.scores) <= num_evaluations:
        raise InputError(
            f"--evaluations {num_evaluations} would score all {len(domain.scores)} architectures of {history}"
        )
    task = Task(domain, domain, max(domain.scores.values()))
    return lambda seed: task


def tabled(table: str, table_format: str, num_evaluations: int) -> Callable[[int], Task]:
    """Accuracies that others measured: a search sees those of one training seed, and is judged by the others' mean.

    Seeds of the comparison take turns with those of the table. With a single one, it is judged by what it sees.
    """
    truth = read_accuracies(table, table_format)
    if len(truth) <= num_evaluations:
        raise InputError(f"--evaluations {num_evaluations} would score all {len(truth)} architectures of {table}")
    networks, accuracies = renumbered(list(truth)), np.array(list(truth.values()))
    num_seeds = accuracies.shape[1]

    def make_task(seed: int) -> Task:
        seen = seed % num_seeds
        others = [k for k in range(num_seeds) if k != seen] or [seen]
        domain = RecordedDomain(dict(zip(networks, accuracies[:, seen].tolist())))
        value = dict(zip(networks, accuracies[:, others].mean(1).tolist()))
        return Task(domain, domain, max(value.values()), judge=value.__getitem__)

    return make_task


def read_table(path: Path) -> List[Dict[str, Any]]:
    """The rows of a history, or of another file of architectures with their scores."""
    rows = read_rows(path, HistoryRow, with_check=True)
    if all("evaluation" in row for row in rows):
        check_rules(rows, path)
    return rows


@contextlib.contextmanager
def by_supernet(run: Path) -> Iterator[Callable[[int], Task]]:
    """The same supernet for every seed. No other program can enter the run of its search within this block."""
    from spos.study.supernet_oracle import open_search  # MXNet takes seconds to load

    open_run_directory(run)  # before a lock would make it
    with locked(run):
        domain, oracle = open_search(run)
        yield lambda seed: Task(domain, oracle, None)


def searches(settings: GeneticSettings) -> Dict[str, Callable[[SearchDomain, np.random.Generator], Search]]:
    """What is compared, by name."""
    return {
        "genetic": lambda domain, rng: genetic_search(domain, settings, rng),
        "spos": lambda domain, rng: spos_search(domain, settings, rng),
        "surrogate": lambda domain, rng: surrogate_search(domain, settings, rng),
        BASELINE: lambda domain, rng: random_search(domain, settings.num_iterations, settings.population_size, rng),
    }


SEARCHES = tuple(searches(GeneticSettings()))  # names


def compare(
    make_task: Callable[[int], Task],
    settings: GeneticSettings,
    num_evaluations: int,
    seeds: range,
    names: Sequence[str] = (),
    baseline: str = BASELINE,
) -> Dict[str, Result]:
    """Run searches under every seed.

    Args:
        make_task: domain and fitness of a seed; any function of an architecture will do, a supernet's too.
        settings: `num_iterations` must suffice for `num_evaluations`.
        names: of the searches, beside the random one and the baseline; all by default.
        baseline: the search that the others' gains are over.
    """
    makers = {
        name: make for name, make in searches(settings).items() if not names or name in (*names, BASELINE, baseline)
    }
    curves: Dict[str, List[np.ndarray]] = {name: [] for name in makers}
    scored: Dict[str, List[float]] = {name: [] for name in makers}
    by_model: Dict[str, List[float]] = {name: [] for name in makers}
    optima, is_bound = [], False
    for seed in progress_bar(seeds, desc="seeds", unit="seed"):
        task = make_task(seed)
        optima.append(np.nan if task.optimum is None else task.optimum)
        is_bound |= task.is_bound
        for name, make in makers.items():
            search = make(task.domain, derive_rng(seed, "comparison"))
            asked, fitness = scores_of_search(search, task.oracle, num_evaluations)
            curves[name].append(best_so_far(asked, fitness, num_evaluations, task.judge))
            if task.judge:
                scored[name].append(max(map(task.judge, asked)))
                by_model[name].append(task.judge(chosen_by_model(task.domain, asked, fitness)))
    results = summarize({name: np.array(rows) for name, rows in curves.items()}, np.array(optima), is_bound, baseline)
    if not scored[BASELINE]:
        return results
    return {
        name: replace(
            result, regret_of_scored=_below(optima, scored[name]), regret_by_model=_below(optima, by_model[name])
        )
        for name, result in results.items()
    }


def _below(optima: Sequence[float], values: Sequence[float]) -> Interval:
    return student_interval((np.array(optima) - values).tolist())


def chosen_by_model(domain: SearchDomain, asked: Sequence[Architecture], fitness: Sequence[float]) -> Architecture:
    """Of what was scored the one of which an additive model of all scores expects the most; of equals the first."""
    return asked[int(np.argmax(additive_fitness(domain.effects, asked, fitness)))]


def scores_of_search(search: Search, oracle: Oracle, num_evaluations: int) -> Tuple[List[Architecture], List[float]]:
    """What a search scores, and its fitness. The last generation is cut where the evaluations end."""
    fitness: List[float] = []
    asked: List[Architecture] = []

    def score(generation: List[Architecture]) -> Optional[List[float]]:
        scores = [oracle(architecture) for architecture in generation]
        fitness.extend(scores)
        asked.extend(generation)
        return scores if len(fitness) < num_evaluations else None

    drive(search, score)
    return asked[:num_evaluations], fitness[:num_evaluations]


def best_so_far(
    asked: Sequence[Architecture], fitness: Sequence[float], num_evaluations: int, judge: Optional[Oracle] = None
) -> np.ndarray:
    """Value of the fittest after each evaluation. A search whose domain is used up earlier keeps its best."""
    best = np.maximum.accumulate(fitness)
    if judge:
        best = np.array([judge(asked[fitness.index(value)]) for value in best.tolist()])
    return np.pad(best, (0, num_evaluations - len(best)), mode="edge")


def summarize(
    curves: Mapping[str, np.ndarray], optima: np.ndarray, is_bound: bool = False, baseline: str = BASELINE
) -> Dict[str, Result]:
    """Args: curves: for every search (seeds, evaluations); optima: (seeds,), nan where none is known."""
    last = {name: rows[:, -1] for name, rows in curves.items()}
    return {
        name: Result(
            student_interval(final.tolist()),
            None if name == baseline else student_interval((final - last[baseline]).tolist()),
            None if np.isnan(optima).any() else student_interval((optima - final).tolist()),
            [student_interval(column) for column in curves[name].T.tolist()],
            is_bound,
        )
        for name, final in last.items()
    }
