"""What `calculate_flops.py --distribution` says about a search space."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

from spos.constraints import Constraints, Limit, limits_in_millions, parse_bounds
from spos.cost_report import CONVENTION, describe_input
from spos.distribution import Distribution, sample_costs
from spos.published import SAMPLING_RANGES
from spos.schedule import derive_rng
from spos.search_space import SearchSpace
from spos.tables import Column, Table, millions

COLUMNS = (
    Column("statistic"),
    millions("flops", "FLOPs"),
    millions("params", "params"),
    Column("combined_score", "combined score", spec=".4f"),
)
EXACT = ("smallest", "mean", "std", "largest")


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
        "seed": seed,
        "input_size": space.input_size,
        "classes": space.num_classes,
        "fingerprint": space.fingerprint,
        "space": space.to_json(),
        "convention": CONVENTION,
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
        CONVENTION,
    )
    return Table(f"Costs in a search space: {describe_input(report)}", COLUMNS, tuple(rows), notes)
