"""Ancestry: the architectures that the children of a recorded search descend from.

A history says nothing of parents, so that equal searches write equal files. But the decisions of a search depend on its
seed and the recorded scores alone: run again from the start with those scores, it breeds the same children, and says
of whom. What it asks for is compared with the history, so a search of another version is noticed, not misread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.core.flags import RunOptions
from spos.runs.run import RunDirectory
from spos.search.breeder import Lineage
from spos.search.evolution import drive
from spos.search.flags import (
    ConstraintOptions,
    SearchOptions,
    initial_architectures,
    make_domain,
    make_search,
    older_rows,
)
from spos.search.history import SEED_FILE, HistoryRow, Row, fitness_of
from spos.space.architecture import Architecture, architecture_of
from spos.space.flags import space_of_run


@dataclass(frozen=True)
class Ancestry:
    """The rows of a history and the parents of each.

    Args:
        parents: by number of a row the numbers of its parents; fresh samples have none.
    """

    rows: Sequence[Row]
    parents: Mapping[int, Tuple[int, ...]]

    def ancestors(self, number: int) -> List[int]:
        """A row and all it descends from, in the order of the search."""
        found, open_ones = {number}, [number]
        while open_ones:
            new = set(self.parents[open_ones.pop()]) - found
            found |= new
            open_ones += new
        return sorted(found)

    def descent(self, number: int) -> List[int]:
        """The line that leads to a row over the fitter parent each time, from a fresh sample on."""
        line = [number]
        while self.parents[line[-1]]:
            line.append(max(self.parents[line[-1]], key=lambda parent: (fitness_of(self.rows[parent]), -parent)))
        return line[::-1]


def replay(run: RunDirectory, rows: Sequence[Row]) -> Ancestry:
    """Run a search again on its recorded scores.

    Raises: InputError if it cannot be run, or does not ask for what the history has.
    """
    options, space = run.flags(SearchOptions), space_of_run(run)
    if space is None:
        raise InputError(f"{run.path} is no run of a search: its config.json tells no space")
    if "seed" not in run.options:
        raise InputError(f"config.json of {run.path} tells no 'seed'")
    domain = make_domain(space, options, run.flags(ConstraintOptions))
    older = older_rows(run.rows(SEED_FILE, HistoryRow, True), domain, options)
    lineage: Lineage = {}
    initial = initial_architectures(older, options)
    search = make_search(domain, options, run.flags(RunOptions).seed, initial, lineage, rows=rows, older=older)
    numbers = {architecture_of(row): number for number, row in enumerate(rows)}
    asked: List[Architecture] = []

    def recorded(generation: List[Architecture]) -> Optional[List[float]]:
        """Fitness of a generation; None from where the history ends."""
        asked.extend(generation)
        if not all(architecture in numbers for architecture in generation):
            return None
        return [fitness_of(rows[numbers[architecture]]) for architecture in generation]

    drive(search, recorded)
    if asked[: len(rows)] != [architecture_of(row) for row in rows]:
        raise InputError(f"the search in {run.path} asks for other architectures now than it recorded")
    return Ancestry(rows, {number: _parents(lineage, a, numbers) for a, number in numbers.items()})


def _parents(lineage: Lineage, architecture: Architecture, numbers: Dict[Architecture, int]) -> Tuple[int, ...]:
    return tuple(dict.fromkeys(numbers[parent] for parent in lineage.get(architecture, ())))
