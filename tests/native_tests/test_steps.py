"""Lists of steps: places of maps, numbers of parameters, added gradients, idle taps, layers without kernels."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import SPACES, TINY, VARIANTS, all_choices

from spos.engine.forms import as_described
from spos.execution.parts import PathParts, num_before_pooling
from spos.native.steps import (
    LANES,
    STEP,
    TENSOR,
    Kind,
    Unsupported,
    assemble,
    block_fragment,
    head_fragment,
    num_parameters,
    row_of,
    stem_fragment,
)
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import BlockLayers
from spos.space.layers import Conv, Dropout, GlobalPool, SqueezeExcite, depthwise, round_up

MAPS = ("source", "target", "beside")


def rows_of(array, names):
    return [dict(zip(names, row)) for row in array.tolist()]


def steps_of(fragment):
    return rows_of(fragment.steps, STEP)


def program_of(space, architecture, trains=True):
    """(program, slots) of a path."""
    parts = list(PathParts(space, as_described, lambda *_: 1).of(architecture))
    stem, *blocks, _ = parts
    fragments = [stem_fragment(stem.chains[0].specs, stem.in_channels, stem.in_size)]
    fragments += [block_fragment(part.block, part.in_channels, part.in_size) for part in blocks]
    before = layer_specs.head(space)[: num_before_pooling(space) + 1]
    fragments.append(head_fragment(before, space.out_channels, space.out_size))
    slots = [slot for part, one in zip(parts, fragments) for slot in part.slots[: one.num_parameters]]
    return assemble(fragments, stem.in_channels, stem.in_size, trains), slots


def paths():
    rng = np.random.default_rng(5)
    for name, space in {**SPACES, "published": VARIANTS["se"], "v2plus": VARIANTS["v2plus"], "tiny-se": TINY}.items():
        for number, architecture in enumerate(all_choices(space, rng)):
            yield pytest.param(space, architecture, id=f"{name}-{number}")


def lives(steps, num_tensors):
    """First and last step at which each map is written or read, in forward."""
    spans = {0: [-1, -1]}
    for position, step in enumerate(steps):
        for name in MAPS:
            if step[name] >= 0:
                spans.setdefault(step[name], [position, position])[1] = position
    assert set(spans) == set(range(num_tensors))
    return spans


def floats(tensor, is_image):
    return tensor["height"] * tensor["width"] * (tensor["channels"] if is_image else tensor["row"])


def assert_apart(places):
    """Places (begin, end, first step, last step) that overlap while both live."""
    places = sorted(places)
    for i, (_, end, first, last) in enumerate(places):
        for begin, _, other_first, other_last in places[i + 1 :]:
            if begin >= end:
                break
            assert other_last < first or last < other_first, (places[i], begin)


def kept_places(steps, tensors):
    """What squeeze-and-excite keeps for backward, for each image."""
    for position, step in enumerate(steps):
        if step["squeeze"] >= 0:
            width = round_up(tensors[step["source"]]["channels"], LANES)
            yield step["kept"], step["kept"] + 2 * width + round_up(step["squeezed"], LANES), position


@pytest.mark.parametrize("space, architecture", paths())
def test_maps_do_not_overlap_while_they_live(space, architecture):
    for trains in (False, True):
        program, _ = program_of(space, architecture, trains)
        steps, tensors = rows_of(program.steps, STEP), rows_of(program.tensors, TENSOR)
        end_of_all = len(steps)
        places = []
        for number, (first, last) in lives(steps, len(tensors)).items():
            tensor = tensors[number]
            begin, end = tensor["place"], tensor["place"] + floats(tensor, number == 0)
            assert begin >= 0 and end <= program.floats_per_image
            places.append((begin, end, first, end_of_all if trains else last))
        for begin, end, position in kept_places(steps, tensors):
            places.append((begin, end, position, end_of_all if trains else position))
        assert_apart(places)


@pytest.mark.parametrize("space, architecture", paths())
def test_gradients_do_not_overlap_while_they_live(space, architecture):
    """That of a map is written by the steps that read the map, and read by the one that wrote it; backward."""
    program, _ = program_of(space, architecture)
    steps, tensors = rows_of(program.steps, STEP), rows_of(program.tensors, TENSOR)
    maps_end = max(tensor["place"] + floats(tensor, i == 0) for i, tensor in enumerate(tensors))
    places = []
    for number, (first, last) in lives(steps, len(tensors)).items():
        if number in (0, len(tensors) - 1):  # the image has none, that of the result is given
            continue
        begin, end = tensors[number]["gradient"], tensors[number]["gradient"] + floats(tensors[number], False)
        assert maps_end <= begin and end <= program.floats_per_image
        places.append((begin, end, -last, -first))
    assert_apart(places)


@pytest.mark.parametrize("space, architecture", paths())
def test_parameters_are_numbered_in_the_order_of_the_slots(space, architecture):
    program, slots = program_of(space, architecture)
    assert program.num_parameters == len(slots)
    tensors, used = rows_of(program.tensors, TENSOR), []
    for step in rows_of(program.steps, STEP):
        if step["kind"] <= Kind.DENSE:
            channels = tensors[step["target"]]["channels"], tensors[step["source"]]["channels"]
            is_depthwise = step["kind"] == Kind.DEPTHWISE
            slot = slots[step["weight"]]
            assert slot.name.endswith("weight")
            assert slot.selected[:2] == (channels[0], 1 if is_depthwise else channels[1])
            assert slot.selected[2:] == (step["kernel"],) * 2
            used.append(step["weight"])
            ends = {"gamma": "gamma", "mean": "running_mean", "variance": "running_var"}
            ends["beta"] = "beta" if step["gamma"] >= 0 else "bias"
            for name, end in ends.items():
                if step[name] >= 0:
                    assert slots[step[name]].name.endswith(end) and slots[step[name]].selected == (channels[0],)
                    used.append(step[name])
        elif step["squeeze"] >= 0:
            width, squeezed = tensors[step["source"]]["channels"], step["squeezed"]
            shapes = [slot.selected for slot in slots[step["squeeze"] : step["squeeze"] + 4]]
            assert [shape[:2] for shape in shapes] == [(squeezed, width), (squeezed,), (width, squeezed), (width,)]
            used += range(step["squeeze"], step["squeeze"] + 4)
    assert sorted(used) == list(range(len(slots)))


@pytest.mark.parametrize("space, architecture", paths())
def test_the_first_gradient_of_a_map_in_backward_is_written_and_the_others_are_added(space, architecture):
    program, _ = program_of(space, architecture)
    written = set()
    for step in reversed(rows_of(program.steps, STEP)):
        if step["kind"] == Kind.JOIN and step["beside"] >= 0:
            assert step["adds_beside"] == (step["beside"] in written)
            written.add(step["beside"])
        assert step["adds"] == (step["source"] in written)
        written.add(step["source"])
        assert step["goes_on"] == (step["source"] > 0)  # the image wants none


@pytest.mark.parametrize("space, architecture", paths())
def test_a_lazy_map_is_read_once_and_every_channel_of_the_others_is_written(space, architecture):
    """Its reader takes the sums that the gradient of BatchNorm needs."""
    program, _ = program_of(space, architecture, trains=False)
    steps, tensors = rows_of(program.steps, STEP), rows_of(program.tensors, TENSOR)
    read = [step["source"] for step in steps] + [s["beside"] for s in steps if s["kind"] == Kind.JOIN]
    affine = []
    for number, tensor in enumerate(tensors):
        if tensor["affine"] >= 0:
            assert read.count(number) == 1
            affine.append((tensor["affine"], tensor["affine"] + 6 * round_up(tensor["channels"], LANES)))
        elif 0 < number < len(tensors) - 1:
            columns = []
            for step in steps:
                if step["target"] == number and step["kind"] == Kind.JOIN:
                    columns += range(step["column"], step["column"] + tensors[step["source"]]["channels"])
                elif step["target"] == number or (step["kind"] == Kind.SPLIT and step["beside"] == number):
                    columns += range(tensors[step["source"]]["channels"] // 2)
            assert sorted(columns) == list(range(tensor["channels"]))
    affine.sort()
    assert affine[0][0] == 0 and affine[-1][1] == program.affine
    assert all(one[1] == other[0] for one, other in zip(affine, affine[1:]))


def test_training_keeps_every_map_and_scoring_few():
    architecture = Architecture((0,) * 20, (4,) * 20)
    train, score = (program_of(VARIANTS["plain"], architecture, trains)[0] for trains in (True, False))
    assert score.floats_per_image < 0.2 * train.floats_per_image
    np.testing.assert_array_equal(train.steps[:, STEP.index("weight")], score.steps[:, STEP.index("weight")])


@pytest.mark.parametrize("channels, row", ((1, 16), (16, 16), (17, 32), (240, 240), (256, 272), (250, 272), (512, 528)))
def test_rows_are_padded_and_no_multiple_of_1024_bytes(channels, row):
    assert row_of(channels) == row


@pytest.mark.parametrize(
    "kernel, size, idle", ((3, 1, 1), (3, 2, 0), (5, 2, 1), (7, 2, 2), (7, 3, 1), (7, 4, 0), (1, 1, 0), (11, 4, 2))
)
@pytest.mark.parametrize("stride", (1, 2))
def test_taps_that_meet_no_pixel_are_left_out(kernel, size, idle, stride):
    (step, *_) = steps_of(block_fragment(BlockLayers("chain", (depthwise(8, kernel, stride),)), 8, size))
    assert (step["kernel"], step["idle"], step["stride"]) == (kernel, idle, stride)
    reached = {abs(pixel - centre) for centre in range(0, size, stride) for pixel in range(size)}
    assert kernel // 2 - idle >= min(kernel // 2, max(reached))  # none of the others meets a pixel


def test_kinds_of_convolutions():
    specs = (Conv(8, 8), Conv(8, 8, 1, 2), Conv(8, 8, 3), depthwise(8, 3, 1), Conv(8, 8, 1, groups=8))
    kinds = [step["kind"] for step in steps_of(block_fragment(BlockLayers("chain", specs), 8, 8))]
    assert kinds == [Kind.POINTWISE, Kind.DENSE, Kind.DENSE, Kind.DEPTHWISE, Kind.DEPTHWISE, Kind.JOIN]
    (first, *_) = steps_of(stem_fragment((Conv(3, 8),), 3, 8))
    assert first["kind"] == Kind.DENSE  # an image has no padded channels


@pytest.mark.parametrize(
    "layers, said",
    (
        (BlockLayers("chain", (Conv(8, 8, 3, groups=2),)), "a convolution in 2 groups"),
        (BlockLayers("chain", (Conv(8, 8, act="sigmoid"),)), "the activation 'sigmoid'"),
        (BlockLayers("residual", (Conv(8, 8),), act="tanh"), "the activation 'tanh'"),
        (BlockLayers("chain", (Conv(8, 8, bias=True),)), "a bias in front of BatchNorm"),
        (BlockLayers("chain", (Conv(8, 8), Dropout(0.5), Conv(8, 8))), "Dropout.* inside a chain"),
        (BlockLayers("residual"), "a block without a main branch"),
    ),
)
def test_layers_without_kernels_are_refused(layers, said):
    with pytest.raises(Unsupported, match=f"no native kernel for {said}"):
        block_fragment(layers, 8, 8)


def test_a_head_that_does_not_pool_is_refused():
    with pytest.raises(Unsupported, match="does not pool"):
        head_fragment((Conv(8, 8),), 8, 8)


def test_parameters_of_a_chain_are_counted():
    specs = (Conv(8, 12), Conv(12, 12, bn=False, bias=True), Conv(12, 8, bn=False), SqueezeExcite(8), GlobalPool(8))
    assert num_parameters(specs) == 5 + 2 + 1 + 4


def test_a_fragment_is_made_once():
    layers = BlockLayers("residual", (Conv(8, 8),))
    assert block_fragment(layers, 8, 8) is block_fragment(replace(layers), 8, 8)
    assert block_fragment(layers, 8, 8) is not block_fragment(layers, 8, 4)
