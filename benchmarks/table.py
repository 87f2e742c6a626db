"""The table of all stages in `benchmarks/README.md`, from the lines of JSON that the programs wrote.

    python -m benchmarks.table FILE... [--write benchmarks/README.md]

Of lines of the same stage and options, the last one counts. Without --write the table is printed.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from benchmarks.measure import ONNX_RUNTIME, OURS, PLAIN, PYTORCH, milliseconds, significant, with_error
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, run_program
from spos.core.tables import Column, Table, as_markdown
from spos.runs.files import write_atomic
from spos.runs.journal import read_rows

BEGIN, END = "<!-- table of benchmarks.table: begin -->", "<!-- table of benchmarks.table: end -->"
# Times as fast as plain that a stage shall be, and through the exported model.
TARGETS: Mapping[str, float] = {
    "supernet_step": 3.0,
    "subnet_step": 1.5,
    "bn_update": 5.0,
    "candidate": 4.5,
    "inference": 2.0,
    "flops_count": 1000.0,
}
END_TO_END = "end_to_end"  # its lines stand in a table of their own: their rows are not ways, but stages
EXPORTED_TARGETS: Mapping[str, float] = {"inference": 4.0}
# What sets the lines of a stage apart, and is said beside its name.
CASES = ("space", "input_size", "batch_size", "batches", "limits", "formats")
FIELDS = ("stage", "unit", "options", "rows", "machine", "threads", "versions", "date")

Line = Dict[str, Any]


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--write", default="", help="put the table between the two markers of this file")
    args = parser.parse_args(argv)
    text = render(newest([line for file in args.files for line in read_lines(file)]))
    if args.write:
        write_atomic(args.write, replace_between(Path(args.write).read_text(encoding="utf-8"), text, args.write))
    else:
        print(text)
    return 0


def read_lines(file: str) -> List[Line]:
    """The lines of a file that have rows. Raises InputError if it is missing, or if a line lacks a field."""
    if not Path(file).is_file():
        raise InputError(f"{file} does not exist")
    lines = [line for line in read_rows(file) if "rows" in line]
    for line in lines:
        missing = [name for name in FIELDS if name not in line]
        if missing:
            raise InputError(f"{file}: a line of stage '{line.get('stage')}' has no {', '.join(missing)}")
    return lines


def newest(lines: Sequence[Line]) -> List[Line]:
    """The last line of each stage, case and number of threads, in the order in which they first came.

    Raises: InputError if none came.
    """
    kept: Dict[Tuple[str, ...], Line] = {}
    for line in lines:
        kept[(line["stage"], str(line["threads"]), *(str(line["options"].get(name)) for name in CASES))] = line
    if not kept:
        raise InputError("there are no results; run sh benchmarks/run_all.sh")
    return list(kept.values())


def render(lines: Sequence[Line]) -> str:
    """The tables in Markdown, and below each where its lines were measured."""
    whole = [line for line in lines if line["stage"] == END_TO_END]
    others = [line for line in lines if line["stage"] != END_TO_END]
    tables = [make([*own]) for make, own in ((table_of_ways, others), (table_of_stages, whole)) if own]
    return "\n\n".join(map(as_markdown, tables))


def table_of_ways(lines: Sequence[Line]) -> Table:
    """A row for each line: the fastest way of each role."""
    columns = (
        Column("stage"),
        Column("time", "time of"),
        Column("threads"),
        Column("plain"),
        Column("ours"),
        Column("speedup", "times as fast"),
        Column("target"),
        Column("pytorch", "PyTorch"),
        Column("ratio", "ours / PyTorch"),
        Column("onnxruntime", "ONNX Runtime"),
    )
    return Table("", columns, tuple(map(_cells, lines)), notes=_sources(lines))


def table_of_stages(lines: Sequence[Line]) -> Table:
    """A row for each stage of the whole method, as `benchmarks.end_to_end` writes them."""
    columns = (
        Column("stage"),
        Column("threads"),
        Column("seconds", unit="s"),
        Column("seconds_quartiles", "quartiles", "s"),
        Column("speed"),
        Column("speed_quartiles", "quartiles"),
        Column("runs"),
    )
    rows = tuple(
        (
            f"`{line['stage']}`: {row['name']}",
            str(line["threads"]),
            significant(row["seconds"]),
            _range(row["seconds_quartiles"]),
            f"{significant(row['speed'])} {row['unit']}" if "speed" in row else "-",
            _range(row["speed_quartiles"]) if "speed" in row else "-",
            str(row["runs"]),
        )
        for line in lines
        for row in line["rows"]
    )
    return Table("", columns, rows, notes=_sources(lines))


def _range(quartiles: Sequence[float]) -> str:
    return " to ".join(map(significant, quartiles))


def _cells(line: Line) -> Tuple[str, ...]:
    stage, options = line["stage"], line["options"]
    case = ", ".join(f"{name.replace('_', ' ')} {_words(options[name])}" for name in CASES if name in options)
    best = {role: fastest(line["rows"], role) for role in (PLAIN, OURS, PYTORCH, ONNX_RUNTIME)}
    ours = best[OURS]
    targets = [significant(TARGETS[stage])] if ours and stage in TARGETS else []
    if best[ONNX_RUNTIME] and stage in EXPORTED_TARGETS:
        targets.append(f"exported {EXPORTED_TARGETS[stage]:.3g}")
    return (
        f"`{stage}`" + (f" ({case})" if case else ""),
        line["unit"],
        str(line["threads"]),
        _time(best[PLAIN]),
        _time(ours),
        with_error(ours["speedup"], ours["error"]) if ours else "-",
        "; ".join(targets) or "-",
        _time(best[PYTORCH], beside_plain=True),
        _ratio(best[PYTORCH]),
        _time(best[ONNX_RUNTIME], beside_plain=True),
    )


def _words(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def fastest(rows: Sequence[Mapping[str, Any]], role: str) -> Optional[Mapping[str, Any]]:
    """Of the ways with this role, the one with the smallest median."""
    return min((row for row in rows if row["role"] == role), key=lambda row: row["median"], default=None)


def _ratio(row: Optional[Mapping[str, Any]]) -> str:
    """Time of ours by PyTorch's; lines from before it was recorded have none."""
    return with_error(*row["ours"]) if row and row.get("ours") else "-"


def _time(row: Optional[Mapping[str, Any]], beside_plain: bool = False) -> str:
    if row is None:
        return "-"
    return f"{milliseconds(row['median'])} ms" + (f" ({row['speedup']:.2f} x plain)" if beside_plain else "")


def _sources(lines: Sequence[Line]) -> Tuple[str, ...]:
    """A sentence for each machine and set of versions: which stages were measured there."""
    stages: Dict[str, Dict[str, None]] = {}
    for line in lines:
        stages.setdefault(_source(line), {})[line["stage"]] = None
    return tuple(f"{', '.join(own)}: {source}." for source, own in stages.items())


def _source(line: Line) -> str:
    machine = line["machine"]
    libraries = {**line["versions"], **{name: line[name] for name in ("torch", "onnxruntime") if name in line}}
    commit = (libraries.pop("commit", None) or "unknown")[:12]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory'] / 2**30:.0f} GiB; "
        f"{', '.join(f'{name} {version}' for name, version in libraries.items())}; "
        f"commit {commit}; {line['date'][:10]}"
    )


def replace_between(content: str, table: str, name: str) -> str:
    """`content` with the table between its two markers. Raises InputError if they are not there, once and in order."""
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise InputError(f"{name} needs the lines '{BEGIN}' and '{END}', once each and in this order")
    return f"{before}{begin}\n{table}\n{end}{after}"


if __name__ == "__main__":
    sys.exit(run_program(main))
