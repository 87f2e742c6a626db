"""Random and genetic search. Pure decisions: what to score next, given scores and a generator.

Scoring is the caller's. A search is a generator of generations: it yields architectures, is sent their fitness, and
never asks for an architecture twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Dict, Generator, Iterator, List, Sequence

import numpy as np

from spos.domain import Domain
from spos.errors import InputError
from spos.search_space import Architecture

MAX_CHILD_TRIES = 200  # pairs of parents in a row without a new child, before fresh samples take its place

Search = Generator[List[Architecture], Sequence[float], None]


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


def random_search(
    domain: Domain,
    num_iterations: int,
    population_size: int,
    rng: np.random.Generator,
    initial: Sequence[Architecture] = (),
) -> Search:
    """Rounds of fresh samples; the first starts with `initial`."""
    seen: Dict[Architecture, float] = {}
    for iteration in range(num_iterations):
        generation = [] if iteration else list(initial)[:population_size]
        generation = _fill(generation, population_size, domain, rng, seen)
        if not generation:
            return
        seen.update(zip(generation, (yield generation)))


def genetic_search(
    domain: Domain, settings: GeneticSettings, rng: np.random.Generator, initial: Sequence[Architecture] = ()
) -> Search:
    """Generations of survivors and their children; only the children are yielded, the survivors keep their score.

    The first generation starts with `initial`.
    """
    seen: Dict[Architecture, float] = {}
    population: List[Architecture] = []
    for _ in range(settings.num_iterations):
        parents = select_parents(population, seen, settings, rng)
        num_children = settings.population_size - len(parents)
        children = list(islice(breed(parents, domain, settings, rng, seen), num_children))
        children = children if seen else list(initial)[:num_children]
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
