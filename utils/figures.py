"""What all figures share: resolution, colours, and files that depend on the numbers alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Dict

from matplotlib.figure import Figure

from spos.errors import InputError
from spos.records import write_atomic

WITHOUT_DATE: Dict[str, Dict[str, None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
DPI = 110
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"


def check_format(output: str) -> None:
    if Path(output).suffix.lstrip(".").lower() not in WITHOUT_DATE:
        raise InputError(f"--output {output} must end in {', '.join('.' + name for name in WITHOUT_DATE)}")


def save(figure: Figure, output: str) -> None:
    """Write a figure at once, without the date, so that the same numbers give the same file."""
    content, kind = io.BytesIO(), Path(output).suffix.lstrip(".").lower()
    figure.savefig(content, format=kind, metadata=WITHOUT_DATE[kind])
    write_atomic(output, content.getvalue())
