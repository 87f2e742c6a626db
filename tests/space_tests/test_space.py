"""The search space: widths, geometry, architectures, validation, sampling, fingerprints."""

import json
from dataclasses import replace

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.space.architecture import Architecture, parse_choices
from spos.space.layers import round_up, stride_plan
from spos.space.space import STABLE_CHANNEL_CHOICE, SearchSpace
from spos.space.space_file import LAYOUTS, search_space
from spos.space.stages import Stage

NARROW_BLOCK = replace(search_space().blocks[0], options=(("kernel_size", 9),))


def test_space_survives_json(space):
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_architecture_survives_text(space, rng):
    for _ in range(20):
        architecture = space.sample(rng)
        blocks, channels = (text.split(" ", 1)[1] for text in str(architecture).split(" | "))
        assert Architecture.parse(blocks, channels) == architecture


@pytest.mark.parametrize("text", ("0, 0, 3, 1", "0 0 3 1", "[0,0,3,1]", "(0, 0, 3, 1)", "0,0,3,1,"))
def test_choices_are_read_in_any_usual_form(text):
    assert parse_choices(text, "block choices") == (0, 0, 3, 1)


@pytest.mark.parametrize("text", ("0, x", "0.5, 1", "0; 1"))
def test_choices_that_are_no_integers_are_refused(text):
    with pytest.raises(InputError, match=r"block choices .* must be integers separated by commas"):
        parse_choices(text, "block choices")


def test_architecture_is_a_hashable_pair_of_int_tuples():
    from_arrays = Architecture(np.array([1, 2]), np.array([3, 4]))  # type: ignore[arg-type]
    assert from_arrays == Architecture((1, 2), (3, 4)) and len({from_arrays, Architecture((1, 2), (3, 4))}) == 1
    assert all(type(gene) is int for gene in from_arrays.genes)


@pytest.mark.parametrize("change", ({"num_classes": 10}, {"input_size": 32}, {"strides": (1, 1, 2, 2, 2)}))
def test_fingerprint_does_not_depend_on_the_data(change):
    assert search_space(**change).fingerprint == search_space().fingerprint


@pytest.mark.parametrize("change", ({"min_channel_choice": 2}, {"warm_up_durations": (1, 2)}))
def test_fingerprint_does_not_depend_on_how_architectures_are_drawn(change):
    assert search_space(**change).fingerprint == search_space().fingerprint


@pytest.mark.parametrize(
    "change",
    (
        {"use_se": True},
        {"last_conv_after_pooling": True},
        {"width_multiple": 8},
        {"stem_channels": 24},
        {"channel_scales": search_space().channel_scales[:-1]},
        {"blocks": search_space().blocks[:3]},
        {"blocks": (NARROW_BLOCK, *search_space().blocks[1:])},
        {"stages": search_space("ShuffleNetV2+").stages},
        {"stages": (Stage(5, 64, False, False), *search_space().stages[1:])},
    ),
    ids=lambda change: next(iter(change)),
)
def test_fingerprint_depends_on_every_layer(change):
    assert search_space(**change).fingerprint != search_space().fingerprint


# int(out_channels // 2 * scale) for scales 0.6 .. 2.0, worked out by hand
WIDTHS = {
    ("OneShot", 0): (19, 25, 32, 38, 44, 51, 57, 64),
    ("OneShot", 4): (48, 64, 80, 96, 112, 128, 144, 160),
    ("OneShot", 8): (96, 128, 160, 192, 224, 256, 288, 320),
    ("OneShot", 16): (192, 256, 320, 384, 448, 512, 576, 640),
    ("ShuffleNetV2+", 0): (14, 19, 24, 28, 33, 38, 43, 48),
    ("ShuffleNetV2+", 4): (38, 51, 64, 76, 89, 102, 115, 128),
    ("ShuffleNetV2+", 8): (76, 102, 128, 153, 179, 204, 230, 256),
    ("ShuffleNetV2+", 16): (153, 204, 256, 307, 358, 409, 460, 512),
}


@pytest.mark.parametrize("layout, index", WIDTHS, ids=str)
def test_widths_are_truncated(layout, index):
    space = search_space(layout)
    stable = range(STABLE_CHANNEL_CHOICE, space.num_channel_choices)
    widths = tuple(space.mid_channels(index, choice) for choice in stable)
    assert widths == WIDTHS[layout, index] and all(type(width) is int for width in widths)


@pytest.mark.parametrize("multiple", (8, 16))
def test_widths_of_a_hardware_friendly_space_are_rounded_up(multiple):
    exact, padded = search_space(), search_space(width_multiple=multiple)
    for index in range(exact.num_choice_blocks):
        for choice in range(exact.num_channel_choices):
            width, more = exact.mid_channels(index, choice), padded.mid_channels(index, choice)
            assert more % multiple == 0 and width <= more < width + multiple


@pytest.mark.parametrize("value, expected", ((1, 8), (8, 8), (9, 16), (0, 0)))
def test_round_up(value, expected):
    assert round_up(value, 8) == expected


def test_sampling_stays_in_bounds(space, rng):
    for lowest in (None, 0, 2, space.max_channel_choice):
        for _ in range(50):
            architecture = space.validate(space.sample(rng, lowest))
            assert min(architecture.channel_choices) >= (lowest or space.min_channel_choice)


def test_sampling_is_uniform_over_blocks_and_over_channels():
    space, rng = search_space(), np.random.default_rng(1)
    num_samples = 2000
    samples = [space.sample(rng, 2) for _ in range(num_samples)]
    for genes, num_values in (("block_choices", 4), ("channel_choices", 8)):
        drawn = np.array([getattr(architecture, genes) for architecture in samples])
        low = 0 if genes == "block_choices" else 2
        counts = np.array([(drawn == low + value).sum(axis=0) for value in range(num_values)])
        expected = num_samples / num_values
        chi_square = ((counts - expected) ** 2 / expected).sum(axis=0)  # of every gene, num_values - 1 degrees
        assert chi_square.max() < 3.5 * num_values + 14  # p < 1e-4 for 3 and for 7 degrees of freedom
        assert chi_square.mean() == pytest.approx(num_values - 1, rel=0.5)


def test_sampling_with_one_seed_gives_the_same_architectures():
    space = search_space()
    first, second = (
        [space.sample(rng) for _ in range(5)] for rng in (np.random.default_rng(7), np.random.default_rng(7))
    )
    assert first == second


def test_the_stable_range_has_32_choices_in_each_block():
    assert search_space(min_channel_choice=STABLE_CHANNEL_CHOICE).num_architectures == 32**20
    assert search_space().num_architectures == 40**20


def test_widest_takes_every_maximum():
    space = search_space()
    assert space.widest((0,) * 20).channel_choices == (9,) * 20


@pytest.mark.parametrize(
    "blocks, channels, message",
    (
        ((0,) * 19, (0,) * 19, "19 block choices.*'OneShot' has 20.*Was it searched in another space"),
        ((0,) * 20, (0,) * 21, "21 channel choices"),
        ((), (), "0 block choices"),
        ((0,) * 19 + (4,), (0,) * 20, r"block choice 4 of choice block 19 is not in 0\.\.3"),
        ((-1,) + (0,) * 19, (0,) * 20, r"block choice -1 of choice block 0 is not in 0\.\.3"),
        (
            (0,) * 20,
            (0,) * 5 + (10,) + (0,) * 14,
            r"channel choice 10 of choice block 5 is not in 0\.\.9 \(best.json\)",
        ),
    ),
)
def test_architectures_of_another_space_are_refused(blocks, channels, message):
    with pytest.raises(InputError, match=message):
        search_space().validate(Architecture(blocks, channels), "best.json")


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"strides": (2, 2, 2, 2)}, "needs 5 entries"),
        ({"strides": (2, 2, 2, 2, 3)}, "1 or 2"),
        ({"min_channel_choice": 10}, r"not in 0\.\.9"),
        ({"min_channel_choice": -1}, r"not in 0\.\.9"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"input_size": 0}, "input_size must be at least 1"),
        ({"width_multiple": 0}, "width_multiple must be at least 1"),
    ),
)
def test_impossible_spaces_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        search_space(**changes)


def test_an_unknown_layout_is_refused_with_the_known_ones():
    with pytest.raises(
        InputError, match=f"unknown channels layout 'Wide'; known: {', '.join(LAYOUTS).replace('+', '.')}"
    ):
        search_space("Wide")


@pytest.mark.parametrize(
    "input_size, strides, out_size",
    ((224, (2, 2, 2, 2, 2), 7), (160, (2, 2, 2, 2, 2), 5), (64, (2, 1, 2, 2, 2), 4), (32, (1, 1, 2, 2, 2), 4)),
)
def test_stride_plans_leave_a_usable_map(input_size, strides, out_size):
    assert stride_plan(input_size) == strides
    assert search_space(input_size=input_size, strides=strides).out_size == out_size


def test_geometry_follows_stages_and_strides():
    space = search_space(use_se=True)
    firsts = [block for block in space.choice_blocks if block.projects]
    assert [block.index for block in firsts] == [0, 4, 8, 16]
    assert [(block.in_channels, block.out_channels, block.in_size) for block in firsts] == [
        (16, 64, 112),
        (64, 160, 56),
        (160, 320, 28),
        (320, 640, 14),
    ]
    assert [block.stride for block in space.choice_blocks] == [
        2 if block.projects else 1 for block in space.choice_blocks
    ]
    assert [block.use_se for block in space.choice_blocks] == [False] * 8 + [True] * 12
    assert [block.act for block in space.choice_blocks] == ["relu"] * 4 + ["hard_swish"] * 16


def changed_space(name, value):
    """The published space as files say it, with one place changed: `stages.0.num_blocks`."""
    values = search_space().to_json()
    place: object = values
    *path, last = [int(key) if key.isdigit() else key for key in name.split(".")]
    for key in path:
        place = place[key]  # type: ignore[index]
    place[last] = value  # type: ignore[index]
    return values


@pytest.mark.parametrize(
    "name, value",
    (
        ("stages", []),
        ("stages.0.num_blocks", 0),
        ("stages.0.num_blocks", 97),
        ("stages.1.num_blocks", 10**6),
        ("stages.0.out_channels", 0),
        ("stages.2.out_channels", -640),
        ("stages.1.out_channels", 63),
        ("stages.3.out_channels", 641),
        ("stages.3.out_channels", 10**12),
        ("stem_channels", 64),
        ("stem_channels", -1),
        ("blocks", []),
        ("blocks.1.family", "mobile"),
        ("blocks.2.kernel_size", 0),
        ("blocks.2.kernel_size", -3),
        ("blocks.2.kernel_size", 6),
        ("blocks.2.kernel_size", 1001),
        ("blocks.3.attribute", "block_sn_3x3"),
        ("blocks.3.attribute", "forward"),
        ("blocks.3.attribute", "block_\ud800"),
        ("channel_scales", []),
        ("channel_scales.0", 0.0),
        ("channel_scales.0", -0.2),
        ("channel_scales.0", 0.001),
        ("channel_scales.9", 1e30),
        ("channel_scales.9", 1.0),
        ("channel_scales.4", float("nan")),
        ("warm_up_durations.3", -1),
        ("width_multiple", 10**9),
        ("input_size", 10**6),
        ("num_classes", 10**9),
        ("strides", [2]),
    ),
)
def test_spaces_of_files_that_are_no_network_are_refused(name, value):
    with pytest.raises(InputError, match="search space is malformed"):
        SearchSpace.from_json(changed_space(name, value), "best.json")
