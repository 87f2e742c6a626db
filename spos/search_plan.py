"""From filled option groups to what a search visits and in which order."""

from __future__ import annotations

from spos.constraints import Constraints, limit_or_none
from spos.domain import Domain
from spos.errors import InputError
from spos.evolution import GeneticSettings, Search, genetic_search, random_search
from spos.latency import LatencyTable
from spos.options import ConstraintOptions, SearchOptions
from spos.schedule import derive_rng
from spos.search_space import SearchSpace, parse_choices


def make_domain(space: SearchSpace, options: SearchOptions, limits: ConstraintOptions) -> Domain:
    """What may be visited. Raises InputError if flags contradict each other or the latency table does not fit."""
    latency_max_ms = limit_or_none(limits.latency_max)
    if (latency_max_ms is None) == bool(limits.latency_table):
        given, missing = (
            ("--latency-table", "--latency-max") if limits.latency_table else ("--latency-max", "--latency-table")
        )
        raise InputError(f"{given} needs {missing}")
    constraints = Constraints(
        limits.comparison_model,
        flop_max=limit_or_none(limits.flop_max),
        param_max=limit_or_none(limits.param_max),
        score_max=limit_or_none(limits.score_max),
        flop_max_m=limit_or_none(limits.flop_max_m),
        param_max_m=limit_or_none(limits.param_max_m),
        latency_max_ms=latency_max_ms,
    )
    fixed = [
        parse_choices(text, flag) if text else None
        for text, flag in (
            (options.fixed_block_choices, "--fixed-block-choices"),
            (options.fixed_channel_choices, "--fixed-channel-choices"),
        )
    ]
    latency = LatencyTable.read(limits.latency_table) if limits.latency_table else None
    return Domain(space, constraints, *fixed, latency)


def make_search(domain: Domain, options: SearchOptions, seed: int) -> Search:
    """The strategy, with all of its randomness."""
    rng = derive_rng(seed, "search")
    if options.search_mode == "random":
        return random_search(domain, options.search_iters, options.population_size, rng)
    settings = GeneticSettings(
        options.population_size,
        options.retain_length,
        options.random_select,
        options.mutate_chance,
        options.search_iters,
    )
    return genetic_search(domain, settings, rng)
