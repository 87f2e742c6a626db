"""Finals: the best of a search that tie are told apart by training each a little, in rounds of successive halving.

In every round the finalists that are left are trained on from where they stand, twice as long as in the round before,
and measured on the images that scored them in the search. Both accuracies count, each by the inverse of its variance;
the better half goes on, until one is left (Karnin, Koren and Somekh, 2013; Jamieson and Talwalkar, 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from msgspec import Meta, Struct, convert
from typing_extensions import Annotated

from spos.runs.files import check_shape, read_json
from spos.runs.schema import Choices, Count, Positive, Share, ShareInterval
from spos.search.budgets import Budgets
from spos.search.choice import BY_SCORE, CHOICE, Choice, HeldChoice
from spos.search.flags import SearchOptions
from spos.search.history import Row, best_rows, find_ties, subtracted_of

FINALS_FILE = "finals.jsonl"


class FinalRow(Struct):
    """A row of `finals.jsonl`: a finalist after a round."""

    evaluation: Count
    round: Count
    block_choices: Choices
    channel_choices: Choices
    epochs: Positive
    lr: float
    top1: Share
    top1_interval: ShareInterval
    num_images: Positive


class HeldStanding(Struct):
    """A finalist in one round, as an architecture file says it."""

    evaluation: Count
    epochs: Positive
    top1: Share
    top1_interval: ShareInterval
    combined: float


class HeldFinals(Struct):
    """`finals` of an architecture file: rounds, each from the best to the worst.

    Attributes:
        first_by_search: the evaluation that the search put first.
    """

    first_by_search: Count
    rounds: Annotated[List[Annotated[List[HeldStanding], Meta(min_length=1)]], Meta(min_length=1)]

    @property
    def winner(self) -> int:
        """Its evaluation."""
        return self.rounds[-1][0].evaluation

    @property
    def text(self) -> str:
        """Who was left, and how, in one sentence."""
        last = self.rounds[-1][0]
        low, high = last.top1_interval
        epochs = sum(own[0].epochs for own in self.rounds)
        first = "it was also" if self.first_by_search == self.winner else f"evaluation {self.first_by_search} was"
        return (
            f"evaluation {self.winner} of {len(self.rounds[0])} finalists, after {epochs} epochs of its own "
            f"{last.top1:.2%} (95% interval {low:.2%} to {high:.2%}); {first} the first by the search"
        )


def read_finals(architecture_file: Path) -> Optional[HeldFinals]:
    """The finals that an architecture file tells of; None if it tells of none, or is not there.

    Raises: InputError if they are damaged.
    """
    return _held(architecture_file, "finals", HeldFinals)


def read_choice(architecture_file: Path) -> Optional[HeldChoice]:
    """The same of the choice by a model."""
    return _held(architecture_file, CHOICE, HeldChoice)


def _held(architecture_file: Path, key: str, shape: Any) -> Any:
    record = read_json(architecture_file) if architecture_file.is_file() else None
    if not isinstance(record, dict) or key not in record:
        return None
    check_shape(record[key], architecture_file, shape)
    return convert(record[key], shape)


def chosen_of(architecture_file: Path, rows: Sequence[Row]) -> Optional[Row]:
    """Of rows of a history the one that the file says was left by finals, or chosen by a model; else the best."""
    finals, choice = read_finals(architecture_file), read_choice(architecture_file)
    chosen = finals.winner if finals else choice.chosen if choice else None
    return next(iter([row for row in rows if row["evaluation"] == chosen] or best_rows(rows, 1)), None)


@dataclass(frozen=True)
class Standing:
    """A finalist in one round.

    Args:
        row: of the history.    measured: of `finals.jsonl`.
        combined: both accuracies, less what the target subtracts, above the mean of the round, each weighted by the
            inverse of its variance.
    """

    row: Row
    measured: Mapping[str, Any]
    combined: float

    def to_json(self) -> Dict[str, Any]:
        measured = {key: self.measured[key] for key in ("epochs", "top1", "top1_interval")}
        return {"evaluation": self.row["evaluation"], **measured, "combined": self.combined}


@dataclass(frozen=True)
class Finals:
    """Rounds, each from the best to the worst, whom the search had put first, and who is left."""

    first: Row
    winner: Row
    rounds: Sequence[Sequence[Standing]]

    def to_json(self) -> Dict[str, Any]:
        """What an architecture file says of them."""
        rounds = [[one.to_json() for one in own] for own in self.rounds]
        return {"first_by_search": self.first["evaluation"], "rounds": rounds}


def finalists_of(rows: Sequence[Row], count: int, choice: Choice = BY_SCORE) -> List[Row]:
    """The best, and those of the others that tie with it, the best of these first; at most `count`.

    Where a model chooses there are no ties: the first by the model.
    """
    if choice.expected is not None:
        return choice.best(rows, count)
    best = best_rows(rows, min(count, 1))
    return [*best, *(one for row in best for one in best_rows(find_ties(rows, row), count - 1))]


def hold_finals(finalists: Sequence[Row], measure: Callable[[Row, int], Mapping[str, Any]]) -> Finals:
    """Rounds until one is left.

    Args:
        finalists: the best by the search first.
        measure: trains a finalist for a round (from 0) and gives its row of `finals.jsonl`.
    """
    left = list(finalists)
    rounds: List[List[Standing]] = []
    while len(left) > 1:
        measured = [measure(row, len(rounds)) for row in left]
        values = combine(left, measured)
        standings = [Standing(*one) for one in zip(left, measured, values)]
        standings.sort(key=lambda one: (-one.combined, one.row["evaluation"]))
        rounds.append(standings)
        left = [one.row for one in standings[: ceil(len(left) / 2)]]
    return Finals(finalists[0], left[0], rounds)


def hold_all_finals(
    rows: Sequence[Row],
    options: SearchOptions,
    measure: Callable[[Row, int], Mapping[str, Any]],
    choice: Choice = BY_SCORE,
) -> Dict[str, Finals]:
    """By name of the budget, and of all under "". None where nothing ties with the best, or nobody asks for finals."""
    groups = {"": rows}
    if options.budgets:
        budgets = Budgets.parse(options.budgets)
        groups.update(zip(budgets.names, budgets.rows_within(rows)))
    finalists = {name: finalists_of(own, options.finalists, choice) for name, own in groups.items()}
    return {name: hold_finals(own, measure) for name, own in finalists.items() if len(own) > 1}


def combine(rows: Sequence[Row], measured: Sequence[Mapping[str, Any]]) -> List[float]:
    """Accuracies above the mean of all, of the search and of a round together, by inverse variance.

    A share p of n images has the variance p (1 - p) / n; p is the mean of all, so the weights are the same for all.
    From both is subtracted what the target of the search subtracts.
    """
    subtracted = np.array([subtracted_of(row) for row in rows])
    parts = [_above_mean([row["top1"] for row in own], subtracted, own[0]["num_images"]) for own in (rows, measured)]
    weights = [1 / variance for _, variance in parts]
    return np.average([values for values, _ in parts], axis=0, weights=weights).tolist()


def _above_mean(top1: Sequence[float], subtracted: np.ndarray, num_images: int) -> Tuple[np.ndarray, float]:
    """Of accuracies less what is subtracted; and the variance of an accuracy."""
    mean, values = float(np.mean(top1)), np.array(top1) - subtracted
    smallest = 0.5 / num_images  # of a share that is 0 or 1: half an image, so that no weight is infinite
    share = min(max(mean, smallest), 1 - smallest)
    return values - np.mean(values), share * (1 - share) / num_images
