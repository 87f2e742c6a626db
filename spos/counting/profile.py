"""The MicroNet profile of an architecture as tables: block by block or operator by operator, and its scores."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from spos.core.tables import Column, Table, millions
from spos.counting.micronet import (
    BASE_OPERATIONS,
    BASE_PARAMS,
    PRECISIONS,
    Operations,
    Profile,
    micronet_score,
    profile,
    sum_of,
)
from spos.space.architecture import Architecture
from spos.space.architecture_file import load_architecture
from spos.space.published import (
    MICRONET_PROJECT,
    MICRONET_SCORES,
    PROFILE_ROWS,
    PROFILED,
    PROJECT,
    PublishedMicroNetScore,
    agrees,
)
from spos.space.space import SearchSpace

LEVELS = ("block", "operator")
MILLION = 1e6

CONVENTION = (
    "MicroNet convention: an output of a convolution that sums n products is n multiplies and n - 1 adds, with a bias "
    "one add and one param more; BatchNorm is merged and free; an element of ReLU is 1 multiply, of ReLU6 2, of hard- "
    "swish 3 and 1 add, of SE's hard sigmoid 2 and 1 add, of a sum of branches 1 add, SE's scaling is free; global "
    "pooling is 1 multiply a channel and H x W - 1 adds; a channel shuffle is a sparse 1x1 convolution: C x H x W "
    "multiplies, C + C x C / 16 params (one bit a mask entry, 16 of them a param). Convolutions, ReLU, ReLU6 and sums "
    "are quantizable."
)

COST_COLUMNS = (
    millions("params", "params"),
    millions("mults", "mults"),
    millions("adds", "adds"),
    Column("operations", "MFLOPs", scale=MILLION, spec=".3f"),
)
PLACE_COLUMNS = (
    Column("quantizable"),
    Column("in_size", "input"),
    Column("kernel_size", "kernel"),
    Column("in_channels", "C in"),
    Column("out_channels", "C out"),
)
COLUMNS = {
    "block": (Column("row"), Column("block"), *PLACE_COLUMNS, *COST_COLUMNS),
    "operator": (Column("row"), Column("block"), Column("operator"), *PLACE_COLUMNS, *COST_COLUMNS),
}
SCORE_COLUMNS = (
    Column("precision"),
    Column("operations", "MFLOPs", scale=MILLION, spec=".3f"),
    millions("params", "params"),
    Column("score", spec=".4f"),
    Column("published_operations", "published MFLOPs"),
    Column("published_params", "published params", "M"),
    Column("published_score", "published score"),
)


def profile_tables(name: str, space: SearchSpace, architecture: Architecture, level: str) -> List[Table]:
    """The profile at a level of `LEVELS` with its totals, and the scores that follow from it."""
    counted, is_published = profile(space, architecture), is_profiled(space, architecture)
    notes = [CONVENTION]
    if is_published and level == "block":
        notes.append(_differences(counted))
    title = f"Profile of {name}, 3 x {space.input_size} x {space.input_size}, {space.num_classes} classes"
    table = Table(title, COLUMNS[level], _rows(counted, level), tuple(notes), _totals(counted, level))
    return [table, score_table(counted, is_published)]


def profile_json(space: SearchSpace, architecture: Architecture, level: str) -> Dict[str, Any]:
    """The same for machines. Scores are by the names of `PRECISIONS`."""
    counted = profile(space, architecture)
    totals = {"quantizable": counted.total(True), "not_quantizable": counted.total(False), "all": counted.total()}
    scores = {precision.name: micronet_score(counted, precision) for precision in PRECISIONS}
    return {
        "level": level,
        "rows": Table("", COLUMNS[level], _rows(counted, level)).records(),
        "totals": {key: {**total._asdict(), "operations": total.operations} for key, total in totals.items()},
        "scores": {
            key: {"operations": float(own.operations), "params": float(own.params), "score": own.score}
            for key, own in scores.items()
        },
        "convention": CONVENTION,
    }


def score_table(counted: Profile, is_published: bool = False) -> Table:
    """MicroNet scores in every precision, beside the published ones if the profile is that of `PROFILED`."""
    rows, wrong = [], []
    for precision in PRECISIONS:
        own = micronet_score(counted, precision)
        values = (float(own.operations), float(own.params), own.score)
        printed = MICRONET_SCORES.get(precision.name) if is_published else None
        rows.append((precision.name, *values, *(printed or (None,) * len(PublishedMicroNetScore._fields))))
        if printed:
            shown = (values[0] / MILLION, values[1] / MILLION, values[2])
            wrong += [f"{text} ({precision.name})" for value, text in zip(shown, printed) if not agrees(value, text)]
    notes = [
        f"Score: operations / {BASE_OPERATIONS / MILLION:g} M + params / {BASE_PARAMS / MILLION:g} M "
        "(MobileNetV2-1.4); what has b bits counts b / 32. Rules: MicroNet challenge, NeurIPS 2019.",
        *(f"{precision.name}: {precision.meaning}." for precision in PRECISIONS),
    ]
    if wrong:
        notes.append(f"Published: {MICRONET_PROJECT}. Printed figures that do not follow: {', '.join(wrong)}.")
    num_columns = len(SCORE_COLUMNS) if is_published else len(SCORE_COLUMNS) - len(PublishedMicroNetScore._fields)
    cut = tuple(row[:num_columns] for row in rows)
    return Table("MicroNet scores", SCORE_COLUMNS[:num_columns], cut, tuple(notes))


def is_profiled(space: SearchSpace, architecture: Architecture) -> bool:
    """Whether this is the network whose profile is published."""
    record = load_architecture(PROFILED)
    return architecture == record.architecture and space == record.space


def _rows(counted: Profile, level: str) -> Tuple[Tuple[Any, ...], ...]:
    if level == "block":
        return tuple((i, *_place(row), *_costs(row.cost)) for i, row in enumerate(counted.rows, 1))
    return tuple(
        (i, row.name, *_place(operator), *_costs(operator.cost))
        for i, row in enumerate(counted.rows, 1)
        for operator in row.operators
    )


def _place(item: Any) -> Tuple[Any, ...]:
    """Name, quantizable or not, and sizes of a row or an operator."""
    words = {True: "yes", False: "no", None: "mixed"}
    quantizable = None if item.cost == sum_of(()) else words[item.quantizable]
    return item.name, quantizable, item.in_size, item.kernel_size, item.in_channels, item.out_channels


def _costs(cost: Operations) -> Tuple[int, ...]:
    return (*cost, cost.operations)


def _totals(counted: Profile, level: str) -> Tuple[Tuple[Any, ...], ...]:
    blank = (None,) * (len(COLUMNS[level]) - len(COST_COLUMNS) - 2)
    kinds: Tuple[Tuple[str, Optional[bool]], ...] = (("quantizable", True), ("not quantizable", False), ("total", None))
    return tuple((None, name, *blank, *_costs(counted.total(kind))) for name, kind in kinds)


def _differences(counted: Profile) -> str:
    """Which rows of the published table are not the sums of their operators, and why."""
    differing, largest, sizes = [], 0.0, []
    for number, (row, printed) in enumerate(zip(counted.rows, PROFILE_ROWS), 1):
        values = _costs(row.cost)
        if tuple(column.text(value) for column, value in zip(COST_COLUMNS, values)) != printed.figures:
            differing.append(str(number))
            largest = max(
                largest, *(abs(value / MILLION - float(text)) for value, text in zip(values, printed.figures))
            )
        if row.out_channels != printed.out_channels:
            sizes.append(f" Row {number} has {row.out_channels} output channels, printed {printed.out_channels}.")
    return (
        f"Published ({PROJECT}): the same totals. Its rows {', '.join(differing)} differ from these by up to "
        f"{largest:.3f} M, because they add up operators that were rounded to 0.001 M before.{''.join(sizes)}"
    )
