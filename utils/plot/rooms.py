"""The rooms of this repository, from the bottom to the top, and the figure of how they import each other.

The order is the rule that tests/test_layers.py enforces; modules and arrows are read from the sources.
"""

from __future__ import annotations

import ast
import os
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Set

from matplotlib.figure import Figure

from spos.core.installation import ROOT
from spos.core.tables import table
from utils.plot.diagrams import SMALL, TITLE, WIDTH, Place, canvas, cut, draw_box, draw_line, write
from utils.plot.style import BLUE, GREY, ORANGE, FigureParser, save

# Rooms from the bottom to the top, and in which of three columns the figure shows them. A room is a package of spos/,
# or a module or package of this name; programs are PROGRAMS.
COLUMNS = {
    "core": 1,
    "runs": 1,
    "space": 1,
    "native": 1,
    "sampling": 2,
    "engine": 1,
    "oneshot_nas_blocks": 1,
    "oneshot_nas_network": 1,
    "data": 0,
    "execution": 1,
    "scoring": 1,
    "deploy": 1,
    "latency": 1,
    "counting": 0,
    "training": 2,
    "search": 1,
    "study": 1,
    "pilot": 0,
    "programs": 2,
    "utils.plot": 0,
    "utils.report": 0,
    "utils.study": 2,
    "utils": 1,
}
OUTSIDE = ("benchmarks", "tests")  # above all rooms, not shown
ROOMS = (*COLUMNS, *OUTSIDE)
PROGRAMS = ("calculate_flops", "search_supernet", "train_imagenet")

_BOX, _GAP, _COLUMN = 2.55, 0.3, WIDTH / 3  # inches: width of a box, height between levels, width of a column
_LINE_OF_MODULES = 44  # characters

Graph = Mapping[str, Set[str]]  # what imports -> what it imports


def rooms(argv: List[str]) -> int:
    """The rooms of the code, their modules, and which room imports which: an arrow for each that no others imply."""
    parser = FigureParser(rooms.__doc__, (), "images/rooms.png")
    args = parser.parse_args(argv)
    graph = module_graph()
    save(plot_rooms(graph), args.output, describe_rooms(graph))
    arrows = room_graph(graph)
    print(table([*((room, ", ".join(sorted(arrows[room])) or "nothing") for room in arrows), ("figure", args.output)]))
    return 0


def room_of(module: str) -> Optional[str]:
    """The room of a module of this repository, or None if it stands in none."""
    parts = module.split(".")
    if parts[0] == "spos":
        return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None
    if module in PROGRAMS:
        return "programs"
    name = ".".join(parts[:2])
    return name if name in ROOMS else parts[0] if parts[0] in ROOMS else None


def python_files() -> Iterator[Path]:
    """All Python files of the repository, without environments, hidden folders and results."""
    for folder, subfolders, names in os.walk(ROOT):
        here = Path(folder)
        results = ("runs", "data", "build") if here == ROOT else ()
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".") and name not in results and not (here / name / "pyvenv.cfg").exists()
        ]
        yield from (here / name for name in names if name.endswith(".py"))


def imported_names(source: str) -> Iterator[str]:
    """Everything that a source imports, anywhere in it: `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def as_module(name: str, modules: Any) -> Optional[str]:
    """`spos.space.cost.Cost` -> `spos.space.cost`; None for what is not of this repository."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def module_graph() -> Dict[str, Set[str]]:
    """Modules of this repository -> the modules of this repository that they import."""
    sources = {module_name(path): path.read_text("utf-8") for path in python_files()}
    graph: Dict[str, Set[str]] = {}
    for module, source in sources.items():
        found = (as_module(name, sources) for name in imported_names(source))
        graph[module] = {other for other in found if other and other != module}
    return graph


def room_graph(graph: Graph) -> Dict[str, Set[str]]:
    """Rooms -> the rooms that they import, from the bottom to the top."""
    arrows: Dict[str, Set[str]] = {room: set() for room in COLUMNS}
    for module, imports in graph.items():
        room = room_of(module)
        if room in arrows:
            arrows[room] |= {other for other in map(room_of, imports) if other and other != room}
    return arrows


def modules_of(graph: Graph) -> Dict[str, List[str]]:
    """Rooms -> the names of their modules, without the package itself, `__main__` and what stands in for `spos`."""
    found: Dict[str, List[str]] = {room: [] for room in COLUMNS}
    for module in sorted(graph):
        room = room_of(module)
        name = module.rpartition(".")[2]
        if room in found and module not in (f"spos.{room}", room) and name not in ("__main__", "spos"):
            found[room].append(name)
    return found


def without_detours(arrows: Graph) -> Dict[str, Set[str]]:
    """The arrows that do not follow from others: a room that is reached over another one needs none of its own."""

    @lru_cache(maxsize=None)
    def reached(room: str) -> FrozenSet[str]:
        return frozenset(arrows[room]).union(*(reached(other) for other in arrows[room]))

    return {
        room: {one for one in own if not any(one in reached(other) for other in own if other != one)}
        for room, own in arrows.items()
    }


def describe_rooms(graph: Graph) -> str:
    """What the figure shows, as text: a line for each room. A figure carries it, so that one can tell its age."""
    arrows, modules = without_detours(room_graph(graph)), modules_of(graph)
    return "\n".join(f"{room}: {' '.join(modules[room])} -> {' '.join(sorted(arrows[room]))}" for room in COLUMNS)


def plot_rooms(graph: Graph) -> Figure:
    """Boxes of rooms with their modules, and arrows to the rooms that they import."""
    arrows, modules = without_detours(room_graph(graph)), modules_of(graph)
    words = {room: textwrap.wrap("  ".join(names), _LINE_OF_MODULES) for room, names in modules.items()}
    heights = {room: 0.26 + 0.14 * len(lines) for room, lines in words.items()}
    places = _places(_levels(arrows), heights)
    figure, axes = canvas()
    for room, place in places.items():
        for other in arrows[room]:
            _connect(axes, place, places[other], [one for one in places.values() if one not in (place, places[other])])
    for room, place in places.items():
        colour = ORANGE if room.startswith("oneshot") else GREY if room[:5] in ("utils", "progr") else BLUE
        draw_box(axes, place, "", colour)
        middle = place.left + place.width / 2
        title = place.top + 0.15 if words[room] else place.middle[1]
        write(axes, (middle, title), room, fontsize=TITLE, fontweight="bold", zorder=5)
        lines = (place.top + place.bottom + 0.19) / 2
        write(axes, (middle, lines), "\n".join(words[room]), fontsize=SMALL - 1.3, zorder=5, linespacing=1.15)
    return cut(figure, axes, max(place.bottom for place in places.values()) + 0.1)


def _levels(arrows: Graph) -> List[List[str]]:
    """Rooms by the longest way down from them, from the top."""
    level: Dict[str, int] = {}
    for room in COLUMNS:  # from the bottom to the top, so that what a room imports comes before it
        level[room] = 1 + max((level[other] for other in arrows[room]), default=-1)
    return [[room for room in COLUMNS if level[room] == i] for i in range(max(level.values()), -1, -1)]


def _places(levels: List[List[str]], heights: Mapping[str, float]) -> Dict[str, Place]:
    places, top = {}, 0.08
    for row in levels:
        height = max(heights[room] for room in row)
        for room in row:
            left = (COLUMNS[room] + 0.5) * _COLUMN - _BOX / 2
            places[room] = Place(left, top + (height - heights[room]) / 2, _BOX, heights[room])
        top += height + _GAP
    return places


def _connect(axes: Any, source: Place, target: Place, others: List[Place]) -> None:
    """An arrow from the foot of a box down to the head of another, around the boxes between them."""
    start, end = source.middle[0], target.middle[0]
    upper, lower = source.bottom + 0.09, target.top - 0.17
    lanes = (end, start, (start + end) / 2, *(sorted((_COLUMN, 2 * _COLUMN), key=lambda lane: abs(lane - end))))
    between = [one for one in others if one.bottom > upper and one.top < lower]
    free = (lane for lane in lanes if not any(one.left - 0.05 < lane < one.right + 0.05 for one in between))
    lane = next(free, end)
    draw_line(
        axes, [(start, source.bottom), (start, upper), (lane, upper), (lane, lower), (end, lower), (end, target.top)]
    )
