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
from spos.runs.schema import Choosing, Count, Share
from spos.space.architecture import Architecture, choices_of, parse_choices
from spos.space.cost import cost_table
from spos.space.space import SearchSpace
from spos.study.flags import RankingOptions

PERCENT = 100.0
TRUTH_FILE = "truth.jsonl"  # rows of the networks that were taken from a table
Percents = Annotated[List[Annotated[float, Meta(ge=0, le=100)]], Meta(min_length=1, max_length=1000)]
Truth = Dict[Architecture, List[float]]  # accuracies of the seeds, fractions


class TruthRow(Choosing, kw_only=True):
    """A row of `truth.jsonl`: an accuracy of a network that others trained, as `AloneRow` is of one trained here."""

    top1: Share
    seed: Count
    flops: Count
    params: Count
    stratum: Count


class BenchEntry(Struct):
    """What NAS-Bench-Macro says of a network (arXiv:2103.11922): accuracies in percent, one for each seed."""

    test_acc: Percents
    flops: int
    params: int


class ChannelEntry(Struct):
    """What Channel-Bench-Macro says of a network: accuracies in percent, one for each seed."""

    acc: Percents


class OwnEntry(Struct, forbid_unknown_fields=True):
    """A row of a table of one's own: `top1` is a fraction, one for each seed. Widths are the widest by default."""

    block_choices: Annotated[List[int], Meta(min_length=1)]
    top1: Annotated[List[Annotated[float, Meta(ge=0, le=1)]], Meta(min_length=1, max_length=1000)]
    channel_choices: List[int] = []


def read_nas_bench_macro(path: str, space: SearchSpace) -> Iterator[Tuple[Architecture, List[float]]]:
    """The published JSON: digits are block choices. Its FLOPs and params must be those of the space."""
    entries = check_shape(read_json(path), path, Dict[str, BenchEntry])
    table = cost_table(space)
    for digits, entry in entries.items():
        check_digits(digits, path)
        architecture = space.validate(_widest(space, map(int, digits)), f"{path}: {digits}")
        cost = table.cost(architecture)
        if (entry["flops"], entry["params"]) != tuple(cost):
            raise InputError(
                f"{path}: network {digits} has {entry['flops']} FLOPs and {entry['params']} params, in space "
                f"'{space.layout}' {cost.macs} and {cost.params}: it is of another space"
            )
        yield architecture, _fractions(entry["test_acc"])


def check_digits(name: str, path: str) -> None:
    """Raise InputError unless the name of a network is its choices, a digit each."""
    if not (name.isascii() and name.isdigit()):
        raise InputError(f"{path}: {shortened(name)} is not written in digits")


def read_table(path: str, space: SearchSpace) -> Iterator[Tuple[Architecture, List[float]]]:
    """A table of one's own: JSON, a list of objects as `OwnEntry`, or CSV with the same columns, lists by blanks."""
    for number, entry in enumerate(_own_entries(path), 1):
        architecture = _widest(space, entry["block_choices"])
        if entry.get("channel_choices"):
            architecture = replace(architecture, channel_choices=tuple(entry["channel_choices"]))
        yield space.validate(architecture, f"{path}, row {number}"), entry["top1"]


def _own_entries(path: str) -> List[Dict[str, Any]]:
    if path.endswith(".csv"):
        entries = [_from_csv(row, path) for row in csv.DictReader(StringIO(read_text(path)))]
    else:
        entries = read_json(path)
    return list(check_shape(entries, path, List[OwnEntry]))


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


def digits_of_blocks(path: str) -> Iterator[Tuple[Architecture, List[float]]]:
    """NAS-Bench-Macro without its space: digits are block choices."""
    for digits, entry in check_shape(read_json(path), path, Dict[str, BenchEntry]).items():
        check_digits(digits, path)
        yield Architecture(tuple(map(int, digits)), (0,) * len(digits)), _fractions(entry["test_acc"])


def digits_of_widths(path: str) -> Iterator[Tuple[Architecture, List[float]]]:
    """Channel-Bench-Macro: digits are channel choices."""
    for digits, entry in check_shape(read_json(path), path, Dict[str, ChannelEntry]).items():
        check_digits(digits, path)
        yield Architecture((0,) * len(digits), tuple(map(int, digits))), _fractions(entry["acc"])


def choices_in_table(path: str) -> Iterator[Tuple[Architecture, List[float]]]:
    """A table of one's own without a space: if no channel choices are given, there are none to choose.

    Raises: InputError if only some rows give them, for the widest is not known without the space.
    """
    entries = _own_entries(path)
    widths = [bool(entry.get("channel_choices")) for entry in entries]
    if any(widths) and not all(widths):
        raise InputError(
            f"{path}, row {widths.index(False) + 1} has no channel_choices, others have; without a space the widest is "
            "not known: write them in every row, or in none"
        )
    for entry in entries:
        blocks = tuple(entry["block_choices"])
        yield Architecture(blocks, tuple(entry.get("channel_choices") or (0,) * len(blocks))), entry["top1"]


def _fractions(percents: Iterable[float]) -> List[float]:
    return [accuracy / PERCENT for accuracy in percents]


TABLES: Dict[str, Callable[[str], Iterator[Tuple[Architecture, List[float]]]]] = {
    "nas-bench-macro": digits_of_blocks,
    "channel-bench-macro": digits_of_widths,
    "csv": choices_in_table,
}


def read_accuracies(path: str, table_format: str) -> Truth:
    """All of a published table, or of one of one's own (CSV or JSON), whatever space it is of.

    Raises: InputError if the file is no such table, or says something twice.
    """
    truth = _different(TABLES[table_format](path), path)
    shapes = {(len(one.block_choices), len(one.channel_choices)) for one in truth}
    if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
        raise InputError(f"{path}: networks have {' and '.join(map(str, sorted(shapes)))} choices; all need as many")
    if min(choice for one in truth for choice in one.genes) < 0:
        raise InputError(f"{path}: choices are numbered from 0")
    return truth


@dataclass(frozen=True)
class TruthOptions:
    """Accuracies that others measured, in place of networks that are trained alone."""

    truth: str = flag("", "file of accuracies; then nothing is trained, and no recipe stands behind --")
    truth_format: str = flag(
        "table", "of that file: JSON or CSV of your own (docs/searching.md), or as published", choices=tuple(FORMATS)
    )


def read_truth(options: TruthOptions, space: SearchSpace) -> Truth:
    """Raises: InputError if the file is no table, or not of this space, or says something twice."""
    return _different(FORMATS[options.truth_format](options.truth, space), options.truth)


def _different(entries: Iterable[Tuple[Architecture, List[float]]], path: str) -> Truth:
    truth: Truth = {}
    for architecture, accuracies in entries:
        if architecture in truth:
            raise InputError(f"{path} has {architecture} twice")
        truth[architecture] = accuracies
    counts = {len(accuracies) for accuracies in truth.values()}
    if len(counts) > 1:
        raise InputError(f"{path}: networks have {min(counts)} to {max(counts)} accuracies; all need the same")
    if not truth:
        raise InputError(f"{path} holds no network")
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
