"""The figure of a search space in the plane of FLOPs and params: density, what is reachable, what is published."""

from __future__ import annotations

from typing import Any, List

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke

from spos.core.errors import InputError
from spos.core.flags import not_negative, pick, positive
from spos.core.seeds import derive_rng
from spos.core.tables import table
from spos.counting.distribution import PERCENTS, Distribution, Spread, sample_costs
from spos.sampling.limits import MILLION
from spos.space.cost import COMPARISON_MODELS, cost_table
from spos.space.flags import ComparisonOptions, SpaceOptions, fit, space_of
from spos.space.space import SearchSpace
from utils.plot.style import (
    BLUE,
    DPI,
    GREY,
    ORANGE,
    FigureParser,
    draw_published_architectures,
    is_like_published,
    save,
)

NUM_DIRECTIONS = 720  # in which the rim of the reachable costs is looked for
NUM_BINS = 60  # of each histogram


def distribution(argv: List[str]) -> int:
    """Density of a search space in the plane of FLOPs and params, with what is reachable and what is published."""
    parser = FigureParser(distribution.__doc__, (SpaceOptions, ComparisonOptions), "distribution.png")
    parser.add_argument("--samples", type=positive, default=20_000, help="architectures drawn [%(default)s]")
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of the sampling [%(default)s]")
    args = parser.parse_args(argv)
    space_options, comparison = pick(SpaceOptions, args), pick(ComparisonOptions, args)
    space = fit(space_of(space_options), space_options)
    if space.num_architectures == 1:
        raise InputError(f"space {space.layout} has one architecture only; calculate_flops.py counts it")
    costs = sample_costs(space, args.samples, derive_rng(args.seed, "distribution"))
    summary = Distribution.of(space, costs, comparison.comparison_model)
    save(plot_distribution(space, costs, summary), args.output)
    rows = [
        ("architectures", f"{summary.num_architectures:.3g}, {summary.num_samples} drawn"),
        ("FLOPs", describe(summary.flops)),
        ("params", describe(summary.params)),
        ("correlation", "none" if summary.correlation is None else f"{summary.correlation:.3f}"),
        ("figure", args.output),
    ]
    print(table(rows))
    return 0


def describe(spread: Spread) -> str:
    """One line: what is exact, then quantiles of the sample."""
    smallest, largest, mean, std = (
        value / MILLION for value in (spread.smallest, spread.largest, spread.mean, spread.std)
    )
    low, middle, high = (spread.quantiles[PERCENTS.index(percent)] / MILLION for percent in (5, 50, 95))
    return (
        f"{smallest:.3f} to {largest:.3f} M, mean {mean:.3f} M, standard deviation {std:.3f} M; "
        f"drawn: 5% below {low:.3f} M, median {middle:.3f} M, 5% above {high:.3f} M"
    )


def reachable_hull(space: SearchSpace) -> np.ndarray:
    """Costs (MACs, params) around the convex hull of all architectures', counterclockwise, (corners, 2).

    What lies farthest in a direction is the sum of what lies farthest in each choice block. So every corner is the
    cost of an architecture; corners between NUM_DIRECTIONS directions are left out.
    """
    table = cost_table(space)
    smallest, largest = table.range()
    angles = np.arange(NUM_DIRECTIONS) * 2 * np.pi / NUM_DIRECTIONS
    span = np.maximum(np.subtract(largest, smallest), 1)
    directions = np.stack([np.cos(angles), np.sin(angles)]) / span[:, None]  # (2, directions)
    corners = np.array(table.fixed) + sum(block[(block @ directions).argmax(0)] for block in table.choice_costs())
    is_new = np.any(corners != np.roll(corners, 1, axis=0), axis=1)
    return corners[is_new] if is_new.any() else corners[:1]


def plot_distribution(space: SearchSpace, costs: np.ndarray, summary: Distribution) -> Figure:
    """The plane, with a histogram of either cost at its side."""
    figure = Figure(figsize=(9, 7.2), dpi=DPI)
    grid = figure.add_gridspec(2, 2, width_ratios=(6, 1), height_ratios=(1, 6), wspace=0.03, hspace=0.03)
    plane = figure.add_subplot(grid[1, 0])
    macs, params = costs.T / MILLION
    cells = plane.hexbin(
        costs[:, 0] / MILLION,
        costs[:, 1] / MILLION,
        gridsize=NUM_BINS,
        mincnt=1,
        bins="log",
        cmap="Blues",
        linewidths=0.1,
    )
    hull = reachable_hull(space) / MILLION
    plane.add_patch(Polygon(hull, fill=False, edgecolor=GREY, label="around all architectures"))
    if is_like_published(space):
        draw_published_architectures(plane)
    plane.margins(0.06)
    if is_like_published(space):
        draw_comparison_models(plane, summary.comparison_model)
    bar = figure.colorbar(cells, cax=plane.inset_axes((0.63, 0.12, 0.34, 0.025)), orientation="horizontal")
    counts = np.asarray(cells.get_array())
    if counts.max() < 10 * counts.min():  # no power of ten may lie between them
        bar.set_ticks(sorted({int(counts.min()), int(counts.max())}), minor=False)
        bar.ax.xaxis.set_major_formatter("{x:.0f}")
        bar.ax.minorticks_off()
    bar.set_label(f"drawn in a cell, of {len(costs):,}", fontsize=9)
    plane.set_xlabel("FLOPs (M)")
    plane.set_ylabel("params (M)")
    plane.grid(alpha=0.2)
    above, beside = figure.add_subplot(grid[0, 0], sharex=plane), figure.add_subplot(grid[1, 1], sharey=plane)
    draw_histogram(above, costs[:, 0], summary.flops, is_upright=True)
    draw_histogram(beside, costs[:, 1], summary.params, is_upright=False)
    handles, labels = (own + other for own, other in zip(*(a.get_legend_handles_labels() for a in (plane, above))))
    figure.legend(handles, labels, loc="lower center", ncol=3, frameon=False, fontsize=9)
    figure.subplots_adjust(left=0.08 if summary.params.largest >= MILLION else 0.1, right=0.98, top=0.98, bottom=0.16)
    return figure


def draw_comparison_models(axes: Any, chosen: str) -> None:
    """All of them as points, and where the combined score against one of them is 1 as a line."""
    points = np.array([(model.macs, model.params) for model in COMPARISON_MODELS.values()]) / MILLION
    axes.plot(*points.T, "o", color="white", markeredgecolor=ORANGE, markersize=6, label="networks to compare with")
    halo = [withStroke(linewidth=2, foreground="white")]
    for name, point in zip(COMPARISON_MODELS, points):
        own = {"textcoords": "offset points", "fontsize": 8, "color": ORANGE, "path_effects": halo}
        axes.annotate(name, point, (7, -3), **own)
    axes.autoscale_view()
    axes.autoscale(False)
    macs, params = points[list(COMPARISON_MODELS).index(chosen)]
    ends = [(2 * macs, 0), (0, 2 * params)]  # the whole score from one of the two
    axes.plot(*zip(*ends), "--", color=ORANGE, linewidth=1, label=f"combined score 1 ({chosen})")


def draw_histogram(axes: Any, values: np.ndarray, spread: Spread, is_upright: bool) -> None:
    """One cost of the sample, with its exact mean and standard deviation."""
    axes.hist(values / MILLION, NUM_BINS, orientation="vertical" if is_upright else "horizontal", color=BLUE, alpha=0.6)
    line, span = (axes.axvline, axes.axvspan) if is_upright else (axes.axhline, axes.axhspan)
    mean, std = spread.mean / MILLION, spread.std / MILLION
    line(mean, color="black", linewidth=1, label="mean (exact)")
    span(mean - std, mean + std, color=GREY, alpha=0.15, linewidth=0, label="standard deviation (exact)")
    axes.axis("off")
