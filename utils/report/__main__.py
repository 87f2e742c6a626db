"""One page about a pipeline: training, search, lineage and drawing of the best architecture, and the result.

python -m utils.report runs/digits/supernet runs/digits/search runs/digits/oneshot --output runs/digits/report.html

Run directories in any number and order; what has not been run yet, or was killed half-way, is said on the page. The
file needs nothing else and no network, so it can be sent to others.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from spos.core.flags import OneLineParser, pick, run_program
from spos.core.tables import in_millions
from spos.runs.files import check_output, write_atomic
from spos.runs.run import CONFIG_FILE, SEARCH_RUN, SUBNET_RUN, SUPERNET_RUN
from spos.space.flags import BlocksOptions, use_blocks
from spos.training.flags import validated_on
from utils.report.evaluation import evaluation_section
from utils.report.flight import REFRESH_SECONDS, flight_cards, flight_section, is_under_way
from utils.report.lineage import lineage_section
from utils.report.page import Writer, page
from utils.report.result import result_section
from utils.report.runs import ReportedRun, load_runs
from utils.report.sections import (
    architecture_section,
    bn_update_section,
    of_kind,
    runs_section,
    search_section,
    training_section,
)

Card = Tuple[str, str, str]


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (BlocksOptions,))
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run directory of a supernet, search or subnet"
    )
    parser.add_argument(
        "--autopilot", type=Path, help="folder of the autopilot whose runs they are, and may be to come"
    )
    parser.add_argument("--output", default="report.html", help="file of the page [%(default)s]")
    parser.add_argument("--title", default="", help="of the page [Report of the runs]")
    args = parser.parse_args(argv)
    use_blocks(pick(BlocksOptions, args))
    here = [run for run in args.runs if not args.autopilot or (run / CONFIG_FILE).exists()]
    runs = load_runs(here)
    check_output(args.output)
    title = args.title or (f"Autopilot {args.autopilot}" if args.autopilot else default_title(runs))
    page = report(runs, title, args.autopilot)
    write_atomic(args.output, page.encode("utf-8", "backslashreplace"))  # names of folders need not be text
    print(f"report  {args.output}")
    return 0


def default_title(runs: Sequence[ReportedRun]) -> str:
    """After the folder that all runs lie in, or after the runs."""
    folders = {run.run.path.resolve().parent for run in runs}
    name = folders.pop().name if len(folders) == 1 and len(runs) > 1 else ", ".join(run.name for run in runs)
    return f"Report of {name}"


def report(runs: Sequence[ReportedRun], title: str, autopilot: Optional[Path] = None) -> str:
    """The whole page.

    Args: autopilot: folder of the autopilot whose runs they are.
    """
    writer = Writer()
    sections = [
        *([flight_section(autopilot)] if autopilot else []),
        training_section(runs, writer),
        search_section(runs, writer),
        lineage_section(runs, writer),
        architecture_section(runs, writer),
        bn_update_section(runs, writer),
        result_section(runs),
        evaluation_section(runs, writer),
        runs_section(runs),
    ]
    subtitle = "Single Path One-Shot search. " + " · ".join(f"{run.kind}: {run.run.path}" for run in runs)
    refresh = REFRESH_SECONDS if autopilot and is_under_way(autopilot) else 0
    first = flight_cards(autopilot) if autopilot else []
    return page(title, subtitle, [*first, *cards(runs)], sections, refresh)


def cards(runs: Sequence[ReportedRun]) -> List[Card]:
    """The most important figures there are."""
    found: List[Card] = []
    for run in of_kind(runs, SUPERNET_RUN):
        last = run.last_validated
        if last:
            remark = f"top-1, mean of {len(last.get('val_top1_each', ()))} sampled architectures, held-out images"
            found.append((run.name, f"{last['val_top1']:.2%}", remark))
    for run in of_kind(runs, SEARCH_RUN):
        if run.chosen:
            role = "finalist" if run.finals else "chosen by the model" if run.choice else "best"
            name = f"{run.name}, {role}"
            low, high = run.chosen["top1_interval"]
            cost = f"{in_millions(run.chosen['params'], 2)} params, {len(run.history)} architectures scored"
            found.append((name, f"{run.chosen['top1']:.2%}", f"top-1, 95% {low:.1%} to {high:.1%}"))
            found.append((name, f"{in_millions(run.chosen['flops'], 2)} FLOPs", cost))
    for run in of_kind(runs, SUBNET_RUN):
        last = run.last_validated
        if last:
            images = f"{last['val_images']} {validated_on(run.run.options)}"
            found.append((run.name, f"{last['val_top1']:.2%}", f"top-1 from scratch, {images}"))
    return found


if __name__ == "__main__":
    sys.exit(run_program(main))
