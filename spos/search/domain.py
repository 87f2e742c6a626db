"""The domain of a search: a space, fixed choices, limits, and the exact sampler over all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Container, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from spos.core.errors import InputError
from spos.latency.tables import Latency, LatencyTables
from spos.sampling.exact import ConstrainedSampler, TooRare
from spos.sampling.limits import Constraints, Limit
from spos.sampling.sizes import SizedSampler
from spos.sampling.strips import from_pairs
from spos.search.chain import Chain, Choices, maximise
from spos.search.costs import COSTS
from spos.search.linear_model import Effects
from spos.space.architecture import Architecture
from spos.space.cost import AnyCost, CostTable, TimedCost, cost_score, cost_table
from spos.space.space import SearchSpace

MAX_TRIES_FOR_A_NEW_ONE = 200  # samples in a row that are known already, before the domain is taken for used up
MAX_REPAIR_ROUNDS = 4  # over all choice blocks, one move in each at most


@dataclass(frozen=True)
class ChoiceCosts:
    """Costs at one input size.

    Args:
        fixed: (parts of a cost,), that every architecture has.
        blocks: for every choice block those of the pairs that may be visited, (pairs, parts of a cost).
        shares: what each pair adds to the value of each limit, (pairs, limits).
    """

    fixed: np.ndarray
    blocks: Sequence[np.ndarray]
    shares: Sequence[np.ndarray]


@dataclass(frozen=True)
class Domain:
    """The architectures a search may visit: a space, fixed choices if any, and constraints.

    Args:
        latency: makes latency a part of every cost. A limit on latency needs it. Where the input size is a choice, the
            tables of all sizes.
    """

    space: SearchSpace
    constraints: Constraints = Constraints()
    fixed_block_choices: Optional[Tuple[int, ...]] = None
    fixed_channel_choices: Optional[Tuple[int, ...]] = None
    latency: Optional[Latency] = None
    tries_before_repair: ClassVar[int] = 20  # children in a row that are no use, before one of them is repaired

    def __post_init__(self) -> None:
        blank = (0,) * self.space.num_choice_blocks
        blocks, channels = (
            blank if fixed is None else fixed for fixed in (self.fixed_block_choices, self.fixed_channel_choices)
        )
        self.space.validate(Architecture(blocks, channels), "fixed choices")
        if self.latency is not None:
            self.latency.check(self.space, self.pairs)
        elif self.constraints.latency_max_ms is not None:
            raise InputError("a limit on latency needs a latency table")

    @cached_property
    def genes(self) -> Tuple[Tuple[int, ...], ...]:
        """Values that each gene may take: block choices, channel choices, and the input size if it is a choice."""
        space = self.space
        blocks = [tuple(range(len(choices.blocks))) for choices in space.choices]
        channels = [tuple(space.channel_choices(index)) for index in range(space.num_choice_blocks)]
        if self.fixed_block_choices is not None:
            blocks = [(choice,) for choice in self.fixed_block_choices]
        if self.fixed_channel_choices is not None:
            channels = [(choice,) for choice in self.fixed_channel_choices]
        return tuple(blocks + channels + ([self.space.input_sizes] if self.space.input_sizes else []))

    @cached_property
    def table(self) -> CostTable:
        return cost_table(self.space)

    @cached_property
    def pairs(self) -> List[List[Tuple[int, int]]]:
        """For every choice block the (block choice, channel choice) pairs that may be visited, in canonical form."""
        space, count = self.space, self.space.num_choice_blocks
        return [
            list(dict.fromkeys(space.canonical_pair(index, b, c) for b in blocks for c in channels))
            for index, (blocks, channels) in enumerate(zip(self.genes[:count], self.genes[count : 2 * count]))
        ]

    @cached_property
    def _limits(self) -> List[Limit]:
        return self.constraints.limits()

    @cached_property
    def _costs(self) -> Mapping[Optional[int], ChoiceCosts]:
        """By input size; the only one is None where it is no choice."""
        sizes: Sequence[Optional[int]] = self.space.input_sizes or (None,)
        return {size: self._costs_at(size) for size in sizes}

    def _costs_at(self, size: Optional[int]) -> ChoiceCosts:
        table, limits = cost_table(self.space.at(size)), self._limits
        latency = self.latency.by_size[size or 0] if isinstance(self.latency, LatencyTables) else self.latency
        blocks = []
        for i, pairs in enumerate(self.pairs):
            parts: List[Sequence[Sequence[Any]]] = [table.blocks[i]]
            if latency is not None:
                parts.append(latency.nanoseconds[i])
            blocks.append(np.column_stack([np.array([part[b][c] for b, c in pairs], dtype=np.int64) for part in parts]))
        fixed = np.array([*table.fixed, *([] if latency is None else [latency.fixed_nanoseconds])], dtype=np.int64)
        shares = [np.column_stack([limit.value(block.T) for limit in limits]) for block in blocks] if limits else []
        return ChoiceCosts(fixed, blocks, shares)

    @cached_property
    def _sampler(self) -> Union[ConstrainedSampler, SizedSampler]:
        if self.space.input_sizes:
            return SizedSampler.of(self.space.input_sizes, self._sampler_at)
        return self._sampler_at(None)

    def _sampler_at(self, size: Optional[int], must_meet: bool = True) -> ConstrainedSampler:
        costs = self._costs[size]
        return ConstrainedSampler(costs.fixed, costs.blocks, self._limits, must_meet=must_meet)

    def check(self) -> None:
        """Raise InputError if no architecture keeps the constraints, naming the smallest reachable cost.

        That is the one at the smallest input size, where that is a choice and no size will do.
        """
        refusals: List[InputError] = []
        for costs in self._costs.values():
            try:
                self.constraints.check_reachable(costs.fixed, costs.blocks)
            except InputError as error:
                refusals.append(error)
        if len(refusals) == len(self._costs):
            raise refusals[0]
        self._sampler  # noqa: B018  raises if limits exclude each other

    def from_genes(self, genes: Sequence[int]) -> Architecture:
        """The architecture of genes that are each from an architecture of the domain, in canonical form.

        The width of a block without a middle is the widest there, whatever is fixed: it is none for another block.
        """
        count = self.space.num_choice_blocks
        blocks, channels, size = genes[:count], genes[count : 2 * count], genes[2 * count :]
        channels = channels if self.fixed_channel_choices is None else self.fixed_channel_choices
        return self.space.canonical(Architecture(tuple(blocks), tuple(channels), *size))

    def admits(self, architecture: Architecture) -> bool:
        """Whether an architecture keeps the constraints; its choices are not looked at."""
        return self.constraints.admits(self.cost(architecture))

    def contains(self, architecture: Architecture) -> bool:
        """Whether a search of the domain may visit an architecture, in this form."""
        own, size = list(zip(architecture.block_choices, architecture.channel_choices)), architecture.input_size
        is_whole = len(architecture.genes) == len(self.genes) and len(own) == len(self.pairs)
        is_whole = is_whole and (size in self.space.input_sizes if self.space.input_sizes else size is None)
        return is_whole and all(pair in pairs for pair, pairs in zip(own, self.pairs)) and self.admits(architecture)

    def cost(self, architecture: Architecture) -> AnyCost:
        """FLOPs and params, and latency if there is a table: what limits take. Takes microseconds."""
        cost = self.table.cost(architecture)
        return cost if self.latency is None else TimedCost(*cost, self.latency.of(architecture))

    def cost_fields(self, architecture: Architecture) -> Dict[str, Any]:
        """What a row of a search's history says of the cost."""
        cost = self.cost(architecture)
        relative = cost_score(cost, self.constraints.comparison_model)
        fields = {
            "flops": cost.macs,
            "params": cost.params,
            "flop_ratio": relative.flop_ratio,
            "param_ratio": relative.param_ratio,
            "score": relative.combined,
        }
        return {**fields, "latency_ms": cost.latency_ms} if isinstance(cost, TimedCost) else fields

    def within(self, **most: float) -> Domain:
        """The part of it that costs at most so much: `flops`, `params`, `latency` in milliseconds."""
        limits: Dict[str, Any] = {}
        for name, value in most.items():
            cost = COSTS[name]
            now = getattr(self.constraints, cost.limit)
            limits[cost.limit] = value / cost.unit if now is None else min(value / cost.unit, now)
        return replace(self, constraints=replace(self.constraints, **limits))

    def cost_range(self, name: str) -> Tuple[float, float]:
        """Smallest and largest of a cost, as far as each limit alone allows with the smallest of all other costs."""
        part, unit = COSTS[name].part, COSTS[name].part_unit
        lows, highs = zip(*(self._reach(costs, part) for costs in self._costs.values()))
        return min(lows) / unit, max(highs) / unit

    def _reach(self, costs: ChoiceCosts, part: int) -> Tuple[float, float]:
        """Smallest and largest of a part of a cost at one input size."""
        smallest, largest = (costs.fixed + sum(end(block, 0) for block in costs.blocks) for end in (np.min, np.max))
        high = float(largest[part])
        for limit in self._limits:
            weight = dict(enumerate(limit.weights)).get(part, 0)
            if weight > 0:
                others = limit.value(smallest) - weight * smallest[part]
                high = min(high, (limit.upper - others) / weight)
        return float(smallest[part]), high

    @property
    def costs_on_grid(self) -> Tuple[np.ndarray, np.ndarray]:
        """Costs at the first input size: what every architecture has, and what each pair adds.

        Shapes (parts of a cost,) and (choice blocks, block choices, channel choices, parts of a cost), whose values are
        0 where a pair may not be visited.
        """
        costs = next(iter(self._costs.values()))
        return costs.fixed, self._on_grid(costs.blocks)

    @cached_property
    def effects(self) -> Effects:
        """What a linear model of fitness tells apart; costs are those of the first input size."""
        return Effects(self.pairs, self.costs_on_grid[1], self.space.input_sizes)

    def _on_grid(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Of every choice block (pairs, numbers) as (choice blocks, block choices, channel choices, numbers)."""
        shape = self.space.num_choice_blocks, self.space.num_block_choices, self.space.num_channel_choices
        grid = np.zeros((*shape, values[0].shape[1]))
        for index, (pairs, own) in enumerate(zip(self.pairs, values)):
            blocks, channels = np.array(pairs).T
            grid[index, blocks, channels] = own
        return grid

    @cached_property
    def _shares(self) -> Mapping[Optional[int], Tuple[np.ndarray, np.ndarray]]:
        """By input size: of every pair what it adds to the value of each limit, and what the limits leave for that."""
        none = [np.zeros((len(pairs), 0)) for pairs in self.pairs]
        return {
            size: (
                self._on_grid(costs.shares or none),
                np.array([limit.upper - limit.value(costs.fixed) for limit in self._limits]),
            )
            for size, costs in self._costs.items()
        }

    def maximise(self, chain: Chain, by_size: Sequence[float], seen: Container[Architecture]) -> Optional[Architecture]:
        """The best architecture by an additive fitness that keeps the constraints and has not been seen.

        Args:
            by_size: what each input size adds to fitness; one number where it is no choice.
        Returns: None if nothing is found.
        """
        best: Optional[Tuple[float, Architecture]] = None
        for (size, shares), added in zip(self._shares.items(), by_size):

            def made(choices: Choices, size: Optional[int] = size) -> Architecture:
                blocks, channels = zip(*choices)
                return Architecture(blocks, channels, size)

            found = maximise(chain, *shares, lambda one: made(one) not in seen and self.admits(made(one)))
            if found and (best is None or found.value + added > best[0]):
                best = found.value + added, made(found.choices)
        return best[1] if best else None

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Uniform over the architectures that keep the constraints."""
        return from_pairs(self.pairs, self._sampler.draw(rng))

    def sample_many(self, count: int, rng: np.random.Generator) -> List[Architecture]:
        """Independent samples; none if they are too rare to be met."""
        try:
            drawn = self._sampler.draw_many(count, rng)
        except TooRare:
            return []
        return [from_pairs(self.pairs, choices) for choices in drawn.tolist()]

    def sample_new(self, count: int, rng: np.random.Generator, seen: Container[Architecture]) -> List[Architecture]:
        """Different samples that have not been seen; fewer than `count` if the domain seems used up."""
        found: Dict[Architecture, None] = {}
        failures = 0
        while len(found) < count and failures < MAX_TRIES_FOR_A_NEW_ONE:
            samples = self.sample_many(count - len(found), rng)
            if not samples:
                break
            for architecture in samples:
                is_new = architecture not in seen and architecture not in found
                failures = 0 if is_new else failures + 1
                if is_new:
                    found[architecture] = None
        return list(found)

    def repair(
        self, architecture: Architecture, rng: np.random.Generator, seen: Container[Architecture] = ()
    ) -> Optional[Architecture]:
        """A near architecture that keeps the constraints, or None if none is met.

        Choice blocks, in random order, move to a random one of the allowed pairs that break the limits less: by a
        smaller sum of relative excesses. So does the input size, if it is a choice. What is allowed already is returned
        as it is.

        Args:
            seen: what is of no use; a domain of recorded architectures steps aside from it, this one does not.
        """
        choices = [
            pairs.index(pair) if pair in pairs else int(rng.integers(len(pairs)))
            for pairs, pair in zip(self.pairs, zip(architecture.block_choices, architecture.channel_choices))
        ]
        if self.space.input_sizes:
            choices.append(architecture.input_size or self.space.input_size)
        repaired = from_pairs(self.pairs, choices)
        for i in np.concatenate([rng.permutation(len(choices)) for _ in range(MAX_REPAIR_ROUNDS)]).tolist():
            if self.admits(repaired):
                return repaired
            better = (
                self._better_pairs(repaired, i, choices[i]) if i < len(self.pairs) else self._better_sizes(repaired)
            )
            if len(better):
                choices[i] = int(better[rng.integers(len(better))])
                repaired = from_pairs(self.pairs, choices)
        return repaired if self.admits(repaired) else None

    def _better_pairs(self, architecture: Architecture, index: int, choice: int) -> np.ndarray:
        """Pairs of a choice block that would break the limits less than the one it has."""
        shares, now = self._costs[architecture.input_size].shares[index], self._values(architecture)
        others = now + shares - shares[choice]
        return np.flatnonzero(total_excess(others, self._limits) < total_excess(now, self._limits))

    def _better_sizes(self, architecture: Architecture) -> np.ndarray:
        """Input sizes at which it would break the limits less than at its own."""
        sizes, now = np.array(self.space.input_sizes), self._values(architecture)
        others = np.array([self._values(replace(architecture, input_size=size)) for size in sizes.tolist()])
        return sizes[total_excess(others, self._limits) < total_excess(now, self._limits)]

    def _values(self, architecture: Architecture) -> np.ndarray:
        """Of each limit."""
        cost = self.cost(architecture)
        return np.array([limit.value(cost) for limit in self._limits])


def total_excess(values: np.ndarray, limits: Sequence[Limit]) -> np.ndarray:
    """By how much values (..., limits) are outside the bounds, relative to the bound, summed over the limits."""
    upper, lower = (np.array([getattr(limit, bound) for limit in limits]) for bound in ("upper", "lower"))
    with np.errstate(invalid="ignore", divide="ignore"):  # the excess over an infinite bound is nan
        above = np.fmax((values - upper) / np.abs(upper), 0)
        below = np.fmax((lower - values) / np.abs(lower), 0)
    return (above + below).sum(-1)
