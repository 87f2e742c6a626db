"""Truth that others measured: accuracies of trained networks from a table, in place of training them here."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from msgspec import Meta, Struct
from typing_extensions import Annotated

from spos.core.errors import InputError
from spos.core.flags import flag
from spos.core.ranking import draw_stratified
from spos.core.seeds import derive_rng
from spos.runs.files import check_shape, read_json, read_text, shortened
from spos.space.architecture import Architecture, choices_of, parse_choices
from spos.space.cost import cost_table
from spos.space.space import SearchSpace
from spos.study.flags import RankingOptions

PERCENT = 100.0
Percents = Annotated[List[Annotated[float, Meta(ge=0, le=100)]], Meta(min_length=1, max_length=1000)]
Truth = Dict[Architecture, List[float]]  # accuracies of the seeds, fractions


class BenchEntry(Struct):
    """What NAS-Bench-Macro says of a network (arXiv:2103.11922): accuracies in percent, one for each seed."""

    test_acc: Percents
    flops: int
    params: int


class OwnEntry(Struct, forbid_unknown_fields=True):
    """A row of a table of one's own: `top1` is a fraction, one for each seed. Widths are the widest by default."""

    block_choices: List[int]
    top1: Annotated[List[Annotated[float, Meta(ge=0, le=1)]], Meta(min_length=1, max_length=1000)]
    channel_choices: List[int] = []


def read_nas_bench_macro(path: str, space: SearchSpace) -> Iterator[Tuple[Architecture, List[float]]]:
    """The published JSON: digits are block choices. Its FLOPs and params must be those of the space."""
    entries = check_shape(read_json(path), path, Dict[str, BenchEntry])
    table = cost_table(space)
    for digits, entry in entries.items():
        if not digits.isdigit():
            raise InputError(f"{path}: {shortened(digits)} is not written in digits")
        architecture = space.validate(_widest(space, map(int, digits)), f"{path}: {digits}")
        cost = table.cost(architecture)
        if (entry["flops"], entry["params"]) != tuple(cost):
            raise InputError(
                f"{path}: network {digits} has {entry['flops']} FLOPs and {entry['params']} params, in space "
                f"'{space.layout}' {cost.macs} and {cost.params}: it is of another space"
            )
        yield architecture, [accuracy / PERCENT for accuracy in entry["test_acc"]]


def read_table(path: str, space: SearchSpace) -> Iterator[Tuple[Architecture, List[float]]]:
    """A table of one's own: JSON, a list of objects as `OwnEntry`, or CSV with the same columns, lists by blanks."""
    if path.endswith(".csv"):
        entries = [_from_csv(row, path) for row in csv.DictReader(StringIO(read_text(path)))]
    else:
        entries = read_json(path)
    check_shape(entries, path, List[OwnEntry])
    for number, entry in enumerate(entries, 1):
        architecture = _widest(space, entry["block_choices"])
        if entry.get("channel_choices"):
            architecture = replace(architecture, channel_choices=tuple(entry["channel_choices"]))
        yield space.validate(architecture, f"{path}, row {number}"), entry["top1"]


def _widest(space: SearchSpace, block_choices: Iterable[int]) -> Architecture:
    """Not checked, for these choices may be of another space."""
    return Architecture(tuple(block_choices), tuple(len(choices.channel_scales) - 1 for choices in space.choices))


def _from_csv(row: Mapping[str, Any], path: str) -> Dict[str, Any]:
    missing = [name for name in ("block_choices", "top1") if not row.get(name)]
    if missing:
        raise InputError(
            f"{path}: a row lacks {' and '.join(missing)}; columns are block_choices, channel_choices, top1"
        )
    try:
        top1 = [float(word) for word in row["top1"].split()]
    except ValueError:
        raise InputError(f"{path}: top1 {shortened(row['top1'])} must be fractions, one for each seed") from None
    channels = parse_choices(row.get("channel_choices") or "", "channel_choices")
    return {
        "block_choices": list(parse_choices(row["block_choices"], "block_choices")),
        "channel_choices": list(channels),
        "top1": top1,
    }


FORMATS: Dict[str, Callable[[str, SearchSpace], Iterator[Tuple[Architecture, List[float]]]]] = {
    "table": read_table,
    "nas-bench-macro": read_nas_bench_macro,
}


@dataclass(frozen=True)
class TruthOptions:
    """Accuracies that others measured, in place of networks that are trained alone."""

    truth: str = flag("", "file of accuracies; then nothing is trained, and no recipe stands behind --")
    truth_format: str = flag(
        "table", "of that file: JSON or CSV of your own (docs/searching.md), or as published", choices=tuple(FORMATS)
    )


def read_truth(options: TruthOptions, space: SearchSpace) -> Truth:
    """Raises: InputError if the file is no table, or not of this space, or says something twice."""
    truth: Truth = {}
    for architecture, accuracies in FORMATS[options.truth_format](options.truth, space):
        if architecture in truth:
            raise InputError(f"{options.truth} has {architecture} twice")
        truth[architecture] = accuracies
    counts = {len(accuracies) for accuracies in truth.values()}
    if len(counts) > 1:
        raise InputError(f"{options.truth}: networks have {min(counts)} to {max(counts)} accuracies; all need the same")
    return truth


def rows_of(truth: Truth, options: RankingOptions, space: SearchSpace) -> List[Dict[str, Any]]:
    """Rows as of networks trained alone (`spos.study.alone`): `num_architectures` of the table, by strata of FLOPs."""
    rng, table = derive_rng(options.seed, "strata"), cost_table(space)
    entries: Sequence[Architecture] = list(truth)
    pool = [entries[i] for i in rng.permutation(len(entries)).tolist()]
    architectures, strata = draw_stratified(
        lambda count: pool[:count],
        lambda architecture: table.cost(architecture).macs,
        options.num_architectures,
        options.strata,
        len(pool),
    )
    return [
        {**choices_of(architecture), "seed": seed, "top1": top1, "stratum": stratum, **_cost(table.cost(architecture))}
        for architecture, stratum in zip(architectures, strata)
        for seed, top1 in enumerate(truth[architecture])
    ]


def _cost(cost: Any) -> Dict[str, int]:
    return {"flops": cost.macs, "params": cost.params}
