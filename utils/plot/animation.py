"""A search as a moving picture, from its history alone (docs/history.md): iteration by iteration."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, pick, positive
from spos.core.tables import table
from spos.runs.files import write_atomic
from spos.search.costs import COSTS
from spos.search.history import History, Row, is_complete, load_history
from spos.space.flags import BlocksOptions, use_blocks
from utils.plot.search import draw_front
from utils.plot.style import BLUE, DPI, GREY, ORANGE

WIDTH, HEIGHT = 830, 440  # pixels, of a page that shows a README
MOST_FRAMES = 40  # of longer searches several iterations make a frame
NUM_COLOURS = 128
PAUSE_MS = 4000  # at the end, before it begins again

Ends = Tuple[float, float]


def animation(argv: List[str]) -> int:
    """A search as a GIF: top-1 against a cost, a frame for each iteration, beside the best so far."""
    parser = OneLineParser(animation.__doc__, (BlocksOptions,))
    parser.add_argument(
        "history", type=Path, metavar="HISTORY_OR_RUN", help="history.jsonl, or the run directory of it"
    )
    parser.add_argument("--x", choices=tuple(COSTS), default="flops", help="cost of the large panel [%(default)s]")
    parser.add_argument("--milliseconds", type=positive, default=600, help="for which a frame is shown [%(default)s]")
    parser.add_argument("--output", default="search.gif", help="file of the animation [%(default)s]")
    args = parser.parse_args(argv)
    use_blocks(pick(BlocksOptions, args))
    if Path(args.output).suffix.lower() != ".gif":
        raise InputError(f"--output {args.output} must end in .gif")
    history = load_history(args.history)
    frames = [draw_frame(moment, args.x) for moment in moments_of(history)]
    write_atomic(args.output, as_gif(frames, args.milliseconds))
    rows = [(history.name, history.text(args.x)), ("frames", str(len(frames))), ("animation", args.output)]
    print(table(rows))
    return 0


@dataclass(frozen=True)
class Moment:
    """A search when an iteration is finished."""

    whole: History
    num_rows: int
    num_earlier: int  # rows of the moment before

    @property
    def history(self) -> History:
        """What is known at this moment."""
        return replace(self.whole, rows=self.whole.rows[: self.num_rows])

    @property
    def earlier(self) -> List[Row]:
        return list(filter(is_complete, self.whole.rows[: self.num_earlier]))

    @property
    def new(self) -> List[Row]:
        return list(filter(is_complete, self.whole.rows[self.num_earlier : self.num_rows]))

    def title(self) -> str:
        iteration, num_iterations = (self.whole.rows[i]["iteration"] + 1 for i in (self.num_rows - 1, -1))
        best = self.history.best["top1"]
        return f"iteration {iteration} of {num_iterations}: {self.num_rows} architectures, best top-1 {best:.2%}"


def moments_of(history: History) -> List[Moment]:
    """The ends of all iterations, or of MOST_FRAMES of them; the last one is always among them."""
    iterations = [row["iteration"] for row in history.rows]
    ends = [i for i in range(1, len(iterations) + 1) if iterations[i:][:1] != [iterations[i - 1]]]
    ends = [end for end in ends if replace(history, rows=history.rows[:end]).scored]
    chosen = np.linspace(0, len(ends) - 1, min(len(ends), MOST_FRAMES)).round().astype(int)
    kept = [ends[i] for i in chosen]
    return [Moment(history, end, start) for start, end in zip([0, *kept], kept)]


def draw_frame(moment: Moment, x: str) -> Image.Image:
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
    plane, curve = figure.subplots(1, 2, width_ratios=(2.4, 1), sharey=True)
    draw_plane(plane, moment, x)
    draw_curve(curve, moment)
    tops = [row["top1"] for row in moment.whole.scored]
    plane.set_ylim(*with_margin(tops))
    plane.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (plane, curve):
        axes.grid(alpha=0.2)
        axes.tick_params(labelsize=8)
    figure.suptitle(moment.title(), fontsize=10, x=0.1, y=0.97, ha="left")
    handles, labels = plane.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(labels), frameon=False, fontsize=7.5, columnspacing=1.2)
    figure.subplots_adjust(left=0.1, right=0.98, top=0.9, bottom=0.19, wspace=0.06)
    return rendered(figure)


def draw_plane(axes: Any, moment: Moment, x: str) -> None:
    """Top-1 against the cost."""
    history = moment.history
    for rows, label, style in (
        (moment.earlier, "earlier", {"s": 16, "alpha": 0.35}),
        (moment.new, "new in this iteration", {"s": 32, "edgecolors": "white", "linewidths": 0.5, "zorder": 3}),
    ):
        style = {"color": BLUE, "linewidths": 0, **style}
        axes.scatter(moment.whole.costs(x, rows), [row["top1"] for row in rows], label=label, **style)
    draw_front(axes, history, x, ORANGE, "not dominated")
    best = history.best
    star = {"color": ORANGE, "markeredgecolor": "black", "markersize": 13, "linestyle": "", "zorder": 5}
    axes.plot(history.costs(x, [best]), [best["top1"]], marker="*", label="best so far", **star)
    axes.axhspan(*best["top1_interval"], color=GREY, alpha=0.1, linewidth=0, label="its 95% interval", zorder=0)
    axes.set_xlim(*with_margin(moment.whole.costs(x, moment.whole.scored)))
    axes.set_xlabel(COSTS[x].label, fontsize=9)
    axes.set_ylabel("top-1 of the candidates", fontsize=9)


def draw_curve(axes: Any, moment: Moment) -> None:
    """The best so far, over all scores in the order of evaluation."""
    scored = moment.history.scored
    points = [row["evaluation"] + 1 for row in scored], [row["top1"] for row in scored]
    axes.scatter(*points, color=BLUE, s=7, alpha=0.35, linewidths=0)
    axes.step(*moment.history.best_so_far(), where="post", color=ORANGE, linewidth=1.5)
    axes.set_xlim(0, moment.whole.rows[-1]["evaluation"] + 2)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("evaluations", fontsize=9)


def with_margin(values: Sequence[float]) -> Ends:
    """The ends of an axis that holds all values."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - margin, high + margin


def rendered(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def as_gif(frames: Sequence[Image.Image], milliseconds: int) -> bytes:
    """Frames one after the other, again and again from the first."""
    first, *others = with_palette(frames)
    durations = [milliseconds] * len(others) + [PAUSE_MS]
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
    return content.getvalue()


def with_palette(frames: Sequence[Image.Image]) -> List[Image.Image]:
    """The same pictures in one palette: the most frequent colours, exact; every other one as the nearest of them.

    Pillow's own quantization may show white as another colour that is close to it.
    """
    codes = np.stack(
        [np.asarray(frame, dtype=np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32) for frame in frames]
    )
    found, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colours = found[:, None] >> np.array([16, 8, 0]) & 255  # (colours, 3)
    palette = colours[np.argsort(-counts, kind="stable")[:NUM_COLOURS]]
    nearest = ((colours[:, None] - palette) ** 2).sum(-1).argmin(1).astype(np.uint8)
    pictures = [Image.fromarray(indices) for indices in nearest[places].reshape(codes.shape)]
    for picture in pictures:
        picture.putpalette(palette.astype(np.uint8).tobytes())
    return pictures
