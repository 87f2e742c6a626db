"""Budgets of one cost, each with a best architecture of its own: `flops:100,150,200` in one search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

from spos.core.errors import InputError
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.history import Row


@dataclass(frozen=True)
class Budgets:
    """What a cost may be at most.

    Args:
        cost: a name of COSTS.
        most: rising, in millions or milliseconds.
    """

    cost: str
    most: Tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Budgets:
        """From `flops:100,150,200`.

        Raises: InputError if it is not of this form, a number is not above 0, or two have one name.
        """
        cost, colon, numbers = text.partition(":")
        cost = cost.strip()
        if cost not in COSTS or not colon:
            raise InputError(
                f"--budgets '{text}' is not of the form flops:100,150,200: one of {', '.join(COSTS)} (in millions, "
                "latency in milliseconds), a colon, and what it may be at most"
            )
        most = [_above_zero(part.strip(), text) for part in numbers.split(",")]
        if len(set(most)) < len(most):
            raise InputError(f"--budgets '{text}': each budget is given once")
        budgets = cls(cost, tuple(sorted(most)))
        for name, following in zip(budgets.names, budgets.names[1:]):
            if name == following:
                raise InputError(f"--budgets '{text}': two budgets are called {name}; six digits tell them apart")
        return budgets

    @property
    def names(self) -> List[str]:
        """Of each budget, as in the names of files: `100M`, `2.5ms`."""
        return [f"{most:g}{COSTS[self.cost].sign}" for most in self.most]

    def domains(self, domain: Domain) -> List[Domain]:
        """The part of a domain within each budget."""
        unit = COSTS[self.cost].unit
        return [domain.within(**{self.cost: most * unit}) for most in self.most]

    def rows_within(self, rows: Sequence[Row]) -> List[List[Row]]:
        """The rows that keep each budget."""
        cost = COSTS[self.cost]
        return [[row for row in rows if cost.keeps(row, most)] for most in self.most]


def budget_file(name: str) -> str:
    """Where a search writes the best within the budget of this name."""
    return f"budget-{name}.json"


def _above_zero(part: str, text: str) -> float:
    try:
        value = float(part)
    except ValueError:
        raise InputError(f"--budgets '{text}': '{part}' is not a number") from None
    if not 0 < value < float("inf"):
        raise InputError(f"--budgets '{text}': a budget must be above 0 and finite, not {part}")
    return value
