"""The figure of a supernet: stem, every choice of every choice block, head, and one path through them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, List, Sequence, Tuple

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from spos.core.flags import not_negative, pick
from spos.core.seeds import derive_rng
from spos.core.tables import table
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import ChoiceBlockGeometry
from spos.space.cost import count
from spos.space.flags import SpaceOptions, fit, space_of
from spos.space.layers import LayerSpec, Specs, conv_size
from spos.space.space import SearchSpace
from utils.plot import diagrams
from utils.plot.diagrams import ACTIVATIONS, ARROW, SMALL, TITLE, WIDTH, Place, Point, draw_line, tint, write
from utils.plot.style import BLUE, GREY, ORANGE, FigureParser, save

STEM, HEAD = 0.64, WIDTH - 0.64  # the middles of what stands left and right of the stages
FIRST, LAST = 1.84, WIDTH - 1.58  # where the stages begin and end
STAGE_GAP = 0.12
TITLES, KINDS, CELL = 0.17, 1.24, 0.3  # heights: of the titles, of the first block choice; and from one to the next
BAR = 0.125  # height of a width


def supernet(argv: List[str]) -> int:
    """A supernet with all its choices, and one sampled path."""
    parser = FigureParser(supernet.__doc__, (SpaceOptions,), "supernet.png")
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of the sampled path [%(default)s]")
    args = parser.parse_args(argv)
    options = pick(SpaceOptions, args)
    space = fit(space_of(options), options)
    path = space.sample(derive_rng(args.seed, "supernet"))
    save(plot_supernet(space, path), args.output)
    print(table([("architectures", f"{space.num_architectures:.3g}"), ("path", str(path)), ("figure", args.output)]))
    return 0


@dataclass(frozen=True)
class Grid:
    """Where the choices stand: a column for every choice block, block choices above widths."""

    space: SearchSpace

    @property
    def pitch(self) -> float:
        """From one column to the next."""
        return (LAST - FIRST - STAGE_GAP * (len(self.space.stages) - 1)) / self.space.num_choice_blocks

    def x(self, block: ChoiceBlockGeometry) -> float:
        return FIRST + self.pitch * (block.index + 0.5) + STAGE_GAP * block.stage

    def kind(self, block: ChoiceBlockGeometry, block_choice: int) -> Point:
        return self.x(block), KINDS + CELL * (block_choice + 0.5)

    @property
    def middle(self) -> float:
        """Height at which the stages are entered and left."""
        return KINDS + CELL * self.space.num_block_choices / 2

    @property
    def widths(self) -> float:
        """Where the widths begin."""
        return KINDS + CELL * self.space.num_block_choices + 0.14

    def bar(self, block: ChoiceBlockGeometry, channel_choice: int) -> Place:
        """Of a length that is as the scale of the width."""
        scales = self.space.channel_scales
        length = 0.84 * min(self.pitch, 2 * CELL) * scales[channel_choice] / max(scales)
        top = self.widths + BAR * (channel_choice - self.space.min_channel_choice)
        return Place(self.x(block) - length / 2, top, length, 0.68 * BAR)

    @cached_property
    def bottom(self) -> float:
        """Where the widths end."""
        return self.widths + BAR * len(self.space.searchable_channel_choices)


def plot_supernet(space: SearchSpace, path: Architecture) -> Figure:
    figure, axes = diagrams.canvas()
    grid = Grid(space)
    draw_stages(axes, grid)
    draw_connections(axes, grid)
    draw_choices(axes, grid, path)
    draw_labels(axes, grid)
    draw_stem(axes, grid)
    end = draw_head(axes, grid)
    mantissa, exponent = f"{space.num_architectures:.1e}".split("e")
    text = (
        f"({space.num_block_choices} block choices × {len(space.searchable_channel_choices)} widths) to the power of "
        f"{space.num_choice_blocks} choice blocks: ${mantissa} \\times 10^{{{int(exponent)}}}$ architectures. "
        "A step of the training runs one of them (orange)."
    )
    bottom = max(end, grid.bottom + 0.3)
    write(axes, (WIDTH / 2, bottom + 0.22), text)
    return diagrams.cut(figure, axes, bottom + 0.4)


def draw_stages(axes: Any, grid: Grid) -> None:
    """A field for every stage, and above its choices what they have in common."""
    for i in range(len(grid.space.stages)):
        own = [block for block in grid.space.choice_blocks if block.stage == i]
        first, size = own[0], conv_size(own[0].in_size, own[0].stride)
        left, right = grid.x(first) - grid.pitch / 2, grid.x(own[-1]) + grid.pitch / 2
        field = Rectangle((left, 0.02), right - left, grid.bottom + 0.26, color=tint(GREY, 0.08), linewidth=0, zorder=0)
        axes.add_patch(field)
        middle = (left + right) / 2
        write(axes, (middle, TITLES), f"stage {i + 1}", fontsize=TITLE, weight="bold")
        facts = [f"stride {first.stride}", diagrams.shape(first.out_channels, size), ACTIVATIONS[first.act]]
        facts += ["SE"] if first.use_se else []
        for row, fact in enumerate(facts):
            write(axes, (middle, TITLES + 0.24 + 0.18 * row), fact, fontsize=SMALL)


def draw_connections(axes: Any, grid: Grid) -> None:
    """Every choice of a choice block is followed by every choice of the next."""
    space = grid.space
    for block, following in zip(space.choice_blocks, space.choice_blocks[1:]):
        for b in range(space.num_block_choices):
            for c in range(space.num_block_choices):
                ends = [grid.kind(block, b), grid.kind(following, c)]
                draw_line(axes, ends, has_head=False, color=tint(GREY, 0.35), linewidth=0.5, zorder=1)
    for x, block in zip((FIRST - 0.15, LAST + 0.15), (space.choice_blocks[0], space.choice_blocks[-1])):
        for b in range(space.num_block_choices):
            ends = [(x, grid.middle), grid.kind(block, b)]
            draw_line(axes, ends, has_head=False, color=tint(GREY, 0.35), linewidth=0.5, zorder=1)


def draw_choices(axes: Any, grid: Grid, path: Architecture) -> None:
    """All choices in blue, those of the path in orange."""
    space, width = grid.space, 0.62 * min(grid.pitch, 2 * CELL)
    for block, own_kind, own_width in zip(space.choice_blocks, path.block_choices, path.channel_choices):
        for b in range(space.num_block_choices):
            x, y = grid.kind(block, b)
            draw_choice(axes, Place(x - width / 2, y - 0.36 * CELL, width, 0.72 * CELL), b == own_kind)
        for c in space.searchable_channel_choices:
            draw_choice(axes, grid.bar(block, c), c == own_width)
        channels = str(space.mid_channels(block.index, own_width))
        write(axes, (grid.x(block), grid.bottom + 0.1), channels, fontsize=SMALL, color=ORANGE)
    points = [grid.kind(block, b) for block, b in zip(space.choice_blocks, path.block_choices)]
    points = [(FIRST - 0.15, grid.middle), *points, (LAST + 0.15, grid.middle)]
    draw_line(axes, points, has_head=False, color=ORANGE, linewidth=1.6, zorder=3.5)


def draw_choice(axes: Any, place: Place, is_chosen: bool) -> None:
    colour, share = (ORANGE, 1.0) if is_chosen else (BLUE, 0.3)
    box = Rectangle(
        (place.left, place.top), place.width, place.height, facecolor=tint(colour, share), linewidth=0, zorder=3
    )
    axes.add_patch(box)


def draw_labels(axes: Any, grid: Grid) -> None:
    """What the rows of choices are."""
    space, first = grid.space, grid.space.choice_blocks[0]
    style = {"ha": "right", "fontsize": SMALL}
    for b, kind in enumerate(space.blocks):
        write(axes, (FIRST - 0.2, grid.kind(first, b)[1]), kind.name, **style)
    for c in space.searchable_channel_choices:
        write(axes, (FIRST - 0.1, grid.bar(first, c).middle[1]), str(space.channel_scales[c]), **style)
    middle = (grid.widths + grid.bottom) / 2
    text = "widths: scales\nof half of\nthe stage's\nchannels"
    write(axes, (STEM, middle), text, fontsize=SMALL)
    write(axes, (FIRST - 0.1, grid.bottom + 0.1), "channels of the path", color=ORANGE, **style)


def draw_stem(axes: Any, grid: Grid) -> None:
    """From the image to where the stages are entered."""
    space, specs = grid.space, layer_specs.stem(grid.space)
    write(axes, (STEM, TITLES), "stem", fontsize=TITLE, weight="bold")
    write(axes, (STEM, TITLES + 0.24), diagrams.shape(specs[0].in_channels, space.input_size), fontsize=SMALL)
    end = diagrams.draw_chain(axes, rows(specs), STEM, TITLES + 0.33)
    draw_line(axes, [(STEM, end), (STEM, grid.middle), (FIRST - 0.15, grid.middle)])
    text = diagrams.shape(space.stem_channels, count(specs, space.input_size)[1])
    write(axes, (STEM, grid.middle + 0.14), text, fontsize=SMALL)


def draw_head(axes: Any, grid: Grid) -> float:
    """From where the stages are left to the classes. Returns where it ends."""
    space, side, top = grid.space, LAST + 0.28, TITLES + 0.13
    write(axes, (HEAD, TITLES), "head, classifier", fontsize=TITLE, weight="bold")
    end = diagrams.draw_chain(axes, rows(layer_specs.head(space) + layer_specs.classifier(space)), HEAD, top)
    draw_line(axes, [(LAST + 0.15, grid.middle), (side, grid.middle), (side, top), (HEAD, top)], has_head=False)
    draw_line(axes, [(HEAD, end), (HEAD, end + ARROW)])
    write(axes, (HEAD, end + ARROW + 0.1), f"{space.num_classes} classes")
    return end + ARROW + 0.2


def rows(specs: Specs) -> Sequence[Tuple[LayerSpec, ...]]:
    """A chain without choices, as `draw_chain` reads it."""
    return [(spec,) for spec in specs]
