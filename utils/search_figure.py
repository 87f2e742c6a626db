"""The figure of one or several searches, from their histories alone (docs/history.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spos.errors import InputError
from spos.records import HISTORY_FILE, read_rows
from spos.search_history import find_ties
from utils.figures import BLUE, DPI, GREY, ORANGE

X_AXES: Mapping[str, Tuple[str, str, float]] = {  # flag -> field of a row, label, unit
    "flops": ("flops", "FLOPs (M)", 1e6),
    "params": ("params", "params (M)", 1e6),
    "latency": ("latency_ms", "latency (ms)", 1.0),
}
NEEDED = ("evaluation", "iteration", "top1", "top1_interval", "flops", "params")
COLOURS = "viridis"  # of iterations


@dataclass(frozen=True)
class History:
    """All evaluations of a search."""

    name: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def scored(self) -> List[Mapping[str, Any]]:
        """The rows that saw all images. Only these are compared."""
        return [row for row in self.rows if not row.get("dropped")]

    @property
    def dropped(self) -> List[Mapping[str, Any]]:
        return [row for row in self.rows if row.get("dropped")]

    @property
    def best(self) -> Mapping[str, Any]:
        """The row of highest top-1; of equals, the first."""
        return max(self.scored, key=lambda row: (row["top1"], -row["evaluation"]))

    @property
    def ties(self) -> List[Mapping[str, Any]]:
        """The other rows whose interval overlaps the best's: the images cannot tell them apart."""
        return find_ties(self.scored, self.best)

    def best_so_far(self) -> Tuple[List[int], List[float]]:
        """(evaluations done, highest top-1 of them), up to the last evaluation."""
        tops = np.maximum.accumulate([row["top1"] for row in self.scored]).tolist()
        return [row["evaluation"] + 1 for row in (*self.scored, self.rows[-1])], [*tops, tops[-1]]

    def means(self) -> List[Tuple[int, int, float]]:
        """(first evaluation, last evaluation, mean top-1) of the scored rows of every iteration, counted from 1."""
        iterations: Dict[int, List[Mapping[str, Any]]] = {}
        for row in self.scored:
            iterations.setdefault(row["iteration"], []).append(row)
        return [
            (rows[0]["evaluation"] + 1, rows[-1]["evaluation"] + 1, float(np.mean([row["top1"] for row in rows])))
            for rows in iterations.values()
        ]

    def costs(self, x: str, rows: Sequence[Mapping[str, Any]]) -> List[float]:
        """A cost of rows in its unit. Raises InputError if a row does not tell it."""
        key, _, unit = X_AXES[x]
        if any(key not in row for row in self.rows):
            raise InputError(f"--x {x}: the history of {self.name} tells no {key}; search with --latency-table")
        return [row[key] / unit for row in rows]

    def front(self, x: str) -> Tuple[List[float], List[float]]:
        """(cost, top-1) of the scored rows that no other one beats in both, by rising cost."""
        points = sorted(zip(self.costs(x, self.scored), (-row["top1"] for row in self.scored)))
        front: List[Tuple[float, float]] = []
        for cost, minus_top1 in points:
            if not front or -minus_top1 > front[-1][1]:
                front.append((cost, -minus_top1))
        costs, tops = zip(*front)
        return list(costs), list(tops)

    def text(self, x: str) -> str:
        low, high = self.best["top1_interval"]
        dropped = f" ({len(self.dropped)} dropped early)" if self.dropped else ""
        return (
            f"{len(self.rows)} architectures{dropped}, best top-1 {self.best['top1']:.2%} (95% interval {low:.2%} to "
            f"{high:.2%}), {len(self.ties)} ties, {len(self.front(x)[0])} on the front"
        )


def load_history(path: Path) -> History:
    """From a run directory or the history in it. Raises InputError if it is not there, is empty or lacks fields."""
    file = path / HISTORY_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist; give a run directory of search_supernet.py or its {HISTORY_FILE}")
    history = History(file.resolve().parent.name, read_rows(file))
    for number, row in enumerate(history.rows, 1):
        missing = [key for key in NEEDED if key not in row]
        if missing:
            raise InputError(f"{file} line {number} is no row of a search: it lacks {', '.join(missing)}")
    if not history.scored:
        raise InputError(f"{file} holds no evaluation that saw all images")
    return history


def load_histories(paths: Sequence[Path]) -> List[History]:
    """All of them, each named after its folder, or by its path where two folders have one name."""
    histories = [load_history(path) for path in paths]
    names = [history.name for history in histories]
    return [
        replace(history, name=str(path)) if names.count(history.name) > 1 else history
        for path, history in zip(paths, histories)
    ]


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
    right.set_xlabel(X_AXES[x][1])
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
        cost, best["top1"], "*", color=ORANGE, markeredgecolor="black", markersize=13, label="highest top-1", zorder=5
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
