"""Which paths a training step runs before its one update: a single one, all choices fairly, or widest to narrowest.

A strategy is called with (epoch, step, rng) and returns the passes of that step. Draws depend on nothing else, so a
resumed run sees the same passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Tuple

import numpy as np

from spos.space.space import Architecture, SearchSpace

Sampler = Callable[[int, int, np.random.Generator], Architecture]
NUM_RANDOM_WIDTHS = 2  # of the sandwich rule, between the widest and the narrowest (arXiv:1903.05134, arXiv:2003.11142)


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of a step.

    imitates: learn the predictions of the step's first pass instead of the labels.
    """

    architecture: Architecture
    imitates: bool = False


@dataclass(frozen=True)
class UniformStrategy:
    """One path a step, as in the paper (arXiv:1904.00420): whatever `sampler` draws."""

    sampler: Sampler

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Tuple[Pass, ...]:
        return (Pass(self.sampler(epoch, step, rng)),)


@dataclass(frozen=True)
class FairStrategy:
    """Strict fairness (FairNAS, arXiv:1907.01845): every block choice of every choice block once a step.

    The block choices of each choice block are dealt in a random order, one to each of as many passes as there are
    choices; the gradients of all passes are summed into one update. Widths are drawn anew for each pass.

    Args:
        lowest_channel_choice: narrowest channel choice allowed in an epoch.
    """

    space: SearchSpace
    lowest_channel_choice: Callable[[int], int]

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Tuple[Pass, ...]:
        space, lowest = self.space, self.lowest_channel_choice(epoch)
        dealt = [rng.permutation(space.num_block_choices) for _ in range(space.num_choice_blocks)]
        passes: List[Pass] = []
        for turn in range(space.num_block_choices):
            widths = space.sample(rng, lowest).channel_choices
            passes.append(Pass(Architecture(tuple(int(order[turn]) for order in dealt), widths)))
        return tuple(passes)


@dataclass(frozen=True)
class SandwichStrategy:
    """The sandwich rule with in-place distillation (BigNAS, arXiv:2003.11142), on widths.

    Block choices are drawn uniformly and are the same in all passes of a step, so its paths are nested: the widest
    learns the labels, the narrowest and NUM_RANDOM_WIDTHS random ones imitate the widest. Gradients are summed into
    one update. While a single width is allowed, there is nothing to imitate and one pass is left.
    """

    space: SearchSpace
    lowest_channel_choice: Callable[[int], int]

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Tuple[Pass, ...]:
        space, lowest = self.space, self.lowest_channel_choice(epoch)
        blocks = space.sample(rng, lowest).block_choices
        widest, narrowest = (
            Architecture(blocks, (choice,) * space.num_choice_blocks) for choice in (space.max_channel_choice, lowest)
        )
        if widest == narrowest:
            return (Pass(widest),)
        between = [Architecture(blocks, space.sample(rng, lowest).channel_choices) for _ in range(NUM_RANDOM_WIDTHS)]
        return (Pass(widest), *(Pass(path, imitates=True) for path in (narrowest, *between)))
