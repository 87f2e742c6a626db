"""Flags of a search: what may be visited, which search goes through it, and what cannot work together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.flags import (
    JoinFiles,
    changed_flags,
    confidence,
    flag,
    fraction,
    not_negative,
    number,
    positive,
    positive_number,
    truth,
)
from spos.core.seeds import derive_rng
from spos.data.flags import SCORING_LISTS
from spos.engine.flags import DeviceOptions
from spos.latency.flags import LatencyTableOptions
from spos.latency.tables import Latency, LatencyTables, read_latency
from spos.runs.run import options_as
from spos.sampling.flags import LimitOptions, constraints_of
from spos.sampling.limits import limit_or_none
from spos.search.aims import Aims, FrontAims
from spos.search.breeder import Lineage
from spos.search.budgets import Budgets
from spos.search.choice import CHOICES, MODEL, MODEL_AND_FLOPS, SCORE, Choice
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.evolution import EVOLUTIONS, GeneticSettings, Search, random_search
from spos.search.front import checked_objectives, nsga2_search
from spos.search.history import Row, is_complete
from spos.search.searcher import TARGETS, Target
from spos.search.surrogate import Forecasts, surrogate_search
from spos.search.two_stage import two_stage_search
from spos.space.architecture import Architecture, architecture_of, parse_choices
from spos.space.space import SearchSpace

DEFAULT_LATENCY_ERROR_MAX = 0.1

DEFAULT_SCORE_MAX = 1.0  # of the published project
DEFAULT_FLOP_MAX = 1.0  # of the published project, and of the official code, which limits nothing else
DEVICE_FLAGS = ("scheduler", "num_gpus", "num_cpus_ctx")
INT8 = "int8"
SCORE_DTYPES = ("float32", INT8)
FINALS_FLAGS = ("finalists", "finalist_epochs", "finalist_lr")
AFTERWARDS = (*FINALS_FLAGS, "choose_by")  # what comes after the search


def make_domain(space: SearchSpace, options: SearchOptions, limits: ConstraintOptions) -> Domain:
    """What may be visited. FLOPs are limited by default (unless in millions), and the score (not for `spos`).

    Raises: InputError if flags contradict each other or the latency table does not fit.
    """
    latency_max_ms = limit_or_none(limits.latency_max)
    if latency_max_ms is not None and not limits.latency_table:
        raise InputError("--latency-max needs --latency-table")
    budgets = Budgets.parse(options.budgets) if options.budgets else None
    limits_flops = limit_or_none(limits.flop_max_m) is not None or (budgets is not None and budgets.cost == "flops")
    flop_max, score_max = limits.flop_max, limits.score_max
    if flop_max is None:
        flop_max = -1.0 if limits_flops else DEFAULT_FLOP_MAX
    if score_max is None:
        score_max = -1.0 if options.evolution == "spos" else DEFAULT_SCORE_MAX
    constraints = constraints_of(replace(limits, flop_max=flop_max, score_max=score_max))
    domain = Domain(
        space,
        replace(constraints, latency_max_ms=latency_max_ms),
        _fixed(options.fixed_block_choices, "--fixed-block-choices"),
        _fixed(options.fixed_channel_choices, "--fixed-channel-choices"),
        read_latency_table(limits, space),
    )
    return _within(domain, budgets) if budgets else domain


def _within(domain: Domain, budgets: Budgets) -> Domain:
    """The part of a domain within the largest budget."""
    if getattr(domain.constraints, COSTS[budgets.cost].limit) is not None:
        raise InputError(f"--budgets and {COSTS[budgets.cost].flag} limit the same; leave out the latter")
    if budgets.cost == "latency" and domain.latency is None:
        raise InputError("--budgets latency needs --latency-table")
    return budgets.domains(domain)[-1]


def check_reachable(domain: Domain, options: SearchOptions) -> None:
    """Raise InputError if nothing keeps the limits, or one of the budgets beside them, naming the smallest cost."""
    domain.check()
    if options.budgets:
        for part in Budgets.parse(options.budgets).domains(domain):
            part.check()


def _fixed(text: str, flag: str) -> Optional[Tuple[int, ...]]:
    return parse_choices(text, flag) if text else None


def check_score_dtype(options: SearchOptions, devices: DeviceOptions, domain: Domain) -> None:
    """Raise InputError if INT8 scores would be of another network than the latency, or of another device."""
    if options.score_dtype != INT8:
        return
    if devices.num_gpus or devices.dtype != "float32":
        raise InputError("--score-dtype int8 scores on the CPU; leave out --num-gpus and --dtype")
    latency = domain.latency
    tables = latency.by_size.values() if isinstance(latency, LatencyTables) else [latency] if latency else []
    others = {table.dtype for table in tables} - {INT8}
    if others:
        raise InputError(
            f"--score-dtype int8: --latency-table is of {', '.join(sorted(others))} networks; measure one with --dtype "
            "int8"
        )


def read_latency_table(limits: ConstraintOptions, space: SearchSpace) -> Optional[Latency]:
    """The table that the flags name, if any. Raises InputError if it is malformed or predicts too badly."""
    if not limits.latency_table:
        return None
    return read_latency(limits.latency_table, space, limit_or_none(limits.latency_error_max))


@dataclass(frozen=True)
class Start:
    """What a search begins with: its randomness, what to score first, and where it tells what it does.

    Args:
        rows: of the history, as far as it is known; they become more while the search goes on.
        older: rows of an older search that a model learns from too.
    """

    rng: np.random.Generator
    initial: Sequence[Architecture] = ()
    lineage: Optional[Lineage] = None
    forecasts: Optional[Forecasts] = None
    rows: Sequence[Row] = ()
    older: Sequence[Row] = ()


def _settings(options: SearchOptions) -> GeneticSettings:
    return evolution_settings(options, options.search_iters)


def _genetic(domain: Domain, options: SearchOptions, start: Start) -> Search:
    evolve = EVOLUTIONS[options.evolution]
    return evolve(domain, _settings(options), start.rng, start.initial, lineage=start.lineage)


def _aims(domain: Domain, options: SearchOptions) -> Aims:
    return Aims(Budgets.parse(options.budgets).domains(domain) if options.budgets else [domain])


def _random(domain: Domain, options: SearchOptions, start: Start) -> Search:
    return random_search(_aims(domain, options), options.search_iters, options.population_size, start.rng)


def _two_stage(domain: Domain, options: SearchOptions, start: Start) -> Search:
    settings, evolve = _settings(options), EVOLUTIONS[options.evolution]
    return two_stage_search(domain, settings, start.rng, options.two_stage_blocks, evolve, start.lineage)


def _surrogate(domain: Domain, options: SearchOptions, start: Start) -> Search:
    return _by_model(domain, options, start, _aims(domain, options))


def _surrogate_front(domain: Domain, options: SearchOptions, start: Start) -> Search:
    return _by_model(domain, options, start, FrontAims(domain, checked_objectives(options.objectives, domain)))


def _by_model(domain: Domain, options: SearchOptions, start: Start, aims: Aims) -> Search:
    return surrogate_search(
        domain,
        _settings(options),
        start.rng,
        start.initial,
        lineage=start.lineage,
        rows=start.rows,
        forecasts=start.forecasts,
        aims=aims,
        older=start.older,
    )


def _nsga2(domain: Domain, options: SearchOptions, start: Start) -> Search:
    objectives = checked_objectives(options.objectives, domain)
    return nsga2_search(domain, objectives, _settings(options), start.rng, start.initial, start.lineage)


@dataclass(frozen=True)
class SearchMode:
    """A search, and what it can do.

    Args:
        breeds: there are parents.    evolves: by one of EVOLUTIONS.    takes_seeds: from an older search.
        has_stages: first blocks, then channels.    has_front: several numbers are weighed against each other.
        serves_budgets: looks for the best within each, or for all of a front.
        chooses_by: of CHOICES, unless --choose-by says otherwise.
    """

    make: Callable[[Domain, SearchOptions, Start], Search]
    breeds: bool = True
    evolves: bool = False
    takes_seeds: bool = False
    has_stages: bool = False
    has_front: bool = False
    serves_budgets: bool = False
    chooses_by: str = SCORE


SEARCHES: Mapping[str, SearchMode] = {
    "genetic": SearchMode(_genetic, evolves=True, takes_seeds=True),
    "random": SearchMode(_random, breeds=False, serves_budgets=True),
    "two-stage": SearchMode(_two_stage, evolves=True, has_stages=True),
    "surrogate": SearchMode(_surrogate, breeds=False, takes_seeds=True, serves_budgets=True, chooses_by=MODEL),
    "nsga2": SearchMode(_nsga2, takes_seeds=True, has_front=True, serves_budgets=True),
    "surrogate-front": SearchMode(
        _surrogate_front, breeds=False, takes_seeds=True, has_front=True, serves_budgets=True, chooses_by=MODEL
    ),
}


def choice_of(options: SearchOptions, domain: Domain, rows: Sequence[Row]) -> Choice:
    """Who is best of the rows of a search."""
    return Choice.by(options.choose_by or SEARCHES[options.search_mode].chooses_by, domain, rows)


def make_search(
    domain: Domain,
    options: SearchOptions,
    seed: int,
    initial: Sequence[Architecture] = (),
    lineage: Optional[Lineage] = None,
    forecasts: Optional[Forecasts] = None,
    rows: Sequence[Row] = (),
    older: Sequence[Row] = (),
) -> Search:
    """The strategy, with all of its randomness.

    Args:
        initial: what to score first, as far as it lies in the domain.
        lineage: learns the parents of every child.
        forecasts: learns what a model says of architectures before they are scored.
        rows: of the history that the scores are written to; they tell how many images a score is of.
        older: rows of an older search (`older_rows`) that a model learns from too.
    """
    start = Start(derive_rng(seed, "search"), initial, lineage, forecasts, rows, older)
    return SEARCHES[options.search_mode].make(domain, options, start)


def evolution_settings(options: EvolutionOptions, num_iterations: int) -> GeneticSettings:
    """Raises: InputError if the sizes do not fit together."""
    return GeneticSettings(
        options.population_size,
        options.retain_length,
        options.random_select,
        options.mutate_chance,
        num_iterations,
    )


def target_of(options: SearchOptions) -> Target:
    """What is maximised."""
    return Target(options.search_target, options.score_acc_ratio)


def older_rows(seeds: Sequence[Row], domain: Domain, options: SearchOptions) -> List[Row]:
    """The complete rows of an older search that this one may visit, with the fitness that they have here."""
    target, complete = target_of(options), list(filter(is_complete, seeds))
    return [
        {**row, "fitness": target.fitness(row["top1"], domain.cost_fields(architecture)["score"])}
        for row, architecture in zip(complete, map(architecture_of, complete))
        if domain.contains(architecture)
    ]


def initial_architectures(older: Sequence[Row], options: SearchOptions) -> List[Architecture]:
    """What a search scores first: the best of the `older_rows`, best first."""
    ranked = sorted(older, key=lambda row: row["fitness"], reverse=True)
    return list(map(architecture_of, ranked[: options.retain_length]))


def check_search_flags(options: SearchOptions) -> None:
    """Raise InputError for flags that cannot work together."""
    for message in contradictions(options):
        raise InputError(message)


def contradictions(options: SearchOptions) -> Iterator[str]:
    """What is wrong with flags that cannot work together."""
    name, default = options.search_mode, SearchOptions()
    mode = SEARCHES[name]
    if options.evolution != default.evolution and not mode.evolves:
        yield f"--evolution {options.evolution} is for --search-mode {_modes('evolves')}, not for {name}"
    if options.two_stage_blocks != default.two_stage_blocks and not mode.has_stages:
        yield f"--two-stage-blocks is for --search-mode {_modes('has_stages')}, not for {name}"
    if options.objectives != default.objectives and not mode.has_front:
        yield f"--objectives is for --search-mode {_modes('has_front')}, not for {name}"
    if mode.has_stages and options.fixed_block_choices:
        yield f"--search-mode {name} searches block choices; leave out --fixed-block-choices"
    if mode.has_front and options.search_target != default.search_target:
        yield (
            f"--search-target {options.search_target} mixes accuracy and cost, --search-mode {name} keeps them apart; "
            f"use --search-target {default.search_target}"
        )
    if options.choose_by == MODEL_AND_FLOPS and options.search_target != default.search_target:
        yield (
            f"--choose-by {MODEL_AND_FLOPS} counts FLOPs for an architecture, --search-target {options.search_target} "
            f"against it; use --choose-by {MODEL}"
        )
    if options.seed_history and not mode.takes_seeds:
        seeded = _modes("takes_seeds", " and ")
        yield f"--search-mode {name} draws its first generation itself; --seed-history is for {seeded}"
    if options.racing and mode.has_front:
        yield f"--racing drops what is below the best in one number; --search-mode {name} has several"
    if options.racing and mode.has_stages:
        yield f"--racing keeps one list of the best; --search-mode {name} has one for each stage"
    if options.budgets and not mode.serves_budgets:
        yield f"--budgets is for --search-mode {_modes('serves_budgets')}, not for {name}"
    if options.racing and options.budgets:
        yield "--racing drops what is below the best of all; --budgets keeps a best for each of several"
    if options.refit_classifier and options.score_dtype == INT8:
        yield "--refit-classifier is for float32 scores; leave out --score-dtype int8"
    if options.finalists == 1:
        yield "--finalists 1 decides nothing; give at least 2"
    finals = changed_flags(options, FINALS_FLAGS)
    if finals and not options.finalists:
        yield f"{finals[0]} is for --finalists"
    if options.confidence != default.confidence and not options.racing:
        yield "--confidence is for --racing"


def _modes(ability: str, joint: str = " or ") -> str:
    return joint.join(name for name, mode in SEARCHES.items() if getattr(mode, ability))


def check_not_shortened(old: Optional[Mapping[str, Any]], options: SearchOptions) -> None:
    """Raise InputError if a search is to go on with fewer generations: it may have done more already.

    Args:
        old: `config.json` of the run that is to go on; None for a new one.
    """
    before = options_as(SearchOptions, old["options"], "the run that is there").search_iters if old else 0
    if options.search_iters < before:
        raise InputError(
            f"--search-iters {options.search_iters}: this search was begun with {before} and can only be made longer; "
            "give another --save-dir for a shorter one"
        )


def flags_that_may_change(options: SearchOptions) -> Tuple[str, ...]:
    """Flags with which a search may go on at another value: what computes, and how long it goes on."""
    if SEARCHES[options.search_mode].has_stages:  # its number of generations says where its second stage begins
        return (*DEVICE_FLAGS, *AFTERWARDS)
    return (*DEVICE_FLAGS, *AFTERWARDS, "search_iters")


@dataclass(frozen=True)
class ConstraintOptions(LimitOptions, LatencyTableOptions):
    """What a searched architecture may cost."""

    latency_max: float = flag(-1.0, "largest latency in milliseconds by --latency-table (-1: no limit)", type=number)
    latency_error_max: float = flag(
        DEFAULT_LATENCY_ERROR_MAX,
        "refuse a --latency-table whose median relative error on held-out networks is larger, or unknown (-1: never)",
        type=number,
    )


@dataclass(frozen=True)
class EvolutionOptions:
    """Sizes and chances of an evolution."""

    population_size: int = flag(50, "architectures in a generation", type=positive)
    retain_length: int = flag(10, "best architectures kept as parents", type=positive)
    random_select: float = flag(0.1, "chance of any other architecture to become a parent", type=fraction)
    mutate_chance: float = flag(0.1, "chance of each gene to mutate", type=fraction)


@dataclass(frozen=True)
class SearchOptions(EvolutionOptions):
    """How to search."""

    supernet_params: str = flag(
        "runs/supernet/model.params",
        "trained supernet; of several, the mean of their accuracies scores",
        action=JoinFiles,
        nargs="+",
    )
    search_mode: str = flag(
        "genetic",
        "two-stage: genetic, blocks first, then the channels of the best blocks; surrogate: the best by a model of the "
        "scores so far; nsga2: Pareto front of top-1 against --objectives; surrogate-front: the front by that model",
        choices=tuple(SEARCHES),
    )
    evolution: str = flag(
        "published",
        "operators of genetic and two-stage; spos: those of Single Path One-Shot, which limits FLOPs and no score",
        choices=tuple(EVOLUTIONS),
    )
    two_stage_blocks: int = flag(
        1, "best block choices whose channels are searched in the second stage of two-stage", type=positive
    )
    objectives: str = flag("flops", f"costs of a Pareto front, separated by commas: {', '.join(COSTS)}")
    budgets: str = flag(
        "", "several limits on one cost, like flops:100,150,200 (params; latency in ms): the best within each"
    )
    search_target: str = flag("acc", "what is maximised", choices=TARGETS)
    score_acc_ratio: float = flag(1.0, "weight of the combined score in --search-target balanced_flop_acc", type=number)
    search_on: str = flag("holdout", "images that score candidates", choices=tuple(SCORING_LISTS))
    search_iters: int = flag(20, "generations (random: rounds of --population-size)", type=positive)
    topk: int = flag(3, "architectures to report", type=positive)
    choose_by: str = flag(
        "",
        "who is best of what was scored. score: by its own score; model: by what a model of all scores expects of it, "
        "in which each choice block adds what it is worth; model+flops: by that and its FLOPs, which count the more "
        "the less the model explains of the scores [model of surrogate and surrogate-front, score of others]",
        choices=("", *CHOICES),
    )
    finalists: int = flag(
        0,
        "after the search, tell so many of those that tie with the best apart by training each a little from the "
        "supernet, in rounds of which the better half goes on (0: none)",
        type=not_negative,
    )
    finalist_epochs: int = flag(
        1, "epochs of the first round of --finalists; every next one has twice as many", type=positive
    )
    finalist_lr: float = flag(0.05, "learning rate of --finalists at the start of a round", type=positive_number)
    score_dtype: str = flag(
        "float32",
        "precision that candidates are scored in; int8: as utils.quantize would deploy them, on the CPU, with a "
        "--latency-table of int8 if there is one",
        choices=SCORE_DTYPES,
    )
    refit_classifier: int = flag(
        0,
        "training images by which each candidate gets a classifier of its own, by ridge regression (0: that of the "
        "supernet)",
        type=not_negative,
    )
    shuffle_train: bool = flag(
        False, "True or False; changes nothing: the images of a BatchNorm update always have a random order", type=truth
    )
    fixed_block_choices: str = flag("", "search channel choices only, with these block choices")
    fixed_channel_choices: str = flag("", "search block choices only, with these channel choices")
    racing: bool = flag(False, "score in growing subsets of the images; drop what is confidently below the best so far")
    confidence: float = flag(0.95, "of --racing: that the best are those of scoring everything fully", type=confidence)
    scheduler: str = flag("", "score on the workers of this Dask scheduler, like tcp://host:8786 (empty: here)")
    seed_history: str = flag("", "history or run directory of an older search: its scores are used, its best bred from")
