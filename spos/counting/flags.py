"""Flags of `calculate_flops.py` that cannot work together, found before anything is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, List, Optional

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, changed_flags, flag, not_negative, positive
from spos.core.tables import FORMATS
from spos.latency.flags import LatencyTableOptions
from spos.sampling.flags import LimitOptions
from spos.space.flags import ArchitectureOptions, SpaceOptions


@dataclass(frozen=True)
class CountOptions:
    """What else can be counted, for which images, and what is shown of it instead of the summary."""

    supernet: bool = flag(False, "count the supernet of the search space")
    symbol: str = flag("", "count any exported network (NAME-symbol.json)")
    input_size: Optional[int] = flag(None, "height and width of the input (default: the architecture's)", type=positive)
    classes: Optional[int] = flag(None, "number of classes (default: the architecture's)", type=positive)
    layers: bool = flag(False, "show every layer; of a supernet every branch, of --symbol every operator")
    profile: str = flag(
        "",
        "show multiplies and adds apart, in the MicroNet convention, for each choice block or operator, and the scores",
        choices=("", "block", "operator"),
    )
    comparison: bool = flag(False, "show the table of published networks, with a row for what else is named")
    distribution: Optional[int] = flag(
        None, "show quantiles of so many architectures drawn from the search space", type=positive
    )
    describe: bool = flag(
        False, "show what a budget can mean in the search space: its costs and choices, and what limits leave of them"
    )
    seed: int = flag(0, "seed of --distribution and --describe", type=not_negative)
    format: str = flag("text", "how tables are printed (csv: raw numbers, no notes)", choices=tuple(FORMATS))


DEFAULT_FORMAT = CountOptions().format


def check_count_flags(
    named: ArchitectureOptions,
    options: CountOptions,
    space: SpaceOptions,
    output: JsonOptions,
    latency: LatencyTableOptions,
    limits: LimitOptions,
) -> None:
    """Raise InputError for the first combination of flags that cannot work, saying which and why."""
    for rule in (_view_rules, _subject_rules, _other_rules, _latency_rules, _limit_rules):
        for message in rule(named, options, space, output, latency, limits):
            raise InputError(message)


def given_subjects(named: ArchitectureOptions, options: CountOptions) -> List[str]:
    """The flags that say what to count."""
    ways = {
        "--architecture": named.architecture,
        "--block-choices with --channel-choices": named.block_choices or named.channel_choices,
        "--supernet": options.supernet,
        "--symbol": options.symbol,
    }
    return [way for way, value in ways.items() if value]


def given_views(options: CountOptions) -> List[str]:
    """The flags that say what to show in place of the summary."""
    views = {
        "--layers": options.layers,
        "--profile": options.profile,
        "--comparison": options.comparison,
        "--distribution": options.distribution,
        "--describe": options.describe,
    }
    return [view for view, value in views.items() if value]


def of_space(options: CountOptions) -> bool:
    """Whether a whole space is shown, and no network."""
    return bool(options.distribution or options.describe)


def _view_rules(named: Any, options: CountOptions, space: Any, output: JsonOptions, *_: Any) -> Iterator[str]:
    views = given_views(options)
    if len(views) > 1:
        every = "--layers, --profile, --comparison, --distribution and --describe"
        yield f"give one of {every}; given: {' and '.join(views)}"
    if output.json and options.format != DEFAULT_FORMAT:
        yield f"--json and --format {options.format} are two outputs; give one of them"
    if options.seed != CountOptions().seed and not of_space(options):
        yield "--seed has no effect without --distribution or --describe; leave it out"


def _subject_rules(named: ArchitectureOptions, options: CountOptions, *_: Any) -> Iterator[str]:
    given = given_subjects(named, options)
    if of_space(options):
        wrong = [way for way in given if way != "--supernet"]
        if wrong:
            yield f"{given_views(options)[0]} is of the search space that flags describe; leave out {wrong[0]}"
    elif len(given) > 1 or (not given and not options.comparison):
        yield (
            "give one of --architecture, --block-choices with --channel-choices, --supernet, --symbol; "
            f"given: {' and '.join(given) or 'none'} (only --comparison, --distribution and --describe need none)"
        )
    if options.profile and (options.supernet or options.symbol):
        yield f"--profile shows the operators of one architecture; leave out {given[0]}"


def _other_rules(named: Any, options: CountOptions, space: SpaceOptions, *_: Any) -> Iterator[str]:
    """Flags about a network of which nothing is shown, or that an exported network has decided already."""
    changed = changed_flags(space) + [
        flag for flag, value in (("--input-size", options.input_size), ("--classes", options.classes)) if value
    ]
    if options.symbol:
        fit = {"--input-size", "--space", *(["--blocks"] if space.space else [])}
        unfit = [flag for flag in changed if flag not in fit]
        if unfit:
            yield f"{unfit[0]} has no effect on --symbol; leave it out"
    if changed and options.comparison and not given_subjects(named, options):
        yield f"{changed[0]} has no effect on the published networks of --comparison; leave it out"


def _limit_rules(named: Any, options: CountOptions, *others: Any) -> Iterator[str]:
    changed = [flag for flag in changed_flags(others[-1]) if flag != "--comparison-model"]
    if changed and not options.describe:
        yield f"{changed[0]} is a limit of --describe; leave it out"


def _latency_rules(
    named: Any, options: CountOptions, space: Any, output: Any, latency: LatencyTableOptions, *_: Any
) -> Iterator[str]:
    subjects = [way for way in given_subjects(named, options) if way in ("--supernet", "--symbol")]
    unfit = given_views(options) or subjects
    if latency.latency_table and unfit:
        yield f"--latency-table says the latency of one architecture in its summary; leave out {unfit[0]}"
