"""Sums of the costs of choice blocks: how many architectures have each, exactly, and the cheapest of them.

A cost is a sum of integers over choice blocks, so many architectures have the same one. Dynamic programming goes
through the different sums, not through the architectures. Where they are too many, the answer is None, and the exact
sampler estimates (`spos.counting.budget`).
"""

from __future__ import annotations

from functools import reduce
from math import prod
from operator import mul
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from spos.sampling.limits import Limit

MAX_SUMS = 2**21  # different sums that are held at once
MAX_PAIRS = 3 * 10**8  # of sums of two halves that are tried: seconds
MAX_COUNT = 2**62  # architectures that an integer of 64 bits counts
CHUNK = 2**17  # pairs at once: they fit the cache

Costs = Sequence[np.ndarray]  # of the choices of every choice block: (choices, 2) of (MACs, params)


class Sums(NamedTuple):
    """Different sums, rising, and how many ways lead to each."""

    values: np.ndarray
    ways: np.ndarray


def sums_of(blocks: Sequence[np.ndarray]) -> Optional[Sums]:
    """All sums of one number of each block; None if they, or the architectures, are too many to count."""
    if prod(map(len, blocks)) >= MAX_COUNT:
        return None
    smallest = [int(block.min()) for block in blocks]
    unit = int(np.gcd.reduce(np.concatenate([block - low for block, low in zip(blocks, smallest)]))) or 1
    steps = [(block - low) // unit for block, low in zip(blocks, smallest)]
    last = int(sum(step.max() for step in steps))
    if last >= MAX_SUMS:
        return None
    ways, end = np.zeros(last + 1, dtype=np.int64), 1  # by the sum so far, in units above the smallest
    ways[0] = 1
    for step in steps:
        total = np.zeros_like(ways)
        for move, repeats in zip(*np.unique(step, return_counts=True)):
            total[move : move + end] += repeats * ways[:end]
        ways, end = total, end + int(step.max())
    reached = np.flatnonzero(ways)
    return Sums(sum(smallest) + unit * reached, ways[reached])


def median(sums: Sums) -> int:
    """The lower median: the smallest sum that half of the ways do not exceed."""
    reached = np.cumsum(sums.ways)
    return int(sums.values[np.searchsorted(reached, (int(reached[-1]) + 1) // 2)])


def count_within(fixed: np.ndarray, blocks: Costs, limits: Sequence[Limit]) -> Optional[int]:
    """How many architectures keep all limits, exactly; None if that takes too long to count.

    Args:
        fixed: (MACs, params) that every architecture has.
        limits: upper ones, on MACs and params.
    """
    largest = fixed + sum(block.max(0) for block in blocks)
    binding = [limit for limit in limits if not limit.keeps(largest)]
    if not binding:
        return prod(map(len, blocks))
    axes = {axis for limit in binding for axis, weight in enumerate(limit.weights) if weight}
    if len(axes) == 1:
        sums = sums_of([block[:, axis] for axis in axes for block in blocks])
        if sums is None:
            return None
        cost = [np.zeros_like(sums.values), np.zeros_like(sums.values)]
        (axis,) = axes
        cost[axis] = fixed[axis] + sums.values
        return int(sums.ways[_kept(cost, binding)].sum())
    return _count_pairs(fixed, blocks, binding)


def _count_pairs(fixed: np.ndarray, blocks: Costs, limits: Sequence[Limit]) -> Optional[int]:
    """The same for limits on both, by the sums of two halves of the blocks: every pair of them is tried."""
    if prod(map(len, blocks)) >= MAX_COUNT:
        return None
    base = int(sum(block[:, 1].max() for block in blocks)) + 1  # (MACs, params) as one number: MACs * base + params
    if base * int(sum(block[:, 0].max() for block in blocks) + 1) >= MAX_COUNT:
        return None
    one_number = [block @ (base, 1) for block in blocks]
    before, behind = _growing_sums(one_number), _growing_sums(one_number[::-1])
    cuts = [(one, behind[len(blocks) - i]) for i, one in before.items() if len(blocks) - i in behind]
    if not cuts:
        return None
    first, second = min(cuts, key=lambda cut: len(cut[0].values) * len(cut[1].values))
    if len(first.values) * len(second.values) > MAX_PAIRS:
        return None
    own, other = (np.array(divmod(sums.values, base)) for sums in (first, second))
    own += fixed[:, None]
    cheapest, dearest = own + other.min(1)[:, None], own + other.max(1)[:, None]
    always = _kept(dearest, limits)
    count = int(first.ways[always].sum()) * int(second.ways.sum())
    open_ones = np.flatnonzero(_kept(cheapest, limits) & ~always)
    for rows in np.array_split(open_ones, -(-len(open_ones) * len(second.values) // CHUNK) or 1):
        kept = _kept(own[:, rows, None] + other[:, None], limits)
        count += sum(map(mul, first.ways[rows].tolist(), np.dot(kept, second.ways).tolist()))
    return count


def _growing_sums(blocks: Sequence[np.ndarray]) -> Dict[int, Sums]:
    """As `sums_of`, of the first 0, 1, 2, ... blocks, as long as they are few, though far apart."""
    sums = Sums(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))
    found = {0: sums}
    for number, block in enumerate(blocks, 1):
        if len(sums.values) * len(block) > MAX_SUMS:
            break
        values = (sums.values[:, None] + block).ravel()
        order = np.argsort(values, kind="stable")
        values, ways = values[order], np.repeat(sums.ways, len(block))[order]
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        found[number] = sums = Sums(values[starts], np.add.reduceat(ways, starts))
    return found


def _kept(cost: Sequence[np.ndarray], limits: Sequence[Limit]) -> np.ndarray:
    return reduce(np.logical_and, (limit.keeps(cost) for limit in limits))


def feasible(fixed: np.ndarray, blocks: Costs, limits: Sequence[Limit]) -> List[np.ndarray]:
    """For every choice block which of its choices some architecture has that keeps all limits, exactly.

    Limits are upper ones, so it is enough to try each choice with the sums of the others that no other sum undercuts
    in both FLOPs and params: those are few.
    """
    before = [np.zeros((1, 2), dtype=np.int64)]
    behind = [np.zeros((1, 2), dtype=np.int64)]
    for block in blocks[:-1]:
        before.append(_undercut_by_none(before[-1], block))
    for block in reversed(blocks[1:]):
        behind.append(_undercut_by_none(behind[-1], block))
    result = []
    for block, left, right in zip(blocks, before, reversed(behind)):
        others = fixed + _undercut_by_none(left, right)
        result.append(np.array([_kept((others + choice).T, limits).any() for choice in block]))
    return result


def _undercut_by_none(sums: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Sums of the two, (number, 2), that no other one undercuts: rising MACs, falling params."""
    together = (sums[:, None] + choices).reshape(-1, 2)
    together = together[np.lexsort(together.T[::-1])]
    least = np.minimum.accumulate(together[:, 1])
    return together[np.r_[True, together[1:, 1] < least[:-1]]]
