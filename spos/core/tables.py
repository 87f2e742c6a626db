"""Tables that people read: one description, rendered as text, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Sequence, Tuple

from spos.core.errors import InputError, printable

NOTE_WIDTH = 120  # of lines of text below a table
NO_VALUE = "-"


@dataclass(frozen=True)
class Column:
    """How the values of a column look.

    Args:
        name: what machines call it: the header in CSV, the key in JSON.
        title: what eyes see above it; the name by default.
        unit: stands in brackets behind the title.
        scale: what a number is divided by for eyes, so 1e6 where the unit is M. Machines get the number itself.
        spec: format of a number for eyes, as in an f-string: `.3f`, `,`, `.2%`.
    """

    name: str
    title: str = ""
    unit: str = ""
    scale: float = 1
    spec: str = ""

    @property
    def header(self) -> str:
        return (self.title or self.name) + (f" ({self.unit})" if self.unit else "")

    def text(self, value: Any) -> str:
        """A value for eyes. Texts stay as they are, but for what would act on a terminal; None is a dash."""
        if value is None:
            return NO_VALUE
        if isinstance(value, str):
            return printable(value)
        return format(value if self.scale == 1 else value / self.scale, self.spec)


def millions(name: str, title: str, spec: str = ".3f") -> Column:
    """A column of raw integers, shown in millions."""
    return Column(name, title, "M", 1e6, spec)


def in_millions(count: float, digits: int) -> str:
    """A count in words: `3.40M`, with so many digits behind the point; below 1M one more of value."""
    value = count / 1e6
    return f"{value:.{digits}f}M" if value >= 1 else f"{value:.{digits + 1}g}M"


@dataclass(frozen=True)
class Table:
    """Rows under columns, with sentences below.

    Args:
        rows: as many values each as there are columns; a number, a text, or None.
        notes: what the figures mean. They are left out of CSV.
        totals: rows below the others, left out of `records`.
        header: whether text shows the titles of the columns; Markdown and CSV always do.
    """

    title: str
    columns: Tuple[Column, ...]
    rows: Tuple[Tuple[Any, ...], ...]
    notes: Tuple[str, ...] = ()
    totals: Tuple[Tuple[Any, ...], ...] = ()
    header: bool = True

    def __post_init__(self) -> None:
        for row in self.all_rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table '{self.title}' has {len(self.columns)} columns, but a row {row}")

    @property
    def all_rows(self) -> Tuple[Tuple[Any, ...], ...]:
        return self.rows + self.totals

    def cells(self) -> List[List[str]]:
        """The titles and the rows as they are shown to eyes."""
        return [
            [column.header for column in self.columns],
            *([column.text(value) for column, value in zip(self.columns, row)] for row in self.all_rows),
        ]

    def is_number(self, index: int) -> bool:
        """Whether a column has numbers and no text, and so is aligned to the right."""
        values = [row[index] for row in self.all_rows if row[index] is not None]
        return bool(values) and not any(isinstance(value, str) for value in values)

    def records(self) -> List[Dict[str, Any]]:
        """The rows for JSON: raw values by the names of their columns."""
        return [{column.name: value for column, value in zip(self.columns, row)} for row in self.rows]


def as_text(table: Table) -> str:
    """Aligned columns, the title above, the notes below."""
    cells = table.cells()[0 if table.header else 1 :]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    right = [table.is_number(i) for i in range(len(table.columns))]
    lines = [printable(table.title)] if table.title else []
    for row in cells:
        padded = (cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in zip(row, widths, right))
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines + [line for note in table.notes for line in textwrap.wrap(note, NOTE_WIDTH)])


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown, the title above, a paragraph for each note below."""
    header, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table.cells()]
    rule = ["---:" if table.is_number(i) else ":---" for i in range(len(table.columns))]
    body = "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))
    return "\n\n".join([*([f"**{printable(table.title)}**"] if table.title else []), body, *table.notes])


def as_csv(table: Table) -> str:
    """The names, then the values, unrounded and in units: for spreadsheets. None is empty; no title and no notes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    writer.writerows(table.all_rows)
    return "\n".join(map(printable, text.getvalue().rstrip("\n").split("\n")))  # line ends in values stay


FORMATS: Dict[str, Callable[[Table], str]] = {"text": as_text, "markdown": as_markdown, "csv": as_csv}


def render(tables: Sequence[Table], style: str) -> str:
    """Tables one under the other, an empty line between them.

    Raises: InputError for an unknown style.
    """
    if style not in FORMATS:
        raise InputError(f"unknown format '{style}'; known: {', '.join(FORMATS)}")
    return "\n\n".join(FORMATS[style](table) for table in tables)


def table(rows) -> str:
    """Rows of (label, value) in two aligned columns."""
    cells = tuple((str(label), str(value)) for label, value in rows)
    return as_text(Table("", (Column("label"), Column("value")), cells, header=False))
