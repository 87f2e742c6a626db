"""Random, genetic and SPOS search: pure decisions of what to score next, given scores and a generator.

Scoring is the caller's. A search is a generator of generations: it yields architectures, is sent their fitness, and
never asks for an architecture twice. It ends when its generations are over or its domain is used up.

`seen`, where a search takes it, holds the scores known so far and is added to in place. What it holds at the start is
not asked for, and competes as a parent if it lies in the domain.

`lineage`, where a search takes it, learns of whom what is asked for is a child. It changes nothing that is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Generator, List, Mapping, Optional, Protocol, Sequence

import numpy as np

from spos.core.errors import InputError
from spos.search.breeder import Breeder, Lineage, Scores, SearchDomain
from spos.space.architecture import Architecture

Search = Generator[List[Architecture], Sequence[float], None]


def drive(search: Search, score: Callable[[List[Architecture]], Optional[Sequence[float]]]) -> None:
    """Run a search to its end, or until `score` gives None for a generation instead of its fitness."""
    generation = next(search, None)
    while generation is not None:
        fitness = score(generation)
        if fitness is None:
            return
        try:
            generation = search.send(fitness)
        except StopIteration:
            return


@dataclass(frozen=True)
class GeneticSettings:
    """The published operators.

    Args:
        retain_length: best of a population (SPOS: of everything scored) that become parents.
        random_select: chance of any other to become a parent (SPOS: not used).
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


class Samples(Protocol):
    """What fresh samples are drawn from: a domain, or the aims of a search."""

    def sample_new(
        self, count: int, rng: np.random.Generator, seen: Mapping[Architecture, float]
    ) -> List[Architecture]: ...


def random_search(samples: Samples, num_iterations: int, population_size: int, rng: np.random.Generator) -> Search:
    """Rounds of fresh samples."""
    seen: Scores = {}
    for _ in range(num_iterations):
        generation = samples.sample_new(population_size, rng, seen)
        if not generation:
            return
        seen.update(zip(generation, (yield generation)))


class Evolution(Protocol):
    """A search by evolution, as the registry has it.

    Args:
        initial: first in the first generation, as far as they lie in the domain and there are places.
    """

    def __call__(
        self,
        domain: SearchDomain,
        settings: GeneticSettings,
        rng: np.random.Generator,
        initial: Sequence[Architecture] = ...,
        seen: Optional[Scores] = ...,
        lineage: Optional[Lineage] = ...,
    ) -> Search: ...


def genetic_search(
    domain: SearchDomain,
    settings: GeneticSettings,
    rng: np.random.Generator,
    initial: Sequence[Architecture] = (),
    seen: Optional[Scores] = None,
    lineage: Optional[Lineage] = None,
) -> Search:
    """Generations of survivors and their children; only the children are yielded, the survivors keep their score."""
    breeder = breeder_of(domain, settings, rng, seen, lineage)
    seen = breeder.seen
    population = [architecture for architecture in seen if domain.contains(architecture)]
    children = breeder.new_of(initial)
    for _ in range(settings.num_iterations):
        parents = select_parents(population, seen, settings, rng)
        num_children = settings.population_size - len(parents)
        if len(parents) > 1:
            pairs = breeder.of_pairs(parents, mutates=settings.mutate_chance > 0)
            children = breeder.take_new(pairs, num_children - len(children), children)
        children = breeder.fill_up(children, num_children)
        if not children:
            return
        seen.update(zip(children, (yield children)))
        population, children = parents + children, []


def spos_search(
    domain: SearchDomain,
    settings: GeneticSettings,
    rng: np.random.Generator,
    initial: Sequence[Architecture] = (),
    seen: Optional[Scores] = None,
    lineage: Optional[Lineage] = None,
) -> Search:
    """The evolution of Single Path One-Shot (arXiv:1904.00420): parents are the best of everything scored.

    Half of a generation are mutants of one parent, half are crossovers of two without mutation, and fresh samples take
    the places of those that are not found. Of equals, the one scored first is the parent.
    """
    breeder = breeder_of(domain, settings, rng, seen, lineage)
    seen = breeder.seen
    visited = [architecture for architecture in seen if domain.contains(architecture)]
    generation = breeder.new_of(initial)
    for iteration in range(settings.num_iterations):
        if iteration > 0:
            parents = sorted(visited, key=seen.__getitem__, reverse=True)[: settings.retain_length]
            generation = _spos_children(breeder, parents, settings.population_size // 2)
        generation = breeder.fill_up(generation, settings.population_size)
        if not generation:
            return
        seen.update(zip(generation, (yield generation)))
        visited += generation


def _spos_children(breeder: Breeder, parents: Sequence[Architecture], half: int) -> List[Architecture]:
    mutants = breeder.take_new(breeder.mutants(parents), half)
    if len(parents) < 2:
        return mutants
    return breeder.take_new(breeder.of_pairs(parents, mutates=False), half, mutants)


EVOLUTIONS: Mapping[str, Evolution] = {"published": genetic_search, "spos": spos_search}


def breeder_of(
    domain: SearchDomain,
    settings: GeneticSettings,
    rng: np.random.Generator,
    seen: Optional[Scores] = None,
    lineage: Optional[Lineage] = None,
) -> Breeder:
    """The breeder of a search; it shares `seen` and `lineage` with the caller where they are given."""
    seen, lineage = {} if seen is None else seen, {} if lineage is None else lineage
    return Breeder(domain, settings.mutate_chance, rng, seen, lineage)


def select_parents(
    population: Sequence[Architecture],
    fitness: Mapping[Architecture, float],
    settings: GeneticSettings,
    rng: np.random.Generator,
) -> List[Architecture]:
    """The best `retain_length`, and each of the others with chance `random_select`; at least one place stays free.

    The others are gone through in the order of the population. So it is enough to know that they are not among the
    best: which of them survive does not depend on their fitness.
    """
    ranked = sorted(population, key=fitness.__getitem__, reverse=True)
    best = dict.fromkeys(ranked[: settings.retain_length])
    survivors = [a for a in population if a not in best and rng.random() < settings.random_select]
    return [*best, *survivors][: settings.population_size - 1]
