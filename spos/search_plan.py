"""From filled option groups to what a search visits and in which order."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Tuple

from spos.constraints import Constraints, limit_or_none
from spos.domain import Domain
from spos.errors import InputError
from spos.evolution import GeneticSettings, Search, genetic_search, random_search
from spos.options import ConstraintOptions, SearchOptions
from spos.schedule import derive_rng
from spos.search_space import Architecture, SearchSpace, parse_choices

TWO_STAGE = "two-stage"  # of --search-mode
DEVICE_FLAGS = ("scheduler", "num_gpus", "num_cpus_ctx")


def make_domain(space: SearchSpace, options: SearchOptions, limits: ConstraintOptions) -> Domain:
    """What may be visited."""
    constraints = Constraints(
        limits.comparison_model,
        flop_max=limit_or_none(limits.flop_max),
        param_max=limit_or_none(limits.param_max),
        score_max=limit_or_none(limits.score_max),
        flop_max_m=limit_or_none(limits.flop_max_m),
        param_max_m=limit_or_none(limits.param_max_m),
    )
    fixed = [
        parse_choices(text, flag) if text else None
        for text, flag in (
            (options.fixed_block_choices, "--fixed-block-choices"),
            (options.fixed_channel_choices, "--fixed-channel-choices"),
        )
    ]
    return Domain(space, constraints, *fixed)


def make_search(domain: Domain, options: SearchOptions, seed: int, initial: Sequence[Architecture] = ()) -> Search:
    """The strategy, with all of its randomness; its first generation starts with `initial`."""
    rng = derive_rng(seed, "search")
    if options.search_mode == "random":
        return random_search(domain, options.search_iters, options.population_size, rng, initial)
    settings = GeneticSettings(
        options.population_size,
        options.retain_length,
        options.random_select,
        options.mutate_chance,
        options.search_iters,
    )
    return genetic_search(domain, settings, rng, initial)


def check_search_flags(options: SearchOptions) -> None:
    """Raise InputError for flags that cannot work together."""
    if options.racing and options.search_mode == "nsga2":
        raise InputError("--racing drops what is below the best in one number; --search-mode nsga2 has several")
    if options.confidence != SearchOptions().confidence and not options.racing:
        raise InputError("--confidence is for --racing")


def check_not_shortened(old: Optional[Mapping[str, Any]], options: SearchOptions) -> None:
    """Raise InputError if a search is to go on with fewer generations: it may have done more already.

    Args:
        old: `config.json` of the run that is to go on; None for a new one.
    """
    before = old["options"]["search_iters"] if old else 0
    if options.search_iters < before:
        raise InputError(
            f"--search-iters {options.search_iters}: this search was begun with {before} and can only be made longer; "
            "give another --save-dir for a shorter one"
        )


def flags_that_may_change(options: SearchOptions) -> Tuple[str, ...]:
    """Flags with which a search may go on at another value: what computes, and how long it goes on."""
    if options.search_mode == TWO_STAGE:  # its number of generations says where its second stage begins
        return DEVICE_FLAGS
    return (*DEVICE_FLAGS, "search_iters")
