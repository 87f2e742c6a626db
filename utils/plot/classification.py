"""Figures of what a network gets right and wrong: confusion matrix, calibration, and the images it is most wrong on."""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np
from matplotlib.figure import Figure

from spos.deploy.classification import NUM_BINS, Predictions, name_of
from utils.plot.style import BLUE, DPI, GREY, ORANGE

MOST_NAMED = 30  # classes whose names and numbers fit
SHEET_COLUMNS = 8
LONGEST_NAME = 18


def confusion_figure(predictions: Predictions, names: Sequence[str] = ()) -> Figure:
    """Shares of the images of a class (row) that are taken for another (column)."""
    counts, n = predictions.confusion, predictions.num_classes
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(4 + 0.45 * n, 12) if n <= MOST_NAMED else 10
    figure = Figure(figsize=(side + 1, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if n <= MOST_NAMED:
        labels = [_short(name_of(i, names)) for i in range(n)]
        axes.set_xticks(range(n), labels, rotation=60 if names else 0, ha="right" if names else "center")
        axes.set_yticks(range(n), labels)
        for i, j in zip(*np.nonzero(counts)):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=8)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.set_label("share of the class")
    return figure


def calibration_figure(predictions: Predictions) -> Figure:
    """Reliability diagram: how often predictions are right, by how sure they are; below, how many there are."""
    figure = Figure(figsize=(5.4, 5.8), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    bins = predictions.bins
    upper.plot((0, 1), (0, 1), "--", color=GREY, linewidth=1, label="perfect")
    upper.plot(
        [one.confidence for one in bins],
        [one.top1 for one in bins],
        "o-",
        color=ORANGE,
        label=f"this network (ECE {predictions.calibration_error:.2%})",
    )
    upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(loc="upper left", frameon=False)
    upper.grid(alpha=0.3)
    lower.bar([one.confidence for one in bins], [one.num_images for one in bins], 0.8 / NUM_BINS, color=BLUE)
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="images")
    lower.grid(alpha=0.3, axis="y")
    return figure


def contact_sheet(
    pixels: Sequence[np.ndarray], chosen: np.ndarray, predictions: Predictions, names: Sequence[str] = ()
) -> Figure:
    """Images with what they are, what they were taken for, and how surely.

    Args:
        pixels: (S, S, 3) RGB of each of `chosen`, indices of `predictions`.
    """
    columns = min(SHEET_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(1.55 * columns, 1.95 * rows), dpi=DPI, layout="constrained")
    grid: List[Any] = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel().tolist()
    confidence = np.exp(predictions.log_probabilities.max(1))
    for axes in grid:
        axes.set_axis_off()
    for axes, image, index in zip(grid, pixels, chosen.tolist()):
        axes.imshow(image, interpolation="nearest")
        truth, taken = (name_of(int(own[index]), names) for own in (predictions.labels, predictions.predicted))
        verdict = f"taken for {_short(taken)}" if truth != taken else "recognised"
        axes.set_title(f"{_short(truth)}\n{verdict}, {confidence[index]:.0%}", fontsize=7)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
