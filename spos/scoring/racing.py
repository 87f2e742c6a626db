"""Races of candidates: one is dropped after a part of the images, once it is confidently below the current top-k.

All candidates see the images in one random order and are looked at after growing subsets of it. The current top-k are
scored on all images, so what a candidate needs to reach them is an exact number of hits among the same images, and
the only unknown is how many of its hits lie among the unseen ones. Those seen are a draw without replacement, so the
bound is hypergeometric and exact; it needs no model of the images.

The threshold only rises during a search, so a candidate of the final top-k reaches it whenever it is looked at, and
a look drops it with a chance of at most `error`. With error = (1 - confidence) / (k x looks) the final top-k is that
of scoring everything on all images with at least the given confidence, for candidates that do not depend on the
order of the images. (A genetic search breeds from the top-k; while none of them is dropped, it breeds the same.)
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Callable, Optional, Sequence, Tuple

import numpy as np

FIRST_LOOK = 32  # images; fewer tell too little to drop anything
FIRST_SHARE = 32  # of a long list, the first look is after this part of it
GROWTH = 1.5  # of the images from look to look; 2 needed a tenth more images in simulations, 1.25 hardly fewer
LAST_SHARE = 0.8  # no look after more than this share of the images


@dataclass(frozen=True)
class Race:
    """What one candidate has to reach.

    Args:
        needed_hits: hits among all images that would equal the k-th best fitness so far; of all supernets together, if
            several score.
        num_images: all images.
        error: chance of dropping, at one look, a candidate that has `needed_hits`.
    """

    needed_hits: int
    num_images: int
    error: float

    def looks(self) -> Tuple[int, ...]:
        """Growing numbers of images after which to ask `is_lost`; the last is all of them, where nothing is left to
        decide."""
        return look_sizes(self.num_images)

    def is_lost(self, hits: int, seen: int) -> bool:
        """Whether the upper confidence bound of the hits among all images lies below `needed_hits`.

        The bound is the largest H for which at most `hits` of `seen` images have a chance above `error`. That chance
        falls with H, so asking H = needed_hits is enough. A candidate that cannot have `needed_hits` any more is lost
        whatever `error` is; one that may have them only by luck below `error` is lost too.
        """
        return hypergeometric_cdf(hits, self.num_images, self.needed_hits, seen) <= self.error

    def is_lost_by(self, hits: Sequence[int], seen: int) -> bool:
        """The same for several supernets, whose hits among the same `seen` images these are.

        Each has its own bound, which fails with a chance of at most `error` / supernets, so the sum of the bounds fails
        with at most `error` (Bonferroni's inequality), however much the supernets agree. Of one it is `is_lost`.
        """
        if len(hits) == 1:
            return self.is_lost(hits[0], seen)
        error = self.error / len(hits)
        return sum(most_hits(own, self.num_images, seen, error) for own in hits) < self.needed_hits


@dataclass(frozen=True)
class Racing:
    """How races are set up in one search.

    Args:
        num_kept: k, the best rows that must come out as if everything was scored on all images.
        confidence: that they do.
        num_supernets: whose mean accuracy is compared.
    """

    num_kept: int
    confidence: float = 0.95
    num_supernets: int = 1

    def race(self, fitness: Sequence[float], num_images: int, fitness_of: Callable[[float], float]) -> Optional[Race]:
        """The race of the next candidate; None as long as there are fewer than k to compare with.

        Args:
            fitness: of what was scored on all images.
            fitness_of: of the candidate, from its top-1 (it knows what else counts).
        """
        if len(fitness) < self.num_kept:
            return None
        threshold = heapq.nlargest(self.num_kept, fitness)[-1]
        num_looks = max(1, len(look_sizes(num_images)) - 1)
        error = (1 - self.confidence) / (self.num_kept * num_looks)
        return Race(needed_hits(threshold, num_images * self.num_supernets, fitness_of), num_images, error)


def look_sizes(num_images: int) -> Tuple[int, ...]:
    """Growing by half from a 32nd of the images, but at least 32, as long as something can be saved; then all."""
    sizes = [min(num_images, max(FIRST_LOOK, num_images // FIRST_SHARE))]
    while int(GROWTH * sizes[-1]) <= LAST_SHARE * num_images:
        sizes.append(int(GROWTH * sizes[-1]))
    return (*sizes, num_images) if sizes[-1] < num_images else tuple(sizes)


def needed_hits(threshold: float, num_images: int, fitness_of: Callable[[float], float]) -> int:
    """The fewest hits whose fitness reaches the threshold; num_images + 1 if none do.

    Found by the same arithmetic that gives the rows their fitness, so that equal is equal to the last bit.
    """
    low, high = 0, num_images + 1
    while low < high:
        middle = (low + high) // 2
        if fitness_of(middle / num_images) >= threshold:
            high = middle
        else:
            low = middle + 1
    return low


def most_hits(hits: int, num_images: int, seen: int, error: float) -> int:
    """The largest number of hits among all images for which at most `hits` of `seen` have a chance above `error`.

    That chance falls with the number; `error` is below 1, so it is above `error` where all unseen images are misses.
    """
    low, high = hits, hits + num_images - seen
    while low < high:
        middle = (low + high + 1) // 2
        if hypergeometric_cdf(hits, num_images, middle, seen) > error:
            low = middle
        else:
            high = middle - 1
    return low


def hypergeometric_cdf(hits: int, num_images: int, total_hits: int, seen: int) -> float:
    """Chance of at most `hits` hits among `seen` images drawn without replacement from `num_images`, of which
    `total_hits` are hits (0 if there cannot be so many)."""
    misses = num_images - total_hits
    lowest, highest = max(0, seen - misses), min(seen, total_hits)
    if total_hits > num_images or hits < lowest:
        return 0.0
    if hits >= highest:
        return 1.0
    log_chance = _log_choose(total_hits, hits) + _log_choose(misses, seen - hits) - _log_choose(num_images, seen)
    x = np.arange(hits, lowest, -1, dtype=np.float64)  # chance of x - 1 hits over that of x
    ratios = x * (misses - seen + x) / ((total_hits - x + 1) * (seen - x + 1))
    logs = np.concatenate(([0.0], np.cumsum(np.log(ratios))))
    largest = float(logs.max())
    return min(1.0, math.exp(log_chance + largest + math.log(float(np.exp(logs - largest).sum()))))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
