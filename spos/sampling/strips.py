"""Strips of the plane of costs: sampling under limits while a supernet is trained, independently or walking through.

The published project let a pool of architectures evolve through strips of the FLOPs-params plane, so that training
covers the plane evenly and not where most architectures are. The walk here visits cells of the same strips, and every
draw is exactly uniform inside its cell. The cell is a function of the step, so a resumed run needs no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np

from spos.core.errors import InputError
from spos.sampling.exact import ConstrainedSampler, TooRare
from spos.sampling.limits import MILLION, Limit
from spos.sampling.sizes import SizedSampler
from spos.sampling.warm_up import Policy, SamplingPolicy
from spos.space.architecture import Architecture
from spos.space.cost import Cost, cost_table
from spos.space.space import SearchSpace

METHODS = ("random", "evolution")
NUM_STRIPS = 7  # of FLOPs between the limits, as published
NUM_PARAM_CELLS = 4  # of params in every strip, as published
STEPS_PER_WALK = 1000  # where the steps of an epoch are not known
RARE = 0.02  # share of tries that meet a cell, below which it gets a table of its own
TOO_RARE = 0.002  # share below which a cell is left out, as if it were empty: 500 tries take about 10 ms

Range = Tuple[int, int]  # first and last integer


def split(low: int, high: int, count: int) -> List[Range]:
    """Ranges that share out the integers from low to high; the last number of one is followed by the next's first."""
    cuts = [low + (high - low) * i // count for i in range(count + 1)]
    return [(start + (i > 0), end) for i, (start, end) in enumerate(zip(cuts, cuts[1:]))]


def there_and_back(items: Sequence[Any]) -> List[Any]:
    """From the last to the first and back, both ends twice, so that all come equally often."""
    return [*reversed(items), *items]


@dataclass(frozen=True)
class PathSampler:
    """Draws architectures of a space within limits.

    Args:
        pairs: of every choice block the (block choice, channel choice) pairs that `choices` draws the numbers of, and
            behind them the input size if it is a choice.
    """

    pairs: Sequence[Sequence[Tuple[int, int]]]
    choices: Union[ConstrainedSampler, SizedSampler]

    def within(self, limits: Sequence[Limit]) -> PathSampler:
        return PathSampler(self.pairs, self.choices.within(limits))

    def draw(self, rng: np.random.Generator) -> Architecture:
        return self._architecture(self.choices.draw(rng))

    def draw_many(self, count: int, rng: np.random.Generator) -> List[Architecture]:
        return [self._architecture(choices) for choices in self.choices.draw_many(count, rng).tolist()]

    def _architecture(self, choices: Sequence[int]) -> Architecture:
        return from_pairs(self.pairs, choices)


def from_pairs(pairs: Sequence[Sequence[Tuple[int, int]]], choices: Sequence[int]) -> Architecture:
    """The architecture of a draw: the number of a pair for every choice block, and the input size if it is a choice."""
    blocks, channels = zip(*(own[choice] for own, choice in zip(pairs, choices)))
    return Architecture(blocks, channels, *choices[len(pairs) :])


def path_sampler(space: SearchSpace, lowest: int, limits: Sequence[Limit], window: Any = None) -> PathSampler:
    """A sampler of widths from the space's channel choice `lowest` on.

    Raises: InputError if no architecture keeps the limits.
    """
    choices: Union[ConstrainedSampler, SizedSampler]
    if space.input_sizes:
        choices = SizedSampler.of(space.input_sizes, partial(_sampler_at, space, lowest, limits, window))
    else:
        choices = _sampler_at(space, lowest, limits, window, None, must_meet=True)
    return PathSampler([space.pairs(index, lowest) for index in range(space.num_choice_blocks)], choices)


def _sampler_at(
    space: SearchSpace, lowest: int, limits: Sequence[Limit], window: Any, input_size: Optional[int], must_meet: bool
) -> ConstrainedSampler:
    table = cost_table(space.at(input_size))
    return ConstrainedSampler(table.fixed, table.choice_costs(lowest), limits, window, must_meet)


@lru_cache(maxsize=2)
def random_sampler(space: SearchSpace, lowest: int, limits: Tuple[Limit, ...]) -> PathSampler:
    """The sampler of `random`, made once (0.1 s). Raises InputError if no architecture keeps the limits."""
    return path_sampler(space, lowest, limits)


@dataclass(frozen=True)
class Cell:
    """A part of the plane: a strip of FLOPs and a range of params in it, both ends included."""

    macs: Range
    params: Range

    def limits(self) -> Tuple[Limit, Limit]:
        return (
            Limit("FLOPs", "M", (1,), self.macs[1], self.macs[0], MILLION),
            Limit("params", "M", (0, 1), self.params[1], self.params[0], MILLION),
        )

    def holds(self, cost: Cost) -> bool:
        return all(limit.keeps(cost) for limit in self.limits())


@lru_cache(maxsize=2)
def cell_samplers(
    space: SearchSpace, lowest: int, limits: Tuple[Limit, ...]
) -> Tuple[Tuple[Tuple[Cell, PathSampler], ...], ...]:
    """For every FLOPs strip its cells in which there are architectures, each with its sampler; made once.

    Cells at the rim of what is reachable may be left out though they hold some (see TOO_RARE).

    Where there is no limit, the plane ends at the reachable cost. Limits too narrow to be cut up are one cell.
    Raises InputError if no architecture keeps the limits.
    """
    anywhere = random_sampler(space, lowest, limits)
    macs, params = _plane(anywhere.choices.reachable, limits)
    window = (macs[1] - macs[0]) / NUM_STRIPS, (params[1] - params[0]) / NUM_PARAM_CELLS
    whole = path_sampler(space, lowest, limits, window)
    strips = [
        [Cell(strip, part) for part in split(*params, NUM_PARAM_CELLS) if strip[0] <= strip[1] and part[0] <= part[1]]
        for strip in split(*macs, NUM_STRIPS)
    ]
    result = tuple(
        tuple((cell, sampler) for cell in strip for sampler in _sampler_of(space, lowest, whole, cell))
        for strip in strips
    )
    return result if any(result) else (((Cell(macs, params), anywhere),),)


def _plane(reachable: Tuple[Cost, Cost], limits: Sequence[Limit]) -> Tuple[Range, Range]:
    """What the limits leave of FLOPs and of params."""
    ends = [list(pair) for pair in zip(*reachable)]
    for limit in limits:
        axis = ends[0 if limit.weights[0] else 1]
        axis[0] = axis[0] if limit.lower == float("-inf") else int(np.ceil(limit.lower))
        axis[1] = axis[1] if limit.upper == float("inf") else int(np.floor(limit.upper))
    return (ends[0][0], ends[0][1]), (ends[1][0], ends[1][1])


def _sampler_of(space: SearchSpace, lowest: int, whole: PathSampler, cell: Cell) -> List[PathSampler]:
    """The sampler of a cell, or nothing if the cell is empty or all but empty.

    The table of the whole plane serves, or for a cell that it meets rarely, beside much fuller ones, a finer one.
    """
    rng = np.random.default_rng(0)
    try:
        shared = whole.within(cell.limits())
        if shared.choices.acceptance(rng, 512) >= RARE:
            return [shared]
    except InputError as error:
        if not isinstance(error, TooRare):  # that one says nothing about a finer table
            return []
    try:
        own = path_sampler(space, lowest, cell.limits())
    except InputError:  # a finer table may also prove a cell empty
        return []
    return [own] if own.choices.acceptance(rng, 2048) >= TOO_RARE else []


@lru_cache(maxsize=2)
def walk(space: SearchSpace, lowest: int, limits: Tuple[Limit, ...]) -> Tuple[Tuple[Cell, PathSampler], ...]:
    """One whole walk: strips from the highest FLOPs to the lowest and back, in each of them params likewise."""
    strips = cell_samplers(space, lowest, limits)
    return tuple(visit for strip in there_and_back(strips) for visit in there_and_back(strip))


@dataclass(frozen=True)
class ConstrainedPolicy:
    """Sampling of training steps within limits, in every epoch whose widths can keep them.

    Args:
        policy: decides the widths of an epoch, and samples in the epochs that cannot keep the limits.
        limits: on FLOPs and params.
        method: `random` draws uniformly from all that keeps the limits, `evolution` walks through cells.
        steps_per_epoch: length of a walk if it has a step for every visit; a shorter epoch does a part of one, and
            the next goes on. 0 if not known: STEPS_PER_WALK, beginning anew with every epoch.
    """

    policy: SamplingPolicy
    limits: Tuple[Limit, ...]
    method: str = "random"
    steps_per_epoch: int = 0

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Architecture:
        """Draw the architecture of a training step; steps are counted in their epoch, from 0."""
        if not self.holds(epoch):
            return self.policy(epoch, step, rng)
        space, lowest = self.policy.space, self.policy.lowest_channel_choice(epoch)
        if self.method == "random":
            return random_sampler(space, lowest, self.limits).draw(rng)
        visits = walk(space, lowest, self.limits)
        return visits[self.visit(epoch, step, len(visits))][1].draw(rng)

    def cell(self, epoch: int, step: int) -> Cell:
        """Where a step of `evolution` draws, in an epoch that can keep the limits."""
        visits = walk(self.policy.space, self.policy.lowest_channel_choice(epoch), self.limits)
        return visits[self.visit(epoch, step, len(visits))][0]

    def visit(self, epoch: int, step: int, num_visits: int) -> int:
        """Which visit of the walk a step belongs to."""
        steps_per_walk = max(self.steps_per_epoch or STEPS_PER_WALK, num_visits)
        return (epoch * self.steps_per_epoch + step) % steps_per_walk * num_visits // steps_per_walk

    def holds(self, epoch: int) -> bool:
        """Whether some architecture of the widths of an epoch keeps the limits."""
        return _refusal(self.policy.space, self.policy.lowest_channel_choice(epoch), self.limits) is None

    def first_epoch(self, num_epochs: int) -> int:
        """First epoch from which the limits are kept. Widths only become more, so all later ones keep them too.

        Raises: InputError if none of `num_epochs` does, or none ever would.
        """
        narrowest = self.policy.space.min_channel_choice
        refusal = _refusal(self.policy.space, narrowest, self.limits)
        if refusal:
            raise InputError(refusal)
        first = next(epoch for epoch in range(_last_change(self.policy) + 1) if self.holds(epoch))
        if first >= num_epochs:
            raise InputError(
                f"{' and '.join(map(str, self.limits))}: no width of the epochs before {first} (counted from 0) can "
                f"keep that, and --num-epochs is {num_epochs}. Train longer, or lower --epoch-start-cs"
            )
        return first


@lru_cache(maxsize=64)
def _refusal(space: SearchSpace, lowest: int, limits: Tuple[Limit, ...]) -> Optional[str]:
    """Why no architecture with these widths keeps the limits; None if one does."""
    try:
        random_sampler(space, lowest, limits)
    except InputError as error:
        return str(error)
    return None


def _last_change(policy: SamplingPolicy) -> int:
    """The last epoch in which widths change."""
    return max(policy.epoch_start_cs, 0) + (sum(policy.space.warm_up_durations) if policy.cs_warm_up else 0)


@dataclass(frozen=True)
class CheckedPolicy:
    """A policy whose draws are counted a second way. Raises RuntimeError at the first difference."""

    policy: Policy
    space: SearchSpace
    count: Callable[[Architecture], Cost]

    def __call__(self, epoch: int, step: int, rng: np.random.Generator) -> Architecture:
        architecture = self.policy(epoch, step, rng)
        counted, expected = self.count(architecture), cost_table(self.space).cost(architecture)
        if tuple(counted) != tuple(expected):
            raise RuntimeError(f"{architecture}: its symbol graph costs {counted}, the lookup table says {expected}")
        return architecture
