"""Tables as text, Markdown and CSV."""

import csv
import io

import pytest

from spos.core.errors import InputError
from spos.core.tables import Column, Table, as_csv, as_markdown, as_text, in_millions, millions, render, table

EXAMPLE = Table(
    "Costs",
    (Column("name"), millions("flops", "FLOPs"), Column("top1", "top-1", spec=".2%")),
    (("a|b", 1_234_567, 0.5), ("c, d", 98_765_432, None)),
    notes=("A note.",),
    totals=(("total", 100_000_000 - 1, None),),
)


def test_text_is_aligned():
    assert as_text(EXAMPLE).split("\n") == [
        "Costs",
        "name   FLOPs (M)   top-1",
        "a|b        1.235  50.00%",
        "c, d      98.765       -",
        "total    100.000       -",
        "A note.",
    ]


def test_text_can_do_without_titles_of_columns():
    bare = Table("", (Column("label"), Column("value")), (("a", "1"), ("long", "2")), header=False)
    assert as_text(bare) == "a     1\nlong  2" == table((("a", 1), ("long", 2)))


def test_notes_are_wrapped():
    lines = as_text(Table("", (Column("a"),), ((1,),), notes=("word " * 100,))).split("\n")
    assert len(lines) > 4 and max(map(len, lines)) <= 120


def test_markdown():
    assert as_markdown(EXAMPLE).split("\n") == [
        "**Costs**",
        "",
        "| name | FLOPs (M) | top-1 |",
        "| :--- | ---: | ---: |",
        "| a\\|b | 1.235 | 50.00% |",
        "| c, d | 98.765 | - |",
        "| total | 100.000 | - |",
        "",
        "A note.",
    ]


def test_csv_has_raw_values_under_the_names():
    rows = list(csv.reader(io.StringIO(as_csv(EXAMPLE))))
    assert rows == [
        ["name", "flops", "top1"],
        ["a|b", "1234567", "0.5"],
        ["c, d", "98765432", ""],
        ["total", "99999999", ""],
    ]


def test_records_leave_totals_out():
    assert EXAMPLE.records() == [
        {"name": "a|b", "flops": 1_234_567, "top1": 0.5},
        {"name": "c, d", "flops": 98_765_432, "top1": None},
    ]


@pytest.mark.parametrize("rows", ({"rows": ((1, 2),)}, {"rows": ((1,),), "totals": ((),)}))
def test_a_row_of_another_length_is_an_error(rows):
    with pytest.raises(ValueError, match="has 1 columns, but a row"):
        Table("t", (Column("a"),), **rows)


def test_several_tables_are_separated_by_an_empty_line():
    assert render([EXAMPLE, EXAMPLE], "csv") == as_csv(EXAMPLE) + "\n\n" + as_csv(EXAMPLE)
    with pytest.raises(InputError, match="unknown format 'html'; known: text, markdown, csv"):
        render([EXAMPLE], "html")


@pytest.mark.parametrize(
    "count, digits, words",
    ((328_000_000, 1, "328.0M"), (3_400_000, 2, "3.40M"), (113_580, 2, "0.114M"), (14_290, 2, "0.0143M"), (0, 1, "0M")),
)
def test_small_counts_keep_their_digits_in_millions(count, digits, words):
    assert in_millions(count, digits) == words
