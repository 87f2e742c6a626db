"""Strategies: the paths of a training step before its one update: one, all choices fairly, or widest to narrowest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Protocol, Sequence, Tuple

import numpy as np

from spos.sampling.warm_up import Policy, SamplingPolicy
from spos.space.architecture import Architecture

SUM, MEAN = PASS_GRADIENTS = ("sum", "mean")  # how the gradients of a step's passes become one
NUM_RANDOM_WIDTHS = 2  # of the sandwich rule, between the widest and the narrowest (arXiv:1903.05134, arXiv:2003.11142)


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass of a step.

    imitates: learn the predictions of the step's first pass instead of the labels.
    """

    architecture: Architecture
    imitates: bool = False


class Strategy(Protocol):
    """Gives the passes of a step. Draws depend on nothing but the arguments, so a resumed run sees the same passes."""

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Sequence[Pass]: ...


@dataclass(frozen=True)
class UniformStrategy:
    """One path a step, as in the paper (arXiv:1904.00420): whatever `policy` draws."""

    policy: Policy

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Tuple[Pass, ...]:
        return (Pass(self.policy(epoch, step, rng)),)


@dataclass(frozen=True)
class FairStrategy:
    """Strict fairness (FairNAS, arXiv:1907.01845): every block choice of every choice block once a step.

    The block choices of each choice block are dealt in a random order, one to each of as many passes as there are
    choices; the gradients of all passes are summed into one update. Widths are drawn anew for each pass, the input size
    of a step once. A choice block with fewer choices than others deals them again.
    """

    policy: SamplingPolicy

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Tuple[Pass, ...]:
        space, lowest = self.policy.space, self.policy.lowest_channel_choice(epoch)
        turns = space.num_block_choices
        dealt = [_dealt(len(choices.blocks), turns, rng) for choices in space.choices]
        passes: List[Pass] = []
        size = space.sample_input_size(rng)
        for turn in range(turns):
            widths, blocks = space.sample_widths(rng, lowest), tuple(order[turn] for order in dealt)
            passes.append(Pass(space.canonical(Architecture(blocks, widths, size))))
        return tuple(passes)


def _dealt(num_choices: int, turns: int, rng: np.random.Generator) -> List[int]:
    """All choices in a random order, and again in another one until there is one for every turn."""
    order: List[int] = []
    while len(order) < turns:
        order += rng.permutation(num_choices).tolist()
    return order[:turns]


@dataclass(frozen=True)
class SandwichStrategy:
    """The sandwich rule with in-place distillation (BigNAS, arXiv:2003.11142), on widths.

    Block choices and the input size are drawn uniformly and are the same in all passes of a step, so its paths are
    nested: the widest learns the labels, the narrowest and NUM_RANDOM_WIDTHS random ones imitate the widest. Gradients
    are summed into one update. While a single width is allowed, there is nothing to imitate and one pass is left.
    """

    policy: SamplingPolicy

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Tuple[Pass, ...]:
        space, lowest = self.policy.space, self.policy.lowest_channel_choice(epoch)
        first = space.sample(rng, lowest)
        blocks, size = first.block_choices, first.input_size
        widest, narrowest = (space.at_level(blocks, choice, size) for choice in (space.max_channel_choice, lowest))
        if widest == narrowest:
            return (Pass(widest),)
        between = [
            space.canonical(Architecture(blocks, space.sample_widths(rng, lowest), size))
            for _ in range(NUM_RANDOM_WIDTHS)
        ]
        return (Pass(widest), *(Pass(path, imitates=True) for path in (narrowest, *between)))


UNIFORM = "uniform"
STRATEGIES: Dict[str, Callable[[SamplingPolicy], Strategy]] = {
    UNIFORM: UniformStrategy,
    "fair": FairStrategy,
    "sandwich": SandwichStrategy,
}


def make_strategy(name: str, policy: Policy) -> Strategy:
    """A strategy by its name. Raises ValueError if it runs paths of any cost, and the policy has limits."""
    if name == UNIFORM:
        return UniformStrategy(policy)
    if not isinstance(policy, SamplingPolicy):
        raise ValueError(f"strategy '{name}' runs paths of any cost; a policy with limits needs '{UNIFORM}'")
    return STRATEGIES[name](policy)
