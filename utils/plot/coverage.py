"""Figures of where sampling under limits draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from spos.core.flags import not_negative, pick, positive
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng
from spos.core.tables import table
from spos.counting.distribution import sample_costs
from spos.sampling.limits import MILLION, Limit
from spos.sampling.strips import NUM_STRIPS, Cell, ConstrainedPolicy, cell_samplers, split
from spos.sampling.warm_up import Policy, SamplingPolicy
from spos.space.cost import Cost, cost_table
from spos.space.flags import SpaceOptions, fit, space_of
from spos.space.published import SAMPLING_RANGES
from spos.space.space import SearchSpace
from spos.training.flags import TrainConstraintOptions, limits_of
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

NUM_DRAWN = 2000  # for limits of spaces that do not reach the published ones
PUBLISHED = TrainConstraintOptions(*reversed(SAMPLING_RANGES))  # walked through in 7 strips of FLOPs


def coverage(argv: List[str]) -> int:
    """Where uniform sampling and both ways of sampling within constraints draw."""
    parser = FigureParser(coverage.__doc__, (SpaceOptions, TrainConstraintOptions), "coverage.png")
    parser.add_argument("--samples", type=positive, default=3000, help="architectures drawn in each way [%(default)s]")
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of the sampling [%(default)s]")
    args = parser.parse_args(argv)
    space_options, constraints = pick(SpaceOptions, args), pick(TrainConstraintOptions, args)
    space = fit(space_of(space_options), space_options)
    limits = limits_of(constraints) or usual_limits(space, args.seed)
    ways = draw_costs(space, limits, args.samples, args.seed)
    cells = [cell for strip in cell_samplers(space, space.min_channel_choice, limits) for cell, _ in strip]
    save(plot_coverage(ways, limits, cells, is_like_published(space)), args.output)
    rows = [(f"{args.samples} architectures each, within", " and ".join(map(str, limits)))]
    rows += [(name, Coverage.of(costs, limits, cells).text()) for name, costs in ways.items()]
    print(table([*rows, ("figure", args.output)]))
    return 0


def usual_limits(space: SearchSpace, seed: int) -> Tuple[Limit, ...]:
    """The published ones where a space reaches them; else those that half of its draws keep, of either cost."""
    smallest, largest = cost_table(space).range()
    published = limits_of(PUBLISHED)
    if all(limit.value(largest) >= limit.lower and limit.value(smallest) <= limit.upper for limit in published):
        return published
    costs = sample_costs(space, NUM_DRAWN, derive_rng(seed, "limits"))
    lower, upper = (tuple(ends) for ends in np.percentile(costs, (25, 75), axis=0, method="inverted_cdf").tolist())
    return Cell((lower[0], upper[0]), (lower[1], upper[1])).limits()


def draw_costs(space: SearchSpace, limits: Tuple[Limit, ...], num_samples: int, seed: int) -> Dict[str, np.ndarray]:
    """(FLOPs, params) of the draws of one epoch of `num_samples` steps, (num_samples, 2), for each way of sampling."""
    plain = SamplingPolicy(space)
    policies: Dict[str, Policy] = {
        "uniform": plain,
        "constrained, random": ConstrainedPolicy(plain, limits, "random", num_samples),
        "constrained, evolution": ConstrainedPolicy(plain, limits, "evolution", num_samples),
    }
    costs = {}
    for name, policy in policies.items():
        rng = derive_rng(seed, name)
        steps = progress_bar(range(num_samples), desc=name, unit="arch")
        costs[name] = np.array([cost_table(space).cost(policy(0, step, rng)) for step in steps])
    return costs


@dataclass(frozen=True)
class Coverage:
    """How draws lie in the cells between the limits."""

    share_within: float
    num_visited: int
    num_cells: int
    fewest: float  # share of all draws that lie in the cell with the fewest
    most: float

    @classmethod
    def of(cls, costs: np.ndarray, limits: Sequence[Limit], cells: Sequence[Cell]) -> Coverage:
        cost = Cost(*costs.T)
        within = np.all([limit.keeps(cost) for limit in limits], axis=0)
        shares = [np.all([limit.keeps(cost) for limit in cell.limits()], axis=0).mean() for cell in cells]
        visited = sum(share > 0 for share in shares)
        return cls(float(within.mean()), visited, len(cells), float(min(shares)), float(max(shares)))

    def text(self) -> str:
        return (
            f"{self.share_within:.1%} within, {self.num_visited} of {self.num_cells} cells visited, "
            f"{self.fewest:.2%} to {self.most:.2%} of the draws in a cell"
        )


def plot_coverage(
    ways: Mapping[str, np.ndarray], limits: Sequence[Limit], cells: Sequence[Cell], with_published: bool = True
) -> Figure:
    """One panel for each way of sampling, over the published ranges and architectures."""
    figure = Figure(figsize=(11, 4.6), dpi=DPI)
    panels = figure.subplots(1, len(ways), sharex=True, sharey=True)
    for axes, (name, costs) in zip(panels, ways.items()):
        how = Coverage.of(costs, limits, cells)
        axes.scatter(*(costs.T / MILLION), s=5, color=BLUE, alpha=0.35, linewidths=0)
        ranges = draw_published_ranges(axes) if with_published else None
        own = draw_cells(axes, cells) if tuple(limits) != limits_of(PUBLISHED) else None
        markers = draw_published_architectures(axes) if with_published else []
        axes.set_title(
            f"{name}\n{how.share_within:.1%} within, {how.num_visited} of {how.num_cells} cells", fontsize=10
        )
        axes.set_xlabel("FLOPs (M)")
        axes.grid(alpha=0.2)
    panels[0].set_ylabel("params (M)")
    sample = Line2D([], [], color=BLUE, marker="o", markersize=5, linestyle="", label="a sample")
    handles = [handle for handle in (sample, ranges, own, *markers) if handle]
    num_rows = 2 if own and with_published else 1
    figure.legend(handles=handles, loc="lower center", ncol=-(-len(handles) // num_rows), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.02 + 0.05 * num_rows, 1, 1))
    return figure


def draw_published_ranges(axes: Any) -> Any:
    """The published ranges with their strips. Returns what stands for them in the legend."""
    macs, params = ((limit.lower / MILLION, limit.upper / MILLION) for limit in limits_of(PUBLISHED))
    for low, high in split(int(macs[0] * MILLION), int(macs[1] * MILLION), NUM_STRIPS):
        left, width = low / MILLION, (high - low) / MILLION
        outline = Rectangle(
            (left, params[0]), width, params[1] - params[0], fill=False, edgecolor=ORANGE, linewidth=0.8
        )
        axes.add_patch(outline)
    outline.set_label(f"published: ranges and {NUM_STRIPS} strips")
    return outline


def draw_cells(axes: Any, cells: Sequence[Cell]) -> Any:
    for cell in cells:
        (left, right), (bottom, top) = (np.array(ends) / MILLION for ends in (cell.macs, cell.params))
        outline = Rectangle(
            (left, bottom), right - left, top - bottom, fill=False, edgecolor=GREY, linewidth=0.6, zorder=2
        )
        axes.add_patch(outline)
    outline.set_label("cells within the constraints")
    return outline
