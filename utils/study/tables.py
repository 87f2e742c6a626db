"""The tables of a study (docs/study.md), from its logs alone."""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.intervals import Interval
from spos.core.ranking import kendall_tau
from spos.core.tables import Column, Table, millions
from spos.search.history import find_ties, mean_of_random
from spos.space.architecture import architecture_of
from spos.study.alone import first_rows, mean_top1
from spos.study.matched import RANDOM, compare, matched_table
from spos.study.rank import ADDITIVE, FLOPS, seed_agreement
from spos.training.flags import PUBLISHED
from spos.training.log import SECONDS_OF_AN_HOUR
from utils.study.logs import Row, Study, SupernetLog, by_bn_count

DRIVER, DRIVER_OF_OTHERS = "sh scripts/study_cifar10.sh IMAGES", "sh scripts/study_nas_bench_macro.sh IMAGES TABLE"


LENGTHS = ("num_epochs", "holdout")  # flags of a supernet: the shortest is the usual one


def make_tables(study: Study) -> Dict[str, Table]:
    """By the name of their place in the document; without those whose logs are not there yet."""
    makers: Dict[str, Callable[[Study], Optional[Table]]] = {
        "supernets": supernets,
        "bn-update": bn_update,
        "strategies": strategies,
        "searches": searches,
        "ranking": ranking,
        "curve": curve,
        "searched": searched,
        "networks": networks,
        "hours": hours,
    }
    made = {name: make(study) for name, make in makers.items()}
    return {name: table for name, table in made.items() if table is not None}


def supernets(study: Study) -> Table:
    """(a) and (c): what each supernet was given, and how it scores and orders the same architectures."""
    columns = (
        Column("supernet"),
        Column("updates", spec=","),
        Column("passes", "image passes", spec=","),
        Column("hours", spec=".2f"),
        Column("top1", "mean top-1", spec=".2%"),
        Column("spread", "standard deviation", spec=".2%"),
        Column("tau", "tau-b (95%)"),
        Column("within", "within strata (95%)"),
    )
    rows = []
    for supernet in study.supernets:
        for name in study.scores:
            if name.partition("/")[0] != supernet.name:  # behind it the name of a file in its run, if it is another
                continue
            tops = np.array([row["top1"] for row in study.scores[name]])
            found = study.correlations[name]
            own = (name, supernet.num_updates, supernet.num_passes, supernet.hours)
            rows.append((*own, tops.mean(), tops.std(ddof=1), plus(found.overall), plus(found.within)))
    return Table("", columns, tuple(rows))


def bn_update(study: Study) -> Optional[Table]:
    """(b): accuracy and order by the number of images of the BatchNorm update."""
    counts = by_bn_count(study)
    if not counts:
        return None
    columns = (
        Column("images", "images of the update"),
        Column("top1", "mean top-1", spec=".2%"),
        Column("spread", "standard deviation", spec=".2%"),
        Column("tau", "tau-b alone", spec="+.3f"),
        Column("same", "tau-b with the most images", spec="+.3f"),
    )
    most, truth = counts[max(counts)].tolist(), study.ranked.truth.tolist()
    rows = [
        (
            f"{count:,}" if count else "none",
            tops.mean(),
            tops.std(ddof=1),
            kendall_tau(tops.tolist(), truth),
            kendall_tau(tops.tolist(), most),
        )
        for count, tops in counts.items()
    ]
    return Table("", columns, tuple(rows))


def strategies(study: Study) -> Optional[Table]:
    """(d): searches at equal evaluations."""
    record = study.strategies
    if record is None:
        return None
    columns = (Column("search"), Column("best", "mean best top-1 (95% t)"), Column("gain", "over random (95% t)"))
    rows = tuple(
        (name, share(Interval(**found["best"])), share(Interval(**found["gain"]), "+") if found["gain"] else None)
        for name, found in record["searches"].items()
    )
    return Table("", columns, rows)


def searches(study: Study) -> Optional[Table]:
    """What each of the searches found."""
    columns = (
        Column("search"),
        Column("scored", "architectures scored"),
        Column("hours", spec=".2f"),
        Column("random", "mean of the random first", spec=".2%"),
        Column("best", "best top-1 (95%)"),
        Column("ties", "ties with it"),
        millions("flops", "FLOPs"),
        millions("params", "params"),
    )
    rows = []
    for search in study.searches:
        best = search.rows[search.best["evaluation"]]
        rows.append(
            (
                search.name,
                len(search.rows),
                search.hours,
                mean_of_random(search.rows)[1],
                share(Interval(best["top1"], *best["top1_interval"])),
                len(find_ties(search.rows, best)),
                best["flops"],
                best["params"],
            )
        )
    return Table("", columns, tuple(rows)) if rows else None


def ranking(study: Study) -> Table:
    """(e): predictors against accuracies of networks trained alone."""
    columns = (
        Column("predictor"),
        Column("tau", "tau-b (95%)"),
        Column("within", "within strata (95%)"),
        Column("gain", f"over {FLOPS} (95%)"),
        Column("regret", "regret@1", spec=".2%"),
        Column("regret_within_budgets", "regret@1 within budgets", spec=".2%"),
    )
    rows = tuple(
        (
            name,
            plus(one.overall),
            plus(one.within),
            None if one.gain is None else plus(one.gain),
            one.regrets[1],
            one.regret_within_budgets,
        )
        for name, one in study.correlations.items()
    )
    agreement = seed_agreement(study.alone)
    notes = (
        ()
        if agreement is None
        else (f"tau-b between two seeds of these networks, mean of all pairs: {agreement:+.3f}.",)
    )
    return Table("", columns, rows, notes)


def curve(study: Study) -> Optional[Table]:
    """How the order by one supernet grows with its training."""
    if study.curve is None:
        return None
    columns = (
        Column("supernet"),
        Column("epochs"),
        Column("passes", "image passes", spec=","),
        Column("top1", "mean top-1", spec=".2%"),
        Column("tau", "tau-b (95%)"),
        Column("additive", "by an additive model of them"),
    )
    rows = []
    for name in study.curve.scores:
        run, _, file = name.partition("/")  # `RUN/epoch-4`, or RUN alone after its last epoch
        supernet = next(one for one in study.supernets if one.name == run)
        epochs = int(file.rpartition("-")[2]) if file else len(supernet.rows)
        found, additive = (study.curve.correlations[name + ending].overall for ending in ("", ADDITIVE))
        tops = np.array([row["top1"] for row in study.curve.scores[name]])
        passes = supernet.num_passes * epochs // len(supernet.rows)
        rows.append((run, epochs, passes, tops.mean(), plus(found), plus(additive)))
    count = len(study.curve.ranked.truth)
    flops = study.curve.correlations[FLOPS].overall
    return Table("", columns, tuple(sorted(rows)), (f"{count} networks, of which FLOPs order {plus(flops)}.",))


def searched(study: Study) -> Optional[Table]:
    """(f): searched against random networks of the same FLOPs."""
    if not study.searched:
        return None
    own = matched_table(study.searched, compare(study.searched))
    note = f"tau-b between two seeds of these networks, mean of all pairs: {seed_agreement(study.searched):+.3f}."
    return Table("", own.columns, own.rows, (note,))


def networks(study: Study) -> Optional[Table]:
    """Every network of (f)."""
    if not study.searched:
        return None
    seeds = sorted({row["seed"] for row in study.searched})
    columns = (
        Column("network"),
        millions("flops", "FLOPs"),
        millions("params", "params"),
        *(Column(f"seed_{seed}", f"seed {seed}", spec=".2%") for seed in seeds),
        Column("mean", spec=".2%"),
    )
    tops = {(architecture_of(row), row["seed"]): row["top1"] for row in study.searched}
    means, first = mean_top1(study.searched), first_rows(study.searched)
    rows = []
    for one in sorted(first, key=lambda one: (first[one]["group"] == RANDOM, -means[one])):
        each = (tops.get((one, seed)) for seed in seeds)
        rows.append((first[one]["group"], first[one]["flops"], first[one]["params"], *each, means[one]))
    return Table("", columns, tuple(rows))


def hours(study: Study) -> Table:
    """The command, the seed and the time of every row, where the time is in the logs."""
    columns = (Column("what"), Column("seed"), Column("command"), Column("hours", "hours of one core", spec=".2f"))
    rows: List[Tuple[str, Optional[str], str, Optional[float]]] = []
    driver = DRIVER_OF_OTHERS if study.is_of_others else DRIVER
    usual = {name: min(s.options[name] for s in study.supernets) for name in LENGTHS} if study.supernets else {}
    rows += [(s.name, str(s.seed), f"`{driver} supernet {flags_of(s, usual)}`", s.hours) for s in study.supernets]
    if study.is_of_others:
        rows.append(
            ("scores of all architectures", None, f"`{driver} ranking 2 runs/nas-bench-macro/supernets/*`", None)
        )
    rows += [
        (search.name, str(search.options["seed"]), f"`{DRIVER} search {search.options['seed']}`", search.hours)
        for search in study.searches
    ]
    for name, own, command in (
        ("networks of the ranking", [] if study.is_of_others else study.alone, "ranking 2 runs/study/supernets/*"),
        ("searched and random networks", study.searched, "searched 2"),
    ):
        if own:
            rows.append((name, seeds_of(own), f"`{DRIVER} {command}`", seconds_of(own) / SECONDS_OF_AN_HOUR))
    if study.strategies:
        rows.append(("strategies", study.strategies["seeds"], f"`{DRIVER} strategies`", None))
    if study.bn_rows:
        rows.append(("BatchNorm update", None, f"`{DRIVER} bn_update`", None))
    return Table("", columns, tuple(rows))


def flags_of(supernet: SupernetLog, usual: Mapping[str, int]) -> str:
    """What distinguishes a supernet's command from the others'.

    Args:
        usual: values of LENGTHS that the command has by itself.
    """
    options = supernet.options
    words = [supernet.name, "--seed", str(options["seed"])]
    for name, value in usual.items():
        if options[name] != value:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if options["reduced_dataset_scale"] != 1:
        words += ["--reduced-dataset-scale", str(options["reduced_dataset_scale"])]
    if options.get("initial_values", PUBLISHED) != PUBLISHED:
        words += ["--initial-values", options["initial_values"]]
    if options["sampling"] != "uniform":
        words += ["--sampling", options["sampling"]]
    if options["epoch_start_cs"] >= 0:
        words += ["--epoch-start-cs", str(options["epoch_start_cs"])]
    return " ".join(words + (["--cs-warm-up"] if options["cs_warm_up"] else []))


def seeds_of(rows: Sequence[Row]) -> str:
    return ", ".join(map(str, sorted({row["seed"] for row in rows})))


def seconds_of(rows: Sequence[Row]) -> float:
    """Of all networks together, each by one thread."""
    return sum(row["seconds"] for row in rows)


def plus(interval: Interval) -> str:
    return f"{interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def share(interval: Interval, sign: str = "") -> str:
    mean, low, high = (f"{value:{sign}.2%}" for value in interval)
    return f"{mean} ({low} to {high})"
