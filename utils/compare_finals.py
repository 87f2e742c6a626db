"""Finals of searches, held against accuracies that others measured.

python -m utils.compare_finals runs/search runs/search-1 --truth-format nas-bench-macro \\
    --truth nas_bench_macro_cifar10.json

For every search with --finalists, and for each of its --budgets: the true accuracy of the architecture that the search
put first, of who was left by the finals, and of all finalists on average. Below, what the finals gained: 95% Student's
t intervals over the lines. Lines of one search share its history, so they are not wholly independent.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
from pathlib import Path
from typing import List, Optional

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, OneLineParser, pick, run_program
from spos.core.tables import Column, Table, as_text
from spos.space.flags import BlocksOptions, use_blocks
from spos.study.finals import FinalsTruth, finals_of, gains
from spos.study.truth import TruthOptions


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (TruthOptions, BlocksOptions, JsonOptions))
    parser.add_argument("searches", type=Path, nargs="+", help="run directories of searches")
    args = parser.parse_args(argv)
    options = pick(TruthOptions, args)
    if not options.truth:
        raise InputError("--truth is missing: the file of true accuracies")
    use_blocks(pick(BlocksOptions, args))
    rows = [row for run in args.searches for row in finals_of(run, options)]
    if pick(JsonOptions, args).json:
        gained = gains(rows)
        found = {"over_first": gained[0]._asdict(), "over_mean": gained[1]._asdict()} if gained else None
        print(json.dumps({"finals": [row._asdict() for row in rows], "gain": found}))
    else:
        print(as_text(finals_table(rows)))
    return 0


def finals_table(rows: List[FinalsTruth]) -> Table:
    """A line for each, and the gains below."""
    columns = (
        Column("search"),
        Column("budget"),
        Column("finalists"),
        Column("first", "first by the search", spec=".3%"),
        Column("left", "left by the finals", spec=".3%"),
        Column("mean", "mean of the finalists", spec=".3%"),
        Column("best", "best of them", spec=".3%"),
    )
    lines = tuple((row.search, row.budget or None, *row[2:]) for row in rows)
    notes = [
        f"Left by the finals against {what}: {gain.mean:+.3%} (95% {gain.low:+.3%} to {gain.high:+.3%})."
        for what, gain in zip(("first by the search", "the mean of the finalists"), gains(rows) or ())
    ]
    return Table("", columns, lines, tuple(notes))


if __name__ == "__main__":
    sys.exit(run_program(main))
