"""Random and genetic search. Pure decisions: what to score next, given scores and a generator.

Scoring is the caller's. A search is a generator of generations: it yields architectures, is sent their fitness, and
never asks for an architecture twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Dict, Generator, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from spos.constrained_sampling import ConstrainedSampler
from spos.constraints import Constraints
from spos.cost import CostTable, cost_table
from spos.errors import InputError
from spos.search_space import Architecture, SearchSpace

MAX_CHILD_TRIES = 200  # draws for one new child, before a fresh sample takes its place

Search = Generator[List[Architecture], Sequence[float], None]


@dataclass(frozen=True)
class Domain:
    """The architectures a search may visit: a space, fixed choices if any, and constraints."""

    space: SearchSpace
    constraints: Constraints = Constraints()
    fixed_block_choices: Optional[Tuple[int, ...]] = None
    fixed_channel_choices: Optional[Tuple[int, ...]] = None

    def __post_init__(self) -> None:
        blank = (0,) * self.space.num_choice_blocks
        blocks, channels = (
            blank if fixed is None else fixed for fixed in (self.fixed_block_choices, self.fixed_channel_choices)
        )
        self.space.validate(Architecture(blocks, channels), "fixed choices")

    @cached_property
    def genes(self) -> Tuple[Tuple[int, ...], ...]:
        """Values that each gene may take: block choices, then channel choices."""
        space, count = self.space, self.space.num_choice_blocks
        blocks = [tuple(range(space.num_block_choices))] * count
        channels = [tuple(range(space.min_channel_choice, space.num_channel_choices))] * count
        if self.fixed_block_choices is not None:
            blocks = [(choice,) for choice in self.fixed_block_choices]
        if self.fixed_channel_choices is not None:
            channels = [(choice,) for choice in self.fixed_channel_choices]
        return tuple(blocks + channels)

    @cached_property
    def table(self) -> CostTable:
        return cost_table(self.space)

    @cached_property
    def _pairs(self) -> List[List[Tuple[int, int]]]:
        """For every choice block the (block choice, channel choice) pairs that may be visited."""
        count = self.space.num_choice_blocks
        genes = zip(self.genes[:count], self.genes[count:])
        return [[(b, c) for b in blocks for c in channels] for blocks, channels in genes]

    @cached_property
    def _sampler(self) -> ConstrainedSampler:
        costs = [np.array([block[b][c] for b, c in pairs]) for block, pairs in zip(self.table.blocks, self._pairs)]
        return ConstrainedSampler(self.table.fixed, costs, self.constraints.limits())

    def check(self) -> None:
        """Raise InputError if no architecture keeps the constraints, naming the smallest reachable cost."""
        self.constraints.check_reachable(self.table, self._pairs)
        self._sampler  # noqa: B018  raises if limits exclude each other

    def from_genes(self, genes: Sequence[int]) -> Architecture:
        count = self.space.num_choice_blocks
        return Architecture(tuple(genes[:count]), tuple(genes[count:]))

    def admits(self, architecture: Architecture) -> bool:
        return self.constraints.admits(self.table.cost(architecture))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Uniform over the architectures that keep the constraints."""
        choices = [pairs[choice] for pairs, choice in zip(self._pairs, self._sampler.draw(rng))]
        return Architecture(*zip(*choices))

    def sample_new(self, rng: np.random.Generator, seen: Dict[Architecture, float]) -> Optional[Architecture]:
        """A sample that has not been scored, or None if none comes up."""
        for _ in range(MAX_CHILD_TRIES):
            architecture = self.sample(rng)
            if architecture not in seen:
                return architecture
        return None


@dataclass(frozen=True)
class GeneticSettings:
    """The published operators.

    Args:
        retain_length: best of a population that become parents.
        random_select: chance of any other to become a parent.
        mutate_chance: chance of each gene of a child to be drawn anew.
        num_iterations: generations, the random first one included.
    """

    population_size: int = 50
    retain_length: int = 10
    random_select: float = 0.1
    mutate_chance: float = 0.1
    num_iterations: int = 20

    def __post_init__(self) -> None:
        if not 2 <= self.retain_length < self.population_size:
            raise InputError(
                f"--retain-length must be at least 2 and below --population-size {self.population_size}, "
                f"not {self.retain_length}"
            )


def random_search(domain: Domain, num_iterations: int, population_size: int, rng: np.random.Generator) -> Search:
    """Rounds of fresh samples."""
    seen: Dict[Architecture, float] = {}
    for _ in range(num_iterations):
        generation = _fill([], population_size, domain, rng, seen)
        if not generation:
            return
        seen.update(zip(generation, (yield generation)))


def genetic_search(domain: Domain, settings: GeneticSettings, rng: np.random.Generator) -> Search:
    """Generations of survivors and their children; only the children are yielded, the survivors keep their score."""
    seen: Dict[Architecture, float] = {}
    population: List[Architecture] = []
    for _ in range(settings.num_iterations):
        parents = select_parents(population, seen, settings, rng)
        num_children = settings.population_size - len(parents)
        children = list(islice(breed(parents, domain, settings, rng, seen), num_children))
        children = _fill(children, num_children, domain, rng, seen)
        if not children:
            return
        seen.update(zip(children, (yield children)))
        population = parents + children


def select_parents(
    population: Sequence[Architecture], fitness: Dict[Architecture, float], settings: GeneticSettings, rng
) -> List[Architecture]:
    """The best `retain_length`, and each of the others with chance `random_select`; at least one place stays free."""
    ranked = sorted(population, key=lambda a: fitness[a], reverse=True)
    rest = ranked[settings.retain_length :]
    parents = ranked[: settings.retain_length] + [a for a in rest if rng.random() < settings.random_select]
    return parents[: settings.population_size - 1]


def breed(
    parents: Sequence[Architecture], domain: Domain, settings: GeneticSettings, rng, seen: Dict[Architecture, float]
) -> Iterator[Architecture]:
    """New feasible children, two per pair of parents, until MAX_CHILD_TRIES pairs in a row gave none."""
    if len(parents) < 2:
        return
    born = set()
    failures = 0
    while failures < MAX_CHILD_TRIES:
        first, second = rng.choice(len(parents), 2, replace=False)
        failures += 1
        for _ in range(2):
            child = mutate(crossover(parents[first], parents[second], domain, rng), domain, settings.mutate_chance, rng)
            if child not in seen and child not in born and domain.admits(child):
                born.add(child)
                failures = 0
                yield child


def crossover(first: Architecture, second: Architecture, domain: Domain, rng: np.random.Generator) -> Architecture:
    """Each gene from one of the two parents, with equal chance."""
    from_first = rng.random(len(domain.genes)) < 0.5
    return domain.from_genes([a if pick else b for a, b, pick in zip(first.genes, second.genes, from_first)])


def mutate(architecture: Architecture, domain: Domain, chance: float, rng: np.random.Generator) -> Architecture:
    """Each gene drawn anew with the given chance."""
    drawn = rng.random(len(domain.genes)) < chance
    return domain.from_genes(
        [
            values[rng.integers(len(values))] if new else gene
            for gene, values, new in zip(architecture.genes, domain.genes, drawn)
        ]
    )


def _fill(
    generation: List[Architecture], size: int, domain: Domain, rng: np.random.Generator, seen: Dict[Architecture, float]
) -> List[Architecture]:
    """Top up with fresh samples; shorter if the domain seems exhausted."""
    while len(generation) < size:
        sample = domain.sample_new(rng, {**seen, **dict.fromkeys(generation, 0.0)})
        if sample is None:
            break
        generation = generation + [sample]
    return generation
