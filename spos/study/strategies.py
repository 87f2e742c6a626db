"""Strategies of search compared at equal numbers of evaluations."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional

import numpy as np

from spos.core.errors import InputError
from spos.core.intervals import Interval, student_interval
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng
from spos.runs.journal import read_rows
from spos.runs.lock import locked
from spos.runs.run import open_run_directory
from spos.search.breeder import SearchDomain
from spos.search.evolution import GeneticSettings, Search, drive, genetic_search, random_search, spos_search
from spos.search.flags import ConstraintOptions, SearchOptions, make_domain
from spos.search.history import HistoryRow, check_rules
from spos.space.architecture import Architecture
from spos.space.flags import SpaceOptions, fit, space_of
from spos.study.oracles import AdditiveOracle, RecordedDomain

Oracle = Callable[[Architecture], float]
BASELINE = "random"


class Task(NamedTuple):
    """What is searched under one seed. `optimum` is the highest fitness there is, or an upper bound, if known."""

    domain: SearchDomain
    oracle: Oracle
    optimum: Optional[float] = None
    is_bound: bool = False


@dataclass(frozen=True)
class Result:
    """One search over all seeds. `curve` is the best fitness after each evaluation, averaged over the seeds."""

    best: Interval
    gain: Optional[Interval]  # over random search; None for random search itself
    regret: Optional[Interval]
    curve: List[Interval]
    is_bound: bool = False  # of the regret: it may be smaller


def additive(space_options: SpaceOptions, limits: ConstraintOptions) -> Callable[[int], Task]:
    """Another additive oracle for every seed. Without limits given there are none."""
    space = fit(space_of(space_options), space_options)
    no_default = limits if limits.score_max is not None else replace(limits, score_max=-1.0)
    domain = make_domain(space, SearchOptions(), no_default)
    domain.check()

    def make_task(seed: int) -> Task:
        oracle = AdditiveOracle.draw(space, derive_rng(seed, "oracle"))
        return Task(domain, oracle, oracle.optimum(domain), bool(domain.constraints.limits()))

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
        BASELINE: lambda domain, rng: random_search(domain, settings.num_iterations, settings.population_size, rng),
    }


def compare(
    make_task: Callable[[int], Task], settings: GeneticSettings, num_evaluations: int, seeds: range
) -> Dict[str, Result]:
    """Run every search under every seed.

    Args:
        make_task: domain and fitness of a seed; any function of an architecture will do, a supernet's too.
        settings: `num_iterations` must suffice for `num_evaluations`.
    """
    makers = searches(settings)
    curves: Dict[str, List[np.ndarray]] = {name: [] for name in makers}
    optima, is_bound = [], False
    for seed in progress_bar(seeds, desc="seeds", unit="seed"):
        task = make_task(seed)
        optima.append(np.nan if task.optimum is None else task.optimum)
        is_bound |= task.is_bound
        for name, make in makers.items():
            search = make(task.domain, derive_rng(seed, "comparison"))
            curves[name].append(best_so_far(search, task.oracle, num_evaluations))
    return summarize({name: np.array(rows) for name, rows in curves.items()}, np.array(optima), is_bound)


def best_so_far(search: Search, oracle: Oracle, num_evaluations: int) -> np.ndarray:
    """Highest fitness after each evaluation. The last generation is cut where the evaluations end.

    A search whose domain is used up earlier keeps its best.
    """
    fitness: List[float] = []

    def score(generation: List[Architecture]) -> Optional[List[float]]:
        scores = [oracle(architecture) for architecture in generation]
        fitness.extend(scores)
        return scores if len(fitness) < num_evaluations else None

    drive(search, score)
    best = np.maximum.accumulate(fitness[:num_evaluations])
    return np.pad(best, (0, num_evaluations - len(best)), mode="edge")


def summarize(curves: Mapping[str, np.ndarray], optima: np.ndarray, is_bound: bool = False) -> Dict[str, Result]:
    """Args: curves: for every search (seeds, evaluations); optima: (seeds,), nan where none is known."""
    last = {name: rows[:, -1] for name, rows in curves.items()}
    return {
        name: Result(
            student_interval(final.tolist()),
            None if name == BASELINE else student_interval((final - last[BASELINE]).tolist()),
            None if np.isnan(optima).any() else student_interval((optima - final).tolist()),
            [student_interval(column) for column in curves[name].T.tolist()],
            is_bound,
        )
        for name, final in last.items()
    }
