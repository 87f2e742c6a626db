"""The figures of a study (docs/study.md), from its logs alone."""

from __future__ import annotations

from typing import Callable, Dict, Optional

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from spos.core.intervals import student_interval
from spos.core.ranking import Ranked, kendall_tau
from spos.sampling.limits import MILLION
from spos.study.alone import first_rows, mean_top1
from spos.study.matched import RANDOM, group_means
from spos.study.rank import FLOPS, PARAMS, costs_of
from utils.plot.ranking import plot
from utils.plot.strategies import COLORS
from utils.plot.style import BLUE, DPI, GREY, ORANGE
from utils.study.logs import Row, Study, by_bn_count

THOUSAND = 1000
SHOWN_SEED = 0  # of each kind of supernet, in the figure of the ranking


def make_figures(study: Study) -> Dict[str, Figure]:
    """By the name of their file, without suffix; without those whose logs are not there yet."""
    makers: Dict[str, Callable[[Study], Optional[Figure]]] = {
        "supernets": supernets,
        "bn_update": bn_update,
        "strategies": strategies,
        "ranking": ranking,
        "searched": searched,
    }
    made = {name: make(study) for name, make in makers.items()}
    return {name: figure for name, figure in made.items() if figure is not None}


def supernets(study: Study) -> Figure:
    """Loss while training, and the accuracies that the supernets give to the same architectures."""
    figure = Figure(figsize=(10, 4), dpi=DPI)
    losses, tops = figure.subplots(1, 2)
    kinds = list(dict.fromkeys(supernet.kind for supernet in study.supernets))
    for supernet in study.supernets:
        colour = f"C{kinds.index(supernet.kind)}"
        passes = np.arange(1, len(supernet.rows) + 1) * supernet.num_passes / len(supernet.rows) / THOUSAND
        label = supernet.kind if supernet.seed == SHOWN_SEED else None
        losses.plot(passes, [row["loss"] for row in supernet.rows], color=colour, linewidth=1.2, label=label)
    losses.set_xlabel("thousand image passes")
    losses.set_ylabel("training loss of the sampled paths")
    losses.legend(fontsize=8)
    losses.set_ylim(top=2.25)
    names = [supernet.name for supernet in study.supernets if supernet.name in study.scores]
    values = [[row["top1"] for row in study.scores[name]] for name in names]
    tops.boxplot(values, medianprops={"color": ORANGE})
    tops.set_xticks(range(1, len(names) + 1), names, rotation=30, ha="right", fontsize=8)
    tops.set_ylabel("held-out top-1 of the same architectures", fontsize=9)
    tops.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (losses, tops):
        axes.grid(alpha=0.2)
    figure.tight_layout()
    return figure


def bn_update(study: Study) -> Optional[Figure]:
    """Accuracy and rank correlation by the number of images of the update."""
    counts = by_bn_count(study)
    if not counts:
        return None
    figure = Figure(figsize=(10, 3.8), dpi=DPI)
    tops, taus = figure.subplots(1, 2)
    places = np.arange(len(counts))
    tops.boxplot(list(counts.values()), positions=places, medianprops={"color": ORANGE})
    tops.set_ylabel("held-out top-1 of the architectures")
    tops.yaxis.set_major_formatter(PercentFormatter(1))
    truth = study.ranked.truth.tolist()
    taus.plot(places, [kendall_tau(own.tolist(), truth) for own in counts.values()], "o-", color=BLUE, label="supernet")
    baseline = study.correlations[FLOPS].overall.mean
    taus.axhline(baseline, color=GREY, linestyle="--", linewidth=1, label=f"{FLOPS} alone")
    taus.set_ylabel("tau-b with networks trained alone")
    taus.legend(fontsize=8)
    for axes in (tops, taus):
        axes.set_xticks(places, [f"{count:,}" if count else "none" for count in counts])
        axes.set_xlabel("images of the BatchNorm update")
        axes.grid(alpha=0.2)
    figure.tight_layout()
    return figure


def strategies(study: Study) -> Optional[Figure]:
    """Best so far of every strategy, and the mean of the seeds with its interval."""
    if study.strategies is None:
        return None
    figure = Figure(figsize=(7, 3.8), dpi=DPI)
    axes = figure.subplots()
    for name, found in study.strategies["searches"].items():
        mean = np.array(found["curve"])
        low, high = np.array(found["curve_interval"]).T
        evaluations = np.arange(1, len(mean) + 1)
        axes.plot(evaluations, mean, color=COLORS[name], linewidth=1.6, label=name)
        axes.fill_between(evaluations, low, high, color=COLORS[name], alpha=0.15, linewidth=0)
    shown = np.array([found["curve"] for found in study.strategies["searches"].values()])
    axes.set_ylim(bottom=float(shown[:, 4:].min()) - 0.005, top=float(shown.max()) + 0.012)
    axes.set_xlabel("architectures scored")
    axes.set_ylabel("best held-out top-1 so far,\nmean and 95% interval")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.grid(alpha=0.2)
    axes.legend(loc="lower right", fontsize=9)
    figure.tight_layout()
    return figure


def ranking(study: Study) -> Figure:
    """A supernet of each kind, and orders without one, beside the networks trained alone."""
    shown = [supernet.name for supernet in study.supernets if supernet.seed == SHOWN_SEED]
    keep = [name for name in study.ranked.predictors if name in (*shown, FLOPS, PARAMS)]
    ranked = study.ranked
    few = Ranked(ranked.truth, {name: ranked.predictors[name] for name in keep}, ranked.strata)
    return plot(few, study.correlations, costs_of(study.alone))


def searched(study: Study) -> Optional[Figure]:
    """Every network by its params, with its seeds; the mean of the random ones with its interval."""
    if not study.searched:
        return None
    figure = Figure(figsize=(8, 4.2), dpi=DPI)
    axes = figure.subplots()
    mean, low, high = student_interval([top1 for _, top1 in group_means(study.searched)[RANDOM]])
    axes.axhspan(low, high, color=GREY, alpha=0.15, linewidth=0, label="its 95% interval")
    axes.axhline(mean, color=GREY, linewidth=1.2, label="mean of the random networks")
    first = first_rows(study.searched)
    for row in study.searched:
        axes.plot(row["params"] / MILLION, row["top1"], ".", color=colour_of(row), alpha=0.5, markersize=5)
    for is_random, label, marker, size in ((True, "random", "o", 6), (False, "searched", "*", 13)):
        means = [(one, top1) for one, top1 in mean_top1(study.searched).items() if is_random == of_chance(first[one])]
        axes.plot(
            [first[one]["params"] / MILLION for one, _ in means],
            [top1 for _, top1 in means],
            marker,
            color=GREY if is_random else ORANGE,
            markersize=size,
            markeredgecolor="black",
            markeredgewidth=0.6,
            label=f"{label} network, mean of its seeds",
        )
    axes.set_xlabel("params (M)")
    axes.set_ylabel("test top-1, trained from scratch")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.2)
    axes.legend(fontsize=8)
    figure.tight_layout()
    return figure


def of_chance(row: Row) -> bool:
    return row["group"] == RANDOM


def colour_of(row: Row) -> str:
    return GREY if of_chance(row) else ORANGE
