"""The distribution of the costs of a space's architectures when every choice is drawn uniformly.

A cost is a sum over choice blocks whose choices are independent. So the smallest and largest cost, mean, variance and
correlation are exact, in closed form; quantiles and shares come from a sample.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.seeds import derive_rng
from spos.core.tables import Column, Table, millions
from spos.counting.summary import convention, describe_input
from spos.sampling.limits import Constraints, Limit, limits_in_millions, parse_bounds
from spos.space.cost import DEFAULT_COMPARISON_MODEL, Cost, cost_score, cost_table
from spos.space.published import SAMPLING_RANGES
from spos.space.space import SearchSpace

COLUMNS = (
    Column("statistic"),
    millions("flops", "FLOPs"),
    millions("params", "params"),
    Column("combined_score", "combined score", spec=".4f"),
)
EXACT = ("smallest", "mean", "std", "largest")

PERCENTS = (0, 1, 5, 25, 50, 75, 95, 99, 100)  # of the quantiles; 0 and 100 are the ends of the sample
CHUNK = 4096  # architectures at once: their costs fit the cache


def sample_costs(space: SearchSpace, num: int, rng: np.random.Generator) -> np.ndarray:
    """(MACs, params) of `num` architectures drawn independently and uniformly, (num, 2) int64.

    Widths are those that may be searched, from the space's `min_channel_choice` on.
    """
    table = cost_table(space)
    blocks = table.choice_costs()
    flat, sizes = np.concatenate(blocks), [len(block) for block in blocks]
    offsets = np.cumsum([0, *sizes[:-1]])
    costs = np.empty((num, 2), dtype=np.int64)
    for start in range(0, num, CHUNK):
        part = costs[start : start + CHUNK]
        choices = rng.integers(0, sizes, (len(part), len(blocks))) + offsets
        for axis in range(2):
            part[:, axis] = table.fixed[axis] + flat[:, axis][choices].sum(1)
    return costs


def covariance(space: SearchSpace) -> np.ndarray:
    """Exact covariance of (MACs, params) over the architectures of a space, (2, 2)."""
    return np.sum([np.cov(block.T, bias=True) for block in cost_table(space).choice_costs()], axis=0)


@dataclass(frozen=True)
class Spread:
    """Where one cost lies: over all architectures exactly, and in a sample.

    Attributes:
        smallest, largest, mean, std: of all architectures.
        quantiles: of the sample, at PERCENTS; each is a value of the sample.
    """

    smallest: float
    largest: float
    mean: float
    std: float
    quantiles: Tuple[float, ...]

    @classmethod
    def of(cls, weights: Tuple[float, ...], space: SearchSpace, costs: np.ndarray) -> Spread:
        """Of a weighted sum of MACs and params. Args: costs: a sample of the space."""
        table = cost_table(space)
        fixed, values = np.dot(table.fixed, weights), [np.dot(block, weights) for block in table.choice_costs()]
        smallest, largest, mean = (
            (fixed + sum(pick(block) for block in values)).item() for pick in (np.min, np.max, np.mean)
        )
        std = float(np.sqrt(np.dot(np.dot(covariance(space), weights), weights)))
        quantiles = np.percentile(np.dot(costs, weights), PERCENTS, method="inverted_cdf")
        return cls(smallest, largest, mean, std, tuple(quantiles.tolist()))

    def to_json(self) -> Dict[str, Any]:
        named = {str(percent): value for percent, value in zip(PERCENTS, self.quantiles)}
        return {**asdict(self), "quantiles": named}


@dataclass(frozen=True)
class Distribution:
    """The costs of a space, summed up.

    Attributes:
        combined_score: relative to `comparison_model`.
        correlation: of FLOPs and params; None if one of them is the same for all architectures.
        limits, share_within: what the architectures of the sample were to keep, and the share that keeps all of it;
            None without limits.
    """

    num_architectures: int
    num_samples: int
    flops: Spread
    params: Spread
    combined_score: Spread
    comparison_model: str
    correlation: Optional[float]
    limits: Tuple[str, ...] = ()
    share_within: Optional[float] = None

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        costs: np.ndarray,
        comparison_model: str = DEFAULT_COMPARISON_MODEL,
        limits: Sequence[Limit] = (),
    ) -> Distribution:
        """Args: costs: a sample of the space, as `sample_costs` gives it. Raises InputError if it is empty."""
        if not len(costs):
            raise InputError("a distribution needs at least one sampled architecture")
        units = (Cost(1, 0), Cost(0, 1))
        combined = tuple(cost_score(unit, comparison_model).combined for unit in units)  # of a sum it is the sum
        flops, params, scores = (Spread.of(weights, space, costs) for weights in (*units, combined))
        within = np.all([limit.keeps(costs.T) for limit in limits], axis=0).mean() if limits else None
        return cls(
            space.num_architectures,
            len(costs),
            flops,
            params,
            scores,
            comparison_model,
            _correlation(covariance(space)),
            tuple(map(str, limits)),
            None if within is None else float(within),
        )

    def to_json(self) -> Dict[str, Any]:
        """FLOPs and params in units, not millions."""
        report: Dict[str, Any] = {
            "num_architectures": self.num_architectures,
            "num_samples": self.num_samples,
            "flops": self.flops.to_json(),
            "params": self.params.to_json(),
            "combined_score": {"comparison_model": self.comparison_model, **self.combined_score.to_json()},
            "correlation": self.correlation,
        }
        if self.share_within is not None:
            report["within"] = {"limits": list(self.limits), "share": self.share_within}
        return report


def _correlation(moments: np.ndarray) -> Optional[float]:
    variances = np.diag(moments)
    return float(moments[0, 1] / np.sqrt(variances.prod())) if variances.all() else None


def distribution_json(space: SearchSpace, num_samples: int, seed: int, comparison_model: str) -> Dict[str, Any]:
    """A `Distribution` of uniformly drawn architectures with the shares that keep published limits."""
    costs = sample_costs(space, num_samples, derive_rng(seed, "distribution"))
    report = Distribution.of(space, costs, comparison_model).to_json()
    shares = {}
    for limits in limit_sets(comparison_model):
        found = Distribution.of(space, costs, comparison_model, limits)
        shares[", ".join(found.limits)] = found.share_within
    return {
        **report,
        "shares_within": shares,
        **provenance(space, seed),
    }


def provenance(space: SearchSpace, seed: int) -> Dict[str, Any]:
    """What a report about a whole space says of where its figures come from."""
    return {
        "seed": seed,
        "input_size": space.input_size,
        "classes": space.num_classes,
        "fingerprint": space.fingerprint,
        "space": space.to_json(),
        "convention": convention(space.count_additions),
    }


def limit_sets(comparison_model: str) -> Tuple[Tuple[Limit, ...], ...]:
    """What searches and the published supernet kept: the combined score, the ranges, and both."""
    lower, upper = (parse_bounds(text, "published limits") for text in SAMPLING_RANGES)
    ranges, by_score = limits_in_millions(upper, lower), tuple(Constraints(comparison_model).limits())
    return by_score, ranges, by_score + ranges


def distribution_table(report: Mapping[str, Any]) -> Table:
    """Moments and quantiles, from what `distribution_json` gives."""
    spreads = [report[name] for name in ("flops", "params", "combined_score")]
    rows = [(f"{name}, exact", *(spread[name] for spread in spreads)) for name in EXACT]
    rows += [
        (f"{percent}%", *(spread["quantiles"][percent] for spread in spreads)) for percent in spreads[0]["quantiles"]
    ]
    shares = "; ".join(f"{limits}: {share:.2%}" for limits, share in report["shares_within"].items())
    correlation = report["correlation"]
    notes = (
        f"Exact: of all {report['num_architectures']:.3e} architectures. n%: so many of {report['num_samples']:,} "
        f"drawn uniformly (seed {report['seed']}) cost no more.",
        f"Drawn within limits: {shares}.",
        f"Correlation of FLOPs and params{' (exact)' if correlation is not None else ''}: "
        f"{'none' if correlation is None else format(correlation, '.4f')}. Combined score: 0.5 FLOP ratio + 0.5 param "
        f"ratio to {spreads[2]['comparison_model']}.",
        report["convention"],
    )
    return Table(f"Costs in a search space: {describe_input(report)}", COLUMNS, tuple(rows), notes)
