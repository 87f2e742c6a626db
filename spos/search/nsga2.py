"""NSGA-II by pymoo, as a search. Only this module imports pymoo, which takes a second.

Selection, non-dominated sorting, and survival by rank and crowding are pymoo's. Children are bred as in `evolution`,
because genes are choices, not numbers, and everything scored must keep the constraints.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Iterator, Optional, Sequence

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.problems.static import StaticProblem

from spos.search.domain import Domain
from spos.search.evolution import (
    GeneticSettings,
    Lineage,
    Scores,
    Search,
    crossover,
    fill_up,
    mutate,
    new_initial,
    take_new,
)
from spos.space.space import Architecture

TOURNAMENT = TournamentSelection(binary_tournament)


def nsga2(
    domain: Domain,
    costs: Sequence[str],
    settings: GeneticSettings,
    rng: np.random.Generator,
    initial: Sequence[Architecture] = (),
    lineage: Optional[Lineage] = None,
) -> Search:
    """See `pareto.nsga2_search`; `costs` are keys of `Domain.cost_fields`."""
    seen: Scores = {}
    size = settings.population_size
    first = fill_up(new_initial(initial, domain, seen)[:size], size, domain, rng, seen)
    if not first:
        return
    breeding = Breeding(domain, settings.mutate_chance, rng, seen, lineage)
    algorithm = NSGA2(size, _as_genes(first), mating=breeding)
    problem = Problem(n_var=len(domain.genes), n_obj=1 + len(costs))
    algorithm.setup(problem, termination=NoTermination())
    for _ in range(settings.num_iterations):
        with own_global_random(rng):
            asked = algorithm.ask()
        if asked is None:
            return
        generation = [domain.from_genes(genes) for genes in asked.get("X").tolist()]
        seen.update(zip(generation, (yield generation)))
        values = [[-seen[a], *(domain.cost_fields(a)[key] for key in costs)] for a in generation]
        Evaluator().eval(StaticProblem(problem, F=np.array(values, dtype=float)), asked)
        with own_global_random(rng):
            algorithm.tell(infills=asked)


@dataclass
class Breeding:
    """Stands where pymoo has its mating: children of the parents that pymoo selects, feasible and new.

    Fresh samples take the places of children that are not found.
    """

    domain: Domain
    mutate_chance: float
    rng: np.random.Generator
    seen: Scores
    lineage: Optional[Lineage] = None

    def do(self, problem: Problem, population: Population, count: int, algorithm: NSGA2, **_: Any) -> Population:
        """Up to `count` architectures to score next."""
        select = partial(TOURNAMENT, problem, population, count, 2, algorithm=algorithm)
        bred = self._children(select)
        children = take_new(bred, count, self.domain, self.rng, self.seen, lineage=self.lineage)
        children = fill_up(children, count, self.domain, self.rng, self.seen)
        return Population.new(X=_as_genes(children)) if children else Population.create()

    def _children(self, select: Callable[[], Any]) -> Iterator[Architecture]:
        while True:
            for pair in select():
                first, second = (self.domain.from_genes(parent.X.tolist()) for parent in pair)
                if self.lineage:
                    self.lineage.draw(first, second)
                yield mutate(crossover(first, second, self.domain, self.rng), self.domain, self.mutate_chance, self.rng)


def _as_genes(architectures: Sequence[Architecture]) -> np.ndarray:
    return np.array([architecture.genes for architecture in architectures])


@contextmanager
def own_global_random(rng: np.random.Generator) -> Iterator[None]:
    """Let what draws from NumPy's global state, as pymoo does, draw by `rng`; afterwards the state is as before."""
    before = np.random.get_state()
    np.random.seed(int(rng.integers(2**32)))
    try:
        yield
    finally:
        np.random.set_state(before)
