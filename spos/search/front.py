"""The Pareto front: costs that accuracy may be weighed against, the search for a front, and the front of a history."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.installation import install_command
from spos.runs.files import PathLike, write_json
from spos.search.breeder import Lineage
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, Search
from spos.search.history import Row, best_record, is_complete
from spos.space.architecture import Architecture

FRONT_FILE = "front.json"


def parse_objectives(text: str) -> Tuple[str, ...]:
    """Names of costs from `flops,params`. Raises InputError for an unknown, repeated or missing one."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(name in COSTS for name in names) or len(set(names)) < len(names):
        raise InputError(
            f"--objectives '{text}' must name one or more of {', '.join(COSTS)}, separated by commas, each once"
        )
    return names


def checked_objectives(text: str, domain: Domain) -> Tuple[str, ...]:
    """`parse_objectives`, of a domain. Raises InputError if latency is one and there is no table of it."""
    objectives = parse_objectives(text)
    if "latency" in objectives and domain.latency is None:
        raise InputError("--objectives latency needs --latency-table")
    return objectives


def nsga2_search(
    domain: Domain,
    objectives: Sequence[str],
    settings: GeneticSettings,
    rng: np.random.Generator,
    initial: Sequence[Architecture] = (),
    lineage: Optional[Lineage] = None,
) -> Search:
    """Generations of `population_size` children of the fittest by NSGA-II; `retain_length` is not used.

    Args:
        objectives: names of COSTS, to be small; what is sent as fitness is to be large.
        initial: first in the first generation, as far as they lie in the domain and there are places.
    Raises: InputError if pymoo is not installed.
    """
    try:
        from spos.search.nsga2 import nsga2
    except ImportError as error:
        raise InputError(f"--search-mode nsga2 needs pymoo ({error}); run `{install_command()}`") from None
    return nsga2(domain, [COSTS[name].key for name in objectives], settings, rng, initial, lineage)


def pareto_front(rows: Sequence[Row], objectives: Sequence[str]) -> List[Row]:
    """Rows that no other one beats: none has at least their top-1 at no higher costs, and one of them better.

    Of equals the first is kept. Sorted by the first of the objectives.
    """
    values = np.array([[-row["top1"], *(row[COSTS[name].key] for name in objectives)] for row in rows], dtype=float)
    front = [rows[i] for i in not_beaten(values)]
    return sorted(front, key=lambda row: row[COSTS[objectives[0]].key])


def not_beaten(values: np.ndarray) -> List[int]:
    """Rows of values (rows, objectives), all to be small, that no other row is as small as in all and smaller in one.

    Of equals the first is kept.
    """
    found = []
    for i, own in enumerate(values):
        no_worse = (values <= own).all(axis=1)
        better = no_worse & (values < own).any(axis=1)
        if not better.any() and not no_worse[:i].any():
            found.append(i)
    return found


def hypervolume(rows: Sequence[Row], objective: str, low: float, high: float) -> np.ndarray:
    """After each row, the mean over all budgets between `low` and `high` of the best top-1 within the budget.

    It is the area below the front of top-1 against one cost, as a share (Zitzler and Thiele, 1998); 0 counts where
    nothing was cheap enough. Rows that were dropped early count for nothing.
    """
    key, areas = COSTS[objective].key, [0.0] * len(rows)
    front: List[Tuple[float, float]] = []  # by rising cost and top-1
    for i, row in enumerate(rows):
        if is_complete(row):
            front = sorted([*front, (max(row[key], low), row["top1"])], key=lambda point: (point[0], -point[1]))
            tops = list(accumulate((top1 for _, top1 in front), max))
            front = [(cost, top1) for (cost, _), top1, before in zip(front, tops, [-1.0, *tops]) if top1 > before]
        ends = [cost for cost, _ in front[1:]] + [high]
        areas[i] = sum(top1 * max(0.0, min(end, high) - cost) for (cost, top1), end in zip(front, ends))
    return np.array(areas) / max(high - low, 1e-12)


def find_knee(front: Sequence[Row], objective: str) -> Optional[Row]:
    """The row of a front farthest above the line between its ends, both axes as shares (Das, 1999).

    Args:
        front: by rising cost.
    Returns: None for a front of fewer than three rows, or of which nothing lies above the line.
    """
    if len(front) < 3:
        return None
    points = np.array([[row[COSTS[objective].key], row["top1"]] for row in front], dtype=float)
    shares = (points - points[0]) / (points[-1] - points[0])
    above = shares[:, 1] - shares[:, 0]
    return front[int(above.argmax())] if above.max() > 0 else None


def write_front(
    folder: PathLike,
    domain: Domain,
    rows: Sequence[Row],
    objectives: Sequence[str],
    origin: Mapping[str, Any],
) -> List[Dict[str, Any]]:
    """The front of a history as `front.json` and as architecture files `front-1.json`, `front-2.json`, ...

    Files of a longer front, from before the search went on, are removed. Returns the content of `front.json`.
    """
    records = [best_record(domain, row, origin).to_json() for row in pareto_front(rows, objectives)]
    write_json(Path(folder) / FRONT_FILE, records)
    for rank, record in enumerate(records, 1):
        write_json(Path(folder) / f"front-{rank}.json", record)
    for old in Path(folder).glob("front-*.json"):
        number = old.stem.partition("-")[2]
        if number.isdigit() and int(number) > len(records):
            old.unlink()
    return records
