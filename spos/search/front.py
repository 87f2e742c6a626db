"""Accuracy against cost: what may be weighed, the search for a front, and the front of a history."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.runs.files import PathLike, write_json
from spos.search.domain import Domain
from spos.search.history import best_record

# Costs that accuracy may be weighed against: the key of a row of the history.
OBJECTIVES: Mapping[str, str] = {"flops": "flops", "params": "params", "latency": "latency_ms"}
FRONT_FILE = "front.json"


def parse_objectives(text: str) -> Tuple[str, ...]:
    """Names of costs from `flops,params`. Raises InputError for an unknown, repeated or missing one."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(name in OBJECTIVES for name in names) or len(set(names)) < len(names):
        raise InputError(
            f"--objectives '{text}' must name one or more of {', '.join(OBJECTIVES)}, separated by commas, each once"
        )
    return names


def pareto_front(rows: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> List[Mapping[str, Any]]:
    """Rows that no other one beats: none has at least their top-1 at no higher costs, and one of them better.

    Of equals the first is kept. Sorted by the first of the objectives.
    """
    values = np.array([[-row["top1"], *(row[OBJECTIVES[name]] for name in objectives)] for row in rows], dtype=float)
    front = []
    for i, own in enumerate(values):
        no_worse = (values <= own).all(axis=1)
        better = no_worse & (values < own).any(axis=1)
        if not better.any() and not no_worse[:i].any():
            front.append(rows[i])
    return sorted(front, key=lambda row: row[OBJECTIVES[objectives[0]]])


def write_front(
    folder: PathLike,
    domain: Domain,
    rows: Sequence[Dict[str, Any]],
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
        rank = old.stem.partition("-")[2]
        if rank.isdigit() and int(rank) > len(records):
            old.unlink()
    return records
