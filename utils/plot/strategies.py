"""Figure of search strategies compared."""

from __future__ import annotations

from typing import Mapping

import numpy as np
from matplotlib.figure import Figure

from spos.study.strategies import BASELINE, Result
from utils.plot.style import BLUE, DPI, GREEN, GREY, ORANGE

COLORS = {"genetic": BLUE, "spos": ORANGE, "surrogate": GREEN, BASELINE: GREY}


def plot(results: Mapping[str, Result]) -> Figure:
    """Mean best fitness so far over the evaluations; bands are the intervals."""
    figure = Figure(figsize=(7, 4.2), dpi=DPI)
    axes = figure.subplots()
    for name, result in results.items():
        mean, low, high = np.array(result.curve).T
        evaluations = np.arange(1, len(mean) + 1)
        axes.plot(evaluations, mean, color=COLORS[name], linewidth=1.6, label=name)
        axes.fill_between(evaluations, low, high, color=COLORS[name], alpha=0.2, linewidth=0)
    regret = results[BASELINE].regret
    if regret is not None:
        optimum = results[BASELINE].best.mean + regret.mean
        label = "upper bound of the optimum" if results[BASELINE].is_bound else "optimum"
        axes.axhline(optimum, color="black", linestyle="--", linewidth=1, label=f"{label}, mean over seeds")
    axes.set_xlabel("architectures scored")
    axes.set_ylabel("best fitness so far, mean and 95% interval")
    axes.grid(alpha=0.2)
    axes.legend(loc="lower right", fontsize=9)
    figure.tight_layout()
    return figure
