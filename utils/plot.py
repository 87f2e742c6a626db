"""Figures of the method, of what a space and its architectures cost, where sampling draws, how training went, and what
searches found.

python -m utils.plot supernet --use-se --last-conv-after-pooling --output supernet.png
python -m utils.plot blocks --use-se --output choice_blocks.png
python -m utils.plot warm-up --output warm_up.png
python -m utils.plot distribution --use-se --last-conv-after-pooling --output distribution.png
python -m utils.plot stages --architecture oneshot --architecture oneshot-s+ --output stages.png
python -m utils.plot coverage --use-se --last-conv-after-pooling --output coverage.png
python -m utils.plot training runs/digits/supernet runs/digits/oneshot --output training.png
python -m utils.plot search runs/digits/search --x params --output search.png
python -m utils.plot animation runs/digits/search --output search.gif
python -m utils.plot latency runs/latency --output latency.png

Each has its own --help. The figure is PNG, SVG or PDF by the name of --output; the animation is a GIF.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from tqdm import tqdm

from spos.architectures import fit, space_of
from spos.command_line import OneLineParser, not_negative, pick, positive, run_program
from spos.constrained_policy import NUM_STRIPS, Cell, ConstrainedPolicy, cell_samplers, limits_of, split
from spos.constraints import MILLION, Limit
from spos.cost import Cost, cost_table
from spos.errors import InputError
from spos.options import SpaceOptions, TrainConstraintOptions
from spos.published import SAMPLING_RANGES
from spos.records import CONFIG_FILE, LOG_FILE, read_json, read_rows
from spos.reporting import table
from spos.sampling import SamplingPolicy
from spos.schedule import derive_rng
from spos.search_space import SearchSpace
from utils.blocks_figure import blocks
from utils.distribution_figure import distribution
from utils.figures import BLUE, DPI, GREY, ORANGE, check_format, draw_published_architectures, save
from utils.latency_figure import latency
from utils.search_animation import animation
from utils.search_figure import X_AXES, load_histories, plot_search
from utils.stages_figure import stages
from utils.supernet_figure import supernet
from utils.warm_up_figure import CHANNEL_WARM_UP, FULL_WIDTH, warm_up

PUBLISHED = TrainConstraintOptions(*reversed(SAMPLING_RANGES))  # walked through in 7 strips of FLOPs
LR_WARM_UP = "learning rate warm-up"
SHADES = {
    LR_WARM_UP: {"facecolor": "none", "edgecolor": GREY, "hatch": "//", "linewidth": 0, "alpha": 0.5},
    FULL_WIDTH: {"color": BLUE, "alpha": 0.08, "linewidth": 0},
    CHANNEL_WARM_UP: {"color": ORANGE, "alpha": 0.2, "linewidth": 0},
}


def main(argv: Optional[List[str]] = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    figures = {
        "supernet": supernet,
        "blocks": blocks,
        "warm-up": warm_up,
        "distribution": distribution,
        "stages": stages,
        "coverage": coverage,
        "training": training,
        "search": search,
        "animation": animation,
        "latency": latency,
    }
    if argv and argv[0] in figures:
        return figures[argv[0]](argv[1:])
    if argv and argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    raise InputError(f"say what to plot first: {', '.join(figures)}, not '{argv[0] if argv else ''}'")


def coverage(argv: List[str]) -> int:
    """Where uniform sampling and both ways of sampling within constraints draw."""
    groups = (SpaceOptions, TrainConstraintOptions)
    parser = OneLineParser(coverage.__doc__, groups)
    parser.add_argument("--samples", type=positive, default=3000, help="architectures drawn in each way [%(default)s]")
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of the sampling [%(default)s]")
    parser.add_argument("--output", default="coverage.png", help="file of the figure [%(default)s]")
    args = parser.parse_args(argv)
    space_options, constraints = (pick(group, args) for group in groups)
    check_format(args.output)
    space = fit(space_of(space_options), space_options)
    limits = limits_of(constraints) or limits_of(PUBLISHED)
    ways = draw_costs(space, limits, args.samples, args.seed)
    cells = [cell for strip in cell_samplers(space, space.min_channel_choice, limits) for cell, _ in strip]
    save(plot_coverage(ways, limits, cells), args.output)
    rows = [(f"{args.samples} architectures each, within", " and ".join(map(str, limits)))]
    rows += [(name, Coverage.of(costs, limits, cells).text()) for name, costs in ways.items()]
    print(table([*rows, ("figure", args.output)]))
    return 0


def draw_costs(space: SearchSpace, limits: Tuple[Limit, ...], num_samples: int, seed: int) -> Dict[str, np.ndarray]:
    """(FLOPs, params) of the draws of one epoch of `num_samples` steps, (num_samples, 2), for each way of sampling."""
    plain = SamplingPolicy(space)
    policies = {
        "uniform": plain,
        "constrained, random": ConstrainedPolicy(plain, limits, "random", num_samples),
        "constrained, evolution": ConstrainedPolicy(plain, limits, "evolution", num_samples),
    }
    costs = {}
    for name, policy in policies.items():
        rng = derive_rng(seed, name)
        steps = tqdm(range(num_samples), desc=name, unit="arch", disable=not sys.stderr.isatty(), leave=False)
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


def plot_coverage(ways: Mapping[str, np.ndarray], limits: Sequence[Limit], cells: Sequence[Cell]) -> Figure:
    """One panel for each way of sampling, over the published ranges and architectures."""
    figure = Figure(figsize=(11, 4.6), dpi=DPI)
    panels = figure.subplots(1, len(ways), sharex=True, sharey=True)
    for axes, (name, costs) in zip(panels, ways.items()):
        how = Coverage.of(costs, limits, cells)
        axes.scatter(*(costs.T / MILLION), s=5, color=BLUE, alpha=0.35, linewidths=0)
        ranges = draw_published_ranges(axes)
        own = draw_cells(axes, cells) if tuple(limits) != limits_of(PUBLISHED) else None
        markers = draw_published_architectures(axes)
        axes.set_title(
            f"{name}\n{how.share_within:.1%} within, {how.num_visited} of {how.num_cells} cells", fontsize=10
        )
        axes.set_xlabel("FLOPs (M)")
        axes.grid(alpha=0.2)
    panels[0].set_ylabel("params (M)")
    sample = Line2D([], [], color=BLUE, marker="o", markersize=5, linestyle="", label="a sample")
    handles = [handle for handle in (sample, ranges, own, *markers) if handle]
    num_rows = 1 if own is None else 2
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


def training(argv: List[str]) -> int:
    """Loss and top-1 of one or more runs of train_imagenet.py, with their warm-ups."""
    parser = OneLineParser(training.__doc__, ())
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--output", default="training.png", help="file of the figure [%(default)s]")
    args = parser.parse_args(argv)
    check_format(args.output)
    save(plot_training([load_run(folder) for folder in args.runs]), args.output)
    print(f"figure  {args.output}")
    return 0


@dataclass(frozen=True)
class Run:
    """What a run directory says about its training. `phases` are (name, first epoch, epoch after it)."""

    name: str
    rows: List[Dict[str, Any]]
    phases: List[Tuple[str, int, int]]

    def curve(self, key: str) -> Tuple[List[int], List[float]]:
        """(epochs done, value) wherever a row has it."""
        rows = [row for row in self.rows if key in row]
        return [row["epoch"] + 1 for row in rows], [row[key] for row in rows]


def load_run(folder: Path) -> Run:
    """Raises InputError if the folder is no run of train_imagenet.py, or none of its epochs is finished."""
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict) or config.get("program") != "train_imagenet.py":
        raise InputError(f"{folder} is not a run of train_imagenet.py")
    rows = read_rows(folder / LOG_FILE)
    if not rows:
        raise InputError(f"no epoch of the run in {folder} is finished")
    return Run(folder.name, rows, phases(config, len(rows)))


def phases(config: Mapping[str, Any], num_epochs: int) -> List[Tuple[str, int, int]]:
    """What the flags say of the warm-ups, as far as the run has come."""
    options = config["options"]
    found = [(LR_WARM_UP, 0, options.get("warmup_epochs", 0))]
    is_supernet = config.get("space") is not None and config.get("architecture") is None
    if is_supernet and not options.get("use_all_channels"):
        space = SearchSpace.from_json(config["space"], CONFIG_FILE)
        policy = SamplingPolicy(space, options.get("epoch_start_cs", -1), options.get("cs_warm_up", False))
        start, end = max(policy.epoch_start_cs, 0), max(policy.epoch_start_cs, 0)
        while policy.lowest_channel_choice(end) > space.min_channel_choice:
            end += 1
        found += [(FULL_WIDTH, 0, start), (CHANNEL_WARM_UP, start, end)]
    return [(name, start, min(end, num_epochs)) for name, start, end in found if start < min(end, num_epochs)]


def plot_training(runs: Sequence[Run]) -> Figure:
    """Loss and top-1 over the epochs, a colour for each run; shades (or, with several runs, dotted ends) for phases."""
    figure = Figure(figsize=(10, 4.2), dpi=DPI)
    losses, accuracies = figure.subplots(1, 2, sharex=True)
    for i, run in enumerate(runs):
        style = {"color": f"C{i}", "linewidth": 1.5}
        losses.plot(*run.curve("loss"), label=run.name, **style)
        accuracies.plot(*run.curve("top1"), label=f"{run.name}, training images", linestyle="--", **style)
        epochs, values = run.curve("val_top1")
        if epochs:
            accuracies.plot(epochs, values, marker="o", markersize=4, label=f"{run.name}, held out or test", **style)
        for name, start, end in run.phases:
            for axes in (losses, accuracies):
                if len(runs) > 1 and end < len(run.rows):  # a warm-up that the run has not left has no end yet
                    axes.axvline(end, color=f"C{i}", linestyle=":", linewidth=0.9)
                elif len(runs) == 1:
                    axes.axvspan(start, end, label=name if axes is losses else None, **SHADES[name])
    accuracies.yaxis.set_major_formatter(PercentFormatter(1))
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, label in ((losses, "training loss"), (accuracies, "top-1")):
        axes.set_xlabel("epochs done" if len(runs) == 1 else "epochs done (dotted: the end of a warm-up)")
        axes.set_ylabel(label)
        axes.grid(alpha=0.2)
        axes.legend(fontsize=8)
    figure.tight_layout()
    return figure


def search(argv: List[str]) -> int:
    """Top-1 of every evaluation of one or more searches, in the order of evaluation and against cost."""
    parser = OneLineParser(search.__doc__, ())
    parser.add_argument(
        "histories", nargs="+", type=Path, metavar="HISTORY_OR_RUN", help="history.jsonl, or the run directory of it"
    )
    parser.add_argument("--x", choices=tuple(X_AXES), default="flops", help="cost of the right panel [%(default)s]")
    parser.add_argument("--output", default="search.png", help="file of the figure [%(default)s]")
    args = parser.parse_args(argv)
    check_format(args.output)
    histories = load_histories(args.histories)
    save(plot_search(histories, args.x), args.output)
    print(table([*((history.name, history.text(args.x)) for history in histories), ("figure", args.output)]))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
