"""Recipes of training on one network: a baseline, and variants that add flags to it, each with the same seeds."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from statistics import median
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.core.flags import with_hyphens
from spos.core.intervals import Interval, student_interval
from spos.core.tables import Column, Table
from spos.data.flags import HOLDOUT
from spos.space.architecture_file import ArchitectureRecord
from spos.study.alone import Network, check_recipe
from spos.study.flags import RecipeOptions, check_seeds

BASELINE = "baseline"
MEASURED = ("--train-on", "train", "--val-on", HOLDOUT)  # nothing is chosen by test images
NAME = re.compile(r"[\w.+-]+")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """A name, and the flags of `train_imagenet.py` that it adds to the recipe of all."""

    name: str
    flags: Tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Variant:
        """From `NAME: FLAGS`. Raises: InputError if that is malformed, or sets what is the same for all."""
        name, colon, flags = text.partition(":")
        try:
            words = tuple(shlex.split(flags))
        except ValueError as error:
            raise InputError(f"--variant {text!r}: {error}") from None
        if not colon or not words or not NAME.fullmatch(name) or name == BASELINE:
            raise InputError(f"--variant must be like 'ema: --ema-decay 0.999', not {text!r}")
        check_flags(words)
        return cls(name, words)


def check_flags(words: Sequence[str]) -> None:
    """Raise InputError if flags of a recipe are missing, or set what belongs to a network or to all of them."""
    check_recipe(words)
    fixed = [word for word in with_hyphens(words) if word.partition("=")[0] in MEASURED[::2]]
    if fixed:
        raise InputError(f"{fixed[0]} is set for all recipes, which are compared on held-out images; leave it out")


def plan(record: ArchitectureRecord, variants: Sequence[Variant], options: RecipeOptions) -> List[Network]:
    """The trainings: all variants with the first seed, the baseline first, then all with the next."""
    check_seeds(options.seeds)
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise InputError(f"a --variant is given twice: {', '.join(names)}")
    return [
        Network(record.architecture, seed, variant=variant.name, flags=variant.flags)
        for seed in range(options.seed, options.seed + options.seeds)
        for variant in (Variant(BASELINE), *variants)
    ]


@dataclass(frozen=True)
class Compared:
    """What a variant was worth.

    Attributes:
        top1: mean over the seeds, of the averaged weights where there are.    gain: over the baseline, paired by seed.
        time: of an image in training, in that of the baseline; the median over the seeds. None if no log tells it.
    """

    variant: Variant
    top1: Interval
    gain: Optional[Interval]
    time: Optional[float]
    num_images: int


def compare(rows: Sequence[Row], variants: Sequence[Variant]) -> List[Compared]:
    """The baseline first. Raises: InputError if two recipes were not measured on equally many images."""
    counts = {row["num_images"] for row in rows}
    if len(counts) > 1:
        raise InputError(f"these recipes were measured on different numbers of images: {sorted(counts)}")
    tops, speeds = (_by_variant(rows, value) for value in (counted_top1, lambda row: row.get("images_per_second")))
    result = []
    for variant in (Variant(BASELINE), *variants):
        gains = [top1 - other for top1, other in zip(tops[variant.name], tops[BASELINE])]
        gain = None if variant.name == BASELINE else student_interval(gains)
        ratios = [other / own for own, other in zip(speeds[variant.name], speeds[BASELINE]) if own and other]
        time = median(ratios) if ratios else None
        result.append(Compared(variant, student_interval(tops[variant.name]), gain, time, *counts))
    return result


def counted_top1(row: Row) -> float:
    """The accuracy that a recipe has reached: of the averaged weights, if it averages."""
    return row["ema_top1"] if "ema_top1" in row else row["top1"]


def _by_variant(rows: Sequence[Row], value: Any) -> Dict[str, List[float]]:
    found: Dict[str, List[float]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        found.setdefault(row["variant"], []).append(value(row))
    return found


def recipes_table(compared: Sequence[Compared], num_seeds: int) -> Table:
    """A row for each recipe."""
    columns = (
        *(Column("recipe"), Column("flags")),
        *(Column(name, title, spec=".2%") for name, title in (("top1", "top-1"), ("low", "95% from"), ("high", "to"))),
        Column("gain", "over the baseline", spec="+.2%"),
        *(Column(f"gain_{name}", title, spec="+.2%") for name, title in (("low", "95% from"), ("high", "to"))),
        Column("time", "time of an image", spec=".2f"),
    )
    lines = tuple(
        (
            *(one.variant.name, " ".join(one.variant.flags) or None),
            *one.top1,
            *(one.gain or (None, None, None)),
            one.time,
        )
        for one in compared
    )
    notes = (
        f"Top-1 on {compared[0].num_images} held-out images, mean of {num_seeds} seeds; gains are paired by seed. "
        "Intervals are Student's t. Time is in that of the baseline's training with the same seed, the median.",
    )
    return Table("", columns, lines, notes)
