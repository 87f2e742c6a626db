"""Sampling where the input size is a choice: uniform over the pairs of an architecture and a size within limits."""

from __future__ import annotations

from typing import Callable, List, Mapping, Sequence, Tuple, Type

import numpy as np

from spos.core.errors import InputError
from spos.sampling.exact import BELOW_ONE, ConstrainedSampler, Tries, pick_index
from spos.sampling.limits import Limit
from spos.space.cost import Cost


class SizedSampler(Tries):
    """Draws uniformly from the architectures of all sizes that keep the limits; a draw ends with the size.

    Each size has a sampler of its own, because costs depend on the size. A try of a sampler is kept as a certain
    architecture with one chance, the same for all that it has within the limits. So a size is drawn by the inverse of
    that chance, and tried once; if that breaks a limit, a size is drawn again. Every pair has one chance then, exactly.

    Args:
        samplers: by size; made with `must_meet=False`.
    Raises: TooRare if MAX_FIRST_TRIES of all sizes together meet nothing.
    """

    def __init__(self, samplers: Mapping[int, ConstrainedSampler]) -> None:
        self._sizes = np.array(list(samplers), dtype=np.int64)
        self._samplers = list(samplers.values())
        totals = np.array([sampler.log_total for sampler in self._samplers])
        self._cumulative = np.cumsum(np.exp(totals - totals.max()))
        self._prepare()

    @classmethod
    def of(cls, sizes: Sequence[int], make: Callable[..., ConstrainedSampler]) -> SizedSampler:
        """A sampler over the sizes at which anything keeps the limits.

        Args:
            make: called with a size and `must_meet=False`.
        Raises: InputError, that of the smallest size, if there are none.
        """
        return cls(_possible(sizes, lambda size: make(size, must_meet=False)))

    def within(self, limits: Sequence[Limit]) -> SizedSampler:
        """A sampler for narrower limits that shares the tables of this one. Raises as `of`."""
        samplers = dict(zip(self._sizes.tolist(), self._samplers))
        return SizedSampler(_possible(list(samplers), lambda size: samplers[size].within(limits)))

    @property
    def sizes(self) -> Tuple[int, ...]:
        """Those at which anything keeps the limits."""
        return tuple(self._sizes.tolist())

    @property
    def reachable(self) -> Tuple[Cost, Cost]:
        """Smallest and largest cost at these sizes without the limits, FLOPs and params each taken alone."""
        lows, highs = zip(*(sampler.reachable for sampler in self._samplers))
        return Cost(*map(min, zip(*lows))), Cost(*map(max, zip(*highs)))

    def tries(self, count: int, rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
        """As of one size, with the size behind the choices; each size is tried as often as it is drawn."""
        numbers = pick_index(self._cumulative[None], rng.random(count) * BELOW_ONE)
        parts: List[Tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            parts.append((places, *self._samplers[number].tries(len(places), rng)))
        order = np.argsort(np.concatenate([places for places, _, _ in parts]))
        choices, kept = (np.concatenate([part[i] for part in parts])[order] for i in (1, 2))
        return np.column_stack([choices, self._sizes[numbers]]), kept

    def nothing_found(self, why: str = "", kind: Type[InputError] = InputError) -> InputError:
        return kind(f"{self._samplers[0].nothing_found(why, kind)} (at {self._sizes[0]} px)")


def _possible(sizes: Sequence[int], make: Callable[[int], ConstrainedSampler]) -> Mapping[int, ConstrainedSampler]:
    samplers, refusals = {}, []
    for size in sizes:
        try:
            samplers[size] = make(size)
        except InputError as error:
            refusals.append(f"{error} (at {size} px)")
    if not samplers:
        raise InputError(refusals[0])
    return samplers
