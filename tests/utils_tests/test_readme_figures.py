"""Figures of the method: what is drawn follows the space, the layers and the sampling policy; what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, TINY, VARIANTS, fails
from drawn_spaces import SPACES
from matplotlib.colors import to_rgb

from spos.core.flags import run_program
from spos.sampling.warm_up import SamplingPolicy
from spos.space.blocks import KINDS, BlockKind, BlockLayers
from spos.space.flags import SpaceOptions
from spos.space.layers import SqueezeExcite, depthwise
from spos.space.space_file import LAYOUTS, search_space
from utils.plot import __main__ as plot
from utils.plot.blocks import plot_blocks
from utils.plot.grid import shared
from utils.plot.structures import drawings_of
from utils.plot.style import ORANGE
from utils.plot.supernet import caption, plain_width, plot_supernet
from utils.plot.warm_up import plot_warm_up, policy_of, scale_names

SE = ["--use-se", "--last-conv-after-pooling"]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def texts_of_blocks(space, stage=-1):
    return texts(plot_blocks(drawings_of(space, range(len(space.stages))[stage])))


@pytest.mark.parametrize("flags", (["blocks", "--use-se"], ["supernet", *SE], ["warm-up"]), ids=lambda flags: flags[0])
def test_a_figure_is_written_and_depends_on_its_flags_alone(flags, tmp_path, capsys):
    files = [tmp_path / name for name in ("one.png", "two.png")]
    for file in files:
        assert run_program(plot.main, [*flags, "--output", str(file)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert str(files[1]) in capsys.readouterr().out


def test_blocks_show_the_channels_of_the_layout():
    for layout, stage, expected in (
        ("OneShot", 0, {"6–64", "16 × 112 × 112", "64 × 56 × 56", "48"}),
        ("ShuffleNetV2+", 1, {"12–128", "48 × 56 × 56", "128 × 28 × 28", "80"}),
        ("Small", 3, {"25–256", "128 × 14 × 14", "256 × 7 × 7", "128"}),
    ):
        assert expected <= set(texts_of_blocks(search_space(layout), stage))


def test_blocks_show_every_layer_of_every_family(space):
    last = space.choice_blocks[-1]
    shown, drawings = texts_of_blocks(space), drawings_of(space, last.stage)
    for family, block_choice in (("shuffle", 0), ("xception", 3)):
        main = space.block_layers(last.index, block_choice, 0).main
        one = next(one for one in drawings if one.kinds[0].family == family)
        assert [rows[0] for rows in one.main] == list(main)
    num_selections = sum(getattr(row[0], "selects", False) for one in drawings for row in one.main)
    assert shown.count("channel selection") == num_selections == 2 * (2 + 4)  # with and without projection
    assert ("SE" in shown) == space.use_se and ("hard-swish" in shown) == space.use_se


def test_blocks_follow_a_change_of_the_layers(monkeypatch):
    def twice(block, *, kernel_size: int) -> BlockLayers:
        layers = KINDS["shuffle"].describe(block, kernel_size=kernel_size)
        return replace(layers, main=(*layers.main, depthwise(layers.main[-1].out_channels, 9, 1)))

    monkeypatch.setitem(KINDS, "twice", replace(KINDS["shuffle"], describe=twice))
    kind = BlockKind("TWICE", "twice", "twice", (("kernel_size", 5),))
    shown = texts_of_blocks(replace(search_space(), blocks=(kind,)))
    assert shown.count("9×9 depthwise, BN") == 2 and "TWICE" in shown and "SNB-3" not in shown


def test_kernels_are_numbers_where_they_do_not_depend_on_the_choice():
    assert "k×k depthwise, BN" in texts_of_blocks(search_space())
    shown = texts_of_blocks(replace(search_space(), blocks=search_space().blocks[1:2]))
    assert "5×5 depthwise, BN" in shown and "k×k depthwise, BN" not in shown


def test_a_stage_of_one_block_has_no_other_blocks():
    space = replace(TINY, stages=(replace(TINY.stages[0], num_blocks=1), TINY.stages[1]))
    assert [one.place for one in drawings_of(space, 0)] == ["first block of stage 1, stride 2"] * 2


def test_a_single_width_is_no_range():
    space = replace(search_space(), min_channel_choice=9)
    assert {"640"} <= set(texts_of_blocks(space)) and not any("–" in text for text in texts_of_blocks(space))


@pytest.mark.parametrize("name", (*VARIANTS, *LAYOUTS, "two-stages", *SPACES))
def test_a_supernet_shows_every_choice_and_one_path(name, rng):
    named = {**VARIANTS, **SPACES, "two-stages": TINY}
    space = named[name] if name in named else search_space(name)
    path = space.sample(rng)
    figure = plot_supernet(space, path)
    kinds = [range(len(choices.blocks)) for choices in space.choices]
    widths = [
        space.channel_choices(i) if any(space.has_middle(i, b) for b in own) else () for i, own in enumerate(kinds)
    ]
    channels = [space.mid_channels(i, c, b) for i, (b, c) in enumerate(zip(path.block_choices, path.channel_choices))]
    boxes = [patch for patch in figure.axes[0].patches if type(patch).__name__ == "Rectangle" and patch.zorder == 3]
    chosen = [box for box in boxes if np.allclose(box.get_facecolor()[:3], to_rgb(ORANGE))]
    assert len(boxes) == sum(map(len, kinds)) + sum(map(len, widths))
    assert len(chosen) == space.num_choice_blocks + sum(map(bool, channels))
    shown = texts(figure)
    expected = [str(number or "–") for number in channels]
    assert [text for text in shown if text in expected][: len(expected)] == expected
    names = {f"stage {len(space.stages)}", f"{space.num_classes} classes"}
    names.update(kind.name for choices in space.choices for kind in choices.blocks)
    assert names <= set(shown) and "1×1 conv" in shown
    layers = [spec for i, own in enumerate(kinds) for b in own for spec in space.block_layers(i, b, -1).main]
    has_gates = space.own_head.se or any(isinstance(spec, SqueezeExcite) for spec in layers)
    assert bool({"SE", "SE in some"} & set(shown)) == has_gates


@pytest.mark.parametrize(
    "name, words",
    (
        ("tiny", "10 pairs of block and width in each of 9 choice blocks: $1.0"),
        ("mobilenet", "1–19 pairs of block and width in each of 22 choice blocks: $5.2"),
        ("nas-bench-macro", "(3 block choices × 1 width) to the power of 8 choice blocks: 6,561 architectures."),
        ("mobilenetv2", "(1 block choice × 1 width) to the power of 17 choice blocks: 1 architecture."),
        ("residual", "1–9 pairs of block and width in each of 7 choice blocks: 102,060 architectures."),
    ),
)
def test_a_supernet_says_how_many_architectures_there_are(name, words):
    assert caption(SPACES[name])[0].startswith(words)
    assert (len(caption(SPACES[name])) == 2) == (name != "mobilenetv2")


@pytest.mark.parametrize(
    "name, words",
    (
        ("tiny", "the middle\nof a block"),
        ("residual", "the\nstage's\nchannels"),
        ("OneShot", "half of\nthe stage's\nchannels"),
    ),
)
def test_scales_are_of_what_the_blocks_say(name, words):
    assert plain_width(SPACES[name] if name in SPACES else search_space(name, width_multiple=8)) == words


@pytest.mark.parametrize(
    "counts, needed, widths",
    (
        ((4, 4), (1, 1), [2, 2]),
        ((1, 3), (2, 1), [2, 2]),
        ((1, 3), (5, 3), [5, 3]),
    ),
)
def test_stages_share_what_is_left_by_those_that_need_more(counts, needed, widths):
    assert shared(4, counts, needed) == widths


def test_stages_of_a_supernet_show_their_resolutions():
    shown = texts(plot_supernet(VARIANTS["small-images"], VARIANTS["small-images"].widest((0,) * 20)))
    assert {"3 × 32 × 32", "16 × 32 × 32", "64 × 32 × 32", "640 × 4 × 4"} <= set(shown)


@pytest.mark.parametrize("name", SPACES)
def test_the_warm_up_of_any_space_names_its_scales(name):
    space = SPACES[name]
    policy = SamplingPolicy(space, 1, cs_warm_up=True)
    (axes,) = plot_warm_up({name: policy}, 20).axes
    lowest = {round(bar.get_x() + bar.get_width() / 2) - 1: bar.get_y() + 0.5 for bar in axes.patches}
    assert lowest == {epoch: policy.lowest_channel_choice(epoch) for epoch in range(20)}
    assert [label.get_text() for label in axes.get_yticklabels()] == scale_names(space)
    assert len(scale_names(space)) == space.num_channel_choices


def test_scales_of_blocks_that_differ_are_counted_from_the_widest():
    assert scale_names(SPACES["residual"]) == ["0.25", "0.5", "0.5 to 1.0", "1.0 to 1.5"]
    assert scale_names(SPACES["mobilenet"]) == ["0.6", "0.8", "1.0"]


def test_warm_ups_of_spaces_and_layouts_stand_together(tmp_path, capsys):
    flags = ["warm-up", "--space", "tiny", "--space", "nas-bench-macro", "--channels-layout", "Small"]
    assert run_program(plot.main, [*flags, "--output", str(tmp_path / "warm_up.svg")]) == 0
    printed = capsys.readouterr().out
    assert "tiny             1.0 in 1 to 60, 0.75 in epoch 61, 0.5 in 62 to 120" in printed
    assert "nas-bench-macro  1.0 in 1 to 120" in printed
    drawn = (tmp_path / "warm_up.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("space tiny", "space nas-bench-macro", "layout Small"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("start, is_short", ((0, False), (60, False), (3, True)))
def test_bars_of_the_warm_up_are_what_is_sampled(layout, start, is_short):
    policy = policy_of(SpaceOptions(channels_layout=layout, ignore_first_two_cs=is_short), start)
    (axes,) = plot_warm_up({layout: policy}, 120).axes
    bars = {round(bar.get_x() + bar.get_width() / 2): (bar.get_y(), bar.get_height()) for bar in axes.patches}
    assert sorted(bars) == list(range(1, 121))
    for epoch, (bottom, height) in bars.items():
        assert bottom + 0.5 == policy.lowest_channel_choice(epoch - 1)
        assert bottom + height - 0.5 == policy.space.max_channel_choice


def test_the_published_schedule_is_printed(tmp_path, capsys):
    assert run_program(plot.main, ["warm-up", "--output", str(tmp_path / "warm_up.svg")]) == 0
    printed = capsys.readouterr().out
    assert "2.0 in 1 to 60, 1.8 in epoch 61, 1.6 in epoch 62, 1.4 in epoch 63" in printed
    assert "0.6 in 82 to 96, 0.4 in epoch 97, 0.2 in 98 to 120" in printed
    drawn = (tmp_path / "warm_up.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("from 79", "from 98", "layout ShuffleNetV2+", "full width"))


@pytest.mark.parametrize(
    "argv, word",
    (
        (["blocks", "--stage", "5"], "layout OneShot has 4 stages"),
        (["blocks", "--output", "blocks.gif"], ".png, .svg, .pdf"),
        (["blocks", "--strides", "2,2"], "needs 5 entries"),
        (["supernet", "--output", "supernet"], ".png, .svg, .pdf"),
        (["supernet", "--space", "huge"], "no space 'huge'"),
        (["warm-up", "--space", "huge"], "no space 'huge'"),
        (["warm-up", "--num-epochs", "60"], "--epoch-start-cs 60 is not among the 60 epochs"),
        (["animation", "gone"], "gone does not exist"),
        (["animation", "gone", "--output", "search.png"], "must end in .gif"),
    ),
)
def test_bad_input_is_one_line(argv, word, capsys):
    fails(plot.main, argv, capsys, word)


@pytest.mark.parametrize(
    "name, most",
    (("choice_blocks.png", 5e5), ("supernet.png", 3e5), ("warm_up.png", 1e5), ("search_supernet.gif", 15e5)),
)
def test_figures_of_the_pages_are_small(name, most):
    assert (ROOT / "images" / name).stat().st_size < most
