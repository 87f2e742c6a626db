"""The breeder: children of scored architectures that a domain admits and that are new, with their parents."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field
from typing import ClassVar, Container, Dict, Iterator, List, NamedTuple, Optional, Protocol, Sequence, Tuple

import numpy as np

from spos.search.chain import Chain
from spos.search.linear_model import Effects
from spos.space.architecture import Architecture

MAX_CHILD_TRIES = 200  # children in a row that are no use, before fresh samples take their place

Scores = Dict[Architecture, float]
Parents = Tuple[Architecture, ...]
# The parents of every child that was taken into a generation: one of a mutant, two of a crossover. Fresh samples are
# not in it. A child that broke a limit and was repaired has the parents it had before.
Lineage = Dict[Architecture, Parents]


class SearchDomain(Protocol):
    """What searches need of a domain; `spos.search.domain.Domain` says what each of it means."""

    tries_before_repair: ClassVar[int]

    @property
    def genes(self) -> Tuple[Tuple[int, ...], ...]: ...

    def from_genes(self, genes: Sequence[int]) -> Architecture: ...

    def admits(self, architecture: Architecture) -> bool: ...

    def contains(self, architecture: Architecture) -> bool: ...

    def sample_new(self, count: int, rng: np.random.Generator, seen: Container[Architecture]) -> List[Architecture]: ...

    def repair(
        self, architecture: Architecture, rng: np.random.Generator, seen: Container[Architecture] = ...
    ) -> Optional[Architecture]: ...

    @property
    def effects(self) -> Effects: ...

    def maximise(
        self, chain: Chain, by_size: Sequence[float], seen: Container[Architecture]
    ) -> Optional[Architecture]: ...


class Child(NamedTuple):
    """What is bred, and of whom."""

    architecture: Architecture
    parents: Parents


@dataclass
class Breeder:
    """Breeds for one search, and knows what it has scored.

    Args:
        mutate_chance: of each gene of a child to be drawn anew.
        seen: scores known so far: what is in it is not bred again. The search adds to it.
        lineage: learns of whom what was taken is a child. It changes nothing that is drawn.
    """

    domain: SearchDomain
    mutate_chance: float
    rng: np.random.Generator
    seen: Scores
    lineage: Lineage = field(default_factory=dict)

    def of_pairs(self, parents: Sequence[Architecture], mutates: bool = True) -> Iterator[Child]:
        """Without end: two children of every pair of parents drawn."""
        while True:
            first, second = self.rng.choice(len(parents), 2, replace=False)
            for _ in range(2):
                yield self.of_pair(parents[first], parents[second], mutates)

    def of_pair(self, first: Architecture, second: Architecture, mutates: bool = True) -> Child:
        """A crossover of two, then a mutation of it."""
        child = self.crossover(first, second)
        return Child(self.mutate(child) if mutates else child, (first, second))

    def mutants(self, parents: Sequence[Architecture]) -> Iterator[Child]:
        """Without end: mutants of a parent drawn."""
        while True:
            parent = parents[self.rng.integers(len(parents))]
            yield Child(self.mutate(parent), (parent,))

    def crossover(self, first: Architecture, second: Architecture) -> Architecture:
        """Each gene from one of the two parents, with equal chance."""
        from_first = (self.rng.random(len(self.domain.genes)) < 0.5).tolist()
        return self.domain.from_genes([a if pick else b for a, b, pick in zip(first.genes, second.genes, from_first)])

    def mutate(self, architecture: Architecture) -> Architecture:
        """Each gene drawn anew with the given chance."""
        genes, values = list(architecture.genes), self.domain.genes
        for i in np.flatnonzero(self.rng.random(len(genes)) < self.mutate_chance).tolist():
            genes[i] = values[i][self.rng.integers(len(values[i]))]
        return self.domain.from_genes(genes)

    def take_new(
        self, children: Iterator[Child], count: int, generation: Sequence[Architecture] = ()
    ) -> List[Architecture]:
        """`generation` and up to `count` different children that keep the constraints and have not been seen.

        After `domain.tries_before_repair` children in a row without a new one, one is repaired; after MAX_CHILD_TRIES,
        or when `children` ends, there are fewer.
        """
        taken = dict.fromkeys(generation, 0.0)
        wanted, known, failures = len(taken) + count, ChainMap(taken, self.seen), 0
        while len(taken) < wanted and failures < MAX_CHILD_TRIES:
            child = next(children, None)
            if child is None:
                break
            architecture: Optional[Architecture] = child.architecture
            failures += 1
            if failures % self.domain.tries_before_repair == 0:
                architecture = self.domain.repair(child.architecture, self.rng, known)
            if architecture is not None and architecture not in known and self.domain.admits(architecture):
                taken[architecture] = 0.0
                self.lineage[architecture] = child.parents
                failures = 0
        return list(taken)

    def fill_up(self, generation: Sequence[Architecture], size: int) -> List[Architecture]:
        """The first `size` of a generation, topped up with fresh samples; shorter if the domain seems used up."""
        kept = list(generation[:size])
        known = ChainMap(dict.fromkeys(kept, 0.0), self.seen)
        return [*kept, *self.domain.sample_new(size - len(kept), self.rng, known)]

    def new_of(self, initial: Sequence[Architecture]) -> List[Architecture]:
        """Those of `initial` that may be scored, each once."""
        return [a for a in dict.fromkeys(initial) if a not in self.seen and self.domain.contains(a)]
