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
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set

import numpy as np
from threadpoolctl import threadpool_limits

from spos.search.breeder import Breeder, Lineage, Scores, SearchDomain
from spos.search.evolution import GeneticSettings, Search, breeder_of
from spos.search.linear_model import LinearModel
from spos.space.architecture import Architecture

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
    num_images: Callable[[], int] = lambda: 0,
    forecasts: Optional[Forecasts] = None,
) -> Search:
    """See the module.

    Args:
        num_images: that a score is the accuracy on, if it is one, so that its variance is known; asked when there are
            scores. 0: its variance is estimated.
        forecasts: learns what is predicted. It changes nothing that is drawn.
    """
    breeder = breeder_of(domain, settings, rng, seen, lineage)
    seen, size = breeder.seen, settings.population_size
    forecasts = Forecasts() if forecasts is None else forecasts
    generation = breeder.new_of(initial)
    for iteration in range(settings.num_iterations):
        if iteration > 0:
            with threadpool_limits(1, "blas"):  # the same bits with any number of threads
                generation = _propose(domain, breeder, settings, rng, num_images(), forecasts, iteration)
        generation = breeder.fill_up(generation, size)
        if not generation:
            return
        seen.update(zip(generation, (yield generation)))


def _propose(
    domain: SearchDomain,
    breeder: Breeder,
    settings: GeneticSettings,
    rng: np.random.Generator,
    num_images: int,
    forecasts: Forecasts,
    iteration: int,
) -> List[Architecture]:
    """The next generation, shorter if less is found."""
    seen, size = breeder.seen, settings.population_size
    scored = list(seen)
    fitness = known_fitness([seen[architecture] for architecture in scored])
    uniform = domain.sample_new(ceil(UNIFORM_SHARE * size), rng, seen)
    errors = forecasts.errors(seen)
    effects = domain.effects
    model = LinearModel(effects, effects.of(scored), fitness, variance_of(fitness, num_images))
    if errors is None or errors.are_useful:
        generation = _best_of_draws(domain, model, size - len(uniform), rng, {*seen, *uniform}) + uniform
    else:
        forecasts.distrusted.append(iteration)
        parents = sorted(scored, key=seen.__getitem__, reverse=True)[: settings.retain_length]
        generation = breeder.take_new(breeder.of_pairs(parents), size - len(uniform), uniform)
    predicted = model.predict(effects.of(generation)).tolist()
    forecasts.predicted.update(zip(generation, predicted))
    mean = float(fitness.mean())
    forecasts.checks += [Check(one, forecasts.predicted[one], mean) for one in uniform]
    return generation


def _best_of_draws(
    domain: SearchDomain, model: LinearModel, count: int, rng: np.random.Generator, seen: Set[Architecture]
) -> List[Architecture]:
    """The best new architecture of the expected function, then of drawn ones, drawn closer to it."""
    found: List[Architecture] = []
    expected = model.mean()
    for effects in (expected, *(expected + DARING * (model.draw(count - 1, rng) - expected))):
        chain, by_size = domain.effects.chain(effects)
        best = domain.maximise(chain, by_size, seen)
        if best is None:
            break
        found.append(best)
        seen.add(best)
    return found


def known_fitness(fitness: Sequence[float]) -> np.ndarray:
    """Fitness as the model takes it: what was dropped early has that of the worst that was not."""
    values = np.array(fitness, dtype=float)
    finite = values[np.isfinite(values)]
    return np.where(np.isfinite(values), values, finite.min() if len(finite) else 0.0)


def variance_of(fitness: np.ndarray, num_images: int) -> float:
    """Of an accuracy on so many images; 0 if that is not known."""
    share = np.clip(fitness, 0, 1)
    return float((share * (1 - share)).mean() / num_images) if num_images else 0.0
