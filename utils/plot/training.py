"""Figure of trainings, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from spos.core.errors import InputError
from spos.runs.files import check_shape, read_json
from spos.runs.journal import read_rows
from spos.runs.run import CONFIG_FILE, LOG_FILE, TRAINING, ConfigShape, options_as
from spos.sampling.warm_up import SamplingPolicy
from spos.space.space import SearchSpace
from spos.training.flags import TrainOptions
from spos.training.log import EpochRow
from utils.plot.style import BLUE, DPI, GREY, ORANGE, FigureParser, save
from utils.plot.warm_up import CHANNEL_WARM_UP, FULL_WIDTH

LR_WARM_UP = "learning rate warm-up"
SHADES = {
    LR_WARM_UP: {"facecolor": "none", "edgecolor": GREY, "hatch": "//", "linewidth": 0, "alpha": 0.5},
    FULL_WIDTH: {"color": BLUE, "alpha": 0.08, "linewidth": 0},
    CHANNEL_WARM_UP: {"color": ORANGE, "alpha": 0.2, "linewidth": 0},
}


def training(argv: List[str]) -> int:
    """Loss and top-1 of one or more runs of train_imagenet.py, with their warm-ups."""
    parser = FigureParser(training.__doc__, (), "training.png")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    args = parser.parse_args(argv)
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
    if not isinstance(config, dict) or config.get("program") != TRAINING:
        raise InputError(f"{folder} is not a run of {TRAINING}")
    check_shape(config, folder / CONFIG_FILE, ConfigShape)
    rows = read_rows(folder / LOG_FILE, EpochRow)
    if not rows:
        raise InputError(f"no epoch of the run in {folder} is finished")
    return Run(folder.name, rows, phases(config, len(rows)))


def phases(config: Mapping[str, Any], num_epochs: int) -> List[Tuple[str, int, int]]:
    """What the flags say of the warm-ups, as far as the run has come."""
    options = options_as(TrainOptions, config["options"], CONFIG_FILE)
    found = [(LR_WARM_UP, 0, options.warmup_epochs)]
    is_supernet = config.get("space") is not None and config.get("architecture") is None
    if is_supernet and not options.use_all_channels:
        space = SearchSpace.from_json(config["space"], CONFIG_FILE)
        policy = SamplingPolicy(space, options.epoch_start_cs, options.cs_warm_up)
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
