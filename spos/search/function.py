"""Search by a scoring function of one's own, with a journal: no supernet, no images, no MXNet.

As in a search with a supernet, decisions depend on the seed and the scores alone. So a stopped search goes on by
running it again from the start with the scores in its journal: nothing is scored twice, and the result is the same.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng
from spos.latency.tables import Latency
from spos.runs.files import PathLike, read_json, write_json
from spos.runs.journal import Journal
from spos.runs.run import BEST_FILE, CONFIG_FILE, HISTORY_FILE
from spos.runs.schema import Choices, Count
from spos.sampling.limits import Limits
from spos.search.domain import Domain
from spos.search.evolution import drive
from spos.search.flags import SEARCHES, SearchOptions, make_search
from spos.search.history import HistoryRow, Row, best_rows, check_costs, open_history
from spos.space.architecture import Architecture, architecture_of, choices_of
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import TimedCost
from spos.space.space import SearchSpace

Score = Callable[[Architecture], float]
ITERATIONS = "iterations"
MODES = tuple(name for name, mode in SEARCHES.items() if not mode.has_front)  # those that maximise one number


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        rows: an evaluation each, in the order of the search: `evaluation`, `iteration`, `block_choices`,
            `channel_choices`, where it is a choice `input_size`, `flops`, `params`, with a latency table `latency_ms`,
            and `fitness`, the score. In a search of a supernet they have more (docs/history.md).
    """

    space: SearchSpace
    rows: Tuple[Row, ...]

    @property
    def best_row(self) -> Row:
        """The row of the highest score among those that were scored on all images; of equals, the first."""
        return best_rows(self.rows, 1)[0]

    @property
    def best(self) -> Architecture:
        """The architecture of the highest score."""
        return architecture_of(self.best_row)

    @property
    def best_score(self) -> float:
        return self.best_row["fitness"]


def sample_architectures(
    space: SearchSpace,
    count: int,
    limits: Optional[Limits] = None,
    seed: int = 0,
    latency: Optional[Latency] = None,
) -> List[Architecture]:
    """Draw architectures independently and uniformly from those that keep the limits, exactly and without rejecting.

    Args:
        latency: a table of this space; a limit on latency needs it.
    Raises: InputError if no architecture keeps the limits, naming the smallest reachable cost.
    """
    domain = Domain(space, (limits or Limits()).constraints(), latency=latency)
    domain.check()
    rng = derive_rng(seed, "sampling")
    return [domain.sample(rng) for _ in range(count)]


def search_architectures(
    space: SearchSpace,
    score: Score,
    folder: PathLike,
    limits: Optional[Limits] = None,
    mode: str = "genetic",
    iterations: int = 20,
    population: int = 50,
    retain: int = 10,
    seed: int = 0,
    latency: Optional[Latency] = None,
) -> Found:
    """Search for the architecture of the highest score under limits.

    Every score is on disk, in `folder`, before the next architecture is scored. The same call goes on with a search
    that was stopped or killed, without scoring anything twice, and ends as if it had not been; so it does with more
    `iterations`. `folder/best.json` is the best architecture as a file that the programs take as `--architecture`.

    Args:
        score: called in this process with one architecture at a time, never twice with the same one. It should depend
            on nothing else: what it returned before a stop counts after it.
        mode: "genetic", "random", "two-stage" (blocks at equal widths first, then the widths of the best blocks), or
            "surrogate" (the best by a model of the scores so far).
        iterations: generations of `population` architectures, those that survive from the last one among them.
        retain: of `population`, the best that become parents.
        latency: a table of this space; a limit on latency needs it.
    Raises: InputError if no architecture keeps the limits, if a score is not a finite number, or if `folder` holds
        another search.
    """
    if mode not in MODES:
        raise InputError(f"unknown mode '{mode}'; known: {', '.join(MODES)}")
    domain = Domain(space, (limits or Limits()).constraints(), latency=latency)
    domain.check()
    options = SearchOptions(search_mode=mode, search_iters=iterations, population_size=population, retain_length=retain)
    search = make_search(domain, options, seed)
    enter_search(
        Path(folder),
        {
            "program": "search_architectures",
            "space": space.to_json(),
            "limits": asdict(limits or Limits()),
            "latency": latency.to_json() if latency else None,
            "mode": mode,
            "population": population,
            "retain": retain,
            "seed": seed,
            ITERATIONS: iterations,
        },
    )
    journal = open_history(Path(folder) / HISTORY_FILE, FunctionRow)
    check_costs(journal.rows, space, journal.path)
    drive(search, _Scorer(domain, score, journal))
    if not journal.rows:
        raise InputError("the search found no architecture to score")
    found = Found(space, tuple(journal.rows))
    more = {"name": "searched", **{key: found.best_row[key] for key in ("fitness", "evaluation", "iteration")}}
    write_json(Path(folder) / BEST_FILE, ArchitectureRecord(space, found.best, more).to_json())
    return found


def enter_search(folder: Path, arguments: Mapping[str, Any]) -> None:
    """Make the folder of a search, or enter the one of the same search, which may be made longer.

    Raises: InputError if the folder holds another search, or anything else.
    """
    path = folder / CONFIG_FILE
    arguments = json.loads(json.dumps(arguments))
    if path.is_file():
        old = read_json(path)
        differing = [name for name in arguments if not isinstance(old, dict) or old.get(name) != arguments[name]]
        if differing == [ITERATIONS] and _may_be_longer(old, arguments):
            differing = []
        if differing:
            raise InputError(
                f"{folder} holds another search: {differing[0]} is not what it was. Give another folder, or the same "
                f"arguments to go on with it (a search that is not of two stages also with more {ITERATIONS})"
            )
    elif folder.is_dir() and any(not entry.name.startswith(f".{CONFIG_FILE}.") for entry in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no search; give another folder")
    write_json(path, arguments)


def _may_be_longer(old: Mapping[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether a search may go on with these iterations; with stages, their number says where the second begins."""
    before = old.get(ITERATIONS)
    return not SEARCHES[arguments["mode"]].has_stages and type(before) is int and arguments[ITERATIONS] > before


class FunctionRow(HistoryRow, kw_only=True):
    """A row of the history of such a search."""

    evaluation: Count
    iteration: Count
    block_choices: Choices
    channel_choices: Choices
    flops: Count
    params: Count
    fitness: float


@dataclass
class _Scorer:
    """Fitness of a generation: from the journal, or scored now and written to it."""

    domain: Domain
    score: Score
    journal: Journal

    def __post_init__(self) -> None:
        self._known = {architecture_of(row): row for row in self.journal.rows}
        self._iteration = 0

    def __call__(self, generation: Sequence[Architecture]) -> List[float]:
        for architecture in progress_bar(generation, desc=f"iteration {self._iteration}", unit="arch"):
            if architecture not in self._known:
                self.journal.append(self._row(architecture))
                self._known[architecture] = self.journal.rows[-1]
        self._iteration += 1
        return [self._known[architecture]["fitness"] for architecture in generation]

    def _row(self, architecture: Architecture) -> Dict[str, Any]:
        value = float(self.score(architecture))
        if not math.isfinite(value):
            raise InputError(f"the score of {architecture} is {value}; it must be a finite number")
        cost = self.domain.cost(architecture)
        return {
            "evaluation": len(self.journal.rows),
            "iteration": self._iteration,
            **choices_of(architecture),
            "flops": cost.macs,
            "params": cost.params,
            **({"latency_ms": cost.latency_ms} if isinstance(cost, TimedCost) else {}),
            "fitness": value,
        }
