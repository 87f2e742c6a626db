"""Figures of the method, of what a space and its architectures cost, where sampling draws, how training went, what
searches found, and of the rooms of the code.

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
python -m utils.plot rooms --output images/rooms.png

Each has its own --help. The figure is PNG, SVG or PDF by the name of --output; the animation is a GIF.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from pathlib import Path
from typing import List, Optional

from spos.core.errors import InputError
from spos.core.flags import pick, run_program
from spos.core.tables import table
from spos.search.costs import COSTS
from spos.search.history import load_histories
from spos.space.flags import BlocksOptions, use_blocks
from utils.plot.animation import animation
from utils.plot.blocks import blocks
from utils.plot.coverage import coverage
from utils.plot.distribution import distribution
from utils.plot.latency import latency
from utils.plot.rooms import rooms
from utils.plot.search import plot_search
from utils.plot.stages import stages
from utils.plot.style import FigureParser, save
from utils.plot.supernet import supernet
from utils.plot.training import training
from utils.plot.warm_up import warm_up


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
        "rooms": rooms,
    }
    if argv and argv[0] in figures:
        return figures[argv[0]](argv[1:])
    if argv and argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    raise InputError(f"say what to plot first: {', '.join(figures)}, not '{argv[0] if argv else ''}'")


def search(argv: List[str]) -> int:
    """Top-1 of every evaluation of one or more searches, in the order of evaluation and against cost."""
    parser = FigureParser(search.__doc__, (BlocksOptions,), "search.png")
    parser.add_argument(
        "histories", nargs="+", type=Path, metavar="HISTORY_OR_RUN", help="history.jsonl, or the run directory of it"
    )
    parser.add_argument("--x", choices=tuple(COSTS), default="flops", help="cost of the right panel [%(default)s]")
    args = parser.parse_args(argv)
    use_blocks(pick(BlocksOptions, args))
    histories = load_histories(args.histories)
    save(plot_search(histories, args.x), args.output)
    print(table([*((history.name, history.text(args.x)) for history in histories), ("figure", args.output)]))
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
