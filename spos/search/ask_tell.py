"""A search that is asked what to score, and told the scores: no supernet, no images, no MXNet.

As in a search with a supernet, decisions depend on the seed and the scores alone. So a stopped search goes on by
running it again from the start with the scores in its journals: nothing is asked for twice once it was told, and the
result is the same in whatever order scores come.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from spos.core.errors import InputError
from spos.latency.tables import Latency
from spos.runs.files import PathLike, read_json, write_json
from spos.runs.journal import Journal
from spos.runs.lock import locked
from spos.runs.run import ARRIVED_FILE, BEST_FILE, CONFIG_FILE, HISTORY_FILE, LOCK_FILE
from spos.runs.schema import Choices, Count
from spos.sampling.limits import Limits
from spos.search.choice import BY_SCORE, Choice
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.evolution import Search
from spos.search.flags import SEARCHES, SearchOptions, make_search
from spos.search.history import REMEDY, HistoryRow, Row, check_costs, open_history
from spos.space.architecture import Architecture, architecture_of, choices_of
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import TimedCost
from spos.space.space import SearchSpace

ITERATIONS = "iterations"
LARGEST_SCORE = 1e100  # a model squares scores, and sums the squares
MODES = tuple(name for name, mode in SEARCHES.items() if not mode.has_front)  # those that maximise one number


class ToldRow(HistoryRow, kw_only=True):
    """A score that waits for its turn in the history."""

    block_choices: Choices
    channel_choices: Choices
    fitness: float


class FunctionRow(ToldRow, kw_only=True):
    """A row of the history."""

    evaluation: Count
    iteration: Count
    flops: Count
    params: Count


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        rows: an evaluation each, in the order of the search: `evaluation`, `iteration`, `block_choices`,
            `channel_choices`, where it is a choice `input_size`, `flops`, `params`, with a latency table `latency_ms`,
            and `fitness`, the score. In a search of a supernet they have more (docs/history.md).
        finalist: of them the one that was left by the finals, if there were any.
        choice: says which is best: the highest score, or what a model of all scores expects the most of.
    """

    space: SearchSpace
    rows: Tuple[Row, ...]
    finalist: Optional[Row] = None
    choice: Choice = BY_SCORE

    def within(self, limits: Limits) -> Found:
        """The part of it that keeps limits: `found.within(Limits(flops=100e6)).best`, after a search with budgets.

        Raises: InputError if latency is limited and the rows do not tell it.
        """
        most = [(cost, getattr(limits, cost.key)) for cost in COSTS.values() if getattr(limits, cost.key) is not None]
        if limits.latency_ms is not None and not all("latency_ms" in row for row in self.rows):
            raise InputError("a limit on latency needs rows of a search with a latency table")
        rows = tuple(row for row in self.rows if all(cost.keeps(row, value / cost.unit) for cost, value in most))
        return replace(self, rows=rows, finalist=self.finalist if self.finalist in rows else None)

    @property
    def best_row(self) -> Row:
        """The finalist; else the best of those scored on all images, and of equals the first.

        Raises: InputError if nothing was scored, or nothing within the limits.
        """
        best = [self.finalist] if self.finalist else self.choice.best(self.rows, 1)
        if not best:
            raise InputError("nothing was scored within these limits; ask for more, or widen them")
        return best[0]

    @property
    def best(self) -> Architecture:
        """The architecture of `best_row`, which see."""
        return architecture_of(self.best_row)

    @property
    def best_score(self) -> float:
        return self.best_row["fitness"]


class AskTell:
    """A search that is open: ask what to score, tell the scores in any order, until nothing is asked for."""

    def __init__(self, domain: Domain, search: Search, folder: Path) -> None:
        self._domain, self._search, self._folder = domain, search, folder
        self._history = open_history(folder / HISTORY_FILE, FunctionRow)
        check_costs(self._history.rows, domain.space, self._history.path)
        self._arrived = Journal(folder / ARRIVED_FILE, ToldRow, with_check=True)
        self._fitness = {architecture_of(row): row["fitness"] for row in (*self._arrived.rows, *self._history.rows)}
        self._generation: List[Architecture] = next(search, [])
        self._iteration = 0
        self._num_done = 0  # evaluations that had their turn
        self._first = 0  # of them in earlier generations
        self._go_on()

    @property
    def iteration(self) -> int:
        """Number of the generation that is asked for, from 0."""
        return self._iteration

    @property
    def found(self) -> Found:
        """All evaluations so far that stand in the history, and the best of them."""
        return Found(self._domain.space, tuple(self._history.rows))

    def ask(self) -> List[Architecture]:
        """What is to be scored now, in any order or at once; an empty list when the search is over.

        It is the same list, without what was told meanwhile, until all of it is told.
        """
        return [architecture for architecture in self._generation if architecture not in self._fitness]

    def tell(self, architecture: Architecture, score: float) -> None:
        """Record the score of an architecture that is asked for; it is on disk when this returns.

        Raises: InputError if it is not asked for, has been told already, or the score is not a real number between
            -1e100 and 1e100.
        """
        value = checked_score(score, architecture)
        if architecture in self._fitness:
            raise InputError(f"{architecture} has a score already, {self._fitness[architecture]}")
        if architecture not in self._generation:
            raise InputError(f"{architecture} was not asked for")
        self._fitness[architecture] = value
        if architecture != self._next:
            self._arrived.append({**choices_of(architecture), "fitness": value})
        self._go_on()

    @property
    def _next(self) -> Optional[Architecture]:
        """Whose turn in the history it is; None when the search is over."""
        return self._generation[self._num_done - self._first] if self._generation else None

    def _go_on(self) -> None:
        """Record what has its turn; when that was the last of a generation, decide the next one."""
        while self._next in self._fitness:
            self._record(self._next)
            self._num_done += 1
            if self._num_done == self._first + len(self._generation):
                self._next_generation()

    def _record(self, architecture: Architecture) -> None:
        """Write its row, or find it written."""
        rows = self._history.rows
        if self._num_done == len(rows):
            self._history.append(self._row(architecture))
        elif architecture_of(rows[self._num_done]) != architecture:
            raise InputError(
                f"{self._history.path} line {self._num_done + 1} is of {architecture_of(rows[self._num_done])}, this "
                f"search asks for {architecture} there; {REMEDY}"
            )

    def _next_generation(self) -> None:
        self._write_best()
        if self._arrived.rows:
            self._arrived.clear()
        fitness = [self._fitness[architecture] for architecture in self._generation]
        self._iteration, self._first = self._iteration + 1, self._num_done
        try:
            self._generation = self._search.send(fitness)
        except StopIteration:
            self._generation = []

    def _write_best(self) -> None:
        found = self.found
        more = {"name": "searched", **{key: found.best_row[key] for key in ("fitness", "evaluation", "iteration")}}
        write_json(self._folder / BEST_FILE, ArchitectureRecord(found.space, found.best, more).to_json())

    def _row(self, architecture: Architecture) -> Dict[str, Any]:
        cost = self._domain.cost(architecture)
        return {
            "evaluation": self._num_done,
            "iteration": self._iteration,
            **choices_of(architecture),
            "flops": cost.macs,
            "params": cost.params,
            **({"latency_ms": cost.latency_ms} if isinstance(cost, TimedCost) else {}),
            "fitness": self._fitness[architecture],
        }


@contextlib.contextmanager
def open_search(
    space: SearchSpace,
    folder: PathLike,
    limits: Optional[Limits] = None,
    mode: str = "genetic",
    iterations: int = 20,
    population: int = 50,
    retain: int = 10,
    seed: int = 0,
    latency: Optional[Latency] = None,
) -> Iterator[AskTell]:
    """Open a search for the architecture of the highest score under limits: `ask` what to score, `tell` the scores.

    For scores that are computed elsewhere or side by side; `search_architectures` is the loop around it. The same call
    goes on with a search that was stopped or killed, also with more `iterations`. Nothing else can open the folder
    within the block. `folder/best.json`, written after every generation, is the best architecture so far as a file that
    the programs take as `--architecture`.

    Args:
        mode: "genetic", "random", "two-stage" (blocks at equal widths first, then the widths of the best blocks), or
            "surrogate" (the best by a model of the scores so far).
        iterations: generations of `population` architectures, those that survive from the last one among them.
        retain: of `population`, the best that become parents.
        latency: a table of this space; a limit on latency needs it.
    Raises: InputError if no architecture keeps the limits, or if `folder` holds another search or is in use.
    """
    if mode not in MODES:
        raise InputError(f"unknown mode '{mode}'; known: {', '.join(MODES)}")
    limits = limits or Limits()
    domain = Domain(space, limits.constraints(), latency=latency)
    domain.check()
    options = SearchOptions(search_mode=mode, search_iters=iterations, population_size=population, retain_length=retain)
    search = make_search(domain, options, seed)
    arguments = {
        "program": "search_architectures",
        "space": space.to_json(),
        "limits": asdict(limits),
        "latency": latency.to_json() if latency else None,
        "mode": mode,
        "population": population,
        "retain": retain,
        "seed": seed,
        ITERATIONS: iterations,
    }
    with locked(folder):
        enter_search(Path(folder), arguments)
        yield AskTell(domain, search, Path(folder))


def checked_score(score: Any, architecture: Architecture) -> float:
    """A score as a float; raises InputError if it is not a real number between -LARGEST_SCORE and LARGEST_SCORE."""
    if not isinstance(score, Real) or not -LARGEST_SCORE <= score <= LARGEST_SCORE:  # type: ignore[operator]
        what = f"{score:g}" if isinstance(score, float) else f"of type {type(score).__name__}"
        raise InputError(
            f"the score of {architecture} is {what}; it must be a real number between {-LARGEST_SCORE:g} and "
            f"{LARGEST_SCORE:g}"
        )
    return float(score)


def enter_search(folder: Path, arguments: Mapping[str, Any]) -> None:
    """Enter the folder of the same search, which may be made longer, or begin one in an empty folder.

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
    elif any(entry.name != LOCK_FILE for entry in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no search; give another folder")
    write_json(path, arguments)


def _may_be_longer(old: Mapping[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether a search may go on with these iterations; with stages, their number says where the second begins."""
    before = old.get(ITERATIONS)
    return not SEARCHES[arguments["mode"]].has_stages and type(before) is int and arguments[ITERATIONS] > before
