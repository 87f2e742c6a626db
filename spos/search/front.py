"""The Pareto front: costs that accuracy may be weighed against, the search for a front, and the front of a history."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.installation import install_command
from spos.runs.files import PathLike, write_json
from spos.search.breeder import Lineage
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, Search
from spos.search.history import Row, best_record
from spos.space.architecture import Architecture

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
        objectives: names of OBJECTIVES, to be small; what is sent as fitness is to be large.
        initial: first in the first generation, as far as they lie in the domain and there are places.
    Raises: InputError if pymoo is not installed, or latency is to be small and there is no table of it.
    """
    if "latency" in objectives and domain.latency is None:
        raise InputError("--objectives latency needs --latency-table")
    try:
        from spos.search.nsga2 import nsga2
    except ImportError as error:
        raise InputError(f"--search-mode nsga2 needs pymoo ({error}); run `{install_command()}`") from None
    return nsga2(domain, [OBJECTIVES[name] for name in objectives], settings, rng, initial, lineage)


def pareto_front(rows: Sequence[Row], objectives: Sequence[str]) -> List[Row]:
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
