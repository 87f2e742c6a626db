"""Who is the best of what a search has scored: by its own score, by what all scores say of it, or also by its FLOPs.

A score of a supernet is an accuracy on few images, and of shared weights: the highest of many is high by luck, too. A
model in which every choice block adds what it is worth learns from all scores at once, and what it expects of an
architecture orders those of NAS-Bench-Macro better than their scores do (docs/nas-bench-macro.md). Where scores tell
little, that an architecture has more FLOPs says more of it than they do (docs/searching.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from msgspec import UNSET, Struct, UnsetType
from threadpoolctl import threadpool_limits

from spos.runs.schema import Count, Share
from spos.search.domain import Domain
from spos.search.history import Row, best_rows, is_complete, learned_from
from spos.search.linear_model import Effects, LinearModel, known_fitness
from spos.space.architecture import Architecture, architecture_of

SCORE, MODEL, MODEL_AND_FLOPS = CHOICES = ("score", "model", "model+flops")
CHOICE = "choice"  # key of an architecture file


class HeldChoice(Struct):
    """`choice` of an architecture file, if the model has chosen it.

    Attributes:
        chosen: its evaluation.    first_by_score: that of the highest score.
        expected: fitness that the model expects of it.
        share: of the variance of all fitness, what the model explains, if FLOPs counted for the rest.
    """

    chosen: Count
    expected: float
    first_by_score: Count
    share: Union[Share, UnsetType] = UNSET

    @property
    def text(self) -> str:
        """In one sentence."""
        first = "it has" if self.first_by_score == self.chosen else f"evaluation {self.first_by_score} has"
        flops = "" if self.share is UNSET else f" (it explains {self.share:.0%} of them; FLOPs count for the rest)"
        return (
            f"evaluation {self.chosen}, of which the additive model of all scores expects {self.expected:.2%}{flops}; "
            f"{first} the highest score"
        )


def additive_fitness(
    effects: Effects,
    scored: Sequence[Architecture],
    fitness: Union[Sequence[float], np.ndarray],
    variance: Union[float, np.ndarray] = 0.0,
    wanted: Optional[Sequence[Architecture]] = None,
) -> np.ndarray:
    """What is expected of architectures by all scores together, if every choice block adds what it is worth.

    Args:
        fitness: of each that was scored; -inf where all that is known is that it was dropped.
        variance: that each fitness is known to have, or one for all; what else there is is estimated.
        wanted: of which architectures; by default of those that were scored.
    Returns: (architectures,) fitness.
    """
    known, rows = known_fitness(fitness), effects.of(scored)
    with threadpool_limits(1, "blas"):  # the same bits with any number of threads
        model = LinearModel(effects, rows, known, variance, effects.additive)
        return model.predict(rows if wanted is None else effects.of(wanted))


def weighed_with_flops(expected: np.ndarray, fitness: np.ndarray, flops: np.ndarray) -> Tuple[np.ndarray, float]:
    """What is expected of architectures and the logarithm of their FLOPs, by how much the scores have told.

    Both are standardised and weighed by the square roots of two shares of the fitness' variance: what the model
    explains, and the rest. A model that explains everything decides alone; where all scores are noise, FLOPs do.

    Returns: values that order the architectures, and the share that the model explains.
    """
    variance = float(np.var(fitness))
    share = min(float(np.var(expected)) / variance, 1.0) if variance else 0.0
    values = np.sqrt(share) * _standardised(expected) + np.sqrt(1 - share) * _standardised(np.log(flops))
    return values, share


def _standardised(values: np.ndarray) -> np.ndarray:
    deviation = float(np.std(values))
    return (values - np.mean(values)) / deviation if deviation else np.zeros(len(values))


@dataclass(frozen=True)
class Choice:
    """An order of scored rows.

    Args:
        expected: by evaluation, what a model expects; None: the own fitness of a row counts.
        order: by evaluation, what decides; None: what is expected.    share: see `HeldChoice`.
    """

    expected: Optional[Mapping[int, float]] = None
    order: Optional[Mapping[int, float]] = None
    share: Optional[float] = None

    @classmethod
    def by(cls, name: str, domain: Domain, rows: Sequence[Row]) -> Choice:
        """Of all rows of a search. Args: name: one of CHOICES."""
        if name == SCORE or not any(map(is_complete, rows)):
            return cls()
        fitness, variance = learned_from(rows)
        expected = additive_fitness(domain.effects, [architecture_of(row) for row in rows], fitness, variance)
        evaluations = np.array([row["evaluation"] for row in rows])
        by_evaluation = dict(zip(evaluations.tolist(), expected.tolist()))
        if name == MODEL:
            return cls(by_evaluation)
        flops, known = np.array([row["flops"] for row in rows], float), np.array(list(map(is_complete, rows)))
        values, share = weighed_with_flops(expected[known], fitness[known], flops[known])
        return cls(by_evaluation, dict(zip(evaluations[known].tolist(), values.tolist())), share)

    def best(self, rows: Sequence[Row], count: int) -> List[Row]:
        """The first of the complete rows, best first; of equals, the one evaluated first."""
        if self.expected is None:
            return best_rows(rows, count)
        order, complete = self.order or self.expected, filter(is_complete, rows)
        return sorted(complete, key=lambda row: (-order[row["evaluation"]], row["evaluation"]))[:count]

    def to_json(self, rows: Sequence[Row]) -> Dict[str, Any]:
        """What an architecture file says of who is chosen of these rows; nothing where scores decide."""
        if self.expected is None:
            return {}
        number, first = (own[0]["evaluation"] for own in (self.best(rows, 1), best_rows(rows, 1)))
        share = {} if self.share is None else {"share": self.share}
        return {CHOICE: {"chosen": number, "expected": self.expected[number], "first_by_score": first, **share}}


BY_SCORE = Choice()
