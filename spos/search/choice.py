"""Who is the best of what a search has scored: by its own score, or by what all scores together say of it.

A score of a supernet is an accuracy on few images, and of shared weights: the highest of many is high by luck, too. A
model in which every choice block adds what it is worth learns from all scores at once, and what it expects of an
architecture orders those of NAS-Bench-Macro better than their scores do (docs/nas-bench-macro.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from msgspec import Struct
from threadpoolctl import threadpool_limits

from spos.runs.schema import Count
from spos.search.domain import Domain
from spos.search.history import Row, best_rows, fitness_of, is_complete, num_images_of
from spos.search.linear_model import Effects, LinearModel, known_fitness, variance_of
from spos.space.architecture import Architecture, architecture_of

SCORE, MODEL = CHOICES = ("score", "model")
CHOICE = "choice"  # key of an architecture file


class HeldChoice(Struct):
    """`choice` of an architecture file, if the model has chosen it.

    Attributes:
        chosen: its evaluation.    first_by_score: that of the highest score.
        expected: fitness that the model expects of it.
    """

    chosen: Count
    expected: float
    first_by_score: Count

    @property
    def text(self) -> str:
        """In one sentence."""
        first = "it has" if self.first_by_score == self.chosen else f"evaluation {self.first_by_score} has"
        return (
            f"evaluation {self.chosen}, of which the additive model of all scores expects {self.expected:.2%}; {first} "
            "the highest score"
        )


def additive_fitness(
    effects: Effects,
    scored: Sequence[Architecture],
    fitness: Sequence[float],
    num_images: int = 0,
    wanted: Optional[Sequence[Architecture]] = None,
) -> np.ndarray:
    """What is expected of architectures by all scores together, if every choice block adds what it is worth.

    Args:
        fitness: of each that was scored; that of a dropped one is -inf.
        num_images: that a score is the accuracy on; 0: its variance is estimated.
        wanted: of which architectures; by default of those that were scored.
    Returns: (architectures,) fitness.
    """
    known, rows = known_fitness(fitness), effects.of(scored)
    with threadpool_limits(1, "blas"):  # the same bits with any number of threads
        model = LinearModel(effects, rows, known, variance_of(known, num_images), effects.additive)
        return model.predict(rows if wanted is None else effects.of(wanted))


@dataclass(frozen=True)
class Choice:
    """An order of scored rows.

    Args:
        expected: by evaluation, what a model expects; None: the own fitness of a row counts.
    """

    expected: Optional[Mapping[int, float]] = None

    @classmethod
    def by(cls, name: str, domain: Domain, rows: Sequence[Row]) -> Choice:
        """Of all rows of a search. Args: name: one of CHOICES."""
        if name == SCORE or not any(map(is_complete, rows)):
            return cls()
        architectures, fitness = [architecture_of(row) for row in rows], [fitness_of(row) for row in rows]
        expected = additive_fitness(domain.effects, architectures, fitness, num_images_of(rows))
        return cls(dict(zip((row["evaluation"] for row in rows), expected.tolist())))

    def best(self, rows: Sequence[Row], count: int) -> List[Row]:
        """The first of the complete rows, best first; of equals, the one evaluated first."""
        if self.expected is None:
            return best_rows(rows, count)
        expected, complete = self.expected, filter(is_complete, rows)
        return sorted(complete, key=lambda row: (-expected[row["evaluation"]], row["evaluation"]))[:count]

    def to_json(self, rows: Sequence[Row]) -> Dict[str, Any]:
        """What an architecture file says of who is chosen of these rows; nothing where scores decide."""
        if self.expected is None:
            return {}
        number, first = (own[0]["evaluation"] for own in (self.best(rows, 1), best_rows(rows, 1)))
        return {CHOICE: {"chosen": number, "expected": self.expected[number], "first_by_score": first}}


BY_SCORE = Choice()
