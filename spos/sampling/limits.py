"""Limits on what an architecture costs, and whether any architecture can be that small."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np

from spos.core.errors import InputError
from spos.space.cost import COMPARISON_MODELS, DEFAULT_COMPARISON_MODEL, NANOSECONDS_PER_MS, AnyCost

MILLION = 1e6
Parts = Union[Sequence[Any], np.ndarray]  # of a cost: MACs, params, nanoseconds; or arrays of them
Bounds = Tuple[Optional[float], Optional[float]]  # of FLOPs and of params
_NUMBER = r"(\d+(?:\.\d+)?)"
_BOUNDS = re.compile(rf"flops-{_NUMBER}(?:-params-{_NUMBER})?|params-{_NUMBER}")


@dataclass(frozen=True)
class Limit:
    """Bounds on a weighted sum of a cost's parts, named as the user knows it.

    Args:
        weights: of MACs, params and nanoseconds, without the zeros at the end.
        scale: what a bound is divided by to be shown in `unit`.
    """

    name: str
    unit: str
    weights: Tuple[float, ...]
    upper: float = float("inf")
    lower: float = float("-inf")
    scale: float = 1.0

    def value(self, cost: Parts) -> Any:
        """The weighted sum of a cost, or of an array of them for each part."""
        if len(cost) < len(self.weights):
            raise ValueError(f"{self.name} is limited, but a cost of {len(cost)} parts does not tell it")
        return sum(weight * part for weight, part in zip(self.weights, cost))

    def keeps(self, cost: Parts) -> Any:
        """Whether a cost lies within the bounds, or on one; of arrays an array."""
        value = self.value(cost)
        return (value >= self.lower) & (value <= self.upper)

    def __str__(self) -> str:
        lower, upper = (f"{bound / self.scale:.10g}" for bound in (self.lower, self.upper))
        if self.lower == float("-inf"):
            text = f"{self.name} <= {upper}"
        elif self.upper == float("inf"):
            text = f"{self.name} >= {lower}"
        else:
            text = f"{lower} <= {self.name} <= {upper}"
        return f"{text} {self.unit}".rstrip()


def limits_in_millions(upper: Bounds, lower: Bounds) -> Tuple[Limit, ...]:
    """Limits on FLOPs and params from (FLOPs, params) in millions, None for no bound. Raises InputError if crossed."""
    limits = []
    for i, (name, weights) in enumerate((("FLOPs", (1,)), ("params", (0, 1)))):
        low, high = lower[i], upper[i]
        if low is None and high is None:
            continue
        most = float("inf") if high is None else round(high * MILLION, 3)
        least = float("-inf") if low is None else round(low * MILLION, 3)
        if least > most:
            raise InputError(f"the lower limit of {name}, {low:g} M, is above the upper one, {high:g} M")
        limits.append(Limit(name, "M", weights, most, least, MILLION))
    return tuple(limits)


def parse_bounds(text: str, flag: str) -> Bounds:
    """(FLOPs, params) in millions from `flops-330-params-5.0`; None where a part is missing or 0, which is no limit."""
    match = _BOUNDS.fullmatch(text.strip())
    if text.strip() and not match:
        raise InputError(
            f"{flag} '{text}' is not of the form flops-330-params-5.0, flops-330 or params-5.0 (numbers are millions)"
        )
    macs, with_macs, alone = match.groups() if match else (None, None, None)
    return float(macs or 0) or None, float(with_macs or alone or 0) or None


@dataclass(frozen=True)
class Constraints:
    """Upper limits on cost: relative to a comparison model, in millions, in milliseconds. None is no limit."""

    comparison_model: str = DEFAULT_COMPARISON_MODEL
    flop_max: Optional[float] = None  # ratios to the comparison model
    param_max: Optional[float] = None
    score_max: Optional[float] = 1.0  # 0.5 flop ratio + 0.5 param ratio
    flop_max_m: Optional[float] = None  # millions
    param_max_m: Optional[float] = None
    latency_max_ms: Optional[float] = None  # by a latency table

    def limits(self) -> List[Limit]:
        """All limits that are set."""
        model = COMPARISON_MODELS[self.comparison_model]
        ratio = "x of " + self.comparison_model
        candidates: Tuple[Tuple[str, str, Tuple[float, ...], Optional[float]], ...] = (
            ("FLOPs", ratio, (1 / model.macs,), self.flop_max),
            ("params", ratio, (0.0, 1 / model.params), self.param_max),
            ("combined score", "", (0.5 / model.macs, 0.5 / model.params), self.score_max),
        )
        limits = [Limit(name, unit, weights, upper) for name, unit, weights, upper in candidates if upper is not None]
        limits += limits_in_millions((self.flop_max_m, self.param_max_m), (None, None))
        if self.latency_max_ms is not None:
            upper = round(self.latency_max_ms * NANOSECONDS_PER_MS, 3)
            limits.append(Limit("latency", "ms", (0, 0, 1), upper, scale=NANOSECONDS_PER_MS))
        return limits

    def admits(self, cost: AnyCost) -> bool:
        """Whether a cost keeps every limit. A cost that equals a limit keeps it."""
        return all(limit.keeps(cost) for limit in self.limits())

    def check_reachable(self, fixed: Parts, costs: Sequence[np.ndarray]) -> None:
        """Raise InputError if some limit is below the smallest reachable cost, naming that cost.

        Args:
            fixed: cost that every architecture has.
            costs: for every choice block an array (choices, parts of a cost) of those that may be searched.
        """
        for limit in self.limits():
            cheapest = [block[np.argmin(limit.value(block.T))] for block in costs]
            smallest = limit.value(np.add(fixed, np.sum(cheapest, axis=0)))  # of integer sums, as `admits` computes it
            if smallest > limit.upper:
                raise InputError(
                    f"no architecture of this space has {limit}; the smallest reachable is "
                    + f"{smallest / limit.scale:.6g} {limit.unit}".rstrip()
                )


def limit_or_none(value: float) -> Optional[float]:
    """A flag's value, where -1 (anything negative) means no limit."""
    return None if value < 0 else value


@dataclass(frozen=True)
class Limits:
    """What an architecture may cost at most, for one image; None is no limit.

    Args:
        flops: multiply-adds (one multiply-add is 1), so 300 million are `300e6`.
        params: trained parameters, BatchNorm's gamma and beta among them.
        latency_ms: milliseconds by a latency table.
    Raises: InputError if a limit is not above 0.
    """

    flops: Optional[float] = None
    params: Optional[float] = None
    latency_ms: Optional[float] = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and not value > 0:
                raise InputError(f"the limit of {item.name} must be above 0, not {value}")

    def constraints(self) -> Constraints:
        """The same for a search, without a limit on the combined score."""
        flop_max_m, param_max_m = (None if value is None else value / MILLION for value in (self.flops, self.params))
        return Constraints(
            score_max=None, flop_max_m=flop_max_m, param_max_m=param_max_m, latency_max_ms=self.latency_ms
        )
