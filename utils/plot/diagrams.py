"""Diagrams of layers: boxes, arrows and words on a canvas that is measured in inches, from its top left corner."""

from __future__ import annotations

from typing import Any, Iterable, List, NamedTuple, Sequence, Tuple

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import TextPath

from spos.space.layers import Conv, Dropout, GlobalPool, LayerSpec, SqueezeExcite
from utils.plot.style import BLUE, DPI, GREY, ORANGE

WIDTH = 9.0  # of a diagram; type of 7.2 points is then 9 pixels high where a page shows it 830 pixels wide
TITLE, SIZE, SMALL = 9.0, 8.0, 7.5  # points of the type
BOX, LINE, ARROW = 1.16, 0.2, 0.27  # width of the box of a layer, height of a line of type in it, length of an arrow
ROUNDING = 0.04
ACTIVATIONS = {"relu": "ReLU", "relu6": "ReLU6", "hard_swish": "hard-swish"}

Point = Tuple[float, float]
Row = Tuple[LayerSpec, ...]  # what stands in one place of a chain of layers, under every choice


class Place(NamedTuple):
    """A rectangle; `top` is smaller than `bottom`."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> Point:
        return self.left + self.width / 2, self.top + self.height / 2

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def right(self) -> float:
        return self.left + self.width


def canvas() -> Tuple[Figure, Any]:
    """A figure and its axes, to draw on; `cut` it afterwards."""
    figure = Figure(figsize=(WIDTH, WIDTH), dpi=2 * DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    return figure, axes


def cut(figure: Figure, axes: Any, height: float, width: float = WIDTH) -> Figure:
    """Give the canvas its size."""
    figure.set_size_inches(width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def text_width(text: str, size: float = SIZE, weight: str = "normal") -> float:
    """Inches that a line of type takes."""
    return TextPath((0, 0), text, prop=FontProperties(size=size, weight=weight)).get_extents().width / 72 if text else 0


def tint(colour: str, share: float) -> Tuple[float, ...]:
    """A colour mixed with white; `share` is that of the colour."""
    return tuple(1 - share * (1 - part) for part in to_rgb(colour))


def draw_box(axes: Any, place: Place, text: str, colour: str, share: float = 0.15, **style: Any) -> None:
    """A rounded box in a light tint of its colour, with words in its middle."""
    inner = (place.left + ROUNDING, place.top + ROUNDING)
    box = FancyBboxPatch(
        inner,
        place.width - 2 * ROUNDING,
        place.height - 2 * ROUNDING,
        boxstyle=f"round,pad={ROUNDING},rounding_size={ROUNDING}",
        facecolor=tint(colour, share),
        edgecolor=colour,
        linewidth=0.8,
        zorder=3,
    )
    axes.add_patch(box)
    write(axes, place.middle, text, zorder=4, **style)


def write(axes: Any, point: Point, text: str, **style: Any) -> None:
    """Words with their middle at a point, or as `ha` and `va` say."""
    axes.text(*point, text, **{"ha": "center", "va": "center", "fontsize": SIZE, "linespacing": 1.2, **style})


def draw_line(axes: Any, points: Sequence[Point], has_head: bool = True, **style: Any) -> None:
    """Straight pieces from point to point, with an arrow's head at the last one."""
    own = {"color": GREY, "linewidth": 1.0, "zorder": 2, "solid_capstyle": "butt", **style}
    axes.plot(*zip(*points), **own)
    if has_head:
        arrow = {"arrowstyle": "-|>,head_width=0.18,head_length=0.36", "shrinkA": 0, "shrinkB": 0}
        arrow.update(color=own["color"], linewidth=own["linewidth"])
        axes.annotate("", points[-1], points[-2], arrowprops=arrow, zorder=own["zorder"])


def span(values: Iterable[int]) -> str:
    """The one value, or the smallest and the largest of several."""
    ordered = sorted(values)
    return "–".join(str(value) for value in dict.fromkeys((ordered[0], ordered[-1])))


def shape(channels: int, size: int) -> str:
    return f"{channels} × {size} × {size}"


def channels(row: Row) -> List[int]:
    """Channels that leave a layer, under every choice."""
    return [_ends(layer)[1] for layer in row]


def entering(row: Row) -> str:
    """Channels that enter a layer; those of a dropout are not told."""
    if isinstance(row[0], Dropout):
        return ""
    return span(_ends(layer)[0] for layer in row)


def _ends(layer: LayerSpec) -> Tuple[int, int]:
    """(in, out) channels of a layer. Raises: TypeError for a dropout, which does not tell them."""
    if isinstance(layer, Conv):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, Dropout):
        raise TypeError("a dropout tells no channels")
    return layer.channels, layer.channels


def layer_name(row: Row) -> str:
    """What a layer is called: `k×k` if its kernel depends on the choice. One channel alone is never depthwise."""
    first = row[-1]
    if isinstance(first, Conv):
        kernels = {layer.kernel_size for layer in row if isinstance(layer, Conv)}
        kernel = kernels.pop() if len(kernels) == 1 else "k"
        return f"{kernel}×{kernel} {'depthwise' if first.is_depthwise else 'conv'}" + (", BN" if first.bn else "")
    if isinstance(first, SqueezeExcite):
        return "SE"
    if isinstance(first, GlobalPool):
        return "global pooling"
    if isinstance(first, Dropout):
        return f"dropout {first.rate}"
    raise TypeError(f"no name is known for layer {first!r}")


def lines(row: Row) -> List[Tuple[str, str]]:
    """(words, colour) of what is done in the place of a layer, one below the other, in the order of execution."""
    first, name = row[-1], layer_name(row)
    if not isinstance(first, Conv):
        return [(name, GREY)]
    found = [(name, BLUE)]
    if first.stride > 1:
        found.append((f"stride {first.stride}", BLUE))
    if first.selects:
        found.append(("channel selection", ORANGE))
    if first.act:
        found.append((ACTIVATIONS[first.act], GREY))
    return found


def draw_chain(axes: Any, rows: Sequence[Row], x: float, top: float) -> float:
    """Layers one below the other, each behind an arrow with its channels. Returns where the last one ends."""
    for row in rows:
        draw_line(axes, [(x, top), (x, top + ARROW)])
        write_beside(axes, (x, top + ARROW / 2), entering(row))
        top += ARROW
        for text, colour in lines(row):
            draw_box(axes, Place(x - BOX / 2, top, BOX, LINE), text, colour)
            top += LINE
    return top


def write_beside(axes: Any, point: Point, text: str) -> None:
    """Small words to the right of an arrow that goes down through a point."""
    write(axes, (point[0] + 0.06, point[1] - 0.02), text, ha="left", fontsize=SMALL)
