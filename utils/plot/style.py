"""The style of figures: resolution, colours, files that depend on the numbers alone, the published architectures."""

from __future__ import annotations

import io
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Type

from matplotlib.figure import Figure

from spos.core.flags import OneLineParser
from spos.runs.files import write_atomic
from spos.sampling.limits import MILLION
from spos.space.architecture_file import load_architecture, published_architectures
from spos.space.cost import count_architecture
from spos.space.space import SearchSpace
from spos.space.space_file import search_space

WITHOUT_DATE: Dict[str, Dict[str, None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
DPI = 110
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#555555"
MARKERS = "*^sDPX"


def figure_file(text: str) -> str:
    """A file whose end says the format of a figure."""
    if Path(text).suffix.lstrip(".").lower() not in WITHOUT_DATE:
        raise ArgumentTypeError(f"{text} must end in {', '.join('.' + name for name in WITHOUT_DATE)}")
    return text


class FigureParser(OneLineParser):
    """The flags of a figure, --output among them.

    Args:
        output: its default.
    """

    def __init__(self, description: Optional[str], groups: Sequence[Type], output: str) -> None:
        super().__init__(description, groups)
        self.add_argument("--output", type=figure_file, default=output, help="file of the figure [%(default)s]")


def save(figure: Figure, output: str, description: str = "") -> None:
    """Write a figure at once, without the date, so that the same numbers give the same file.

    Args: description: text that a PNG carries inside.
    """
    content, kind = io.BytesIO(), Path(output).suffix.lstrip(".").lower()
    more = {"Description": description} if description and kind == "png" else {}
    figure.savefig(content, format=kind, metadata={**WITHOUT_DATE[kind], **more})
    write_atomic(output, content.getvalue())


def is_like_published(space: SearchSpace) -> bool:
    """Whether published networks, which are for ImageNet, are for the classes of a space, so that costs compare."""
    return space.num_classes == search_space().num_classes


def draw_published_architectures(axes: Any) -> List[Any]:
    """The published architectures, each counted in its own space."""
    points = []
    for name, marker in zip(published_architectures(), MARKERS):
        record = load_architecture(name)
        cost = count_architecture(record.space, record.architecture)
        points += axes.plot(
            cost.macs / MILLION,
            cost.params / MILLION,
            marker,
            color="black",
            markeredgecolor="white",
            markersize=10 if marker == "*" else 7,
            label=f"{name} (published)",
            zorder=4,
        )
    return points
