"""Figures and tables of a study, from its logs: docs/study.md and images/study-cifar10 again, by one command.

python -m utils.study logs/study-cifar10
python -m utils.study runs/study/logs --images runs/study/images --document ""

python -m utils.study logs/autopilot --document docs/autopilot.md

A table of the document stands between `<!-- table NAME -->` and `<!-- end -->` and is written anew; the text around it
stays as it is. `--check` writes nothing and fails if the document has other tables than the logs give.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import re
import sys
from pathlib import Path
from typing import List, Mapping, Match, Optional

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, run_program
from spos.core.tables import Table, as_markdown, as_text
from spos.runs.files import write_atomic
from utils.plot.style import save
from utils.study.figures import make_figures
from utils.study.flights import flight_tables, has_flights, load_flights
from utils.study.logs import load_study
from utils.study.tables import make_tables

_PLACE = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("logs", type=Path, help="folder of the logs, laid out like logs/study-cifar10")
    parser.add_argument("--images", default="images/study-cifar10", help="folder of the figures [%(default)s]")
    parser.add_argument("--document", default="docs/study.md", help="whose tables; '' prints them [%(default)s]")
    parser.add_argument("--check", action="store_true", help="compare the document's tables only")
    args = parser.parse_args(argv)
    if has_flights(args.logs):
        study, tables = None, flight_tables(load_flights(args.logs))
    else:
        study = load_study(args.logs)
        tables = make_tables(study)
    if args.document:
        path = Path(args.document)
        old = path.read_text(encoding="utf-8")
        new = fill(old, tables, args.document)
        if args.check and new != old:
            raise InputError(f"{path} has other tables than {args.logs} gives; run the same command without --check")
        if new != old:
            write_atomic(path, new)
        print(f"{'checked' if args.check else 'written'}  {path}, {len(tables)} tables")
    else:
        print("\n\n".join(f"{name}\n{as_text(table)}" for name, table in tables.items()))
    if args.check or study is None:
        return 0
    for name, figure in make_figures(study).items():
        path = Path(args.images) / f"{name}.png"
        save(figure, str(path))
        print(f"figure   {path}")
    return 0


def fill(document: str, tables: Mapping[str, Table], source: str) -> str:
    """The document with these tables in their places. Raises InputError if a place and a table do not fit."""
    places = [match["name"] for match in _PLACE.finditer(document)]
    unknown = sorted(set(places) ^ set(tables))
    if unknown:
        raise InputError(f"only one of {source} and the logs has these tables: {', '.join(unknown)}")

    def new(match: Match[str]) -> str:
        return f"{match[1]}\n{as_markdown(tables[match['name']])}\n\n{match[3]}"

    return _PLACE.sub(new, document)


if __name__ == "__main__":
    sys.exit(run_program(main))
