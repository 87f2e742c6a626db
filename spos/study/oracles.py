"""Fitness without a network, to compare searches: sums of drawn utilities, and tables of scored architectures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Container, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.sampling.limits import Limit
from spos.search.chain import Chain
from spos.search.domain import Domain
from spos.search.history import is_complete
from spos.search.linear_model import Effects
from spos.space.architecture import Architecture, architecture_of
from spos.space.space import SearchSpace

PAIR_SHARE = 0.3  # of the variance of an additive oracle
NUM_CELLS = 4096  # of a limited cost, in the bound of the optimum


@dataclass(frozen=True)
class AdditiveOracle:
    """Fitness is a sum of utilities, one for each choice block and one for each pair of neighbouring choice blocks.

    Utilities are independent and normal, and scaled so that the fitness of uniformly drawn architectures has standard
    deviation 1 on average. A choice block's depends on its block choice and channel choice together; a pair's depends
    on both block choices. So genes interact, and yet the best architecture is known.

    Attributes:
        utilities: (choice blocks, block choices, channel choices), of as many as the choice blocks that have the most.
        pairs: (choice blocks - 1, block choices, block choices).
    """

    utilities: np.ndarray
    pairs: np.ndarray

    @classmethod
    def draw(cls, space: SearchSpace, rng: np.random.Generator, pair_share: float = PAIR_SHARE) -> AdditiveOracle:
        """Args: pair_share: of the variance, what the pairs give. Raises InputError if the input size is a choice."""
        if space.input_sizes:
            raise InputError("drawn utilities know no input sizes; compare searches in a space of one, or by a history")
        count, num_blocks = space.num_choice_blocks, space.num_block_choices
        utilities = rng.normal(0, np.sqrt((1 - pair_share) / count), (count, num_blocks, space.num_channel_choices))
        pairs = rng.normal(0, np.sqrt(pair_share / max(count - 1, 1)), (count - 1, num_blocks, num_blocks))
        return cls(utilities, pairs)

    def __call__(self, architecture: Architecture) -> float:
        blocks, channels = np.array(architecture.block_choices), np.array(architecture.channel_choices)
        index = np.arange(len(blocks))
        own = self.utilities[index, blocks, channels].sum()
        return float(own + self.pairs[index[:-1], blocks[:-1], blocks[1:]].sum())

    def optimum(self, domain: Domain) -> float:
        """Highest fitness in a domain, by dynamic programming over the choice blocks (Viterbi).

        Exact without limits. With limits an upper bound, the least of those under each limit alone: costs of blocks
        are rounded down to a grid of NUM_CELLS cells.
        """
        limits: List[Optional[Limit]] = [*domain.constraints.limits()]
        return min(self._optimum(domain, limit) for limit in limits or [None])

    def _optimum(self, domain: Domain, limit: Optional[Limit]) -> float:
        steps, num_cells = self._steps(domain, limit)
        best = np.full((self.utilities.shape[1], num_cells), -np.inf)  # of the blocks so far, by last choice and cost
        for i, block in enumerate(domain.pairs):
            before = (best[:, None] + self.pairs[i - 1][:, :, None]).max(0) if i else None
            best = np.full_like(best, -np.inf)
            for b, c in block:
                step = steps[i][b, c]
                if step >= num_cells:
                    continue
                utility = self.utilities[i, b, c]
                if before is None:
                    best[b, step] = max(best[b, step], utility)
                else:
                    shifted = before[b, : num_cells - step] + utility
                    best[b, step:] = np.maximum(best[b, step:], shifted)
        return float(best.max())

    def _steps(self, domain: Domain, limit: Optional[Limit]) -> Tuple[List[np.ndarray], int]:
        """Cells by which each choice moves up from the cheapest one, rounded down, and the number of cells allowed."""
        if limit is None:
            return [np.zeros(block.shape, dtype=int) for block in self.utilities], 1
        fixed, blocks = domain.costs_on_grid
        values = [limit.value(np.moveaxis(block, -1, 0)) for block in blocks]  # (block choices, channel choices) each
        cheapest = [min(value[pair] for pair in block) for value, block in zip(values, domain.pairs)]
        budget = limit.upper - limit.value(fixed) - sum(cheapest)
        most = sum(value.max() - low for value, low in zip(values, cheapest))
        cell = max(min(budget, most), 0.0) / (NUM_CELLS - 1) or 1.0
        slack = 1e-6  # of a cell, for the rounding of sums of fractions
        steps = [np.floor((value - low) / cell + slack).astype(int) for value, low in zip(values, cheapest)]
        return steps, NUM_CELLS


class RecordedDomain:
    """A table of scored architectures as a domain: nothing else can be visited. It stands for a `Domain`.

    Samples are uniform over the table. A child is moved to the entry that differs in the fewest genes among those not
    yet seen; of equally near ones, a random one.
    """

    tries_before_repair: ClassVar[int] = 1

    def __init__(self, scores: Mapping[Architecture, float]) -> None:
        self.scores = dict(scores)
        self._entries = list(self.scores)

    def __call__(self, architecture: Architecture) -> float:
        return self.scores[architecture]

    @cached_property
    def _table(self) -> np.ndarray:
        return np.array([entry.genes for entry in self._entries])

    @cached_property
    def genes(self) -> Tuple[Tuple[int, ...], ...]:
        """Values that each gene takes in the table."""
        return tuple(tuple(np.unique(column).tolist()) for column in self._table.T)

    def from_genes(self, genes: Sequence[int]) -> Architecture:
        count = len(genes) // 2
        return Architecture(tuple(genes[:count]), tuple(genes[count : 2 * count]), *genes[2 * count :])

    def admits(self, architecture: Architecture) -> bool:
        return architecture in self.scores

    contains = admits  # nothing is limited but by the table

    def sample_new(self, count: int, rng: np.random.Generator, seen: Container[Architecture]) -> List[Architecture]:
        """Different entries that have not been seen; fewer than `count` if there are no more."""
        left = [entry for entry in self._entries if entry not in seen]
        return [left[i] for i in rng.permutation(len(left))[:count].tolist()]

    @cached_property
    def effects(self) -> Effects:
        """Of the pairs in the table. Nothing is known of costs."""
        blocks, channels = self._choices
        shape = len(blocks.T), int(blocks.max()) + 1, int(channels.max()) + 1, 0
        pairs = [sorted(set(zip(*own))) for own in zip(blocks.T.tolist(), channels.T.tolist())]
        sizes = sorted({entry.input_size for entry in self._entries if entry.input_size})
        return Effects(pairs, np.zeros(shape), sizes)

    @cached_property
    def _choices(self) -> Tuple[np.ndarray, np.ndarray]:
        count = len(self._entries[0].block_choices)
        return self._table[:, :count], self._table[:, count : 2 * count]

    def maximise(self, chain: Chain, by_size: Sequence[float], seen: Container[Architecture]) -> Optional[Architecture]:
        """The entry of the highest additive fitness among those not yet seen."""
        values = chain.values(*self._choices)
        if self.effects.sizes:
            values = values + np.array(by_size)[np.searchsorted(self.effects.sizes, self._table[:, -1])]
        entries = (self._entries[i] for i in np.argsort(-values, kind="stable").tolist())
        return next((entry for entry in entries if entry not in seen), None)

    def repair(
        self, architecture: Architecture, rng: np.random.Generator, seen: Container[Architecture] = ()
    ) -> Optional[Architecture]:
        """The nearest entry that has not been seen, or None if all have."""
        differing = (self._table != architecture.genes).sum(1) + rng.random(len(self._entries))
        entries = (self._entries[i] for i in differing.argsort().tolist())
        return next((entry for entry in entries if entry not in seen), None)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping], source: str = "the history") -> RecordedDomain:
        """From the rows of a `history.jsonl`: their fitness, or their top-1 where there is none.

        What a race has dropped is left out: it was scored on other images than the rest. Choices are `renumbered`.

        Raises: InputError if a row says neither, if there is none, if they are not all of one length, or if an
            architecture stands there twice.
        """
        scores: Dict[Architecture, float] = {}
        for number, row in enumerate(rows, 1):
            if not is_complete(row):
                continue
            try:
                architecture, score = architecture_of(row), float(row["fitness"] if "fitness" in row else row["top1"])
            except (KeyError, TypeError, ValueError):
                raise InputError(
                    f"{source} row {number} lacks block_choices, channel_choices, or fitness or top1"
                ) from None
            if architecture in scores:
                raise InputError(f"{source} row {number} holds an architecture that stands above; remove one of them")
            scores[architecture] = score
        lengths = {len(choices) for entry in scores for choices in (entry.block_choices, entry.channel_choices)}
        if not scores:
            raise InputError(f"{source} holds no architecture")
        if len(lengths) > 1:
            raise InputError(f"{source} holds architectures of {len(lengths)} different lengths; one is needed")
        return cls(dict(zip(renumbered(list(scores)), scores.values())))


def renumbered(architectures: Sequence[Architecture]) -> List[Architecture]:
    """The same with the block choices that there are numbered from 0 in their order, and so the channel choices.

    Choices are indices of arrays, which one large number would make too large for the memory.
    """
    blocks = _numbers(choice for one in architectures for choice in one.block_choices)
    channels = _numbers(choice for one in architectures for choice in one.channel_choices)
    return [
        replace(
            one,
            block_choices=tuple(blocks[choice] for choice in one.block_choices),
            channel_choices=tuple(channels[choice] for choice in one.channel_choices),
        )
        for one in architectures
    ]


def _numbers(choices: Iterable[int]) -> Dict[int, int]:
    return {choice: number for number, choice in enumerate(sorted(set(choices)))}
