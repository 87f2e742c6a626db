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

from spos.search.breeder import Breeder, Child, Lineage
from spos.search.domain import Domain
from spos.search.evolution import GeneticSettings, Search, breeder_of
from spos.space.architecture import Architecture

TOURNAMENT = TournamentSelection(binary_tournament)


def nsga2(
    domain: Domain,
    costs: Sequence[str],
    settings: GeneticSettings,
    rng: np.random.Generator,
    initial: Sequence[Architecture] = (),
    lineage: Optional[Lineage] = None,
) -> Search:
    """See `front.nsga2_search`; `costs` are keys of `Domain.cost_fields`."""
    breeder = breeder_of(domain, settings, rng, lineage=lineage)
    seen, size = breeder.seen, settings.population_size
    first = breeder.fill_up(breeder.new_of(initial), size)
    if not first:
        return
    algorithm = NSGA2(size, _as_genes(first), mating=Mating(breeder))
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
class Mating:
    """Stands where pymoo has its own: children of the parents that pymoo selects, feasible and new.

    Fresh samples take the places of children that are not found.
    """

    breeder: Breeder

    def do(self, problem: Problem, population: Population, count: int, algorithm: NSGA2, **_: Any) -> Population:
        """Up to `count` architectures to score next."""
        select = partial(TOURNAMENT, problem, population, count, 2, algorithm=algorithm)
        children = self.breeder.fill_up(self.breeder.take_new(self._children(select), count), count)
        return Population.new(X=_as_genes(children)) if children else Population.create()

    def _children(self, select: Callable[[], Any]) -> Iterator[Child]:
        from_genes = self.breeder.domain.from_genes
        while True:
            for pair in select():
                first, second = (from_genes(parent.X.tolist()) for parent in pair)
                yield self.breeder.of_pair(first, second)


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
