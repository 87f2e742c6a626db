"""Costs of an architecture that a search can limit, weigh against accuracy, or have budgets of: one table for all."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from spos.sampling.limits import MILLION
from spos.space.cost import NANOSECONDS_PER_MS


class SearchedCost(NamedTuple):
    """A cost by its name in flags.

    Attributes:
        key: of a row of the history.    label: of an axis, with the unit.
        unit: of what rows have, in what is printed, limited and given as a budget.    sign: of that unit, in names.
        limit: the field of `Constraints`.    flag: its flag.
        part: which number of a cost.    part_unit: of that number, in what rows have.
    """

    key: str
    label: str
    unit: float
    sign: str
    limit: str
    flag: str
    part: int
    part_unit: float = 1.0

    def keeps(self, row: Mapping[str, Any], most: float) -> bool:
        """Whether a row costs at most so many `unit`s, rounded as the limit itself is."""
        return round(row[self.key] * self.part_unit) <= round(most * self.unit * self.part_unit, 3)


COSTS: Mapping[str, SearchedCost] = {
    "flops": SearchedCost("flops", "FLOPs (M)", MILLION, "M", "flop_max_m", "--flop-max-m", 0),
    "params": SearchedCost("params", "params (M)", MILLION, "M", "param_max_m", "--param-max-m", 1),
    "latency": SearchedCost(
        "latency_ms", "latency (ms)", 1.0, "ms", "latency_max_ms", "--latency-max", 2, NANOSECONDS_PER_MS
    ),
}
