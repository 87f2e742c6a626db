"""A Bayesian linear model of fitness: what block choices, widths, both together, and neighbouring blocks are worth.

Every effect is normal around 0, with one variance for all effects of a group. Variances, and that of what the model
cannot say, are those under which the scores are most likely, with a weak prior around equal shares (type-II maximum a
posteriori; MacKay, 1992). Scores are far fewer than effects, so everything is computed between scores (the dual form).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from spos.search.chain import Chain
from spos.space.architecture import Architecture

LOG_VARIANCES = (-9.0, 3.0)  # of standardised scores
PRIOR_WIDTH = 1.5  # standard deviation of the logarithm of a variance
MEAN_VARIANCE = 100.0  # of the mean of standardised scores
LEAST_NOISE = 1e-4  # of standardised scores
MOST_FOR_VARIANCES = 400  # scores that the variances follow from: each of their tries costs the cube
MOST_TRIES = 25
NEIGHBOURS = "neighbours"


@dataclass(frozen=True)
class Group:
    """Effects that have one variance. `columns` are theirs among all; each architecture has `active` of them."""

    name: str
    columns: slice
    active: float


class Effects:
    """The effects of a space's choices, as columns of zeros and ones, and of its costs.

    Args:
        pairs: of every choice block the (block choice, channel choice) pairs that there are.
        costs: (choice blocks, block choices, channel choices, costs), what each pair adds to costs.
        sizes: input sizes, if they are a choice.
    """

    def __init__(
        self, pairs: Sequence[Sequence[Tuple[int, int]]], costs: np.ndarray, sizes: Sequence[int] = ()
    ) -> None:
        self.num_blocks, self.sizes = len(pairs), tuple(sizes)
        _, self.num_kinds, self.num_widths, num_costs = costs.shape
        self.exists = np.zeros(costs.shape[:3], dtype=bool)
        for i, own in enumerate(pairs):
            for b, c in own:
                self.exists[i, b, c] = True
        spread = np.sqrt(sum(block[exists].var(0) for block, exists in zip(costs, self.exists)))
        mean = np.array([block[exists].mean(0) for block, exists in zip(costs, self.exists)])[:, None, None]
        self._costs = (costs - mean) / np.where(spread > 0, spread, 1.0)
        n, kinds, widths = self.num_blocks, self.num_kinds, self.num_widths
        self.groups: List[Group] = []
        for name, count, active in (
            ("costs", num_costs, num_costs),
            ("block anywhere", kinds, n),
            ("width anywhere", widths, n),
            ("block", n * kinds, n),
            ("width", n * widths, n),
            ("block and width", n * kinds * widths, n),
            (NEIGHBOURS, (n - 1) * kinds * kinds, n - 1),
            ("input size", len(self.sizes), 1),
        ):
            start = self.groups[-1].columns.stop if self.groups else 0
            if count:
                self.groups.append(Group(name, slice(start, start + count), float(active)))
        self.num_effects = self.groups[-1].columns.stop

    @property
    def additive(self) -> List[Group]:
        """The groups whose effects add up over the choice blocks: all but those of neighbours."""
        return [group for group in self.groups if group.name != NEIGHBOURS]

    def of(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """(architectures, effects)."""
        count, n = len(architectures), self.num_blocks
        blocks = np.array([one.block_choices for one in architectures], dtype=int).reshape(count, n)
        widths = np.array([one.channel_choices for one in architectures], dtype=int).reshape(count, n)
        index, rows = np.arange(n), np.arange(count)[:, None]
        kinds, num_widths = self.num_kinds, self.num_widths
        ones = {
            "block anywhere": blocks,
            "width anywhere": widths,
            "block": index * kinds + blocks,
            "width": index * num_widths + widths,
            "block and width": (index * kinds + blocks) * num_widths + widths,
            NEIGHBOURS: (index[:-1] * kinds + blocks[:, :-1]) * kinds + blocks[:, 1:],
            "input size": np.array([[self.sizes.index(one.input_size)] for one in architectures])
            if self.sizes
            else None,
        }
        values = np.zeros((count, self.num_effects))
        for group in self.groups:
            if group.name == "costs":
                values[:, group.columns] = self._costs[index, blocks, widths].sum(1)
            else:
                np.add.at(values[:, group.columns], (rows, ones[group.name]), 1.0)
        return values

    def chain(self, effects: np.ndarray) -> Tuple[Chain, List[float]]:
        """Fitness that effects (effects,) give: the sum over a chain, and what each input size adds."""
        part = {group.name: effects[group.columns] for group in self.groups}
        n, kinds, widths = self.num_blocks, self.num_kinds, self.num_widths
        own = part["block and width"].reshape(n, kinds, widths) + self._costs @ part.get("costs", np.zeros(0))
        own += (part["block anywhere"] + part["block"].reshape(n, kinds))[:, :, None]
        own += (part["width anywhere"] + part["width"].reshape(n, widths))[:, None]
        neighbours = part.get(NEIGHBOURS, np.zeros(0)).reshape(n - 1, kinds, kinds)
        return Chain(np.where(self.exists, own, -np.inf), neighbours), part.get("input size", np.zeros(1)).tolist()


class LinearModel:
    """The model of some scores.

    Args:
        rows: their effects, (scores, effects).
        noise: variance that each score is known to have, (scores,), or one for all.
        groups: of the effects, those that there are in this model; by default all.
    """

    def __init__(
        self,
        effects: Effects,
        rows: np.ndarray,
        fitness: np.ndarray,
        noise: Union[float, np.ndarray] = 0.0,
        groups: Optional[Sequence[Group]] = None,
    ) -> None:
        self._mean, self._scale = float(fitness.mean()), float(fitness.std()) or 1.0
        self._scores = (fitness - self._mean) / self._scale
        self._rows, self._groups = rows, effects.groups if groups is None else groups
        self._floor = np.broadcast_to(noise / self._scale**2 + LEAST_NOISE, len(fitness))
        self.variances, self.residual = self._fit()
        self._prior = np.zeros(rows.shape[1])
        for group, variance in zip(self._groups, self.variances):
            self._prior[group.columns] = variance / group.active
        covariance = (rows * self._prior) @ rows.T + MEAN_VARIANCE
        covariance[np.diag_indices_from(covariance)] += self.noise
        self._factor = cho_factor(covariance, lower=True)
        self._weights = cho_solve(self._factor, self._scores)

    @property
    def noise(self) -> np.ndarray:
        """Variance of each standardised score around what the model says, (scores,)."""
        return self._floor + self.residual

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Expected fitness of architectures with these effects."""
        expected = (rows * self._prior) @ (self._rows.T @ self._weights) + MEAN_VARIANCE * self._weights.sum()
        return self._mean + self._scale * expected

    def mean(self) -> np.ndarray:
        """Expected effects, of standardised fitness."""
        return self._prior * (self._rows.T @ self._weights)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Effects drawn from what the scores leave open (Thompson, 1933), (count, effects)."""
        prior = rng.standard_normal((count, len(self._prior))) * np.sqrt(self._prior)
        level = rng.standard_normal((count, 1)) * np.sqrt(MEAN_VARIANCE)
        noise = rng.standard_normal((count, len(self._scores))) * np.sqrt(self.noise)
        wrong = self._scores - (prior @ self._rows.T + level + noise)
        return prior + self._prior * (cho_solve(self._factor, wrong.T).T @ self._rows)

    def _fit(self) -> Tuple[np.ndarray, float]:
        """Variances of the groups, and of what remains."""
        some = np.unique(np.linspace(0, len(self._scores) - 1, min(len(self._scores), MOST_FOR_VARIANCES)).astype(int))
        rows, scores, floor = self._rows[some], self._scores[some], self._floor[some]
        grams = np.array([rows[:, g.columns] @ rows[:, g.columns].T / g.active for g in self._groups])
        start = np.full(len(grams) + 1, -np.log(len(grams) + 1.0))

        def negative(logs: np.ndarray) -> Tuple[float, np.ndarray]:
            variances = np.exp(logs)
            covariance = np.tensordot(variances[:-1], grams, 1) + MEAN_VARIANCE
            covariance[np.diag_indices_from(covariance)] += variances[-1] + floor
            lower, _ = factor = cho_factor(covariance, lower=True)
            inverse = cho_solve(factor, np.eye(len(scores)))
            weights = inverse @ scores
            slope = inverse - np.outer(weights, weights)
            slopes = np.append(np.tensordot(grams, slope, ((1, 2), (0, 1))), np.trace(slope)) * variances / 2
            away = (logs - start) / PRIOR_WIDTH
            value = scores @ weights / 2 + np.log(np.diag(lower)).sum() + away @ away / 2
            return float(value), slopes + away / PRIOR_WIDTH

        found: Any = minimize(
            negative,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[LOG_VARIANCES] * len(start),
            options={"maxfun": MOST_TRIES},
        )
        variances = np.exp(found.x)
        return variances[:-1], float(variances[-1])


def known_fitness(fitness: Union[Sequence[float], np.ndarray]) -> np.ndarray:
    """Fitness as the model takes it where nothing else is known of what was dropped: that of the worst that was not."""
    values = np.array(fitness, dtype=float)
    finite = values[np.isfinite(values)]
    return np.where(np.isfinite(values), values, finite.min() if len(finite) else 0.0)


def variance_of(top1: Sequence[float], num_images: Union[int, Sequence[int]]) -> np.ndarray:
    """Of each of some accuracies p on n images: the mean p (1 - p) of all, divided by its own n.

    By its own p, what was unlucky on few images would count for more than they can tell.

    Args: num_images: of each, or of all. All variances are 0 if one is 0, which is unknown.
    """
    share, counts = np.clip(top1, 0, 1), np.broadcast_to(num_images, len(top1))
    return (share * (1 - share)).mean() / counts if counts.all() else np.zeros(len(top1))
