"""The figure of the choice blocks: every layer of their branches, and where channels are selected."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from matplotlib.figure import Figure

from spos.core.errors import InputError
from spos.core.flags import pick, positive
from spos.core.tables import table
from spos.space.blocks import BlockKind, ChoiceBlockGeometry
from spos.space.flags import SpaceOptions, fit, space_of
from spos.space.layers import SqueezeExcite, conv_size
from spos.space.space import SearchSpace
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
    write,
    write_beside,
)
from utils.plot.style import GREY, FigureParser, save

KEPT, GAP, MARGIN = 0.42, 0.12, 0.1  # width left of a main branch for the half that is kept; between boxes; outside
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
    save(plot_blocks(space, drawings), args.output)
    print(table([*((f"{one.names}, {one.place}", one.text()) for one in drawings), ("figure", args.output)]))
    return 0


@dataclass(frozen=True)
class Drawing:
    """What is drawn of a choice block for the block choices of one family."""

    block: ChoiceBlockGeometry
    kinds: Tuple[BlockKind, ...]
    main: Sequence[Row]
    projection: Sequence[Row]

    @property
    def names(self) -> str:
        return ", ".join(kind.name for kind in self.kinds)

    @property
    def place(self) -> str:
        which = "first block" if self.block.projects else "other blocks"
        return f"{which} of stage {self.block.stage + 1}, stride {self.block.stride}"

    @property
    def width(self) -> float:
        return BOX + GAP + (BOX if self.block.projects else KEPT)

    @property
    def joined(self) -> Tuple[int, int]:
        """Channels of what is concatenated: what is kept or projected, and the main branch."""
        main = diagrams.channels(self.main[-1])[0]
        return self.block.out_channels - main, main

    def text(self) -> str:
        """One line: the channels from layer to layer of the main branch."""
        leaving = (diagrams.span(diagrams.channels(row)) for row in self.main)
        return " -> ".join([diagrams.entering(self.main[0]), *leaving])


def drawings_of(space: SearchSpace, stage: int) -> List[Drawing]:
    """For every family of block choices: a block that shuffles, then the one that projects, as far as there are."""
    found: Dict[bool, ChoiceBlockGeometry] = {}
    for block in space.choice_blocks:
        if block.stage == stage:
            found.setdefault(block.projects, block)
    families = dict.fromkeys(kind.family for kind in space.blocks)
    return [drawing(space, found[projects], family) for family in families for projects in sorted(found)]


def drawing(space: SearchSpace, block: ChoiceBlockGeometry, family: str) -> Drawing:
    kinds = space.choices[block.index].blocks
    chosen = [b for b, kind in enumerate(kinds) if kind.family == family]
    described = [space.block_layers(block.index, b, c) for b in chosen for c in space.channel_choices(block.index)]
    main, projection = (list(zip(*(getattr(one, name) for one in described))) for name in ("main", "projection"))
    return Drawing(block, tuple(kinds[b] for b in chosen), main, projection)


def plot_blocks(space: SearchSpace, drawings: Sequence[Drawing]) -> Figure:
    """The drawings side by side, with notes below those of the first family."""
    figure, axes = diagrams.canvas()
    left, ends = (WIDTH - sum(one.width for one in drawings) - GAP * (len(drawings) - 1)) / 2, []
    begin = left
    for one in drawings:
        ends.append(draw(axes, one, left))
        left += one.width + GAP
    notes = notes_of(space, drawings[0])
    top = max(end for end, one in zip(ends, drawings) if one.kinds == drawings[0].kinds) + 0.3
    write(axes, (begin, top), "\n".join(notes), ha="left", va="top", fontsize=SMALL, linespacing=1.4)
    return diagrams.cut(figure, axes, max(*ends, top + NOTE_LINE * len(notes)) + MARGIN)


def draw(axes: Any, one: Drawing, left: float) -> float:
    """One drawing, from its title to what leaves the block. Returns where it ends."""
    block, middle, rows = one.block, left + one.width / 2, (one.projection, one.main)
    write(axes, (middle, 0.15), one.names, fontsize=TITLE, weight="bold")
    write(axes, (middle, 0.34), one.place, fontsize=SMALL)
    write(axes, (middle, 0.6), diagrams.shape(block.in_channels, block.in_size))
    paths = (left + (BOX if block.projects else KEPT) / 2, left + one.width - BOX / 2)
    top = draw_split(axes, one, paths, Place(left, 0.7, one.width, LINE))
    ends = [diagrams.draw_chain(axes, branch, x, top) for x, branch in zip(paths, rows)]
    concat = Place(left, max(ends) + ARROW, one.width, LINE + 0.04)
    for x, end, number in zip(paths, ends, one.joined):
        draw_line(axes, [(x, end), (x, concat.top)])
        write_beside(axes, (x, concat.top - ARROW / 2), str(number))
    draw_box(axes, concat, "concat", GREY)
    end = concat.bottom + ARROW
    draw_line(axes, [(middle, concat.bottom), (middle, end)])
    write(axes, (middle, end + 0.1), diagrams.shape(block.out_channels, conv_size(block.in_size, block.stride)))
    return end + 0.2


def draw_split(axes: Any, one: Drawing, paths: Tuple[float, float], place: Place) -> float:
    """From what enters the block, at the top of `place`, to where both branches begin. Returns that height."""
    x, top = place.middle[0], place.top
    if one.block.projects:
        fork = top + ARROW / 2
        draw_line(axes, [(x, top), (x, fork)], has_head=False)
        draw_line(axes, [(paths[0], fork), (paths[1], fork)], has_head=False, solid_capstyle="projecting")
        return fork
    for text in ("channel shuffle", "split in halves"):
        draw_line(axes, [(x, top), (x, top + ARROW / 2)])
        top += ARROW / 2
        draw_box(axes, place._replace(top=top), text, GREY)
        top += LINE
    write_beside(axes, (paths[0], top + ARROW / 2), str(one.joined[0]))
    write(axes, (paths[0] - 0.08, top + 2 * ARROW), "kept", rotation=90, fontsize=SMALL)
    return top


def notes_of(space: SearchSpace, one: Drawing) -> List[str]:
    """Lines that say what the colours and letters mean."""
    *widths, widest = (str(space.mid_channels(one.block.index, c)) for c in space.searchable_channel_choices)
    notes = [
        f"Channel selection keeps the first {' or '.join(filter(None, [', '.join(widths), widest]))} channels of the "
        "middle. The others are left out, or set to 0 after BN, whose beta must not leak."
    ]
    if len({kind.kernel_size for kind in one.kinds}) > 1:
        notes.append("k: " + ", ".join(f"{kind.kernel_size} in {kind.name}" for kind in one.kinds) + ".")
    for layer in (row[0] for row in one.main if isinstance(row[0], SqueezeExcite)):
        squeeze, excite = layer.convs
        notes.append(
            f"SE: global pooling, 1×1 conv to {squeeze.out_channels}, {diagrams.ACTIVATIONS[str(squeeze.act)]}, "
            f"1×1 conv to {excite.out_channels}, hard sigmoid; multiplied onto the channels."
        )
    return [line for note in notes for line in textwrap.wrap(note, NOTE_LETTERS)]
