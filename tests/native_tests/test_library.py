"""The native kernels against NumPy, layer by layer: features, gradients, statistics, and what they leave alone."""

import ctypes
import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import pytest
from numpy_layers import Layers, shapes_of_block

from spos.core.errors import InputError
from spos.engine.batch_norm import EPSILON, MOMENTUM
from spos.engine.compat import mx
from spos.native import build, library
from spos.native.library import CORNER, Mode, Session, borrow_session, return_session
from spos.native.steps import PARAMETER, TENSOR, Program, assemble, block_fragment, head_fragment, stem_fragment
from spos.space.blocks import BlockLayers
from spos.space.layers import Conv, GlobalPool, SqueezeExcite, depthwise
from spos.space.names import parameter_shapes

pytestmark = pytest.mark.skipif(not build.are_ready(), reason="the native library is not built")
P = {name: column for column, name in enumerate(PARAMETER)}
NUM_IMAGES = 5
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Net:
    """A stem, one block, and a head whose convolution gives every pixel a gradient of its own."""

    block: BlockLayers
    in_channels: int
    size: int = 9

    @property
    def stem(self):
        return (Conv(3, self.in_channels, 3, act="relu6"),)

    @property
    def head(self):
        return (Conv(self.out_channels, 21, act="hard_swish"), GlobalPool(21))

    @property
    def out_channels(self):
        return (
            Layers(self.values(np.random.default_rng(0), head=False))
            .block(self.block, np.zeros((1, self.in_channels, self.size, self.size)))
            .shape[1]
        )

    def shapes(self, head=True):
        block = shapes_of_block(self.block)
        if not head:
            return block
        return [*parameter_shapes(self.stem).items(), *block, *parameter_shapes(self.head).items()]

    def values(self, rng, head=True):
        """Random values that keep signals at their size."""
        values = []
        for name, shape in self.shapes(head):
            if name.endswith(("gamma", "running_var")):
                value = rng.uniform(0.5, 1.5, shape)
            else:
                value = rng.normal(0, np.prod(shape[1:]) ** -0.5 if name.endswith("weight") else 0.5, shape)
            values.append(value.astype(np.float32))
        return values

    def program(self, trains=True):
        stem = stem_fragment(self.stem, 3, self.size)
        block = block_fragment(self.block, self.in_channels, self.size)
        size = block.tensors[block.output - 1][TENSOR.index("height")]
        return assemble([stem, block, head_fragment(self.head, self.out_channels, int(size))], 3, self.size, trains)

    def reference(self, values, images, known=False):
        """(features, moments) in float64."""
        layers = Layers(values, known)
        x = layers.chain(self.head, layers.block(self.block, layers.chain(self.stem, images.astype(np.float64))))
        return x[:, :, 0, 0], layers.moments


def records(arrays, gradients=None, adds=0, dirty=(0, 0)):
    """Records of arrays whose corners at the beginning the program takes."""
    made = np.zeros((len(arrays), len(PARAMETER)), np.int64)
    for i, array in enumerate(arrays):
        taps = int(np.prod(array.shape[2:])) if array.ndim > 2 else 1
        made[i, P["data"]] = array.ctypes.data
        made[i, [P["row"], P["column"]]] = (array.shape[1] * taps if array.ndim > 1 else 1), taps
        if gradients is not None and gradients[i] is not None:
            made[i, P["gradient"]] = gradients[i].ctypes.data
            made[i, P["adds"]] = adds
            made[i, [P["dirty_rows"], P["dirty_columns"]]] = dirty
    return made


def forward(session, program, arrays, images, mode=Mode.TRAIN):
    session.prepare(mode, program, records(arrays), EPSILON, MOMENTUM)
    features = np.full((len(images), program.num_features), np.nan, np.float32)
    session.forward(images.ctypes.data, len(images), features.ctypes.data)
    return features


def run(net, values, images, of, threads=1, gradients=None, **how):
    """(features, gradients, arrays of the values, statistics moved) of a forward and backward pass."""
    session, program = Session(threads), net.program()
    arrays = [value.copy() for value in values]
    features = forward(session, program, arrays, images)
    if gradients is None:
        gradients = [np.full(value.shape, np.nan, np.float32) for value in values]
    wanted = [None if name.endswith(STATISTICS) else one for (name, _), one in zip(net.shapes(), gradients)]
    session.backward(of.ctypes.data, records(arrays, wanted, **how))
    return features, gradients, arrays


def inputs(net, rng, num_images=NUM_IMAGES):
    images = rng.normal(0, 1, (num_images, 3, net.size, net.size)).astype(np.float32)
    return net.values(rng), images, rng.normal(0, 1, (num_images, 21)).astype(np.float32)


def chain(*specs, **more):
    return BlockLayers("chain", specs, **more)


def shuffled(in_channels, size=9):
    half = in_channels // 2
    return Net(BlockLayers("shuffle", (Conv(half, 20, act="relu"), Conv(20, half, act="relu"))), in_channels, size)


NETS = {
    "pointwise": Net(chain(Conv(13, 37, act="relu"), Conv(37, 16)), 13),
    "pointwise of many weights": Net(chain(Conv(16, 300, act="hard_swish"), Conv(300, 200, act="relu6")), 16, 2),
    "bias without BatchNorm": Net(chain(Conv(13, 19, bn=False, bias=True, act="relu"), Conv(19, 18, bn=False)), 13),
    "wide rows": Net(chain(Conv(16, 256, act="relu"), Conv(256, 17)), 16, 3),
    "dense": Net(chain(Conv(7, 19, 3, act="hard_swish"), Conv(19, 16, 3, 2), Conv(16, 5, 1, 2, act="relu")), 7),
    "dense 5x5 on small maps": Net(chain(Conv(7, 9, 5, act="relu"), Conv(9, 16, 7, 2)), 7, 2),
    "shuffle, even halves": shuffled(24),
    "shuffle, odd halves": shuffled(26, 5),
    "shuffle, halves of 16": shuffled(32, 4),
    "shuffle with projection": Net(
        BlockLayers("shuffle", (Conv(12, 21, act="relu"), depthwise(21, 3, 2)), (depthwise(12, 5, 2), Conv(12, 12))), 12
    ),
    "sum": Net(BlockLayers("residual", (Conv(18, 18, 3, act="relu"), Conv(18, 18)), act="relu"), 18, 5),
    "sum with projection": Net(
        BlockLayers("residual", (Conv(10, 18, 3, 2),), (Conv(10, 18, 1, 2),), act="hard_swish"), 10
    ),
    "sum without activation": Net(BlockLayers("residual", (Conv(16, 16, act="relu6"),)), 16, 4),
    "squeeze-and-excite at the end": Net(
        BlockLayers("shuffle", (Conv(11, 13), SqueezeExcite(13)), (depthwise(11, 3, 1), Conv(11, 11, act="relu"))), 11
    ),
    "squeeze-and-excite inside": Net(
        chain(Conv(9, 24, act="relu6"), SqueezeExcite(24, squeezed=5), Conv(24, 17, act="relu")), 9
    ),
    "squeeze-and-excite and sum": Net(
        BlockLayers("residual", (Conv(19, 19, act="relu"), SqueezeExcite(19)), act="relu6"), 19, 6
    ),
}
for kernel in (1, 3, 5, 7, 9, 11):
    for stride in (1, 2):
        for size in (9, 4):  # the larger kernels have idle taps on the second
            name = f"depthwise {kernel}x{kernel}, stride {stride}, {size} px"
            NETS[name] = Net(chain(depthwise(18, kernel, stride, act="relu"), Conv(18, 8)), 18, size)


@pytest.fixture(params=NETS)
def net(request):
    return NETS[request.param]


def test_features_and_statistics_are_those_of_the_layers(net, rng):
    values, images, of = inputs(net, rng)
    features, _, arrays = run(net, values, images, of)
    wanted, moments = net.reference(values, images)
    np.testing.assert_allclose(features, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    moved = iter(statistic for pair in moments for statistic in pair)
    for (name, _), before, after in zip(net.shapes(), values, arrays):
        if name.endswith(STATISTICS):
            np.testing.assert_allclose(after, MOMENTUM * before + (1 - MOMENTUM) * next(moved), rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_array_equal(after, before)
    assert next(moved, None) is None


def test_gradients_follow_finite_differences(net, rng):
    """Of every parameter, along directions in which all of its values change."""
    values, images, of = inputs(net, rng)
    _, gradients, _ = run(net, values, images, of)
    loss = lambda one: float((net.reference(one, images)[0] * of).sum())  # noqa: E731
    exact = [value.astype(np.float64) for value in values]
    sizes = [np.linalg.norm(one) for (name, _), one in zip(net.shapes(), gradients) if not name.endswith(STATISTICS)]
    for position, (name, shape) in enumerate(net.shapes()):
        if name.endswith(STATISTICS):
            assert np.isnan(gradients[position]).all()
            continue
        tolerance = 1e-3 * np.linalg.norm(gradients[position]) + 1e-5 * max(sizes)
        for _ in range(2):
            direction = rng.normal(0, 1, shape)
            sides = []
            for step in (1e-6, -1e-6):
                there = list(exact)
                there[position] = exact[position] + step * direction
                sides.append(loss(there))
            expected = (sides[0] - sides[1]) / 2e-6
            assert abs((gradients[position] * direction).sum() - expected) <= tolerance, (name, expected)


def test_any_number_of_threads_gives_the_same_bits(net, rng):
    values, images, of = inputs(net, rng, 9)
    first = run(net, values, images, of, 1)
    for threads in (2, 3):
        features, gradients, arrays = run(net, values, images, of, threads)
        np.testing.assert_array_equal(features, first[0])
        for (name, _), one, other in zip(net.shapes(), gradients + arrays, first[1] + first[2]):
            np.testing.assert_array_equal(one, other, err_msg=name)


def test_known_statistics_are_used(net, rng):
    """A few images at a time, by any number of threads, give the bits of all together; and the collected ones too."""
    values, images, _ = inputs(net, rng)
    for threads, together in ((1, 1), (1, NUM_IMAGES), (3, 2)):
        session, program = Session(threads), net.program(trains=False)
        session.prepare(Mode.INFER, program, records(values), EPSILON, MOMENTUM)
        features = np.full((NUM_IMAGES, 21), np.nan, np.float32)
        session.infer(images.ctypes.data, NUM_IMAGES, together, features.ctypes.data)
        wanted = net.reference(values, images, known=True)[0]
        np.testing.assert_allclose(features, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
        if (threads, together) == (1, 1):
            first = features
        np.testing.assert_array_equal(features, first)


def test_statistics_are_collected(net, rng):
    values, images, _ = inputs(net, rng)
    arrays = [value.copy() for value in values]
    features = forward(Session(2), net.program(trains=False), arrays, images, Mode.COLLECT)
    wanted, moments = net.reference(values, images)
    np.testing.assert_allclose(features, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    given = [array for (name, _), array in zip(net.shapes(), arrays) if name.endswith(STATISTICS)]
    for one, expected in zip(given, [statistic for pair in moments for statistic in pair]):
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-6)


def test_gradients_are_added_to_what_is_there(net, rng):
    values, images, of = inputs(net, rng)
    _, written, _ = run(net, values, images, of)
    before = [rng.normal(0, 1, value.shape).astype(np.float32) for value in values]
    _, added, _ = run(net, values, images, of, gradients=[one.copy() for one in before], adds=1)
    for (name, _), old, new, alone in zip(net.shapes(), before, added, written):
        expected = old if name.endswith(STATISTICS) else old + alone
        np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def larger(shape):
    """Of the parameter that a path takes the corner of."""
    return tuple(n + more for n, more in zip(shape, (3, 2)))[: len(shape)] + shape[2:]


def corner_of(array, shape):
    return array[tuple(slice(n) for n in shape)]


@pytest.mark.parametrize("adds", (False, True))
def test_a_corner_is_all_that_is_read_and_written(net, rng, adds):
    """Around it values are not finite, and gradients stay; what an earlier path has left is cleared when they are not
    added."""
    values, images, of = inputs(net, rng)
    features, wanted, _ = run(net, values, images, of)
    wholes, gradients = [], []
    for (_, shape), value in zip(net.shapes(), values):
        whole = np.full(larger(shape), np.nan, np.float32)
        corner_of(whole, shape)[...] = value
        wholes.append(whole)
        gradients.append(np.full(whole.shape, 7, np.float32))
    dirty = (1000, 1000) if adds else (0, 0)  # what is added to is not cleared
    got, _, after = run(net, wholes, images, of, gradients=gradients, adds=int(adds), dirty=dirty)
    np.testing.assert_array_equal(got, features)
    for (name, shape), whole, gradient, alone in zip(net.shapes(), after, gradients, wanted):
        is_statistic = name.endswith(STATISTICS)
        expected = np.full(gradient.shape, 7, np.float32)
        if not is_statistic:
            corner_of(expected, shape)[...] = alone + 7 * adds
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5, err_msg=name)
        corner_of(whole, shape)[...] = np.nan
        assert np.isnan(whole).all(), name


def test_what_an_earlier_path_has_left_is_cleared(net, rng):
    values, images, of = inputs(net, rng)
    _, wanted, _ = run(net, values, images, of)
    wholes, gradients = [], []
    for (_, shape), value in zip(net.shapes(), values):
        whole = np.zeros(larger(shape), np.float32)
        corner_of(whole, shape)[...] = value
        wholes.append(whole)
        gradients.append(np.full(whole.shape, 7, np.float32))
    for (name, shape), gradient, alone in zip(net.shapes(), gradients, wanted):
        if name.endswith(STATISTICS):
            continue
        own = records_with_dirty(net, wholes, gradients, name)
        session, program = Session(1), net.program()
        arrays = [whole.copy() for whole in wholes]
        forward(session, program, arrays, images)
        own[:, P["data"]] = [array.ctypes.data for array in arrays]
        session.backward(of.ctypes.data, own)
        expected = np.zeros(gradient.shape, np.float32)
        corner_of(expected, shape)[...] = alone
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def records_with_dirty(net, wholes, gradients, name):
    """All of the gradient of one parameter is dirty, and no other is wanted."""
    wanted = [gradient if own == name else None for (own, _), gradient in zip(net.shapes(), gradients)]
    made = records(wholes, wanted)
    for i, whole in enumerate(wholes):
        made[i, [P["dirty_rows"], P["dirty_columns"]]] = (*whole.shape[:2], 1)[:2] if wanted[i] is not None else (0, 0)
    return made


def test_a_parameter_without_a_gradient_is_left_out(rng):
    net = NETS["squeeze-and-excite and sum"]
    values, images, of = inputs(net, rng)
    _, wanted, _ = run(net, values, images, of)
    for position, (name, _) in enumerate(net.shapes()):
        gradients = [None if i == position else np.zeros_like(value) for i, value in enumerate(values)]
        run(net, values, images, of, gradients=gradients)
        for i, one in enumerate(gradients):
            if one is not None and not net.shapes()[i][0].endswith(STATISTICS):
                np.testing.assert_array_equal(one, wanted[i], err_msg=f"{net.shapes()[i][0]} without {name}")


def test_a_session_serves_programs_and_batches_of_any_size_in_turn(rng):
    """Its memory is used again: nothing of the last program is left in the next."""
    session = Session(2)
    for name in ("wide rows", "dense", "shuffle, odd halves", "squeeze-and-excite inside", "wide rows", "sum"):
        for num_images in (1, 12, 3):
            net = NETS[name]
            values, images, of = inputs(net, rng, num_images)
            features, wanted, _ = run(net, values, images, of)
            np.testing.assert_array_equal(forward(session, net.program(), [v.copy() for v in values], images), features)
            gradients = [np.full(value.shape, np.nan, np.float32) for value in values]
            kept = [None if own.endswith(STATISTICS) else one for (own, _), one in zip(net.shapes(), gradients)]
            session.backward(of.ctypes.data, records([v.copy() for v in values], kept))
            for one, other in zip(gradients, wanted):
                np.testing.assert_array_equal(one, other)


def nag_by_mxnet(weight, gradient, momentum, lr, wd, kept, scale):
    """As `mx.optimizer.NAG` calls it: the weight is written in place."""
    arrays = [mx.nd.array(one) for one in (weight, gradient, momentum)]
    mx.nd.nag_mom_update(*arrays, out=arrays[0], lr=lr, wd=wd, momentum=kept, rescale_grad=scale)
    return arrays[0].asnumpy(), arrays[2].asnumpy()


@pytest.mark.parametrize("threads", (1, 3))
@pytest.mark.parametrize("lr, wd, kept, scale", ((0.1, 0.0, 0.9, 1.0), (0.37, 4e-5, 0.9, 1 / 96), (3.0, 0.1, 0.5, 7.0)))
def test_a_step_of_the_optimizer_has_the_bits_of_mxnets(lr, wd, kept, scale, threads, rng):
    shapes = ((1,), (37,), (64, 17), (40, 8, 5, 5))
    arrays = [[rng.normal(0, 1, shape).astype(np.float32) for _ in range(3)] for shape in shapes]
    expected = [nag_by_mxnet(*three, lr, wd, kept, scale) for three in arrays]
    corners = np.zeros(len(shapes), CORNER)
    for corner, (weight, gradient, momentum) in zip(corners, arrays):
        corner["weight"], corner["gradient"] = weight.ctypes.data, gradient.ctypes.data
        corner["momentum"], corner["rows"], corner["length"] = momentum.ctypes.data, 1, weight.size
    corners["rate"], corners["decay"] = lr, wd
    Session(threads).nesterov(corners, kept, scale)
    for (weight, _, momentum), (new_weight, new_momentum) in zip(arrays, expected):
        np.testing.assert_array_equal(weight, new_weight)
        np.testing.assert_array_equal(momentum, new_momentum)


def test_a_step_moves_corners_alone(rng):
    """Rows of a corner lie apart; each has its own learning rate and decay."""
    shapes, selected = ((9, 7, 3, 3), (12, 20, 1, 1)), ((5, 4), (12, 13))
    whole = [[rng.normal(0, 1, shape).astype(np.float32) for _ in range(3)] for shape in shapes]
    before = [[one.copy() for one in three] for three in whole]
    corners = np.zeros(2, CORNER)
    for corner, three, (rows, columns) in zip(corners, whole, selected):
        corner["weight"], corner["gradient"], corner["momentum"] = (one.ctypes.data for one in three)
        taps = int(np.prod(three[0].shape[2:]))
        corner["rows"], corner["length"], corner["stride"] = rows, columns * taps, three[0].shape[1] * taps
    corners["rate"], corners["decay"] = (0.1, 0.2), (0.0, 0.01)
    Session(2).nesterov(corners, 0.9, 0.5)
    for three, old, (rows, columns), corner in zip(whole, before, selected, corners):
        cut = [np.ascontiguousarray(one[:rows, :columns]) for one in old]
        weight, momentum = nag_by_mxnet(*cut, float(corner["rate"]), float(corner["decay"]), 0.9, 0.5)
        old[0][:rows, :columns], old[2][:rows, :columns] = weight, momentum
        for one, expected in zip(three, old):
            np.testing.assert_array_equal(one, expected)


def test_sessions_are_used_again(monkeypatch):
    monkeypatch.setattr(library, "_free", [])
    first, second = borrow_session(1), borrow_session(1)
    assert first is not second
    first.owner, second.owner = "a", "b"
    return_session(first)
    return_session(second)
    assert borrow_session(1, "a") is first  # which has its program
    assert borrow_session(1, "a") is second and borrow_session(1) not in (first, second)


def test_a_file_that_is_no_library_is_refused(tmp_path):
    path = tmp_path / "session-0.so"
    path.write_bytes(b"\x7fELF, but not whole")
    with pytest.raises(InputError, match="session-0.so cannot be loaded .*python -m utils.build_native"):
        library.load(path)


def test_records_of_other_sizes_are_refused(monkeypatch):
    file = build.library_file()
    monkeypatch.setattr(library, "STEP", library.STEP[1:])
    with pytest.raises(RuntimeError, match="was built from other sources: its records have"):
        library.load.__wrapped__(file)


def test_what_the_library_throws_is_an_error_of_python():
    """Memory for more maps than there can be."""
    net = NETS["sum"]
    program = net.program()
    huge = Program(program.steps, program.tensors, program.num_parameters, 1 << 50, program.affine)
    session, values = Session(1), net.values(np.random.default_rng(0))
    session.prepare(Mode.TRAIN, huge, records(values), EPSILON, MOMENTUM)
    image = np.zeros((1, 3, net.size, net.size), np.float32)
    with pytest.raises(RuntimeError, match="native kernels: .*bad_alloc"):
        session.forward(image.ctypes.data, 1, image.ctypes.data)
    assert ctypes.sizeof(ctypes.c_void_p) == 8  # the records hold addresses in 64 bits


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_makes_sessions_of_its_own(rng):
    """The threads of a session do not come along: whoever waits for them waits for ever."""
    net = NETS["sum"]
    values, images, _ = inputs(net, rng)
    session = borrow_session(2)
    wanted = forward(session, net.program(), [value.copy() for value in values], images)
    return_session(session)
    child = os.fork()
    if not child:
        own = borrow_session(2)
        same = own is not session and (forward(own, net.program(), values, images) == wanted).all()
        os._exit(0 if same else 1)
    deadline, ended = time.monotonic() + 30, (0, 0)
    while ended == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
        ended = os.waitpid(child, os.WNOHANG)
    assert ended == (child, 0)
