"""The HTML of a report: one page without any request, in the colours that the reader's system prefers."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from html import escape
from itertools import count
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from spos.core.tables import Table

STYLE, SCRIPT = (Path(__file__).with_name(f"page.{kind}") for kind in ("css", "js"))

# Before anything is shown, so that nothing flashes.
EARLY = 'if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.dataset.theme = "dark";'

NUM_COLOURS = 12  # of kinds of blocks in page.css; more kinds share them


def kind_class(number: int) -> str:
    """The class that has the colour of a kind of blocks, by its number in the space."""
    return f"kind-{number % NUM_COLOURS}"


def policy(scripts: Sequence[str]) -> str:
    """Whatever stands on the page, a browser runs these scripts alone, by digest, and asks nobody for anything."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"


@dataclass(frozen=True)
class Plot:
    """A figure of plotly that names its colours as variables of the page's style: `var(--ink)`.

    Args:
        title: what is read to those who do not see it.
        axes: by name of a choice: the title of the x axis, and what it changes in each trace. The first is shown first.
        chosen: `customdata` of the point that the panel below describes until another is pointed at; None: no panel.
    """

    title: str
    figure: Figure
    axes: Optional[Mapping[str, Mapping[str, Any]]] = None
    chosen: Any = None


@dataclass(frozen=True)
class Section:
    """A part of the page; `name` is its link."""

    name: str
    title: str
    parts: Sequence[str]


class Writer:
    """Turns plots into HTML, each with an id of its own."""

    def __init__(self) -> None:
        self._ids: Iterator[int] = count(1)

    def plot(self, plot: Plot) -> str:
        name = f"plot-{next(self._ids)}"
        content = {**json.loads(plot.figure.to_json()), "axes": plot.axes, "chosen": plot.chosen}
        selector = _selector(name, plot.axes) if plot.axes and len(plot.axes) > 1 else ""
        panel = "" if plot.chosen is None else _panel(name)
        height = plot.figure.layout.height
        return (
            f'{selector}<div class="plot" id="{name}" role="img" aria-label="{escape(plot.title)}" '
            f'style="height:{height}px"></div>{panel}'
            f'<script type="application/json" id="{name}-data">{json_in_html(content)}</script>'
        )


def _selector(name: str, axes: Mapping[str, Mapping[str, Any]]) -> str:
    choices = "".join(f'<option value="{escape(key)}">{escape(axis["title"])}</option>' for key, axis in axes.items())
    return f'<label class="selector">against <select id="{name}-axis">{choices}</select></label>'


def _panel(name: str) -> str:
    return f'<div class="inspector" id="{name}-inspector"><div class="facts"></div><div class="strip"></div></div>'


def json_in_html(value: Any) -> str:
    """JSON that ends no script element, whatever it holds."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")


def page(
    title: str, subtitle: str, cards: Sequence[Tuple[str, str, str]], sections: Sequence[Section], refresh: int = 0
) -> str:
    """The whole file.

    Args:
        cards: (what, figure, remark), all plain text.    refresh: seconds after which it loads itself again; 0: never.
    """
    links = "".join(f'<a href="#{section.name}">{escape(section.title)}</a>' for section in sections)
    shown = "".join(
        f'<div class="card"><span>{escape(what)}</span><b>{escape(figure)}</b><span>{escape(remark)}</span></div>'
        for what, figure, remark in cards
    )
    body = "".join(
        f'<section id="{section.name}"><h2>{escape(section.title)}</h2>{"".join(section.parts)}</section>'
        for section in sections
    )
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    plotly = get_plotlyjs().replace("\r", "")  # as a browser reads it
    own = SCRIPT.read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy((EARLY, plotly, own))}">
{again}<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<script>{EARLY}</script>
<style>{STYLE.read_text(encoding="utf-8")}</style>
<script>{plotly}</script>
</head>
<body>
<header><div class="bar"><div><h1>{escape(title)}</h1><p class="muted">{escape(subtitle)}</p></div>
<button id="theme" type="button" aria-label="colours">Dark</button></div>
<div class="cards">{shown}</div><nav>{links}</nav></header>
<main>{body}</main>
<footer>Every figure is of the runs named above; what is marked as published was printed elsewhere.
FLOPs: one multiply-add is 1.</footer>
<script>{own}</script>
</body>
</html>
"""


def text(sentence: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(sentence)}</p>' if kind else f"<p>{escape(sentence)}</p>"


def missing(sentence: str) -> str:
    """What a run does not tell, and why."""
    return text(sentence, "missing")


def heading(title: str, level: int = 3) -> str:
    return f"<h{level}>{escape(title)}</h{level}>"


def command(line: str) -> str:
    return f"<pre><code>{escape(line)}</code></pre>"


def details(title: str, *parts: str) -> str:
    """Shown when it is asked for."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def side_by_side(*parts: str) -> str:
    """On a phone one below the other."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def table(content: Table, own: Sequence[int] = (), wide: Sequence[int] = ()) -> str:
    """A table that is scrolled in a box of its own.

    Args:
        own: numbers of rows that stand out.    wide: numbers of columns whose text is broken into lines.
    """
    header, *rows = content.cells()
    classes = [
        " ".join(name for name, has in (("number", content.is_number(i)), ("wide", i in wide)) if has)
        for i in range(len(content.columns))
    ]
    head = "".join(f'<th class="{kind}">{escape(cell)}</th>' for kind, cell in zip(classes, header))
    lines = [_row(cells, classes, "own" if i in own else "") for i, cells in enumerate(rows)]
    last = len(content.rows)
    totals = f'<tbody class="totals">{"".join(lines[last:])}</tbody>' if content.totals else ""
    caption = f"<caption>{escape(content.title)}</caption>" if content.title else ""
    notes = "".join(text(note, "muted") for note in content.notes)
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{"".join(lines[:last])}</tbody>'
        f"{totals}</table></div>{notes}"
    )


def _row(cells: Sequence[str], classes: Sequence[str], kind: str) -> str:
    inner = "".join(f'<td class="{name}">{escape(cell)}</td>' for name, cell in zip(classes, cells))
    return f'<tr class="{kind}">{inner}</tr>'


def picture(png: bytes, what: str) -> str:
    """An image that is a part of the page.

    Args:
        what: is read to those who do not see it.
    """
    data = base64.b64encode(png).decode()
    return f'<div class="scroll"><img src="data:image/png;base64,{data}" alt="{escape(what)}"></div>'


def legend(entries: Sequence[Tuple[str, str]]) -> str:
    """(class of the colour, what it stands for)."""
    return (
        '<div class="legend">'
        + "".join(f'<span><i class="{kind}"></i>{escape(name)}</span>' for kind, name in entries)
        + "</div>"
    )


def flags_table(options: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Flags by name, as they are typed."""
    values: Dict[str, str] = {f"--{name.replace('_', '-')}": str(value) for name, value in options.items()}
    return list(values.items())
