"""Search by a surrogate: a linear model of all scores so far, whose draws are maximised exactly within the limits.

After a random first generation, most of every generation are the best architectures of as many fitness functions drawn
from the model (Thompson sampling; Thompson, 1933): where scores leave much open draws differ, and where they do not the
best one is proposed. Its first is the best of the expected function. The rest of a generation stays uniform over the
domain, so that the model is held against what it did not choose. When it predicts these no better than the mean of all
scores before would, children are bred as in the genetic search, until it does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from threadpoolctl import threadpool_limits

from spos.search.aims import Aims
from spos.search.breeder import Lineage, Scores, SearchDomain
from spos.search.evolution import GeneticSettings, Search, breeder_of
from spos.search.history import Row, learned_from
from spos.search.linear_model import LinearModel, known_fitness
from spos.space.architecture import Architecture, architecture_of

UNIFORM_SHARE = 0.2  # of a generation, at least one of it
# Share of a draw's deviation from what is expected. Hundreds of effects, most of them hardly known, deviate together
# for the better where their sum is maximised: whole deviations explore for more evaluations than a search has.
DARING = 0.5
FEWEST_CHECKS = 8  # uniform architectures that the model was held against, before it can be distrusted
MOST_CHECKS = 40  # the latest of them count


class Check(NamedTuple):
    """A uniform architecture with what was expected of it: by the model, and as the mean of the scores before."""

    architecture: Architecture
    predicted: float
    mean: float


@dataclass
class Forecasts:
    """What the model said of architectures before they were scored.

    Attributes:
        predicted: expected fitness of everything in the generations that had a model.
        checks: of those that the model did not choose.
        distrusted: numbers of the generations that were bred instead, the first is 0.
    """

    predicted: Dict[Architecture, float] = field(default_factory=dict)
    checks: List[Check] = field(default_factory=list)
    distrusted: List[int] = field(default_factory=list)

    def errors(self, fitness: Scores) -> Optional[Errors]:
        """Of the latest checks that are scored; None if there are none."""
        scored = [check for check in self.checks if np.isfinite(fitness.get(check.architecture, np.nan))][-MOST_CHECKS:]
        if not scored:
            return None
        true = np.array([fitness[check.architecture] for check in scored])
        model, mean = (
            float(np.sqrt(np.mean((true - said) ** 2)))
            for said in ([check.predicted for check in scored], [check.mean for check in scored])
        )
        return Errors(len(scored), model, mean)


class Errors(NamedTuple):
    """Root mean square errors on uniform architectures before they were scored."""

    num_checks: int
    model: float
    mean: float

    @property
    def are_useful(self) -> bool:
        """Whether the model may propose: it predicts better than the mean does, or is not known well enough."""
        return self.num_checks < FEWEST_CHECKS or self.model < self.mean


def surrogate_search(
    domain: SearchDomain,
    settings: GeneticSettings,
    rng: np.random.Generator,
    initial: Sequence[Architecture] = (),
    seen: Optional[Scores] = None,
    lineage: Optional[Lineage] = None,
    rows: Sequence[Row] = (),
    forecasts: Optional[Forecasts] = None,
    aims: Optional[Aims] = None,
    older: Sequence[Row] = (),
) -> Search:
    """See the module.

    Args:
        rows: of the history that the scores are written to, if there is one. They tell on how many images each score
            is the accuracy, so that its variance is known, and what was seen of those that were dropped.
        forecasts: learns what is predicted. It changes nothing that is drawn.
        aims: of several budgets within the domain, or of a front; without them the best of the domain is looked for.
        older: rows of an older search, by whose scores the model is fitted too.
    """
    seen = {} if seen is None else seen
    surrogate = _Surrogate(
        domain,
        aims or Aims([domain]),
        settings,
        rng,
        seen,
        {} if lineage is None else lineage,
        Forecasts() if forecasts is None else forecasts,
        rows,
        older,
    )
    generation = breeder_of(domain, settings, rng, seen, lineage).new_of(initial)
    for iteration in range(settings.num_iterations):
        if iteration > 0:
            with threadpool_limits(1, "blas"):  # the same bits with any number of threads
                generation = surrogate.propose(iteration)
        generation = surrogate.aims.fill_up(generation, settings.population_size, rng, seen)
        if not generation:
            return
        seen.update(zip(generation, (yield generation)))


@dataclass
class _Surrogate:
    """Decides generations."""

    domain: SearchDomain
    aims: Aims
    settings: GeneticSettings
    rng: np.random.Generator
    seen: Scores
    lineage: Lineage
    forecasts: Forecasts
    rows: Sequence[Row]
    older: Sequence[Row]

    def propose(self, iteration: int) -> List[Architecture]:
        """The next generation, shorter if less is found."""
        size, seen, forecasts = self.settings.population_size, self.seen, self.forecasts
        scored, fitness, variance = self._learned()
        uniform = self.aims.sample_new(ceil(UNIFORM_SHARE * size), self.rng, seen)
        errors = forecasts.errors(seen)
        effects = self.domain.effects
        model = LinearModel(effects, effects.of(scored), fitness, variance)
        if errors is None or errors.are_useful:
            generation = self._best_of_draws(model, size - len(uniform), {*seen, *uniform}) + uniform
        else:
            forecasts.distrusted.append(iteration)
            generation = self._bred(size - len(uniform), uniform)
        predicted = model.predict(effects.of(generation)).tolist()
        forecasts.predicted.update(zip(generation, predicted))
        mean = float(fitness.mean())
        forecasts.checks += [Check(one, forecasts.predicted[one], mean) for one in uniform]
        return generation

    def _learned(self) -> Tuple[List[Architecture], np.ndarray, np.ndarray]:
        """What the model is fitted by: architectures, their fitness, and the variance that it is known to have."""
        own, older = ({architecture_of(row): row for row in rows} for rows in (self.rows, self.older))
        if not own:
            return list(self.seen), known_fitness(list(self.seen.values())), np.zeros(len(self.seen))
        known = {**{one: own[one] for one in self.seen}, **{one: older[one] for one in older if one not in self.seen}}
        return [*known], *learned_from(list(known.values()))

    def _best_of_draws(self, model: LinearModel, count: int, seen: Set[Architecture]) -> List[Architecture]:
        """The best new architecture of every place, by the expected function or by a drawn one, drawn closer to it."""
        places = self.aims.places(count, self.rng)
        expected = model.mean()
        num_draws = sum(not place.by_expected for place in places)
        draws = iter(expected + DARING * (model.draw(num_draws, self.rng) - expected))
        found: List[Architecture] = []
        used_up: Set[int] = set()  # domains in which nothing new is found any more
        for domain, by_expected in places:
            function = expected if by_expected else next(draws)
            if id(domain) in used_up:
                continue
            best = domain.maximise(*self.domain.effects.chain(function), seen)
            if best is None:
                used_up.add(id(domain))
                continue
            found.append(best)
            seen.add(best)
        return found

    def _bred(self, count: int, generation: Sequence[Architecture]) -> List[Architecture]:
        """`generation` and as many children, in equal shares of every domain."""
        bred, wanted, domains = list(generation), len(generation) + count, self.aims.domains
        for i, (domain, parents) in enumerate(zip(domains, self.aims.parents(self.seen, self.settings.retain_length))):
            if len(parents) > 1:
                share = ceil((wanted - len(bred)) / (len(domains) - i))
                breeder = breeder_of(domain, self.settings, self.rng, self.seen, self.lineage)
                bred = breeder.take_new(breeder.of_pairs(parents), share, bred)
        return bred
