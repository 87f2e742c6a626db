"""Is a searched architecture better than random ones that cost the same, all trained from scratch by one recipe?

python -m utils.searched_against_random --architecture runs/search/best.json --num-random 10 --seeds 3 --jobs 2 \\
    --save-dir runs/searched-against-random -- --dataset cifar10 --num-epochs 10 --lr 0.2 ...

Random architectures are drawn uniformly from those of the same space whose FLOPs differ from a searched one's by at
most --tolerance; with several searched ones each gets an equal part of them. Every network is trained with the same
seeds by the recipe, the flags of train_imagenet.py behind `--`, and measured on the test images.

What is compared is the mean of a searched architecture's seeds with the mean of the random architectures, each itself
the mean of its seeds. The interval of the difference is Welch's, 95%: for one searched architecture over its seeds, for
all of them together over their means.

The same command goes on where it was stopped, also with other --jobs, more --seeds or more --num-random. Results lie in
--save-dir: alone.jsonl (a trained network a line), networks/ (their runs), comparison.json (what is printed).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from spos.command_line import (
    OneLineParser,
    flag,
    fraction,
    not_negative,
    pick,
    positive,
    run_program,
    split_arguments,
)
from spos.constrained_policy import path_sampler
from spos.constraints import MILLION, Limit
from spos.cost import count_architecture
from spos.errors import InputError
from spos.intervals import Interval, student_interval, welch_interval
from spos.options import JsonOptions
from spos.records import ArchitectureRecord, load_architecture, open_run, write_json
from spos.schedule import derive_rng
from spos.search_history import architecture_of
from spos.search_space import Architecture
from spos.tables import Column, Table, as_text
from utils.stand_alone import Network, check_recipe, describe_run, first_rows, mean_top1, train_all

MAX_DRAWS = 10_000  # for different random architectures
RESULT_FILE = "comparison.json"
RANDOM = "random"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class MatchOptions:
    """What is trained, and how many networks at a time."""

    save_dir: str = flag("runs/searched-against-random", "folder of the results")
    num_random: int = flag(10, "random architectures in all", type=positive)
    tolerance: float = flag(0.01, "by how much their FLOPs may differ from the searched one's, relative", type=fraction)
    seeds: int = flag(3, "seeds that each network is trained with, from 0; at least 2", type=positive)
    seed: int = flag(0, "of the draw of random architectures", type=not_negative)
    jobs: int = flag(1, "trainings at a time", type=positive)


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


def main(argv: Optional[List[str]] = None) -> int:
    own, recipe = split_arguments(sys.argv[1:] if argv is None else argv)
    groups = (MatchOptions, JsonOptions)
    parser = OneLineParser(__doc__, groups)
    parser.add_argument(
        "--architecture", nargs="+", required=True, metavar="FILE", help="searched architectures: best.json of searches"
    )
    args = parser.parse_args(own)
    options, output = (pick(group, args) for group in groups)
    check_recipe(recipe)
    searched = [load_architecture(file) for file in args.architecture]
    check_searched(searched, args.architecture, options)
    networks = plan(searched, options)
    folder = Path(options.save_dir)
    config = describe_run("utils.searched_against_random", options, recipe, searched[0].space)
    config["architecture"] = [record.to_json() for record in searched]
    open_run(folder, config, may_change=("num_random", "seeds"))
    rows = train_all(networks, searched[0].space, recipe, folder, options.jobs)
    comparisons = compare(rows)
    record = as_json(rows, comparisons)
    write_json(folder / RESULT_FILE, record)
    print(json.dumps(record) if output.json else text(rows, comparisons))
    return 0


def check_searched(searched: Sequence[ArchitectureRecord], files: Sequence[str], options: MatchOptions) -> None:
    """Raise InputError if the architectures cannot be compared, or not with an interval."""
    for record, file in zip(searched, files):
        if record.space != searched[0].space:
            raise InputError(f"{file} lies in another search space than {files[0]}")
    if len({record.architecture for record in searched}) < len(searched):
        raise InputError("an architecture is given twice")
    if options.seeds < 2:
        raise InputError("--seeds must be at least 2: an interval needs more than one")
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
    chance = np.array([top1 for _, top1 in groups[RANDOM]])
    result, means = [], []
    for name in (name for name in groups if name != RANDOM):
        ((architecture, mean),) = groups[name]
        tops = [row["top1"] for row in rows if architecture_of(row) == architecture]
        means.append(mean)
        result.append(
            Comparison(name, student_interval(tops), welch_interval(tops, chance), int((chance > mean).sum()))
        )
    if len(means) > 1:
        result.append(
            Comparison(
                "all searched",
                student_interval(means),
                welch_interval(means, chance),
                int((chance > np.mean(means)).sum()),
            )
        )
    return result


def group_means(rows: Sequence[Row]) -> Dict[str, List[Tuple[Architecture, float]]]:
    """By group the architectures in it, each with the mean of its seeds."""
    first = first_rows(rows)
    groups: Dict[str, List[Tuple[Architecture, float]]] = {}
    for architecture, top1 in mean_top1(rows).items():
        groups.setdefault(first[architecture]["group"], []).append((architecture, top1))
    return groups


def table(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> Table:
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


GAIN = (("mean", "over random"), ("low", "from"), ("high", "to"))


def text(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> str:
    flops = [row["flops"] / MILLION for row in rows]
    num_seeds = len({row["seed"] for row in rows})
    return (
        f"{len(rows)} networks of {min(flops):.3f}M to {max(flops):.3f}M FLOPs, {num_seeds} seeds each\n"
        f"{as_text(table(rows, comparisons))}"
    )


def as_json(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> Dict[str, Any]:
    """The same for machines. An interval is [value, low, high]."""
    chance = [top1 for _, top1 in group_means(rows)[RANDOM]]
    return {
        "random": {"architectures": len(chance), "top1": list(student_interval(chance)), "each": chance},
        "searched": [{**one._asdict(), "top1": list(one.top1), "gain": list(one.gain)} for one in comparisons],
    }


if __name__ == "__main__":
    sys.exit(run_program(main))
