"""Drawing architectures: uniformly, with the warm-up of channel choices, and uniformly under limits on their cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from spos.constraints import Limit
from spos.cost import Cost
from spos.errors import InputError
from spos.search_space import Architecture, SearchSpace

GRID_CELLS = (512, 256)  # MACs, params
MAX_TRIES = 10_000


def warm_up_lowest_choice(space: SearchSpace, epochs_since_start: int) -> int:
    """Narrowest channel choice allowed so many epochs after channel selection has begun.

    The space's `warm_up_durations` say how many epochs it stays at the second widest scale, the third widest and so
    on; afterwards it is the narrowest of the space.
    """
    choice, ends = space.max_channel_choice, 0
    for duration in space.warm_up_durations:
        choice, ends = choice - 1, ends + duration
        if epochs_since_start < ends:
            break
    else:
        choice = space.min_channel_choice
    return max(choice, space.min_channel_choice)


@dataclass(frozen=True)
class SamplingPolicy:
    """Uniform sampling whose range of widths depends on the epoch.

    Args:
        epoch_start_cs: first epoch, counted from 0, of channel selection; every width is the maximum before it.
        cs_warm_up: let the range grow by the space's schedule instead of being whole at once.
        use_all_channels: never select channels.
    """

    space: SearchSpace
    epoch_start_cs: int = -1
    cs_warm_up: bool = False
    use_all_channels: bool = False

    def lowest_channel_choice(self, epoch: int) -> int:
        """Narrowest channel choice that is sampled in an epoch (counted from 0)."""
        start = max(self.epoch_start_cs, 0)
        if self.use_all_channels or epoch < start:
            return self.space.max_channel_choice
        if self.cs_warm_up:
            return warm_up_lowest_choice(self.space, epoch - start)
        return self.space.min_channel_choice

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Architecture:
        """Draw the architecture of one training step."""
        return self.space.sample(rng, self.lowest_channel_choice(epoch))


class ConstrainedSampler:
    """Draws uniformly from the architectures that keep some limits, without drawing and rejecting.

    Costs are sums over choice blocks. So the number of ways to complete an architecture from block i on is counted
    once, by dynamic programming over a grid of (MACs, params); then a cell that keeps the limits is drawn by its
    count, and the choices block by block. The grid spans what lies between the smallest reachable cost and the
    limits, however tight they are. A block's cost is rounded down to the grid, at most one cell per block, so the
    architecture drawn is checked with its exact cost at the end and drawn again if it is above a limit.

    Args:
        fixed: cost that every architecture has.
        costs: for every choice block an array (choices, 2) of (MACs, params).
        limits: upper bounds; with none, or none that can be broken, sampling is plain uniform.
    Raises: InputError if no architecture keeps all limits, naming the smallest and largest reachable cost.
    """

    def __init__(self, fixed: Cost, costs: Sequence[np.ndarray], limits: Sequence[Limit]) -> None:
        self._costs = [np.asarray(block, dtype=np.int64) for block in costs]
        self._fixed = np.asarray(fixed, dtype=np.int64)
        self._limits = limits
        self._smallest = self._fixed + sum(block.min(0) for block in self._costs)
        self._largest = self._fixed + sum(block.max(0) for block in self._costs)
        self._cell, shape = self._grid()
        self._steps = [((block - block.min(0)) // self._cell).astype(int) for block in self._costs]
        self._ways = self._count_ways(shape)
        kept = self._ways[0] * self._keeps(np.indices(shape).reshape(2, -1).T * self._cell + self._smallest).reshape(
            shape
        )
        self._cumulative = np.cumsum(kept.ravel())
        if self._cumulative[-1] == 0:
            raise self._nothing_found()

    def _grid(self) -> Tuple[np.ndarray, Tuple[int, int]]:
        """(size of a cell, number of cells) in both directions; one cell where nothing limits."""
        cell, shape = [], []
        for axis, num_cells in enumerate(GRID_CELLS):
            span = float(self._largest[axis] - self._smallest[axis])
            others = 1 - axis
            bounds = [
                (limit.bound - limit.weights[others] * self._smallest[others]) / limit.weights[axis]
                - self._smallest[axis]
                for limit in self._limits
                if limit.weights[axis] > 0
            ]
            bound = min([span, *bounds])
            if bound < 0:
                raise self._nothing_found()
            num_cells = num_cells if bound < span else 1
            cell.append(max(1, int(np.ceil((bound + 1) / num_cells))))
            shape.append(int(bound // cell[-1]) + 1)
        return np.array(cell), (shape[0], shape[1])

    def _count_ways(self, shape: Tuple[int, int]) -> List[np.ndarray]:
        """`ways[i][a, b]`: how many choices of the blocks from i on add up to the cell (a, b)."""
        last = np.zeros(shape)
        last[0, 0] = 1
        ways = [last]
        for steps in reversed(self._steps):
            total = np.zeros(shape)
            for (a, b), repeats in Counter(map(tuple, steps.tolist())).items():
                if a < shape[0] and b < shape[1]:
                    total[a:, b:] += repeats * ways[0][: shape[0] - a, : shape[1] - b]
            ways.insert(0, total)
        return ways

    def _keeps(self, costs: np.ndarray) -> np.ndarray:
        """Whether each row of (MACs, params) keeps all limits."""
        kept = np.ones(len(costs), dtype=bool)
        for limit in self._limits:
            kept &= limit.value(Cost(costs[:, 0], costs[:, 1])) <= limit.bound
        return kept

    def draw(self, rng: np.random.Generator) -> List[int]:
        """Index of the choice of every block. Raises InputError if none keeps the limits in MAX_TRIES draws."""
        for _ in range(MAX_TRIES):
            choices = self._draw_cell_and_choices(rng)
            cost = self._fixed + sum(block[choice] for block, choice in zip(self._costs, choices))
            if self._keeps(cost[None])[0]:
                return choices
        raise self._nothing_found()

    def _draw_cell_and_choices(self, rng: np.random.Generator) -> List[int]:
        index = np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], side="right")
        cell = np.array(np.unravel_index(index, self._ways[0].shape))
        choices = []
        for steps, ways in zip(self._steps, self._ways[1:]):
            before = cell - steps
            possible = np.flatnonzero((before >= 0).all(1))
            cumulative = np.cumsum(ways[before[possible, 0], before[possible, 1]])
            choice = possible[np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")]
            choices.append(int(choice))
            cell = before[choice]
        return choices

    def _nothing_found(self) -> InputError:
        limits = " and ".join(f"{limit.name} <= {limit.bound:g} {limit.unit}".rstrip() for limit in self._limits)
        small, large = self._smallest / 1e6, self._largest / 1e6
        return InputError(
            f"no architecture of this space has {limits}; reachable are FLOPs from {small[0]:.4g}M to "
            f"{large[0]:.4g}M and params from {small[1]:.4g}M to {large[1]:.4g}M"
        )
