"""Searched architectures against random ones of the same FLOPs."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.intervals import Interval, student_interval, welch_interval
from spos.core.seeds import derive_rng
from spos.core.tables import Column, Table
from spos.sampling.limits import MILLION, Limit
from spos.sampling.strips import path_sampler
from spos.space.architecture import Architecture, architecture_of
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import count_architecture
from spos.study.alone import Network, first_rows, mean_top1
from spos.study.flags import MatchOptions, check_seeds

MAX_DRAWS = 10_000  # for different random architectures
RANDOM = "random"
Row = Mapping[str, Any]
GAIN = (("mean", "over random"), ("low", "from"), ("high", "to"))


class Comparison(NamedTuple):
    """A searched architecture, or all of them, beside the random ones.

    Args:
        top1: mean of the searched.    gain: over the mean of the random ones.
        num_better: random architectures whose mean is higher.
    """

    name: str
    top1: Interval
    gain: Interval
    num_better: int


def check_searched(searched: Sequence[ArchitectureRecord], files: Sequence[str], options: MatchOptions) -> None:
    """Raise InputError if the architectures cannot be compared, or not with an interval."""
    for record, file in zip(searched, files):
        if record.space != searched[0].space:
            raise InputError(f"{file} lies in another search space than {files[0]}")
    if len({record.architecture for record in searched}) < len(searched):
        raise InputError("an architecture is given twice")
    check_seeds(options.seeds)
    if options.num_random < max(2, len(searched)):
        raise InputError(f"--num-random must be at least {max(2, len(searched))}, not {options.num_random}")


def plan(searched: Sequence[ArchitectureRecord], options: MatchOptions) -> List[Network]:
    """The networks to be trained: all with the first seed, then with the next."""
    given = {record.architecture: f"searched {i}" for i, record in enumerate(searched)}
    groups: Dict[Architecture, str] = dict(given)
    rngs = [derive_rng(options.seed, "random", i) for i in range(len(searched))]
    for number in range(options.num_random):
        place = number % len(searched)
        groups[draw_equal(searched[place], options.tolerance, rngs[place], groups)] = RANDOM
    return [
        Network(architecture, seed, {"group": group})
        for seed in range(options.seeds)
        for architecture, group in groups.items()
    ]


def draw_equal(
    record: ArchitectureRecord, tolerance: float, rng: np.random.Generator, known: Mapping[Architecture, str]
) -> Architecture:
    """A new architecture, uniform over those with the FLOPs of this one up to the tolerance.

    Raises: InputError if there is none.
    """
    macs, space = count_architecture(record.space, record.architecture).macs, record.space
    limit = Limit("FLOPs", "M", (1,), macs * (1 + tolerance), macs * (1 - tolerance), MILLION)
    sampler = path_sampler(space, space.min_channel_choice, (limit,))
    for _ in range(MAX_DRAWS):
        drawn = sampler.draw(rng)
        if drawn not in known:
            return drawn
    raise InputError(f"no further architecture with {limit} in {MAX_DRAWS} draws; raise --tolerance")


def compare(rows: Sequence[Row]) -> List[Comparison]:
    """Every searched architecture against the random ones, and all together if there are several."""
    groups = group_means(rows)
    chance = [top1 for _, top1 in groups[RANDOM]]
    result: List[Comparison] = []
    means: List[float] = []
    for name in (name for name in groups if name != RANDOM):
        ((architecture, mean),) = groups[name]
        tops = [row["top1"] for row in rows if architecture_of(row) == architecture]
        means.append(mean)
        result.append(_comparison(name, tops, mean, chance))
    if len(means) > 1:
        result.append(_comparison("all searched", means, float(np.mean(means)), chance))
    return result


def _comparison(name: str, tops: Sequence[float], mean: float, chance: Sequence[float]) -> Comparison:
    better = sum(top1 > mean for top1 in chance)
    return Comparison(name, student_interval(tops), welch_interval(tops, chance), better)


def group_means(rows: Sequence[Row]) -> Dict[str, List[Tuple[Architecture, float]]]:
    """By group the architectures in it, each with the mean of its seeds."""
    first = first_rows(rows)
    groups: Dict[str, List[Tuple[Architecture, float]]] = {}
    for architecture, top1 in mean_top1(rows).items():
        groups.setdefault(first[architecture]["group"], []).append((architecture, top1))
    return groups


def matched_table(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> Table:
    """A row for each comparison, and one for the random networks."""
    chance = group_means(rows)[RANDOM]
    columns = (
        Column("network"),
        *(Column(name, title, spec=".2%") for name, title in (("top1", "top-1"), ("low", "95% from"), ("high", "to"))),
        *(Column(f"gain_{name}", title, spec="+.2%") for name, title in GAIN),
        Column("num_better", f"better random ones of {len(chance)}"),
    )
    own = student_interval([top1 for _, top1 in chance])
    lines = [(one.name, *one.top1, *one.gain, one.num_better) for one in comparisons]
    return Table("", columns, (*lines, (f"{len(chance)} random", *own, None, None, None, None)))
