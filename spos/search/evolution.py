"""Random, genetic and SPOS search. Pure decisions: what to score next, given scores and a generator.

Scoring is the caller's. A search is a generator of generations: it yields architectures, is sent their fitness, and
never asks for an architecture twice. It ends when its generations are over or its domain is used up.

`seen`, where a search takes it, holds the scores known so far and is added to in place. What it holds at the start is
not asked for, and competes as a parent if it lies in the domain.

`lineage`, where a search takes it, learns of whom what is asked for is a child. It changes nothing that is drawn.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field
from typing import Callable, Dict, Generator, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.search.domain import Domain
from spos.space.space import Architecture

MAX_CHILD_TRIES = 200  # children in a row that are no use, before fresh samples take their place

Search = Generator[List[Architecture], Sequence[float], None]
Scores = Dict[Architecture, float]


@dataclass
class Lineage:
    """The parents of every child that was taken into a generation: one of a mutant, two of a crossover.

    Fresh samples are not in it. A child that broke a limit and was repaired has the parents it had before.
    """

    parents: Dict[Architecture, Tuple[Architecture, ...]] = field(default_factory=dict)
    _of_last_drawn: Tuple[Architecture, ...] = ()

    def draw(self, *parents: Architecture) -> None:
        """The next child is one of these."""
        self._of_last_drawn = parents

    def take(self, child: Architecture) -> None:
        """The child that was drawn last is to be scored."""
        self.parents[child] = self._of_last_drawn


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


def random_search(domain: Domain, num_iterations: int, population_size: int, rng: np.random.Generator) -> Search:
    """Rounds of fresh samples."""
    seen: Scores = {}
    for _ in range(num_iterations):
        generation = domain.sample_new(population_size, rng, seen)
        if not generation:
            return
        seen.update(zip(generation, (yield generation)))


def genetic_search(
    domain: Domain,
    settings: GeneticSettings,
    rng: np.random.Generator,
    initial: Sequence[Architecture] = (),
    seen: Optional[Scores] = None,
    lineage: Optional[Lineage] = None,
) -> Search:
    """Generations of survivors and their children; only the children are yielded, the survivors keep their score.

    Args:
        initial: first in the first generation, as far as they lie in the domain and there are places.
    """
    seen = {} if seen is None else seen
    population = [architecture for architecture in seen if contains(domain, architecture)]
    children = new_initial(initial, domain, seen)
    for _ in range(settings.num_iterations):
        parents = select_parents(population, seen, settings, rng)
        num_children = settings.population_size - len(parents)
        if len(parents) > 1:
            family = children_of_pairs(parents, domain, settings.mutate_chance, rng, lineage)
            children = take_new(family, num_children - len(children), domain, rng, seen, children, lineage)
        children = fill_up(children[:num_children], num_children, domain, rng, seen)
        if not children:
            return
        seen.update(zip(children, (yield children)))
        population, children = parents + children, []


def spos_search(
    domain: Domain,
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
    seen = {} if seen is None else seen
    visited = [architecture for architecture in seen if contains(domain, architecture)]
    size = settings.population_size
    generation = new_initial(initial, domain, seen)
    for iteration in range(settings.num_iterations):
        if iteration > 0:
            parents = sorted(visited, key=seen.__getitem__, reverse=True)[: settings.retain_length]
            generation = _spos_children(parents, domain, settings, rng, seen, lineage)
        generation = fill_up(generation[:size], size, domain, rng, seen)
        if not generation:
            return
        seen.update(zip(generation, (yield generation)))
        visited += generation


def _spos_children(
    parents: Sequence[Architecture],
    domain: Domain,
    settings: GeneticSettings,
    rng: np.random.Generator,
    seen: Scores,
    lineage: Optional[Lineage],
) -> List[Architecture]:
    half = settings.population_size // 2
    mutating = mutants_of(parents, domain, settings.mutate_chance, rng, lineage)
    mutants = take_new(mutating, half, domain, rng, seen, lineage=lineage)
    if len(parents) < 2:
        return mutants
    pairs = children_of_pairs(parents, domain, 0.0, rng, lineage)
    return take_new(pairs, half, domain, rng, seen, mutants, lineage)


EVOLUTIONS: Mapping[str, Callable[..., Search]] = {"published": genetic_search, "spos": spos_search}


def select_parents(
    population: Sequence[Architecture], fitness: Mapping[Architecture, float], settings: GeneticSettings, rng
) -> List[Architecture]:
    """The best `retain_length`, and each of the others with chance `random_select`; at least one place stays free.

    The others are gone through in the order of the population. So it is enough to know that they are not among the
    best: which of them survive does not depend on their fitness.
    """
    ranked = sorted(population, key=fitness.__getitem__, reverse=True)
    best = dict.fromkeys(ranked[: settings.retain_length])
    survivors = [a for a in population if a not in best and rng.random() < settings.random_select]
    return [*best, *survivors][: settings.population_size - 1]


def children_of_pairs(
    parents: Sequence[Architecture],
    domain: Domain,
    mutate_chance: float,
    rng: np.random.Generator,
    lineage: Optional[Lineage] = None,
) -> Iterator[Architecture]:
    """Without end: two children of every pair of parents drawn."""
    while True:
        first, second = rng.choice(len(parents), 2, replace=False)
        for _ in range(2):
            child = crossover(parents[first], parents[second], domain, rng)
            if lineage:
                lineage.draw(parents[first], parents[second])
            yield mutate(child, domain, mutate_chance, rng) if mutate_chance else child


def mutants_of(
    parents: Sequence[Architecture],
    domain: Domain,
    chance: float,
    rng: np.random.Generator,
    lineage: Optional[Lineage] = None,
) -> Iterator[Architecture]:
    """Without end: mutants of a parent drawn."""
    while True:
        parent = parents[rng.integers(len(parents))]
        if lineage:
            lineage.draw(parent)
        yield mutate(parent, domain, chance, rng)


def take_new(
    children: Iterator[Architecture],
    count: int,
    domain: Domain,
    rng: np.random.Generator,
    seen: Scores,
    generation: Sequence[Architecture] = (),
    lineage: Optional[Lineage] = None,
) -> List[Architecture]:
    """`generation` and up to `count` different children that keep the constraints and have not been seen.

    After `domain.tries_before_repair` children in a row without a new one, one is repaired; after MAX_CHILD_TRIES, or
    when `children` ends, there are fewer.
    """
    taken = dict.fromkeys(generation)
    wanted = len(taken) + count
    known = ChainMap(taken, seen)
    failures = 0
    while len(taken) < wanted and failures < MAX_CHILD_TRIES:
        child = next(children, None)
        if child is None:
            break
        failures += 1
        if failures % domain.tries_before_repair == 0:
            child = domain.repair(child, rng, known)
        if child is not None and child not in known and domain.admits(child):
            taken[child] = None
            failures = 0
            if lineage:
                lineage.take(child)
    return list(taken)


def fill_up(
    generation: Sequence[Architecture], size: int, domain: Domain, rng: np.random.Generator, seen: Scores
) -> List[Architecture]:
    """A generation topped up with fresh samples; shorter if the domain seems used up."""
    known = ChainMap(dict.fromkeys(generation, 0.0), seen)
    return [*generation, *domain.sample_new(size - len(generation), rng, known)]


def new_initial(initial: Sequence[Architecture], domain: Domain, seen: Scores) -> List[Architecture]:
    """Those of `initial` that may be scored, each once."""
    return [a for a in dict.fromkeys(initial) if a not in seen and contains(domain, a)]


def contains(domain: Domain, architecture: Architecture) -> bool:
    """Whether a search of the domain may visit an architecture."""
    genes = architecture.genes
    possible = len(genes) == len(domain.genes) and all(gene in values for gene, values in zip(genes, domain.genes))
    return possible and domain.admits(architecture)


def crossover(first: Architecture, second: Architecture, domain: Domain, rng: np.random.Generator) -> Architecture:
    """Each gene from one of the two parents, with equal chance."""
    from_first = (rng.random(len(domain.genes)) < 0.5).tolist()
    return domain.from_genes([a if pick else b for a, b, pick in zip(first.genes, second.genes, from_first)])


def mutate(architecture: Architecture, domain: Domain, chance: float, rng: np.random.Generator) -> Architecture:
    """Each gene drawn anew with the given chance."""
    genes = list(architecture.genes)
    for i in np.flatnonzero(rng.random(len(genes)) < chance).tolist():
        genes[i] = domain.genes[i][rng.integers(len(domain.genes[i]))]
    return domain.from_genes(genes)
