"""The figure of the rooms: what it shows, and that the committed one shows today's imports."""

import pytest
from conftest import ROOT
from PIL import Image

from utils.plot.__main__ import main
from utils.plot.rooms import COLUMNS, describe_rooms, module_graph, modules_of, room_graph, without_detours

FIGURE = ROOT / "images" / "rooms.png"


@pytest.fixture(scope="module")
def graph():
    return module_graph()


def test_the_committed_figure_shows_the_rooms_as_they_are(graph):
    with Image.open(FIGURE) as image:
        shown = image.info["Description"]
    assert shown == describe_rooms(graph), "draw it again: python -m utils.plot rooms"


def test_the_figure_is_drawn(tmp_path, capsys):
    path = tmp_path / "rooms.png"
    assert main(["rooms", "--output", str(path)]) == 0
    assert "space                core, runs\n" in capsys.readouterr().out
    with Image.open(path) as image:
        assert image.width == 1980 and image.height > 2000


def test_every_module_of_a_room_is_shown(graph):
    modules = modules_of(graph)
    assert set(modules) == set(COLUMNS)
    assert modules["programs"] == ["calculate_flops", "search_supernet", "train_imagenet"]
    assert {"cost", "space", "published"} <= set(modules["space"])
    assert modules["oneshot_nas_blocks"] == []


def test_arrows_that_follow_from_others_are_left_out():
    arrows = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a", "c"}, "e": {"a"}}
    assert without_detours(arrows) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"c"}, "e": {"a"}}


def test_rooms_reach_as_much_over_the_shown_arrows(graph):
    arrows = room_graph(graph)
    shown = without_detours(arrows)

    def reached(room, by):
        return {room}.union(*(reached(other, by) for other in by[room]))

    assert all(reached(room, shown) == reached(room, arrows) for room in arrows)
