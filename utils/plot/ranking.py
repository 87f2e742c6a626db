"""Figure of rank correlations."""

from __future__ import annotations

from typing import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spos.core.intervals import Interval
from spos.core.ranking import Correlation, Ranked
from spos.sampling.limits import MILLION
from utils.plot.style import DPI


def plot(ranked: Ranked, correlations: Mapping[str, Correlation], costs: Mapping[str, np.ndarray]) -> Figure:
    """A panel for each predictor, a colour for each stratum."""
    names = [*(name for name in ranked.predictors if name not in costs), *costs]
    num_rows = -(-len(names) // 3)
    figure = Figure(figsize=(10, 3.4 * num_rows), dpi=DPI)
    panels = figure.subplots(num_rows, min(3, len(names)), squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names):
        is_cost = name in costs
        points = axes.scatter(
            ranked.predictors[name] / (MILLION if is_cost else 1),
            ranked.truth,
            c=ranked.strata + 1,
            cmap="viridis",
            s=18,
        )
        axes.set_title(f"{name}: tau-b {describe(correlations[name].overall)}", fontsize=9)
        axes.set_xlabel(f"{name} (M)" if is_cost else "top-1 by the supernet", fontsize=9)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        if not is_cost:
            axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.2)
    for axes in panels[:: min(3, len(names))]:
        axes.set_ylabel("top-1 trained alone", fontsize=9)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.tight_layout(rect=(0, 0, 0.93, 1))
    bar = figure.colorbar(points, cax=figure.add_axes((0.945, 0.15, 0.012, 0.7)), label="stratum of FLOPs")
    bar.set_ticks(sorted(set((ranked.strata + 1).tolist())))
    return figure


def describe(interval: Interval) -> str:
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"
