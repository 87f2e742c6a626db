"""The figure of a supernet: stem, every choice of every choice block, head, and one path through them."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from spos.core.flags import not_negative, pick
from spos.core.seeds import derive_rng
from spos.core.tables import table
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.cost import count
from spos.space.flags import SpaceOptions, fit, space_of
from spos.space.layers import LayerSpec, Specs
from spos.space.space import SearchSpace
from utils.plot import diagrams
from utils.plot.diagrams import ARROW, SMALL, TITLE, Place, draw_line, span, tint, write
from utils.plot.grid import BAR, Grid, stage_facts
from utils.plot.style import BLUE, GREY, ORANGE, FigureParser, save

STEM = 0.64  # the middle of what stands left of the stages
TITLES = 0.17  # height of the titles
SHARES = {2: "half of\nthe stage's", 1: "the\nstage's"}  # the middle at scale 1, of the channels of its stage


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


def plot_supernet(space: SearchSpace, path: Architecture) -> Figure:
    figure, axes = diagrams.canvas()
    grid = Grid(space)
    draw_stages(axes, grid)
    draw_connections(axes, grid)
    draw_choices(axes, grid, path)
    legend_end = draw_labels(axes, grid)
    draw_stem(axes, grid)
    end = draw_head(axes, grid)
    bottom = max(end, legend_end, grid.bottom + 0.3)
    for line in caption(space):
        bottom += 0.22
        write(axes, (grid.width / 2, bottom), line)
    return diagrams.cut(figure, axes, bottom + 0.18, grid.width)


def caption(space: SearchSpace) -> List[str]:
    """Lines that say how many architectures there are, and what the path is."""
    counts = {(len(choices.blocks), len(space.channel_choices(i))) for i, choices in enumerate(space.choices)}
    pairs = [len(space.pairs(i)) for i in range(space.num_choice_blocks)]
    num_blocks, num_widths = next(iter(counts))
    if len(counts) == 1 and set(pairs) == {num_blocks * num_widths}:
        choices = f"({counted(num_blocks, 'block choice')} × {counted(num_widths, 'width')}) to the power of "
        choices += counted(space.num_choice_blocks, "choice block")
    else:
        choices = (
            f"{span(pairs)} pairs of block and width in each of {counted(space.num_choice_blocks, 'choice block')}"
        )
    lines = [f"{choices}: {architectures(space)}. A step of the training runs one of them (orange)."]
    if any(
        not space.block_layers(i, b, -1).main for i, own in enumerate(space.choices) for b in range(len(own.blocks))
    ):
        lines.append("A flat box computes nothing: its input is passed on.")
    return lines


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def architectures(space: SearchSpace) -> str:
    """How many there are: digits, or a power of ten."""
    if space.num_architectures < 10**6:
        return f"{space.num_architectures:,} architecture{'s' if space.num_architectures > 1 else ''}"
    mantissa, exponent = f"{space.num_architectures:.1e}".split("e")
    return f"${mantissa} \\times 10^{{{int(exponent)}}}$ architectures"


def draw_stages(axes: Any, grid: Grid) -> None:
    """A field for every stage, and above its choices what they have in common."""
    for stage in range(len(grid.space.stages)):
        left, width = grid.stage(stage)
        field = Rectangle((left, 0.02), width, grid.bottom + 0.26, color=tint(GREY, 0.08), linewidth=0, zorder=0)
        axes.add_patch(field)
        middle = left + width / 2
        title, *facts = stage_facts(grid.space, stage)
        write(axes, (middle, TITLES), title, fontsize=TITLE, weight="bold")
        for row, fact in enumerate(facts):
            write(axes, (middle, TITLES + 0.24 + 0.18 * row), fact, fontsize=SMALL)


def draw_connections(axes: Any, grid: Grid) -> None:
    """Every choice of a choice block is followed by every choice of the next."""
    style: Dict[str, Any] = {"has_head": False, "color": tint(GREY, 0.35), "linewidth": 0.5, "zorder": 1}
    blocks = grid.space.choice_blocks
    for block, following in zip(blocks, blocks[1:]):
        for start in grid.points(block):
            for end in grid.points(following):
                draw_line(axes, [start, end], **style)
    for x, block in zip((grid.first - 0.15, grid.last + 0.15), (blocks[0], blocks[-1])):
        for point in grid.points(block):
            draw_line(axes, [(x, grid.middle), point], **style)


def draw_choices(axes: Any, grid: Grid, path: Architecture) -> None:
    """All choices in blue, those of the path in orange."""
    space, points = grid.space, []
    for block, own_kind, own_width in zip(space.choice_blocks, path.block_choices, path.channel_choices):
        channels = space.mid_channels(block.index, own_width, own_kind)
        for b in range(len(space.choices[block.index].blocks)):
            draw_choice(axes, grid.box(block, b), b == own_kind)
        for c in grid.widths_of(block):
            draw_choice(axes, grid.bar(block, c), channels > 0 and c == own_width)
        write(axes, (grid.x(block), grid.bottom + 0.1), str(channels or "–"), fontsize=SMALL, color=ORANGE)
        points.append(grid.points(block)[own_kind])
    points = [(grid.first - 0.15, grid.middle), *points, (grid.last + 0.15, grid.middle)]
    draw_line(axes, points, has_head=False, color=ORANGE, linewidth=1.6, zorder=3.5)


def draw_choice(axes: Any, place: Place, is_chosen: bool) -> None:
    colour, share = (ORANGE, 1.0) if is_chosen else (BLUE, 0.3)
    box = Rectangle(
        (place.left, place.top), place.width, place.height, facecolor=tint(colour, share), linewidth=0, zorder=3
    )
    axes.add_patch(box)


def draw_labels(axes: Any, grid: Grid) -> float:
    """What the rows of choices are. Returns where that ends."""
    style = {"ha": "right", "fontsize": SMALL}
    for row, kind in enumerate(grid.kinds):
        write(axes, (grid.first - 0.2, grid.row(row)), kind.name, **style)
    for scale in grid.scales:
        write(axes, (grid.first - 0.1, grid.width_row(scale) + 0.34 * BAR), str(scale), **style)
    if not grid.scales:
        return grid.bottom
    write(axes, (grid.first - 0.1, grid.bottom + 0.1), "channels of the path", color=ORANGE, **style)
    text = f"widths: scales\nof {plain_width(grid.space)}"
    middle, half = (grid.widths + grid.bottom) / 2, 0.065 * (text.count("\n") + 1)
    if middle - half < grid.middle + 0.2 or middle + half > grid.bottom + 0.02:
        middle = grid.bottom + 0.2 + half
    write(axes, (STEM, middle), text, fontsize=SMALL)
    return middle + half


def plain_width(space: SearchSpace) -> str:
    """What the scales of widths multiply, in lines of words."""
    plain = [
        (block, kind.describe(block).middle)
        for block, choices in zip(space.choice_blocks, space.choices)
        for kind in choices.blocks
    ]
    for divisor, words in SHARES.items():
        if all(middle in (0, block.width(block.out_channels // divisor)) for block, middle in plain):
            return f"{words}\nchannels"
    return "the middle\nof a block"


def draw_stem(axes: Any, grid: Grid) -> None:
    """From the image to where the stages are entered."""
    space, specs = grid.space, layer_specs.stem(grid.space)
    write(axes, (STEM, TITLES), "stem", fontsize=TITLE, weight="bold")
    write(axes, (STEM, TITLES + 0.24), diagrams.shape(specs[0].in_channels, space.input_size), fontsize=SMALL)
    end = diagrams.draw_chain(axes, rows(specs), STEM, TITLES + 0.33)
    draw_line(axes, [(STEM, end), (STEM, grid.middle), (grid.first - 0.15, grid.middle)])
    text = diagrams.shape(space.stem_channels, count(specs, space.input_size)[1])
    write(axes, (STEM, grid.middle + 0.14), text, fontsize=SMALL)


def draw_head(axes: Any, grid: Grid) -> float:
    """From where the stages are left to the classes. Returns where it ends."""
    space, x, side, top = grid.space, grid.width - STEM, grid.last + 0.28, TITLES + 0.13
    write(axes, (x, TITLES), "head, classifier", fontsize=TITLE, weight="bold")
    end = diagrams.draw_chain(axes, rows(layer_specs.head(space) + layer_specs.classifier(space)), x, top)
    draw_line(axes, [(grid.last + 0.15, grid.middle), (side, grid.middle), (side, top), (x, top)], has_head=False)
    draw_line(axes, [(x, end), (x, end + ARROW)])
    write(axes, (x, end + ARROW + 0.1), f"{space.num_classes} classes")
    return end + ARROW + 0.2


def rows(specs: Specs) -> Sequence[Tuple[LayerSpec, ...]]:
    """A chain without choices, as `draw_chain` reads it."""
    return [(spec,) for spec in specs]
