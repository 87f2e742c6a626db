"""What limits leave of a space: how many architectures, and which choices of every choice block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from spos.core.intervals import wilson_interval
from spos.counting.sums import count_within, feasible
from spos.sampling.exact import ConstrainedSampler, TooRare
from spos.sampling.limits import Limit
from spos.space.cost import cost_table
from spos.space.space import SearchSpace

NUM_TRIES = 2**15  # of an estimate


@dataclass(frozen=True)
class Number:
    """How many architectures keep the limits.

    Args:
        value: None if tries of the sampler met none, although there are some.
        interval: 95%, of an estimate; None if the value is exact.
    """

    value: Optional[float]
    interval: Optional[Tuple[float, float]] = None
    num_tries: int = 0

    @property
    def is_exact(self) -> bool:
        return self.num_tries == 0


@dataclass(frozen=True)
class Left:
    """What limits leave of a choice block, by the names of blocks and their scales.

    Args:
        blocks: block choices that some architecture within the limits has.
        scales: of block choices that have a middle, the same.
        never_blocks, never_scales: those that none has.
        forced_block, forced_scale: the only one left, if there were several.
        num_never: (block choice, channel choice) pairs that none has, of `num_pairs`.
    """

    index: int
    blocks: Tuple[str, ...]
    scales: Tuple[float, ...]
    never_blocks: Tuple[str, ...]
    never_scales: Tuple[float, ...]
    num_never: int
    num_pairs: int

    @property
    def forced_block(self) -> Optional[str]:
        return self.blocks[0] if self.never_blocks and len(self.blocks) == 1 else None

    @property
    def forced_scale(self) -> Optional[float]:
        return self.scales[0] if self.never_scales and len(self.scales) == 1 else None


@dataclass(frozen=True)
class Budget:
    """Limits in a space."""

    limits: Tuple[str, ...]
    number: Number
    left: Tuple[Left, ...]

    @property
    def can_be_met(self) -> bool:
        """Exact, whatever the number is."""
        return all(own.blocks for own in self.left)

    @classmethod
    def of(cls, space: SearchSpace, limits: Sequence[Limit], rng: np.random.Generator) -> Budget:
        """Args: limits: upper ones on FLOPs and params, at least one. rng: of an estimate."""
        table = cost_table(space)
        fixed, blocks = np.array(table.fixed, dtype=np.int64), table.choice_costs()
        possible = feasible(fixed, blocks, limits)
        number = Number(0)
        if all(own.any() for own in possible):
            exact = count_within(fixed, blocks, limits)
            number = estimate(fixed, blocks, limits, rng) if exact is None else Number(exact)
        left = tuple(_left(space, index, own.tolist()) for index, own in enumerate(possible))
        return cls(tuple(map(str, limits)), number, left)


def estimate(
    fixed: np.ndarray, blocks: Sequence[np.ndarray], limits: Sequence[Limit], rng: np.random.Generator
) -> Number:
    """The number by the exact sampler: ways that it has counted at the limits, times the share that keeps them."""
    try:
        sampler = ConstrainedSampler(fixed, blocks, limits)
    except TooRare:
        return Number(None, None, NUM_TRIES)
    share = sampler.acceptance(rng, NUM_TRIES)
    low, high = wilson_interval(round(share * NUM_TRIES), NUM_TRIES)
    return Number(share * sampler.num_ways, (low * sampler.num_ways, high * sampler.num_ways), NUM_TRIES)


def _left(space: SearchSpace, index: int, possible: List[bool]) -> Left:
    own = space.choices[index]
    blocks: Dict[str, bool] = {}
    scales: Dict[float, bool] = {}
    for (b, c), is_possible in zip(space.pairs(index), possible):
        name, scale = own.blocks[b].name, own.channel_scales[c]
        blocks[name] = blocks.get(name, False) or is_possible
        if space.has_middle(index, b):
            scales[scale] = scales.get(scale, False) or is_possible
    return Left(
        index,
        blocks=tuple(name for name, stays in blocks.items() if stays),
        scales=tuple(scale for scale, stays in scales.items() if stays),
        never_blocks=tuple(name for name, stays in blocks.items() if not stays),
        never_scales=tuple(scale for scale, stays in scales.items() if not stays),
        num_never=possible.count(False),
        num_pairs=len(possible),
    )
