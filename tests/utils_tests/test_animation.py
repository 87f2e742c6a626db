"""Searches as moving pictures: frames, moments, and what begins one."""

from PIL import Image, ImageSequence

from spos.core.flags import run_program
from spos.search.history import load_history
from utils.plot import __main__ as plot
from utils.plot import animation


def frames_of(file):
    """(picture, milliseconds) of the frames of a GIF."""
    with Image.open(file) as picture:
        return [(frame.convert("RGB"), frame.info["duration"]) for frame in ImageSequence.Iterator(picture)]


def test_a_search_is_animated_iteration_by_iteration(make_search, tmp_path, capsys):
    files = [tmp_path / name for name in ("one.gif", "two.gif", "other.gif")]
    for file, x in zip(files, ("flops", "flops", "params")):
        flags = ["animation", str(make_search(file.stem)), "--x", x, "--milliseconds", "300", "--output", str(file)]
        assert run_program(plot.main, flags) == 0
    frames = frames_of(files[0])
    assert [milliseconds for _, milliseconds in frames] == [300, 300, animation.PAUSE_MS]
    assert {picture.size for picture, _ in frames} == {(animation.WIDTH, animation.HEIGHT)}
    assert {picture.getpixel((1, 1)) for picture, _ in frames} == {(255, 255, 255)}
    first, second, other = (file.read_bytes() for file in files)
    assert first == second != other
    assert b"NETSCAPE2.0" in first  # it begins again
    assert "12 architectures (1 dropped early), best top-1 65.00%" in capsys.readouterr().out


def test_moments_of_a_search_grow_by_its_iterations(make_search):
    moments = animation.moments_of(load_history(make_search("search")))
    assert [(moment.num_earlier, moment.num_rows) for moment in moments] == [(0, 4), (4, 8), (8, 12)]
    assert [row["evaluation"] for row in moments[1].new] == [4, 5, 7]
    assert [row["evaluation"] for row in moments[2].earlier] == [0, 1, 2, 3, 4, 5, 7]
    assert moments[1].title() == "iteration 2 of 3: 8 architectures, best top-1 60.00%"


def test_iterations_of_long_searches_share_frames(make_search, monkeypatch):
    monkeypatch.setattr(animation, "MOST_FRAMES", 2)
    history = load_history(make_search("search", [(i, {"iteration": i}) for i in range(12)]))
    assert [(moment.num_earlier, moment.num_rows) for moment in animation.moments_of(history)] == [
        (0, 1),
        (1, 12),
    ]


def test_an_animation_begins_when_something_is_scored(make_search):
    history = load_history(make_search("search", [(i, {"dropped": True}) for i in range(4)]))
    assert [moment.num_rows for moment in animation.moments_of(history)] == [8, 12]


def test_a_search_of_equal_scores_is_animated(make_search):
    changes = [(i, {"top1": 0.0, "top1_interval": [0.0, 0.02], "flops": 5}) for i in range(12)]
    (moment, *_) = animation.moments_of(load_history(make_search("search", changes)))
    assert animation.draw_frame(moment, "flops").size == (animation.WIDTH, animation.HEIGHT)
