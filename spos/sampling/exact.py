"""The exact sampler: uniform over the architectures whose cost lies between limits, without drawing and rejecting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from copy import copy
from typing import List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np

from spos.core.errors import InputError
from spos.sampling.limits import MILLION, Limit, Parts
from spos.sampling.tilting import Tilt
from spos.space.cost import NANOSECONDS_PER_MS, Cost

GRID_AXES = 2  # MACs and params; limits on further parts of a cost are met by tilting
NUM_CELLS = 2**17  # of the grid of (MACs, params); a table of 20 blocks takes 21 MB
FEWEST_CELLS = 8  # of a limited axis
MAX_TRIES = 100_000  # in a row that break the limits, before a draw gives up
MAX_FIRST_TRIES = 10_000  # the same, before a sampler is taken for impossible
MAX_TRIES_AT_ONCE = 256
BELOW_ONE = 1 - 2**-51  # a chance in [0, 1) times this times any total is below the total after rounding too


class TooRare(InputError):
    """Architectures within the limits may exist, but tries do not meet them."""


class Tries(ABC):
    """Draws by tries, each kept or not. All that may be drawn has one chance in a try, so draws are uniform."""

    _at_once: int  # tries for each missing draw

    @abstractmethod
    def tries(self, count: int, rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
        """What is tried, (count, choices of a draw), and which of it is kept, (count,)."""

    @abstractmethod
    def nothing_found(self, why: str = "", kind: Type[InputError] = InputError) -> InputError: ...

    def draw(self, rng: np.random.Generator) -> List[int]:
        """Index of the choice of every block. Raises TooRare if MAX_TRIES in a row break the limits."""
        return self.draw_many(1, rng)[0].tolist()

    def draw_many(self, count: int, rng: np.random.Generator, max_tries: int = MAX_TRIES) -> np.ndarray:
        """`count` independent draws at once, (count, blocks): faster than one by one, but other ones."""
        drawn: List[np.ndarray] = []
        missing, failures = count, 0
        while missing:
            kept = self._try(min(missing * self._at_once, MAX_TRIES_AT_ONCE), rng)[:missing]
            missing -= len(kept)
            failures = 0 if len(kept) else failures + min(missing * self._at_once, MAX_TRIES_AT_ONCE)
            if failures >= max_tries:
                raise self.nothing_found(
                    f"; each limit alone can be kept, but {failures} tries close to them met none: widen the limits",
                    TooRare,
                )
            drawn.append(kept)
        return np.concatenate(drawn)

    def acceptance(self, rng: np.random.Generator, num_tries: int = 4096) -> float:
        """Share of tries that keep the limits exactly, so that need no second one."""
        return len(self._try(num_tries, rng)) / num_tries

    def _try(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """What is kept of `count` tries, (up to count, choices of a draw)."""
        choices, kept = self.tries(count, rng)
        return choices[kept]

    def _prepare(self, must_meet: bool = True) -> None:
        """Where many tries are lost, let `draw` make about two at once for every one that is kept.

        Raises: TooRare if MAX_FIRST_TRIES meet nothing, but they must.
        """
        share = len(self._try(MAX_TRIES_AT_ONCE, np.random.default_rng(0))) / MAX_TRIES_AT_ONCE
        self._at_once = 1 if share > 0.7 else int(min(2 / max(share, 1e-9), MAX_TRIES_AT_ONCE))
        if share == 0 and must_meet:
            self.draw_many(1, np.random.default_rng(1), MAX_FIRST_TRIES)


class ConstrainedSampler(Tries):
    """Draws uniformly from the architectures that keep some limits.

    Costs are sums over choice blocks. So the number of ways to complete an architecture from block i on is counted
    once, by dynamic programming over a grid of (MACs, params); then a cell that may keep the limits is drawn by its
    count, and the choices block by block. On each axis the grid begins at the smallest or the largest reachable cost,
    whichever is nearer to the far limit, and ends at that limit; an axis without limits has one cell. A block's cost
    is rounded to the grid, by less than a cell per block. So the architecture drawn is checked with its exact cost
    and drawn again if it breaks a limit: what is drawn is uniform exactly, and rounding costs only time.

    A limit on more than MACs and params (latency) has no axis, where every further one would take most cells from the
    others. Ways are counted with weights that favour architectures below it, and a draw is kept with the chance that
    makes up for its weight (`spos/sampling/tilting.py`).

    Args:
        fixed: cost that every architecture has.
        costs: for every choice block an array (choices, 2 or more) of (MACs, params, nanoseconds).
        limits: bounds; with none, or none that can be broken, sampling is plain uniform.
        window: (MACs, params) of the narrowest part that `within` will be asked for; the cells are shared out
            among the axes so that parts of this size are drawn well. What the limits leave, by default.
        must_meet: raise TooRare at once; not of a part of a mixture, whose other parts may be met.
    Raises: InputError if no architecture keeps all limits, naming the smallest and largest reachable cost; TooRare
        if MAX_FIRST_TRIES met none.
    """

    def __init__(
        self,
        fixed: Parts,
        costs: Sequence[np.ndarray],
        limits: Sequence[Limit],
        window: Optional[Tuple[float, float]] = None,
        must_meet: bool = True,
    ) -> None:
        self._must_meet = must_meet
        blocks = [np.asarray(block, dtype=np.int64) for block in costs]
        self._fixed = np.asarray(fixed, dtype=np.int64)
        self._limits = tuple(limits)
        off_grid = [limit for limit in limits if len(limit.weights) > GRID_AXES]
        self._blocks = blocks
        self._flat_costs = np.concatenate(blocks)
        self._offsets = np.cumsum([0, *(len(block) for block in blocks[:-1])])
        self._smallest = self._fixed + sum(block.min(0) for block in blocks)
        self._largest = self._fixed + sum(block.max(0) for block in blocks)
        self._check_each_limit()
        low, high = np.array([self._reach(axis) for axis in range(GRID_AXES)]).T
        smallest, largest = self._smallest[:GRID_AXES], self._largest[:GRID_AXES]
        self._from_top = largest - low < high - smallest  # per axis: count down from the largest cost
        self._span = np.where(self._from_top, largest - low, high - smallest).astype(np.int64)
        self._cell = self._share_out_cells(high - low if window is None else np.minimum(window, high - low))
        self._shape = self._span // self._cell + 1
        on_grid = [block[:, :GRID_AXES] for block in blocks]
        distances = [np.where(self._from_top, block.max(0) - block, block - block.min(0)) for block in on_grid]
        steps = [np.minimum(distance // self._cell, self._shape) for distance in distances]
        self._rounded_off = sum((distance % self._cell).max(0) for distance in distances)
        self._pad = np.max([step.max(0) for step in steps], axis=0)  # cells of count 0 before the first
        self._row = int(self._shape[1] + self._pad[1])
        self._steps = [step @ (self._row, 1) for step in steps]
        self._tilt = Tilt.towards(off_grid, [limit for limit in limits if limit not in off_grid], self._fixed, blocks)
        self._ways = self._count_ways(steps)
        self._select()

    def within(self, limits: Sequence[Limit]) -> ConstrainedSampler:
        """A sampler for narrower limits that shares this one's table. Raises like the constructor.

        Limits that are not on the grid hold on.
        """
        narrower = copy(self)
        narrower._limits = (*limits, *(limit for limit in self._tilt.limits if limit not in limits))
        narrower._select()
        return narrower

    @property
    def reachable(self) -> Tuple[Cost, Cost]:
        """Smallest and largest cost without the limits, FLOPs and params each taken alone."""
        smallest, largest = (ends[:GRID_AXES].tolist() for ends in (self._smallest, self._largest))
        return Cost(*smallest), Cost(*largest)

    @property
    def log_total(self) -> float:
        """Logarithm of one over the chance of each architecture within the limits to be kept by a try."""
        return float(np.log(self._cumulative[-1])) - self._tilt.log_weight

    @property
    def num_ways(self) -> float:
        """How many architectures the cells hold that may keep the limits; `acceptance` is the share that does.

        With limits off the grid they are weighted.
        """
        return float(self._cumulative[-1])

    def _reach(self, axis: int) -> Tuple[float, float]:
        """What the limits leave of an axis: (low, high), within the reachable."""
        smallest, largest = self._smallest, self._largest
        low, high = smallest[axis], largest[axis]
        for limit in self._limits:
            weights = dict(enumerate(limit.weights))
            weight = weights.pop(axis, 0)
            if weight > 0:
                others_low, others_high = (sum(w * ends[i] for i, w in weights.items()) for ends in (smallest, largest))
                high = min(high, (limit.upper - others_low) / weight + 1)  # 1: for rounding
                low = max(low, (limit.lower - others_high) / weight - 1)
        return np.ceil(low), np.floor(high)

    def _share_out_cells(self, window: np.ndarray) -> np.ndarray:
        """Size of a cell on both axes.

        A window w of a span s on an axis of n cells is drawn with a chance of about w / (w + blocks x s / n). With
        n0 x n1 given, the product of two such chances is best for n0 / n1 = (s0 / w0) / (s1 / w1).
        """
        whole = (self._largest - self._smallest)[:GRID_AXES]
        limited = self._span < whole
        limited |= (window < self._span) & (window < whole)
        most = np.where(limited, self._span + 1, 1).astype(float)
        need = np.where(limited, (self._span + 1) / np.maximum(window, 1), 1)
        first = np.clip(np.sqrt(NUM_CELLS * need[0] / need[1]), min(FEWEST_CELLS, most[0]), most[0])
        second = np.clip(NUM_CELLS / first, min(FEWEST_CELLS, most[1]), most[1])
        first = np.clip(NUM_CELLS / second, 1, most[0])
        return np.ceil((self._span + 1) / np.floor([first, second])).astype(np.int64)

    def _count_ways(self, steps: Sequence[np.ndarray]) -> List[np.ndarray]:
        """`ways[i]`: for every cell how many choices of the blocks from i on add up to it, flat, after the pad.

        With a tilt, a choice counts by its weight.
        """
        height, (top, left), row = int(self._shape[0]), self._pad.tolist(), self._row
        origin = top * row + left
        last = np.zeros((top + height) * row)
        last[origin] = 1
        ways, rows = [last], 1  # nothing is farther than `rows`
        for i, block in reversed(list(enumerate(steps))):
            total = np.zeros_like(last)
            for step, repeats in self._repeats(i).items():
                # One shift of the flat table moves down and right. What leaves a row enters the pad of the next one.
                end = min(origin + rows * row, len(last) - step)
                if end > origin:
                    part = last[origin:end]
                    total[origin + step : end + step] += part if repeats == 1 else repeats * part
            total.reshape(-1, row)[:, :left] = 0
            rows = min(height, rows + int(block[:, 0].max()))
            last = total
            ways.insert(0, total)
        return ways

    def _repeats(self, index: int) -> Mapping[int, float]:
        """For every step of a choice block how many choices take it."""
        steps = self._steps[index].tolist()
        if not self._tilt.weights:
            return Counter(steps)
        repeats = dict.fromkeys(steps, 0.0)
        for step, weight in zip(steps, self._tilt.weights[index]):
            repeats[step] += weight
        return repeats

    def _select(self) -> None:
        """Choose the cells that may hold architectures within the limits, and make sure that there is one."""
        near = np.arange(self._shape[0])[:, None] * self._cell[0], np.arange(self._shape[1]) * self._cell[1]
        low, high = zip(*(self._costs_in_cells(axis, near[axis]) for axis in range(GRID_AXES)))
        kept = np.ones(self._shape, dtype=bool)
        for limit in self._limits:
            if len(limit.weights) <= GRID_AXES:
                kept &= (limit.value(low) <= limit.upper) & (limit.value(high) >= limit.lower)
        rows, columns = np.nonzero(kept)
        cells = (rows + self._pad[0]) * self._row + columns + self._pad[1]
        ways = self._ways[0][cells]
        self._cells = cells[ways > 0]
        self._cumulative = np.cumsum(ways[ways > 0])
        if not len(self._cells):
            raise self.nothing_found("; each limit alone can be kept, but nothing lies between them")
        self._prepare(self._must_meet)

    def _costs_in_cells(self, axis: int, near: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Smallest and largest exact cost that is rounded to a cell, from the cell's distance to the grid's origin."""
        if self._from_top[axis]:
            far_end = self._largest[axis] - near
            return far_end - self._rounded_off[axis], far_end
        return self._smallest[axis] + near, self._smallest[axis] + near + self._rounded_off[axis]

    def tries(self, count: int, rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
        """`count` architectures drawn from the cells, and which of them keep the limits."""
        chances = rng.random((len(self._steps) + 1, count)) * BELOW_ONE
        cell = self._cells[pick_index(self._cumulative[None], chances[0])]
        choices = np.empty((count, len(self._steps)), dtype=np.int64)
        for i, (steps, ways) in enumerate(zip(self._steps, self._ways[1:])):
            before = ways[cell[:, None] - steps]
            if self._tilt.weights:
                before *= self._tilt.weights[i]
            choices[:, i] = choice = pick_index(np.cumsum(before, axis=1), chances[i + 1])
            cell = cell - steps[choice]
        if not self._limits:
            return choices, np.ones(count, dtype=bool)
        cost = (self._fixed + self._flat_costs[self._offsets + choices].sum(1)).T
        kept = np.all([limit.keeps(cost) for limit in self._limits], axis=0)
        if self._tilt.weights:
            kept &= rng.random(count) < self._tilt.chance(cost)
        return choices, kept

    def _check_each_limit(self) -> None:
        """Raise InputError if a limit cannot be kept even alone."""
        for limit in self._limits:
            values = [limit.value(block.T) for block in self._blocks]
            fixed = limit.value(self._fixed.tolist())
            smallest, largest = (fixed + sum(pick(block) for block in values) for pick in (np.min, np.max))
            slack = 1e-12 * abs(largest)  # ratios are sums of fractions
            if smallest > limit.upper + slack or largest < limit.lower - slack:
                raise self.nothing_found()

    def nothing_found(self, why: str = "", kind: Type[InputError] = InputError) -> InputError:
        limits = " and ".join(str(limit) for limit in self._limits)
        start = "found no architecture with" if kind is TooRare else "no architecture of this space has"
        parts = (("FLOPs", "M", MILLION), ("params", "M", MILLION), ("latency", " ms", NANOSECONDS_PER_MS))
        ranges = [
            f"{name} from {low / scale:.6f}{unit} to {high / scale:.6f}{unit}"
            for (name, unit, scale), low, high in zip(parts, self._smallest, self._largest)
        ]
        return kind(f"{start} {limits}; reachable are {', '.join(ranges[:-1])} and {ranges[-1]}{why}")


def pick_index(cumulative: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Index drawn from each row of running totals (or from the only one) by a chance in [0, 1)."""
    drawn = chances * cumulative[:, -1]
    if len(cumulative) == 1:
        return np.searchsorted(cumulative[0], drawn, side="right")
    return (cumulative > drawn[:, None]).argmax(1)  # the first such: drawn is below the last
