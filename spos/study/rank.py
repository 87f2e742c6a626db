"""Rank correlation of supernets with networks trained alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from scipy.stats import kendalltau

from spos.core.errors import InputError
from spos.core.ranking import FEWEST, TOP_COUNTS, Correlation, Ranked, draw_stratified, kendall_tau
from spos.core.seeds import derive_rng
from spos.core.tables import Column, Table
from spos.search.choice import additive_fitness, weighed_with_flops
from spos.search.domain import Domain
from spos.search.history import Row, num_images_of
from spos.search.linear_model import variance_of
from spos.space.architecture import Architecture, architecture_of
from spos.space.cost import cost_table
from spos.space.space import SearchSpace
from spos.study.alone import Network, first_rows, mean_top1
from spos.study.flags import RankingOptions

POOL_SIZE = 10_000  # uniform draws whose FLOPs make the strata
ADDITIVE = "/additive"  # behind the name of a supernet, of whose scores a model is made
WITH_FLOPS = "/additive+FLOPs"  # the same, and FLOPs by what the model leaves unexplained
FLOPS, PARAMS = "FLOPs", "params"  # predictors that need no supernet; the first is the baseline
WITHIN = (("tau", "within strata"), ("low", "from"), ("high", "to"))


def plan(space: SearchSpace, options: RankingOptions) -> List[Network]:
    """The networks to be trained: all architectures with the first seed, then with the next."""
    if options.num_architectures < FEWEST:
        raise InputError(f"--num-architectures {options.num_architectures}: a rank correlation needs at least {FEWEST}")
    rng, table = derive_rng(options.seed, "strata"), cost_table(space)
    architectures, strata = draw_stratified(
        lambda count: [space.sample(rng) for _ in range(count)],
        lambda architecture: table.cost(architecture).macs,
        options.num_architectures,
        options.strata,
        POOL_SIZE,
    )
    return [
        Network(architecture, seed, {"stratum": stratum})
        for seed in range(options.seeds)
        for architecture, stratum in zip(architectures, strata)
    ]


def rank(rows: Sequence[Mapping[str, Any]], scores: Mapping[str, Sequence[Row]], space: SearchSpace) -> Ranked:
    """Truth and predictions of each architecture once, in the order of the rows.

    Predictions are the scores of each supernet, what a model of them expects in which every choice block adds what it
    is worth (ADDITIVE), the same weighed with FLOPs (WITH_FLOPS), FLOPs and params.
    """
    predictors = {name: np.array([row["top1"] for row in own]) for name, own in scores.items()}
    effects, architectures = Domain(space).effects, list(mean_top1(rows))
    predictors.update(
        (name + ADDITIVE, additive_fitness(effects, architectures, *_tops(own))) for name, own in scores.items()
    )
    costs = costs_of(rows)
    predictors.update(
        (name + WITH_FLOPS, weighed_with_flops(predictors[name + ADDITIVE], predictors[name], costs[FLOPS])[0])
        for name in scores
    )
    strata = [row["stratum"] for row in first_rows(rows).values()]
    return Ranked(np.array(list(mean_top1(rows).values())), {**predictors, **costs}, np.array(strata))


def tau_of_others(
    truth: Mapping[Architecture, Sequence[float]], scores: Mapping[str, Sequence[Row]], space: SearchSpace
) -> Dict[str, float]:
    """tau-b of the networks of a table that were not scored, by FLOPs and by the additive model of each supernet.

    By SciPy, in n log n: `kendall_tau` holds all pairs, which of thousands of networks take gigabytes.
    """
    effects, table = Domain(space).effects, cost_table(space)
    scored = {architecture_of(row) for own in scores.values() for row in own}
    others = [one for one in truth if one not in scored]
    true = [float(np.mean(truth[one])) for one in others]
    predicted: Dict[str, Any] = {FLOPS: [table.cost(one).macs for one in others]}
    for name, own in scores.items():
        architectures = [architecture_of(row) for row in own]
        predicted[name + ADDITIVE] = additive_fitness(effects, architectures, *_tops(own), others)
    return {name: float(kendalltau(values, true)[0]) for name, values in predicted.items()}


def _tops(rows: Sequence[Row]) -> Tuple[List[float], np.ndarray]:
    """Accuracies of scored rows, and their variances."""
    tops = [row["top1"] for row in rows]
    return tops, variance_of(tops, num_images_of(rows))


def with_mean(ranked: Ranked, names: Sequence[str]) -> Ranked:
    """Also the mean of the accuracies by these supernets, if there are several: what a search by all of them sees."""
    if len(names) < 2:
        return ranked
    return replace(ranked, predictors={**means(ranked, names, f"mean of {len(names)}"), **ranked.predictors})


def means(ranked: Ranked, names: Sequence[str], name: str) -> Dict[str, np.ndarray]:
    """The mean of the accuracies by these supernets, of what models of them expect, and of that with FLOPs."""
    return {
        name + ending: np.mean([ranked.predictors[one + ending] for one in names], axis=0)
        for ending in ("", ADDITIVE, WITH_FLOPS)
    }


def costs_of(rows: Sequence[Mapping[str, Any]]) -> Dict[str, np.ndarray]:
    """FLOPs and params of each architecture."""
    first = first_rows(rows).values()
    return {name: np.array([row[key] for row in first]) for name, key in ((FLOPS, "flops"), (PARAMS, "params"))}


def seed_agreement(rows: Sequence[Mapping[str, Any]]) -> Optional[float]:
    """Mean tau-b between the accuracies of two seeds: what no predictor of one seed can be expected to exceed.

    Of the networks that both have, in whatever order their trainings have ended.
    """
    by_seed: Dict[int, Dict[Architecture, float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], {})[architecture_of(row)] = row["top1"]
    taus = []
    for one, other in combinations(by_seed.values(), 2):
        both = [architecture for architecture in one if architecture in other]
        taus.append(kendall_tau([one[own] for own in both], [other[own] for own in both]))
    return float(np.mean(taus)) if taus else None


def ranking_table(correlations: Mapping[str, Correlation], baseline: str = FLOPS) -> Table:
    """A row for each predictor. Args: baseline: that gains are over."""
    gain = (("tau", f"over {baseline}"), ("low", "from"), ("high", "to"))
    columns = (
        Column("predictor"),
        *(Column(name, title, spec="+.3f") for name, title in (("tau", "tau-b"), ("low", "95% from"), ("high", "to"))),
        *(Column(f"within_{name}", title, spec="+.3f") for name, title in WITHIN),
        *(Column(f"gain_{name}", title, spec="+.3f") for name, title in gain),
        *(Column(f"regret_{k}", f"regret@{k}", spec=".2%") for k in TOP_COUNTS),
        Column("regret_within_budgets", "regret@1 within budgets", spec=".2%"),
    )
    rows = tuple(
        (name, *one.overall, *one.within, *(one.gain or (None,) * 3), *one.regrets.values(), one.regret_within_budgets)
        for name, one in correlations.items()
    )
    return Table("", columns, rows)
