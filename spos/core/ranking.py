"""Rank correlation of predictors: Kendall's tau-b, overall and within strata, and the regret of their choice.

tau-b is the number of pairs in the same order minus that of pairs in opposite orders, divided by the geometric mean of
the numbers of pairs that either order tells apart (Kendall, 1945): 1 is the same order, -1 the reverse, 0 is chance.
Within strata only pairs of the same stratum count, so a predictor that only tells strata apart has nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from spos.core.errors import InputError
from spos.core.intervals import CONFIDENCE, Interval

Numbers = Union[Sequence[float], np.ndarray]

NUM_RESAMPLES = 2000
FEWEST = 3  # architectures that an order can be told of
TOP_COUNTS = (1, 3, 5)  # of the predicted best, of which the truly best is taken


@dataclass(frozen=True)
class Ranked:
    """Architectures by what is true of them and by what predictors say.

    Args:
        truth: (architectures,) accuracies to be predicted, 0..1.
        predictors: by name (architectures,); higher is better.
        strata: (architectures,) numbers of the strata they were drawn from.
    """

    truth: np.ndarray
    predictors: Dict[str, np.ndarray]
    strata: np.ndarray

    def __post_init__(self) -> None:
        if len(self.truth) < FEWEST:
            raise InputError(f"a rank correlation needs at least {FEWEST} architectures, not {len(self.truth)}")


@dataclass(frozen=True)
class Correlation:
    """What a predictor achieves. Intervals are 95% bootstrap percentiles over the architectures.

    Args:
        overall, within: tau-b of all pairs, and of pairs of the same stratum (nan where no pair can be ordered).
        gain: tau-b minus that of the baseline, resampled together; None for the baseline itself.
        regrets: by k, the accuracy lost by taking the best of the predictor's first k instead of the best of all.
        regret_within_budgets: that of k = 1 among the architectures up to each stratum, the mean over the strata.
    """

    overall: Interval
    within: Interval
    gain: Optional[Interval]
    regrets: Dict[int, float]
    regret_within_budgets: float


def stratify(costs: Sequence[int], num_strata: int) -> np.ndarray:
    """The stratum 0..num_strata-1 of each cost: as many in one as in another, by rising cost; equals by position."""
    order = np.argsort(np.asarray(costs), kind="stable")
    strata = np.empty(len(order), dtype=int)
    strata[order] = np.arange(len(order)) * num_strata // len(order)
    return strata


def kendall_tau(first: Numbers, second: Numbers, strata: Optional[Numbers] = None) -> float:
    """tau-b of two orders; with `strata` of pairs of the same stratum. nan if one of them orders no pair."""
    pairs = _order(first), _order(second)
    return _tau(*pairs, np.ones_like(pairs[0]) if strata is None else _together(strata))


def regret(predicted: Numbers, truth: Numbers, count: int) -> float:
    """Truth of the best minus truth of the best among the first `count` by prediction; of equals, the earlier."""
    first = np.argsort(-np.asarray(predicted), kind="stable")[:count]
    return float(np.max(truth) - np.asarray(truth)[first].max())


def regret_within_budgets(predicted: Numbers, truth: Numbers, strata: Numbers) -> float:
    """Mean over the strata of what the first of the architectures up to a stratum loses against the best of these."""
    predicted, truth, strata = (np.asarray(values) for values in (predicted, truth, strata))
    budgets = [strata <= stratum for stratum in np.unique(strata)]
    return float(np.mean([regret(predicted[within], truth[within], 1) for within in budgets]))


def correlate(ranked: Ranked, baseline: str, rng: np.random.Generator) -> Dict[str, Correlation]:
    """Every predictor against the truth, and against the predictor named `baseline`.

    Architectures are drawn again with replacement inside their strata, the same ones for all predictors. Copies of one
    architecture are tied in both orders, so they count for nothing.
    """
    truth, together = _order(ranked.truth), _together(ranked.strata)
    orders = {name: _order(values) for name, values in ranked.predictors.items()}
    draws = [_resample(ranked.strata, rng) for _ in range(NUM_RESAMPLES)]
    copies = np.array([np.bincount(draw, minlength=len(truth)) for draw in draws], dtype=float)
    ways = {"overall": np.ones_like(together), "within": together}
    resampled = {
        (name, way): _resampled_taus(copies, order, truth, mask)
        for name, order in orders.items()
        for way, mask in ways.items()
    }
    result = {}
    for name, order in orders.items():
        taus = {way: _tau(order, truth, mask) for way, mask in ways.items()}
        gain = None
        if name != baseline:
            difference = taus["overall"] - _tau(orders[baseline], truth, ways["overall"])
            gain = _percentiles(difference, resampled[name, "overall"] - resampled[baseline, "overall"])
        result[name] = Correlation(
            _percentiles(taus["overall"], resampled[name, "overall"]),
            _percentiles(taus["within"], resampled[name, "within"]),
            gain,
            {count: regret(ranked.predictors[name], ranked.truth, count) for count in TOP_COUNTS},
            regret_within_budgets(ranked.predictors[name], ranked.truth, ranked.strata),
        )
    return result


def _order(values: Numbers) -> np.ndarray:
    """(n, n): 1 where the row's value is higher than the column's, -1 where it is lower, 0 where they are equal."""
    column = np.asarray(values, dtype=float)[:, None]
    return np.sign(column - column.T)


def _together(strata: Numbers) -> np.ndarray:
    column = np.asarray(strata)[:, None]
    return (column == column.T).astype(float)


def _tau(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    size = np.sqrt((mask * first**2).sum() * (mask * second**2).sum())
    return float((mask * first * second).sum() / size) if size else float("nan")


def _resampled_taus(copies: np.ndarray, first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """tau-b of each draw, from how often it has each architecture, (draws, n). All sums are of whole numbers."""
    both, one, other = (
        np.einsum("di,di->d", copies @ pairs, copies)
        for pairs in (mask * first * second, mask * first**2, mask * second**2)
    )
    size = np.sqrt(one * other)
    return np.divide(both, size, out=np.full_like(size, np.nan), where=size > 0)


def _resample(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    parts = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    return np.concatenate([rng.choice(part, len(part)) for part in parts])


def _percentiles(value: float, resampled: np.ndarray) -> Interval:
    known = resampled[~np.isnan(resampled)]
    if np.isnan(value) or not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Interval(value, low, high)


def draw_stratified(
    draw: Callable[[int], List], cost: Callable[[Any], int], count: int, num_strata: int, pool_size: int
) -> Tuple[List, List[int]]:
    """`count` different items in strata of cost, as many of one as of another.

    Strata are ranges of cost that hold equally many of a pool of `pool_size` draws; the items are the first of the pool
    that fall into each.

    Args:
        draw: so many independent draws.
    Returns: the items by rising stratum, and the stratum of each.
    Raises: InputError if `count` is no multiple of `num_strata` or a stratum holds too few different items.
    """
    if count % num_strata:
        raise InputError(f"{count} architectures cannot be shared out evenly among {num_strata} strata")
    pool = list(dict.fromkeys(draw(pool_size)))
    strata = stratify([cost(item) for item in pool], num_strata)
    chosen, numbers = [], []
    for stratum in range(num_strata):
        items = [item for item, own in zip(pool, strata) if own == stratum][: count // num_strata]
        if len(items) < count // num_strata:
            raise InputError(f"stratum {stratum} of {num_strata} holds only {len(items)} different architectures")
        chosen += items
        numbers += [stratum] * len(items)
    return chosen, numbers
