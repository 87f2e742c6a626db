"""Finals of searches held against accuracies that others measured: is who was left better than who was first?"""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from spos.core.errors import InputError
from spos.core.intervals import Interval, student_interval
from spos.runs.run import BEST_FILE, SEARCH_RUN, open_run_directory
from spos.search.budgets import budget_file
from spos.search.finals import read_finals
from spos.search.history import load_history
from spos.space.architecture import architecture_of
from spos.space.flags import space_of_run
from spos.study.truth import TruthOptions, read_truth


class FinalsTruth(NamedTuple):
    """True accuracies, means over the seeds of the truth, of the finalists of one search within one budget.

    Attributes:
        budget: its name, "" where there are none.    mean: of all finalists, which a draw among them would have.
    """

    search: str
    budget: str
    num_finalists: int
    first: float
    left: float
    mean: float
    best: float


def finals_of(run: Path, options: TruthOptions) -> List[FinalsTruth]:
    """Of every architecture file of a search that tells of finals.

    Raises: InputError if it is no search, tells of none, or the truth does not know a finalist.
    """
    directory, history = open_run_directory(run), load_history(run)
    space = space_of_run(directory)
    if directory.kind != SEARCH_RUN or space is None:
        raise InputError(f"{run} is no run of search_supernet.py")
    truth = read_truth(options, space)
    found = []
    pattern = budget_file("*")
    prefix, suffix = pattern.split("*")
    files = sorted(run.glob(pattern)) or [run / BEST_FILE]
    for file in files:
        held = read_finals(file)
        if held is None:
            continue
        finalists = [one.evaluation for one in held.rounds[0]]
        architectures = {number: architecture_of(history.rows[number]) for number in finalists}
        unknown = [number for number, one in architectures.items() if one not in truth]
        if unknown:
            raise InputError(f"{options.truth} does not know {architectures[unknown[0]]}, a finalist of {run}")
        values = {number: float(np.mean(truth[one])) for number, one in architectures.items()}
        name = "" if file.name == BEST_FILE else file.name[len(prefix) : -len(suffix)]
        first, left = values[held.first_by_search], values[held.winner]
        numbers = list(values.values())
        found.append(FinalsTruth(history.name, name, len(numbers), first, left, float(np.mean(numbers)), max(numbers)))
    if not found:
        raise InputError(f"{run} has held no finals: search with --finalists, among candidates that tie")
    return found


def gains(rows: Sequence[FinalsTruth]) -> Optional[List[Interval]]:
    """Of who was left over who was first, and over the mean of the finalists; None for a single row."""
    if len(rows) < 2:
        return None
    return [
        student_interval([row.left - row.first for row in rows]),
        student_interval([row.left - row.mean for row in rows]),
    ]
