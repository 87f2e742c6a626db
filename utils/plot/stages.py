"""The figure of what architectures cost stage by stage."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import numpy as np
from matplotlib.figure import Figure

from spos.core.errors import InputError
from spos.core.tables import table
from spos.sampling.limits import MILLION
from spos.space import layer_specs
from spos.space.architecture_file import ArchitectureRecord, load_architecture, published_architectures
from spos.space.cost import ZERO, Cost, count, count_choice_block
from utils.plot.style import DPI, FigureParser, save

Stages = Dict[str, Cost]  # stem, stages, and head with classifier, in this order
MOST_WITH_NUMBERS = 24  # bars; more have no room for them
MOST_NAMES = 8  # below the bars; more are set aslant
THOUSAND = 1000


def stages(argv: List[str]) -> int:
    """FLOPs and params of one or more architectures, stage by stage."""
    parser = FigureParser(stages.__doc__, (), "stages.png")
    parser.add_argument(
        "--architecture",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="published name or architecture file; may be given again [all published ones]",
    )
    args = parser.parse_args(argv)
    costs = {name: stage_costs(load_architecture(name)) for name in args.architecture or published_architectures()}
    save(plot_stages(costs), args.output)
    print(table([*((name, describe(parts)) for name, parts in costs.items()), ("figure", args.output)]))
    return 0


def stage_costs(record: ArchitectureRecord) -> Stages:
    """What an architecture costs in its stem, its stages and its head with the classifier."""
    space, architecture = record.space, record.architecture
    additions, tail = space.count_additions, layer_specs.head(space) + layer_specs.classifier(space)
    costs = {"stem": count(layer_specs.stem(space), space.input_size, additions)[0]}
    for block, b, c in zip(space.choice_blocks, architecture.block_choices, architecture.channel_choices):
        name = f"stage {block.stage + 1}"
        costs[name] = costs.get(name, ZERO) + count_choice_block(space, block.index, b, c)
    costs["head, classifier"] = count(tail, space.out_size, additions)[0]
    return costs


def describe(parts: Stages) -> str:
    """One line: both totals, and the share of every part in them."""
    total = sum(parts.values(), ZERO)
    shares = (f"{name} {part.macs / total.macs:.1%}, {part.params / total.params:.1%}" for name, part in parts.items())
    return f"{total.macs / MILLION:.3f} M FLOPs, {total.params / MILLION:.3f} M params ({'; '.join(shares)})"


def plot_stages(costs: Mapping[str, Stages]) -> Figure:
    """FLOPs above, params below; a group of bars for every part, a colour for every architecture.

    Raises: InputError if the architectures do not all have the same number of stages.
    """
    names = list(next(iter(costs.values())))
    for architecture, parts in costs.items():
        if list(parts) != names:
            raise InputError(f"{architecture} has {len(parts) - 2} stages, {next(iter(costs))} has {len(names) - 2}")
    figure = Figure(figsize=(9, 6.2), dpi=DPI)
    panels = figure.subplots(2, 1, sharex=True)
    for axis, (axes, label, number) in enumerate(zip(panels, ("FLOPs", "params"), ("%.1f", "%.2f"))):
        values = {name: [part[axis] for part in parts.values()] for name, parts in costs.items()}
        unit, name = (MILLION, "M") if max(map(max, values.values())) >= MILLION else (THOUSAND, "k")
        draw_bars(axes, {name: [value / unit for value in own] for name, own in values.items()}, number)
        axes.set_ylabel(f"{label} ({name})")
    aslant = {"rotation": 30, "ha": "right"} if len(names) > MOST_NAMES else {}
    panels[1].set_xticks(range(len(names)), names, **aslant)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=min(len(costs), 4), frameon=False, fontsize=9)
    num_rows = -(-len(costs) // 4)
    figure.tight_layout(rect=(0, 0.015 + 0.03 * num_rows, 1, 1))
    return figure


def draw_bars(axes: Any, values: Mapping[str, List[float]], number: str) -> None:
    """Values of every architecture, one for each part, beside each other, and printed over the bars by a format."""
    width = 0.8 / len(values)
    for i, (name, own) in enumerate(values.items()):
        places = np.arange(len(own)) + (i - (len(values) - 1) / 2) * width
        bars = axes.bar(places, own, 0.92 * width, label=name, zorder=2)
        if len(values) * len(own) <= MOST_WITH_NUMBERS:
            axes.bar_label(bars, fmt=number, fontsize=7, padding=1)
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
