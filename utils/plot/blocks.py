"""The figure of the choice blocks: every layer of their branches, and where channels are selected."""

from __future__ import annotations

import textwrap
from typing import Any, Dict, List, Sequence, Tuple

from matplotlib.figure import Figure

from spos.core.errors import InputError
from spos.core.flags import pick, positive
from spos.core.tables import table
from spos.space.flags import SpaceOptions, fit, space_of
from spos.space.layers import SqueezeExcite, conv_size
from utils.plot import diagrams
from utils.plot.diagrams import (
    ARROW,
    BOX,
    LINE,
    SMALL,
    TITLE,
    WIDTH,
    Place,
    Row,
    draw_box,
    draw_line,
    text_width,
    write,
    write_beside,
)
from utils.plot.structures import GAP, KEPT, Drawing, drawings_of, widest_kernel
from utils.plot.style import GREY, FigureParser, save

MARGIN, ROW_GAP = 0.1, 0.35  # outside; between rows of drawings
TITLE_LINE = 0.16  # height of a line of names of blocks
NOTE_LINE, NOTE_LETTERS = 0.16, 70  # height of a line of the notes, and the letters in it


def blocks(argv: List[str]) -> int:
    """The choice blocks of a stage: layers, channels, and where channels are selected."""
    parser = FigureParser(blocks.__doc__, (SpaceOptions,), "choice_blocks.png")
    parser.add_argument("--stage", type=positive, help="number of the stage, from 1 [the last]")
    args = parser.parse_args(argv)
    options = pick(SpaceOptions, args)
    space = fit(space_of(options), options)
    stage = len(space.stages) if args.stage is None else args.stage
    if stage > len(space.stages):
        raise InputError(f"--stage {stage}: layout {space.layout} has {len(space.stages)} stages")
    drawings = drawings_of(space, stage - 1)
    save(plot_blocks(drawings), args.output)
    print(table([*((f"{one.names}, {one.place}", one.text()) for one in drawings), ("figure", args.output)]))
    return 0


def plot_blocks(drawings: Sequence[Drawing]) -> Figure:
    """The drawings side by side, in rows, with notes below those of the last row that leave room for them."""
    figure, axes = diagrams.canvas()
    bottom, width = 0.0, max(WIDTH, *(one.width + 2 * MARGIN for one in drawings))
    for row in in_rows(drawings):
        top = bottom + ROW_GAP if bottom else bottom
        places = places_of(row, width)
        num_lines = max(len(one.title) for one in row)
        ends = [draw(axes, one, left, top + TITLE_LINE * (num_lines - 1)) for one, left in zip(row, places)]
        bottom = max(ends)
    notes = notes_of(drawings)
    if notes:
        length = max(text_width(note, SMALL) for note in notes)
        begin = min(places[0], width - MARGIN - length)
        top = max(end for end, left, one in zip(ends, places, row) if left < begin + length) + 0.3
        write(axes, (begin, top), "\n".join(notes), ha="left", va="top", fontsize=SMALL, linespacing=1.4)
        bottom = max(bottom, top + NOTE_LINE * len(notes))
    return diagrams.cut(figure, axes, bottom + MARGIN, width)


def in_rows(drawings: Sequence[Drawing]) -> List[List[Drawing]]:
    """As many drawings in a row as the canvas is wide."""
    rows: List[List[Drawing]] = [[]]
    for one in drawings:
        taken = sum(other.width + GAP for other in rows[-1])
        if rows[-1] and taken + one.width > WIDTH - 2 * MARGIN:
            rows.append([])
        rows[-1].append(one)
    return rows


def places_of(row: Sequence[Drawing], width: float) -> List[float]:
    """The left ends of the drawings of a row, which stands in the middle of the canvas."""
    left, places = (width - sum(one.width for one in row) - GAP * (len(row) - 1)) / 2, []
    for one in row:
        places.append(left)
        left += one.width + GAP
    return places


def draw(axes: Any, one: Drawing, left: float, top: float) -> float:
    """One drawing, from the last line of its title to what leaves the block. Returns where it ends."""
    block, middle = one.block, left + one.width / 2
    for above, line in enumerate(reversed(one.title)):
        write(axes, (middle, top + 0.15 - TITLE_LINE * above), line, fontsize=TITLE, weight="bold")
    write(axes, (middle, top + 0.34), one.place, fontsize=SMALL)
    write(axes, (middle, top + 0.6), diagrams.shape(block.in_channels, block.in_size))
    begin, drawn = top + 0.7, Place(middle - one.drawn_width / 2, top + 0.7, one.drawn_width, LINE)
    bottom = draw_branches(axes, one, drawn) if one.has_branches else draw_chain(axes, one, (middle, begin))
    end = bottom + ARROW
    draw_line(axes, [(middle, bottom), (middle, end)])
    write(axes, (middle, end + 0.1), diagrams.shape(block.out_channels, conv_size(block.in_size, block.stride)))
    return end + 0.2


def draw_chain(axes: Any, one: Drawing, point: Tuple[float, float]) -> float:
    """The main branch alone. Returns where it ends."""
    if one.main:
        return diagrams.draw_chain(axes, one.main, *point)
    end = point[1] + ARROW
    draw_line(axes, [point, (point[0], end)], has_head=False)
    write_beside(axes, (point[0], end), "passed on")
    return end


def draw_branches(axes: Any, one: Drawing, place: Place) -> float:
    """Both branches, from what enters the block at the top of `place`, and how they are joined. Returns where."""
    paths = (place.left + (BOX if one.layers.projection else KEPT) / 2, place.right - BOX / 2)
    top = draw_split(axes, one, paths, place)
    ends = [diagrams.draw_chain(axes, branch, x, top) for x, branch in zip(paths, (one.projection, one.main))]
    join = Place(place.left, max(ends) + ARROW, place.width, LINE + 0.04)
    for x, end, number in zip(paths, ends, one.joined):
        draw_line(axes, [(x, end), (x, join.top)])
        write_beside(axes, (x, join.top - ARROW / 2), str(number))
    draw_box(axes, join, one.joining, GREY)
    if not one.layers.act:
        return join.bottom
    act = Place(place.left, join.bottom, place.width, LINE)
    draw_box(axes, act, diagrams.ACTIVATIONS[one.layers.act], GREY)
    return act.bottom


def draw_split(axes: Any, one: Drawing, paths: Tuple[float, float], place: Place) -> float:
    """From what enters the block, at the top of `place`, to where both branches begin. Returns that height."""
    x, top = place.middle[0], place.top
    if not one.layers.shuffles:
        fork = top + ARROW / 2
        draw_line(axes, [(x, top), (x, fork)], has_head=False)
        draw_line(axes, [(paths[0], fork), (paths[1], fork)], has_head=False, solid_capstyle="projecting")
        if not one.layers.projection:
            write(axes, (paths[0] - 0.08, fork + 2 * ARROW), "input", rotation=90, fontsize=SMALL)
        return fork
    for text in ("channel shuffle", "split in halves"):
        draw_line(axes, [(x, top), (x, top + ARROW / 2)])
        top += ARROW / 2
        draw_box(axes, place._replace(top=top), text, GREY)
        top += LINE
    write_beside(axes, (paths[0], top + ARROW / 2), str(one.joined[0]))
    write(axes, (paths[0] - 0.08, top + 2 * ARROW), "kept", rotation=90, fontsize=SMALL)
    return top


def notes_of(drawings: Sequence[Drawing]) -> List[str]:
    """Lines that say what the colours and letters mean."""
    notes = [*width_notes(drawings), *kernel_notes(drawings), *gate_notes(drawings)]
    return [line for note in notes for line in textwrap.wrap(note, NOTE_LETTERS)]


def width_notes(drawings: Sequence[Drawing]) -> List[str]:
    """Which widths channel selection has."""
    owners: Dict[str, List[str]] = {}
    for one in (one for one in drawings if one.selects):
        for own in dict.fromkeys(one.widths):
            names = ", ".join(kind.name for kind, widths in zip(one.kinds, one.widths) if widths == own)
            owners.setdefault(alternatives(own), []).append(f"{names} ({one.which})")
    if not owners:
        return []
    others = "The others are left out, or set to 0 after BN, whose beta must not leak."
    if len(owners) == 1:
        return [f"Channel selection keeps the first {next(iter(owners))} channels of the middle. {others}"]
    cases = "; ".join(f"{widths} in {listed(names)}" for widths, names in owners.items())
    return [f"Channel selection keeps the first channels of the middle: {cases}. {others}"]


def alternatives(values: Sequence[int]) -> str:
    """`1, 2 or 3`."""
    *others, last = map(str, values)
    return " or ".join(filter(None, [", ".join(others), last]))


def listed(names: Sequence[str]) -> str:
    """`a, b and c`, each once."""
    *others, last = dict.fromkeys(names)
    return " and ".join(filter(None, [", ".join(others), last]))


def kernel_notes(drawings: Sequence[Drawing]) -> List[str]:
    """Which kernels are called k."""
    owners: Dict[int, List[str]] = {}
    for one in drawings:
        num_widths = len(one.main[0]) // len(one.kinds) if one.main else 0
        kernels = [widest_kernel(tuple(row[i * num_widths] for row in one.main)) for i in range(len(one.kinds))]
        for kind, kernel in zip(one.kinds, kernels) if len(set(kernels)) > 1 else ():
            owners.setdefault(kernel, []).append(kind.name)
    cases = ", ".join(f"{kernel} in {listed(names)}" for kernel, names in sorted(owners.items()))
    return [f"k: {cases}."] if cases else []


def gate_notes(drawings: Sequence[Drawing]) -> List[str]:
    """What SE stands for."""
    owners: Dict[str, List[str]] = {}
    for one in drawings:
        for row in one.main:
            if isinstance(row[0], SqueezeExcite):
                owners.setdefault(describe_gate(row), []).append(f"{one.names} ({one.which})")
    if len(owners) == 1:
        return [f"SE: {next(iter(owners))}."]
    return [f"SE in {listed(names)}: {gate}." for gate, names in owners.items()]


def describe_gate(row: Row) -> str:
    pairs = [layer.convs for layer in row if isinstance(layer, SqueezeExcite)]
    squeezed, excited = (diagrams.span(conv.out_channels for conv in convs) for convs in zip(*pairs))
    return (
        f"global pooling, 1×1 conv to {squeezed}, {diagrams.ACTIVATIONS[str(pairs[0][0].act)]}, 1×1 conv to {excited}, "
        "hard sigmoid; multiplied onto the channels"
    )
