"""What is drawn of the choice blocks of a stage, in spaces of every kind of blocks."""

from dataclasses import replace

import pytest
from drawn_spaces import SPACES
from matplotlib.backends.backend_agg import FigureCanvasAgg

from spos.space.layers import Conv
from spos.space.space_file import search_space
from utils.plot.blocks import notes_of, plot_blocks
from utils.plot.structures import drawings_of, in_words
from utils.plot.supernet import plot_supernet

STAGES = [(name, stage) for name, space in SPACES.items() for stage in range(len(space.stages))]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def assert_words_lie_apart(figure):
    """No text leaves the canvas, or covers another one."""
    figure.canvas = canvas = FigureCanvasAgg(figure)
    words = [text for axes in figure.axes for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in words]
    width, height = canvas.get_width_height()
    for i, (text, box) in enumerate(zip(words, boxes)):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text.get_text()
        for other, beside in zip(words[:i], boxes):
            assert not box.padded(-1).overlaps(beside.padded(-1)), (text.get_text(), other.get_text())


def unselected(specs):
    return [replace(spec, selects=False) if isinstance(spec, Conv) else spec for spec in specs]


def widest_of(one, kind):
    """The layers of a kind in a drawing, at its widest."""
    if not one.main:
        return []
    num_widths = len(one.main[0]) // len(one.kinds)
    return unselected(row[num_widths * (one.kinds.index(kind) + 1) - 1] for row in one.main)


@pytest.mark.parametrize("name, stage", STAGES)
def test_every_choice_of_every_choice_block_is_drawn_with_its_layers(name, stage):
    space, drawings = SPACES[name], drawings_of(SPACES[name], stage)
    for block in (block for block in space.choice_blocks if block.stage == stage):
        for b, kind in enumerate(space.choices[block.index].blocks):
            layers = space.block_layers(block.index, b, space.channel_choices(block.index)[-1])
            shown = [(one.layers.wiring, widest_of(one, kind)) for one in drawings if kind in one.kinds]
            assert (layers.wiring, unselected(layers.main)) in shown


@pytest.mark.parametrize("name, stage", STAGES)
def test_words_of_blocks_lie_apart(name, stage):
    assert_words_lie_apart(plot_blocks(drawings_of(SPACES[name], stage)))


@pytest.mark.parametrize("name", SPACES)
def test_words_of_supernets_lie_apart(name, rng):
    assert_words_lie_apart(plot_supernet(SPACES[name], SPACES[name].sample(rng)))


@pytest.mark.parametrize("layout", ("OneShot", "Small"))
def test_words_of_published_figures_lie_apart(layout, rng):
    space = search_space(layout, use_se=True)
    assert_words_lie_apart(plot_supernet(space, space.sample(rng)))
    assert_words_lie_apart(plot_blocks(drawings_of(space, 3)))


def test_wirings_are_drawn_as_they_are():
    shown = texts(plot_blocks(drawings_of(SPACES["mobilenet"], 1)))
    assert shown.count("sum") == 1 and shown.count("input") == 1 and shown.count("passed on") == 1
    assert "ReLU6" in shown and not {"concat", "channel shuffle", "kept"} & set(shown)
    residual = drawings_of(SPACES["residual"], 2)
    assert [(one.names, one.which, len(one.projection), one.layers.act) for one in residual] == [
        ("B3", "other blocks", 0, "hard_swish"),
        ("B3, B5", "first block", 1, "hard_swish"),
        ("I", "first block", 0, None),
    ]
    assert texts(plot_blocks(residual)).count("hard-swish") == 2 + 2  # in the branch, and behind the sum


def test_choice_blocks_that_are_alike_share_a_drawing():
    assert [(one.names, one.which) for one in drawings_of(SPACES["residual"], 0)] == [
        ("B3, B5", "all blocks"),
        ("I", "all blocks"),
    ]
    assert [(one.names, one.which) for one in drawings_of(SPACES["residual"], 1)] == [
        ("B3, B5", "block 2"),
        ("B3, B5", "block 3"),
        ("B3, B5", "first block"),
        ("I", "other blocks"),
    ]


@pytest.mark.parametrize(
    "positions, count, words",
    (([0], 3, "first block"), ([1, 2], 3, "other blocks"), ([0, 1, 2], 3, "all blocks"), ([0, 2], 3, "blocks 1, 3")),
)
def test_positions_have_words(positions, count, words):
    assert in_words(positions, count) == words


def test_notes_say_which_block_has_which_widths_and_kernels():
    notes = " ".join(notes_of(drawings_of(SPACES["tiny"], 0)))
    assert "24, 36 or 48 in MB3-3, MB3-5 (other blocks) and MB6-3 (first block)" in notes
    assert "k: 3 in MB3-3 and MB6-3, 5 in MB3-5." in notes


def test_one_width_is_no_selection():
    drawings = drawings_of(SPACES["nas-bench-macro"], 0)
    assert "channel selection" not in texts(plot_blocks(drawings))
    assert notes_of(drawings) == ["k: 3 in MB3-3, 5 in MB6-5."]
