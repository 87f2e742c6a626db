"""What an architecture may cost, and whether any architecture can be that small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from spos.cost import COMPARISON_MODELS, DEFAULT_COMPARISON_MODEL, Cost, CostTable, score
from spos.errors import InputError


@dataclass(frozen=True)
class Limit:
    """An upper bound on `macs_weight * macs + params_weight * params`, named as the user knows it."""

    name: str
    unit: str
    macs_weight: float
    params_weight: float
    bound: float

    @property
    def weights(self) -> Tuple[float, float]:
        return self.macs_weight, self.params_weight

    def value(self, cost: Cost) -> float:
        return self.macs_weight * cost.macs + self.params_weight * cost.params


@dataclass(frozen=True)
class Constraints:
    """Upper limits on cost, relative to a comparison model or in millions. None is no limit."""

    comparison_model: str = DEFAULT_COMPARISON_MODEL
    flop_max: Optional[float] = None  # ratios to the comparison model
    param_max: Optional[float] = None
    score_max: Optional[float] = 1.0  # 0.5 flop ratio + 0.5 param ratio
    flop_max_m: Optional[float] = None  # millions
    param_max_m: Optional[float] = None

    def limits(self) -> List[Limit]:
        """All limits that are set."""
        model = COMPARISON_MODELS[self.comparison_model]
        candidates = (
            ("FLOPs", "x of " + self.comparison_model, 1 / model.macs, 0.0, self.flop_max),
            ("params", "x of " + self.comparison_model, 0.0, 1 / model.params, self.param_max),
            ("combined score", "", 0.5 / model.macs, 0.5 / model.params, self.score_max),
            ("FLOPs", "M", 1e-6, 0.0, self.flop_max_m),
            ("params", "M", 0.0, 1e-6, self.param_max_m),
        )
        return [Limit(*values, bound=bound) for *values, bound in candidates if bound is not None]  # type: ignore

    def admits(self, cost: Cost) -> bool:
        """Whether a cost keeps every limit. A cost that equals a limit keeps it."""
        return all(limit.value(cost) <= limit.bound for limit in self.limits())

    def check_reachable(self, table: CostTable, choices: Sequence[Sequence[Tuple[int, int]]]) -> None:
        """Raise InputError if some limit is below the smallest reachable cost, naming that cost.

        Args:
            choices: for every choice block the (block choice, channel choice) pairs that may be searched.
        """
        for limit in self.limits():
            cheapest = (
                min((costs[b][c] for b, c in allowed), key=limit.value) for costs, allowed in zip(table.blocks, choices)
            )
            smallest = limit.value(sum(cheapest, table.fixed))  # of integer sums, as `admits` computes it
            if smallest > limit.bound:
                raise InputError(
                    f"no architecture of this space has {limit.name} <= {limit.bound:g} {limit.unit}".rstrip()
                    + f"; the smallest reachable is {smallest:.6g} {limit.unit}".rstrip()
                )

    def combined_score(self, cost: Cost) -> float:
        return score(cost, self.comparison_model).combined


def limit_or_none(value: float) -> Optional[float]:
    """A flag's value, where -1 (anything negative) means no limit."""
    return None if value < 0 else value
