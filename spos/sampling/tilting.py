"""Tilting: architectures that keep a limit are made common, and the preference is undone when one is drawn.

Where few architectures are below a limit, most draws break it. So a choice is given the weight exp(-multiplier x its
part of the limited cost), which makes cheap architectures as common as they have to be for the mean to meet the limit,
and a draw that keeps the limit is kept with the chance exp(multiplier x (cost - limit)): together that is uniform
exactly. If costs are spread like a normal distribution, a limit z standard deviations below the mean is met by about
one try in 2.5 z, where without weights it is one in 2.5 z exp(z^2 / 2) (Siegmund, "Importance sampling in the Monte
Carlo study of sequential tests", 1976).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

import numpy as np

from spos.sampling.limits import Limit, Parts

NUM_SWEEPS = 12  # over all limits; the multipliers need not be exact, they decide time alone
NUM_HALVINGS = 30  # of the range of a multiplier
MAX_EXPONENT = 600  # of a weight that matters; exp(-700) is still a normal number


@dataclass(frozen=True)
class Tilt:
    """Weights of choices by some limits.

    Attributes:
        multipliers: of each limit; above 0 its upper bound is tight, below 0 its lower one, at 0 neither.
        weights: for every choice block the weights of its choices, at most 1; empty if no limit is tight.
        log_weight: logarithm of weight x chance, which is the same for every architecture within the limits.
    """

    limits: Tuple[Limit, ...]
    multipliers: Tuple[float, ...]
    weights: Tuple[np.ndarray, ...]
    log_weight: float = 0.0

    @classmethod
    def towards(
        cls, limits: Sequence[Limit], others: Sequence[Limit], fixed: np.ndarray, blocks: Sequence[np.ndarray]
    ) -> Tilt:
        """The weights for `limits`, where `others` are kept too, by other means.

        Args:
            fixed, blocks: as `ConstrainedSampler` takes them.
        """
        multipliers = _multipliers([*limits, *others], fixed, blocks)[: len(limits)] if limits else []
        if not any(multipliers):
            return cls(tuple(limits), tuple(multipliers), ())
        exponents = [
            np.sum([multiplier * limit.value(block.T) for limit, multiplier in zip(limits, multipliers)], axis=0)
            for block in blocks
        ]
        weights = tuple(np.exp(exponent.min() - exponent) for exponent in exponents)
        log_weight = sum(float(exponent.min()) for exponent in exponents)
        for limit, multiplier in zip(limits, multipliers):
            if multiplier:
                log_weight += float(multiplier * (limit.value(fixed) - _bound(limit, multiplier)))
        return cls(tuple(limits), tuple(multipliers), weights, log_weight)

    def chance(self, cost: Parts) -> Any:
        """With which chance a draw of this cost, or of arrays of costs, that keeps the limits is to be kept."""
        exponent = 0.0
        for limit, multiplier in zip(self.limits, self.multipliers):
            if multiplier:
                exponent += multiplier * (limit.value(cost) - _bound(limit, multiplier))
        return np.exp(np.minimum(exponent, 0))


def _bound(limit: Limit, multiplier: float) -> float:
    return limit.upper if multiplier > 0 else limit.lower


class _Costs:
    """Limited costs of the choices, one row for each limit, scaled so that architectures lie between 0 and 1."""

    def __init__(self, limits: Sequence[Limit], fixed: np.ndarray, blocks: Sequence[np.ndarray]) -> None:
        self._sizes = [len(block) for block in blocks]
        self._starts = np.cumsum([0, *self._sizes[:-1]])
        values = np.array([np.concatenate([limit.value(block.T) for block in blocks]) for limit in limits], dtype=float)
        smallest = np.minimum.reduceat(values, self._starts, axis=1)
        spans = np.maximum.reduceat(values, self._starts, axis=1).sum(1) - smallest.sum(1)
        self.spans = np.where(spans > 0, spans, 1)
        self._values = (values - np.repeat(smallest, self._sizes, axis=1)) / self.spans[:, None]
        start = np.array([limit.value(fixed) for limit in limits]) + smallest.sum(1)
        self.lower = (np.array([limit.lower for limit in limits]) - start) / self.spans
        self.upper = (np.array([limit.upper for limit in limits]) - start) / self.spans

    def mean(self, multipliers: np.ndarray, k: int) -> float:
        """Mean of limited cost k over all architectures, weighted by the multipliers."""
        exponents = multipliers @ self._values
        weights = np.exp(np.repeat(np.minimum.reduceat(exponents, self._starts), self._sizes) - exponents)
        totals = np.add.reduceat(weights, self._starts)
        return (np.add.reduceat(weights * self._values[k], self._starts) / totals).sum()


def _multipliers(limits: Sequence[Limit], fixed: np.ndarray, blocks: Sequence[np.ndarray]) -> List[float]:
    """Multipliers with which the mean of every limited cost lies between its bounds; 0 where it does anyway."""
    costs = _Costs(limits, fixed, blocks)
    multipliers = np.zeros(len(limits))
    for _ in range(NUM_SWEEPS):
        for k in range(len(limits)):
            multipliers[k] = _multiplier(costs, multipliers, k)
    return (multipliers / costs.spans).tolist()


def _multiplier(costs: _Costs, multipliers: np.ndarray, k: int) -> float:
    """The multiplier of limit k beside the others as they are: the mean falls as it grows."""
    multipliers = multipliers.copy()
    multipliers[k] = 0
    mean, lower, upper = costs.mean(multipliers, k), costs.lower[k], costs.upper[k]
    if lower <= mean <= upper:
        return 0.0
    sign, bound, room = (1, upper, upper) if mean > upper else (-1, lower, 1 - lower)
    low, high = 0.0, MAX_EXPONENT / max(room, 1e-9)
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        multipliers[k] = sign * middle
        too_weak = (costs.mean(multipliers, k) - bound) * sign > 0
        low, high = (middle, high) if too_weak else (low, middle)
    return sign * low
