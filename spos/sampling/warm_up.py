"""The warm-up of channel choices, and uniform draws of the architectures of training steps with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spos.space.architecture import Architecture
from spos.space.space import SearchSpace


class Policy(Protocol):
    """Draws the architecture of a training step; steps are counted in their epoch, and both from 0."""

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Architecture: ...


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
        """Draw the architecture of one training step; uniform sampling is the same in every step of an epoch."""
        return self.space.sample(rng, self.lowest_channel_choice(epoch))
