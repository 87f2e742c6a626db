"""The figure of latency tables: predicted against measured, and latency against FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from spos.core.errors import InputError
from spos.core.seeds import derive_rng
from spos.core.tables import FORMATS, Column, Table, millions, render, table
from spos.latency.fit import Agreement
from spos.latency.measurements import FIT, HELD_OUT, read_measurements
from spos.latency.table import LatencyTable
from spos.sampling.limits import MILLION
from spos.space.cost import count_architecture
from utils.plot.style import BLUE, DPI, GREY, ORANGE, FigureParser, save

NETWORK_COLUMNS = (
    millions("flops", "FLOPs"),
    Column("measured_ms", "measured", "ms", spec=".2f"),
    Column("predicted_ms", "predicted", "ms", spec=".2f"),
    Column("error", spec="+.1%"),
)
COLORS = (BLUE, ORANGE, "#009e73", "#cc79a7")
BAND = 0.05  # shown around a perfect prediction
NUM_SAMPLES = 2000


@dataclass(frozen=True)
class MeasuredTable:
    """A latency table with the networks that were measured for it.

    Args:
        times: by part: (milliseconds by the table, measured), each (networks,).
    """

    name: str
    table: LatencyTable
    flops: Mapping[str, np.ndarray]
    times: Mapping[str, Tuple[np.ndarray, np.ndarray]]

    @classmethod
    def read(cls, folder: Path) -> MeasuredTable:
        """Raises InputError if the folder is no finished run of the builder."""
        table, measurements = read_measurements(folder)
        networks = measurements.plan.networks
        return cls(
            folder.name,
            table,
            {
                part: np.array([count_architecture(table.space, one).macs for one in networks[part]])
                for part in networks
            },
            {part: measurements.compare(table, part) for part in networks},
        )

    @property
    def agreement(self) -> Agreement:
        return Agreement.of(*(part.tolist() for part in self.times[HELD_OUT]))

    def network_table(self) -> Table:
        """Every held-out network, in the order of its FLOPs."""
        times = (part.tolist() for part in self.times[HELD_OUT])
        rows = [
            (flops, measured, predicted, predicted / measured - 1)
            for flops, predicted, measured in sorted(zip(self.flops[HELD_OUT].tolist(), *times))
        ]
        note = f"{self.table.device}, {self.table.dtype}, batch {self.table.batch_size}: {self.agreement}."
        return Table(f"Held-out networks of {self.name}", NETWORK_COLUMNS, tuple(rows), (note,))

    def sample(self, num_samples: int) -> Tuple[np.ndarray, np.ndarray]:
        """(FLOPs, predicted milliseconds) of uniformly drawn architectures."""
        rng = derive_rng(0, "latency figure")
        drawn = [self.table.space.sample(rng) for _ in range(num_samples)]
        flops = [count_architecture(self.table.space, one).macs for one in drawn]
        return np.array(flops), np.array([self.table.latency_ms(one) for one in drawn])


def latency(argv: List[str]) -> int:
    """Predicted against measured latency, and latency against FLOPs, of one or more runs of build_latency_table."""
    parser = FigureParser(latency.__doc__, (), "latency.png")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--networks", choices=tuple(FORMATS), help="also list the held-out networks, in this format")
    args = parser.parse_args(argv)
    tables = read_tables(args.runs)
    save(plot_latency(tables), args.output)
    if args.networks:
        print(render([own.network_table() for own in tables], args.networks), end="\n\n")
    print(table([*((own.name, own.agreement) for own in tables), ("figure", args.output)]))
    return 0


def read_tables(folders: Sequence[Path]) -> List[MeasuredTable]:
    """Raises InputError for more folders than there are colours."""
    if len(folders) > len(COLORS):
        raise InputError(f"at most {len(COLORS)} latency tables fit into one figure, not {len(folders)}")
    return [MeasuredTable.read(folder) for folder in folders]


def plot_latency(tables: Sequence[MeasuredTable]) -> Figure:
    """Left the networks that were measured, right samples of the space, in one colour for each table."""
    figure = Figure(figsize=(11, 4.8), dpi=DPI)
    agreement, costs = figure.subplots(1, 2)
    for own, color in zip(tables, COLORS):
        _draw_agreement(agreement, own, color)
        flops, latency = own.sample(NUM_SAMPLES)
        costs.scatter(flops / MILLION, latency, s=4, color=color, alpha=0.25, linewidths=0)
        costs.scatter(own.flops[HELD_OUT] / MILLION, own.times[HELD_OUT][1], s=18, color=color, label=own.name)
    _draw_band(agreement)
    agreement.set_xlabel("measured (ms)")
    agreement.set_ylabel("predicted by the table (ms)")
    costs.set_xlabel("FLOPs (M)")
    costs.set_ylabel("latency (ms)")
    costs.set_title("measured (large), uniform samples by the table (small)", fontsize=10)
    costs.set_ylim(bottom=0)
    for axes in (agreement, costs):
        axes.grid(alpha=0.2)
        axes.legend(fontsize=8, frameon=False, loc="upper left")
    figure.tight_layout()
    return figure


def _draw_agreement(axes: Any, own: MeasuredTable, color: str) -> None:
    predicted, measured = own.times[FIT]
    axes.scatter(measured, predicted, s=16, facecolors="none", edgecolors=color, linewidths=0.8)
    predicted, measured = own.times[HELD_OUT]
    how = own.agreement
    label = f"{own.name}: median error {how.median_error:.1%}, tau-b {how.tau_b:.2f}"
    axes.scatter(measured, predicted, s=18, color=color, label=label)
    axes.set_title("held-out networks (filled), networks of the fit (open)", fontsize=10)


def _draw_band(axes: Any) -> None:
    """The line of perfect prediction and BAND around it."""
    low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])
    ends = np.array([max(low, 0), high])
    axes.plot(ends, ends, color=GREY, linewidth=0.8, zorder=1)
    axes.fill_between(
        ends, ends * (1 - BAND), ends * (1 + BAND), color=GREY, alpha=0.12, linewidth=0, label=f"within {BAND:.0%}"
    )
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
