"""The figure of one or several searches, from their histories alone (docs/history.md)."""

from __future__ import annotations

from typing import Any, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spos.search.costs import COSTS
from spos.search.history import History
from utils.plot.style import BLUE, DPI, GREY, ORANGE

COLOURS = "viridis"  # of iterations


def plot_search(histories: Sequence[History], x: str) -> Figure:
    """Left in the order of evaluation, right against a cost."""
    figure = Figure(figsize=(11, 5.2), dpi=DPI)
    left, right = figure.subplots(1, 2, sharey=True)
    if len(histories) == 1:
        draw_one(figure, left, right, histories[0], x)
    else:
        draw_several(left, right, histories, x)
    left.set_ylabel("top-1 of the candidates")
    left.set_xlabel("evaluations")
    right.set_xlabel(COSTS[x].label)
    left.yaxis.set_major_formatter(PercentFormatter(1))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (left, right):
        axes.grid(alpha=0.2)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=2, frameon=False)
    figure.tight_layout()
    return figure


def draw_one(figure: Figure, left: Any, right: Any, history: History, x: str) -> None:
    """A colour for each iteration."""
    scored, dropped, best = history.scored, history.dropped, history.best
    iterations = [row["iteration"] for row in scored]
    style = {"c": iterations, "cmap": COLOURS, "s": 14, "linewidths": 0, "zorder": 2}
    left.scatter([row["evaluation"] + 1 for row in scored], [row["top1"] for row in scored], **style)
    points = right.scatter(history.costs(x, scored), [row["top1"] for row in scored], **style)
    faint = {"marker": "x", "color": GREY, "s": 12, "linewidths": 0.7, "alpha": 0.35, "zorder": 1}
    if dropped:
        tops = [row["top1"] for row in dropped]
        left.scatter([row["evaluation"] + 1 for row in dropped], tops, label="dropped early", **faint)
        right.scatter(history.costs(x, dropped), tops, **faint)
    left.step(*history.best_so_far(), where="post", color=ORANGE, linewidth=1.5, label="best so far", zorder=4)
    for i, (first, last, mean) in enumerate(history.means()):
        ends = [first - 0.5, last + 0.5]
        left.plot(ends, [mean, mean], color="black", linewidth=1.5, label=None if i else "mean of an iteration")
    draw_front(right, history, x, ORANGE, "not dominated")
    ties = history.ties
    if ties:
        ring = {"facecolors": "none", "edgecolors": GREY, "s": 34, "linewidths": 0.7, "zorder": 3}
        tops = [row["top1"] for row in ties]
        right.scatter(history.costs(x, ties), tops, label=f"ties with it ({len(ties)})", **ring)
    (cost,) = history.costs(x, [best])
    right.plot(
        cost, best["top1"], "*", color=ORANGE, markeredgecolor="black", markersize=13, label="the best", zorder=5
    )
    low, high = best["top1_interval"]
    right.axhspan(low, high, color=BLUE, alpha=0.1, linewidth=0, label="its 95% interval", zorder=0)
    bar = figure.colorbar(points, ax=right, label="iteration")
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()


def draw_several(left: Any, right: Any, histories: Sequence[History], x: str) -> None:
    """A colour for each search."""
    for i, history in enumerate(histories):
        colour, scored = f"C{i}", history.scored
        left.step(
            *history.best_so_far(), where="post", color=colour, linewidth=1.6, label=f"{history.name}, best so far"
        )
        tops = [row["top1"] for row in scored]
        right.scatter(history.costs(x, scored), tops, color=colour, s=9, alpha=0.35, linewidths=0)
        draw_front(right, history, x, colour, f"{history.name}, not dominated")
    point = Line2D([], [], color=GREY, marker="o", markersize=4, linestyle="", alpha=0.5, label="an architecture")
    right.add_line(point)


def draw_front(axes: Any, history: History, x: str, colour: str, label: str) -> None:
    costs, tops = history.front(x)
    axes.step(costs, tops, where="post", color=colour, linewidth=1.2, label=label, zorder=3)
    axes.plot(costs, tops, ".", color=colour, markersize=5, zorder=3)
