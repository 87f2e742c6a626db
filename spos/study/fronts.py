"""One search for many budgets against a search for each, and searches for a front, on additive fitness."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.intervals import Interval, student_interval
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng
from spos.search.aims import Aims
from spos.search.budgets import Budgets
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings
from spos.search.flags import SearchOptions, make_search
from spos.search.front import checked_objectives, hypervolume
from spos.search.surrogate import surrogate_search
from spos.study.oracles import AdditiveOracle
from spos.study.strategies import Task, scores_of_search

FRONTS = ("surrogate-front", "nsga2", "random")
BASELINE = "nsga2"


class BudgetResult(NamedTuple):
    """Fitness of the best within one budget.

    Attributes:
        own: by a search for this budget alone.    shared: by one search for all of them.    gain: of this one, paired.
        optimum: the mean of the highest values there are, or of bounds of them.
    """

    own: Interval
    shared: Interval
    gain: Interval
    optimum: float


class FrontResult(NamedTuple):
    """Fitness of the best within a budget, mean over all budgets, above the worst that any of the searches scored.

    Attributes:
        half, whole: after half and after all of the evaluations.    gain: over NSGA-II, paired; None for itself.
    """

    half: Interval
    whole: Interval
    gain: Optional[Interval]


def compare_budgets(
    make_task: Callable[[int], Task], budgets: Budgets, settings: GeneticSettings, counts: Tuple[int, int], seeds: range
) -> Dict[str, BudgetResult]:
    """By name of the budget.

    Args:
        make_task: an additive oracle and its domain, of a seed.
        counts: evaluations of the search for each budget, and of the one for all.
    Raises: InputError if nothing keeps a budget.
    """
    for part in budgets.domains(_additive(make_task(seeds[0]))[0]):
        part.check()
    values = []  # (seeds, own and shared and optimum, budgets)
    for seed in progress_bar(seeds, desc="seeds", unit="seed"):
        task = make_task(seed)
        domain, judge = _additive(task)
        parts = budgets.domains(domain)
        own = [_best_of(task, counts[0], part, [part], settings, seed)[0] for part in parts]
        shared = _best_of(task, counts[1], parts[-1], parts, settings, seed)
        values.append([own, shared, [judge.optimum(part) for part in parts]])
    own_values, shared_values, optima = np.array(values).transpose(1, 2, 0)  # (budgets, seeds) each
    return {
        name: BudgetResult(_interval(alone), _interval(together), _interval(together - alone), float(best.mean()))
        for name, alone, together, best in zip(budgets.names, own_values, shared_values, optima)
    }


def _best_of(
    task: Task, count: int, domain: Domain, parts: List[Domain], settings: GeneticSettings, seed: int
) -> List[float]:
    """Value of what a search would choose within each part; it looks for the best in all of them."""
    search = surrogate_search(domain, settings, derive_rng(seed, "comparison"), aims=Aims(parts))
    asked, fitness = scores_of_search(search, task.oracle, count)
    chosen = []
    for part in parts:
        within = [(value, one) for value, one in zip(fitness, asked) if part.admits(one)]
        value, best = max(within, key=lambda pair: pair[0])
        chosen.append(task.judge(best) if task.judge else value)
    return chosen


def compare_fronts(
    make_task: Callable[[int], Task], objective: str, options: SearchOptions, count: int, seeds: range
) -> Dict[str, FrontResult]:
    """By search mode, as many evaluations each.

    Args:
        make_task: an additive oracle and its domain, of a seed.
        options: sizes of the searches; their generations must suffice.
    Raises: InputError if the domain does not tell the cost.
    """
    checked_objectives(objective, _additive(make_task(seeds[0]))[0])
    values: Dict[str, List[List[float]]] = {name: [] for name in FRONTS}
    for seed in progress_bar(seeds, desc="seeds", unit="seed"):
        task = make_task(seed)
        domain, judge = _additive(task)
        low, high = domain.cost_range(objective)
        found = {}
        for name in FRONTS:
            search = make_search(domain, replace(options, search_mode=name, objectives=objective), seed)
            asked, _ = scores_of_search(search, task.oracle, count)
            found[name] = [{**domain.cost_fields(one), "top1": judge(one)} for one in asked]
        worst = min(row["top1"] for rows in found.values() for row in rows)
        for name, rows in found.items():
            above = [{COSTS[objective].key: row[COSTS[objective].key], "top1": row["top1"] - worst} for row in rows]
            areas = hypervolume(above, objective, low, high)
            # a domain that is used up earlier keeps its last
            areas = np.pad(areas, (0, count - len(areas)), mode="edge")
            values[name].append([areas[count // 2 - 1], areas[-1]])
    columns = {name: np.array(pairs).T for name, pairs in values.items()}
    return {
        name: FrontResult(
            _interval(half), _interval(whole), None if name == BASELINE else _interval(whole - columns[BASELINE][1])
        )
        for name, (half, whole) in columns.items()
    }


def _additive(task: Task) -> Tuple[Domain, AdditiveOracle]:
    """Its domain, and its fitness without noise."""
    judge = task.judge or task.oracle
    if not isinstance(task.domain, Domain) or not isinstance(judge, AdditiveOracle):
        raise InputError("budgets and fronts are compared on additive fitness")
    return task.domain, judge


def _interval(values: np.ndarray) -> Interval:
    return student_interval(values.tolist())
