"""Where the time of a step goes: traces are read as they are meant, and limits are those of the model."""

import json
import sys

import numpy as np
import pytest
from conftest import ROOT, TINY, fails

from benchmarks import limits, step_profile, step_shares, step_trace
from benchmarks.limits import FLOAT, GATES, NORM_BACKWARD, NORM_FORWARD, OPTIMIZER, Machine, Work
from benchmarks.step_trace import Kernel, Operator, Piece, StepTrace
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.space.cost import count_architecture
from spos.space.layers import Conv, depthwise
from spos.space.space_file import load_space

ARCHITECTURE = TINY.sample(np.random.default_rng(1))
LINES = """dnnl_verbose,info,oneDNN v2.4.4
something else
dnnl_verbose,1000.5,exec,cpu,convolution,jit_dw:avx2,forward_training,src_f32::blocked:a dst_f32::blocked:a,,alg:none,\
g8mb2_ic8oc8_ih4oh2kh3sh2dh0ph1_iw4ow2kw3sw2dw0pw1,0.25
dnnl_verbose,1001.0,exec,cpu,reorder,jit:blk,undef,src_f32::blocked:abcd:f0 dst_f32::blocked:aBcd16b:f0,,,2x8x4x4,0.125
dnnl_verbose,1001.5,exec,cpu,reorder,jit:blk,undef,src_f32::blocked:abcd:f0 dst_f32::blocked:abcd:f0,,,2x8x4x4,0.125
"""


def test_lines_of_kernels_are_read():
    convolution, reorder, copy = step_trace.read_kernels(LINES)
    assert (convolution.start, convolution.seconds) == (1.0005, 0.25e-3)
    assert convolution.kind == step_trace.DEPTHWISE_FORWARD
    assert convolution.flops == 2 * 2 * 8 * 2 * 2 * 3 * 3
    assert (reorder.kind, copy.kind) == (step_trace.REORDERS, "")  # a copy is what its operator is
    with pytest.raises(InputError, match="nothing about its kernels"):
        step_trace.read_kernels("dnnl_verbose,info,cpu\n")


def kernel(start, seconds, name="reorder", direction="undef", formats="src_f32::blocked:a dst_f32::blocked:a"):
    return Kernel(start, seconds, name, "jit", direction, formats, "4x4")


def test_a_step_is_taken_apart():
    operators = [
        Operator("DeleteVariable", 0.0, 1.0),
        Operator("_backward_Convolution", 1.0, 5.0),
        Operator("DeleteVariable", 1.5, 1.75),  # beside it, in another thread
        Operator("Concat", 6.0, 8.0),
        Operator("_contrib_something_new", 8.0, 9.0),
        Operator("add_n", 20.0, 21.0),  # of another step
    ]
    kernels = [
        kernel(2.0, 1.5, "convolution", "backward_data"),
        kernel(6.5, 0.5),
        kernel(9.5, 0.25, "eltwise", "forward_training"),
        kernel(20.5, 0.5),
    ]
    trace = step_trace.trace_of(0.0, 10.0, operators, kernels)
    assert (trace.wall, trace.stray) == (10, 0.25)
    seconds = {}
    for piece in trace.pieces.values():
        seconds[piece.kind] = seconds.get(piece.kind, 0) + piece.seconds
    assert seconds == {
        step_trace.POINTWISE_BACKWARD: 1.5,
        step_trace.AROUND: 2.5,
        step_trace.SHUFFLES: 2.0,
        step_trace.ENGINE: 1.25,
        step_trace.OTHER: 1.25,
    }


def test_what_others_took_of_single_operators_does_not_count():
    def step(*seconds):
        pieces = {(str(i),): Piece("kind", str(i), one) for i, one in enumerate(seconds)}
        return StepTrace(sum(seconds), pieces, 0.0)

    steps = [step(1, 90, 1, 1), step(90, 1, 1), step(1, 1, 90), step(1, 1, 1), step(1, 1, 90)]
    assert [piece.seconds for piece in step_trace.typical_pieces(steps)] == [1, 1, 1]  # the fourth was there once


def test_every_operator_has_one_kind():
    names = [name for kind in step_trace.OPERATORS.values() for name in kind]
    assert len(names) == len(set(names))
    assert set(step_trace.OPERATORS) <= set(step_trace.KINDS)
    for name, kind in {
        "_backward_stack": step_trace.SHUFFLES,
        "_contrib_backward_quadratic": step_trace.ACTIVATIONS,
        "_backward_BatchNorm": step_trace.AROUND,
        "_zeros": step_trace.WEIGHTS,
        "unheard_of": step_trace.OTHER,
    }.items():
        assert Operator(name, 0, 1).kind == kind


def test_the_slower_of_computing_and_moving_is_the_limit():
    machine = Machine(peak=100.0, bandwidths=((1000, 50.0), (2000, 10.0)), fault=1e-6)
    assert [machine.bandwidth(size) for size in (1, 1000, 1001, 9999)] == [50, 50, 10, 10]
    works = [Work("a", 300, 100, 500), Work("a", 100, 100, 500), Work("b", 0, 100, 5000)]
    assert limits.shortest_times(works, machine) == {"a": 3 + 2, "b": 10}


def test_a_smaller_copy_is_not_slower_than_a_larger():
    assert limits.falling([(1, 5.0), (2, 9.0), (4, 3.0)]) == ((1, 9.0), (2, 9.0), (4, 3.0))


@pytest.mark.parametrize("size, kernel_size, stride", ((8, 3, 1), (8, 7, 2), (2, 7, 1), (1, 1, 1), (5, 5, 2)))
def test_taps_that_meet_padding_are_no_work(size, kernel_size, stride):
    ones = mx.nd.ones((1, 1, size, size))
    weight = mx.nd.ones((1, 1, kernel_size, kernel_size))
    pad = (kernel_size // 2,) * 2
    args = {"kernel": weight.shape[2:], "stride": (stride,) * 2, "pad": pad, "num_filter": 1, "no_bias": True}
    met = mx.nd.Convolution(ones, weight, **args).sum().asscalar()
    assert limits.met_taps(size, kernel_size, stride) ** 2 == met


def test_work_of_convolutions():
    forward, backward = limits.conv_works(Conv(8, 16), 4, batch_size=2)
    x, y, weight = FLOAT * 2 * 8 * 16, FLOAT * 2 * 16 * 16, FLOAT * 8 * 16
    assert forward == Work(limits.POINTWISE_FORWARD, 2 * 2 * 16 * 8 * 16, x + y + weight, x + y + weight)
    assert (backward.flops, backward.traffic) == (2 * forward.flops, 2 * x + y + 2 * weight)
    _, first = limits.conv_works(Conv(8, 16), 4, batch_size=2, needs_input_gradient=False)
    assert (first.flops, first.traffic) == (forward.flops, forward.traffic)
    assert [work.kind for work in limits.conv_works(Conv(8, 16), 1, 2)] == [GATES, GATES]
    assert [work.kind for work in limits.conv_works(depthwise(8, 3, 1), 4, 2)] == [
        limits.DEPTHWISE_FORWARD,
        limits.DEPTHWISE_BACKWARD,
    ]


def test_work_of_a_path_is_that_of_its_layers():
    works = list(limits.path_works(TINY, ARCHITECTURE, 4))
    (optimizer,) = (work for work in works if work.kind == OPTIMIZER)
    assert optimizer.traffic == 5 * FLOAT * count_architecture(TINY, ARCHITECTURE)[1]
    forward, backward = (
        sum(work.traffic for work in works if work.kind == kind) for kind in (NORM_FORWARD, NORM_BACKWARD)
    )
    assert backward == 1.5 * forward > 0
    assert all(work.kind != limits.SUMS for work in works)
    halves = list(limits.path_works(TINY, ARCHITECTURE, 2))
    assert sum(work.flops for work in works) == 2 * sum(work.flops for work in halves)


def test_sums_of_residual_blocks_are_work():
    space = load_space("mobilenetv2")
    architecture = space.sample(np.random.default_rng(0))
    added = [work for work in limits.path_works(space, architecture, 2) if work.kind == limits.SUMS]
    assert 0 < len(added) < space.num_choice_blocks
    assert all(work.flops == 0 < work.traffic for work in added)


def test_this_machine_computes_and_copies(monkeypatch):
    monkeypatch.setattr(limits, "PRODUCT_SIZE", 256)
    monkeypatch.setattr(limits, "COPIED_BYTES", (2**19, 2**21))
    monkeypatch.setattr(limits, "TOUCHED_BYTES", 2**22)
    machine = limits.measure_machine(1)
    assert 1e8 < machine.peak < 1e13
    assert [size for size, _ in machine.bandwidths] == [2**19, 2**21]
    assert all(1e8 < rate < 1e13 for _, rate in machine.bandwidths)
    assert 1e-8 < machine.fault < 1e-3


@pytest.fixture
def quick(monkeypatch):
    """The tiny space in this process, its trace as a child would write it, and a machine that is known."""
    monkeypatch.setattr(step_profile, "make_space", lambda input_size, classes: TINY)
    monkeypatch.setattr(step_profile, "measure_machine", lambda threads: Machine(1e11, ((2**30, 1e10),), 1e-6))


ARGUMENTS = ("--batch-size", "4", "--rounds", "2", "--warm-up", "1", "--paths", "2")


def test_the_parts_of_a_step_make_it_up(quick, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(step_profile, "COMMAND", (sys.executable, "-c", CHILD))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    out = tmp_path / "results.jsonl"
    assert step_profile.main([*ARGUMENTS, "--json", "--out", str(out)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line == json.loads(out.read_text()) and line["stage"] == "step_profile"
    rows = {row["kind"]: row for row in line["shares"]}
    wall = line["undisturbed"]["wall"]
    assert sum(row["seconds"] for row in rows.values()) == pytest.approx(wall)
    for kind in (limits.POINTWISE_FORWARD, limits.POINTWISE_BACKWARD, limits.DEPTHWISE_BACKWARD, NORM_FORWARD):
        assert 0 < rows[kind]["seconds"] < line["traced"]
        assert rows[kind]["limit"] > 0
    assert rows[step_trace.SHUFFLES]["limit"] == 0 < rows[step_trace.SHUFFLES]["seconds"]
    assert step_trace.OTHER not in rows, [piece for piece in line["details"] if piece["kind"] == step_trace.OTHER]
    assert line["undisturbed"]["one_image"] > 0 and line["undisturbed"]["faults"] >= 0


CHILD = """
import sys
from unittest import mock
from conftest import TINY
from benchmarks import step_profile
with mock.patch.object(step_profile, "make_space", lambda *_: TINY):
    sys.exit(step_profile.main(sys.argv[1:]))
"""


def test_the_tables_say_where_the_time_was():
    piece = Piece(limits.POINTWISE_FORWARD, "convolution jit", 0.5, 1e9)
    trace = StepTrace(1.5, {("a",): piece}, 0.0)
    undisturbed = step_shares.Undisturbed(1.0, 0.0, 0.1, 0.0, 1000.0, 0.2, 0.01)
    machine = Machine(1e10, ((2**20, 1e10),), 1e-6)
    profile = step_shares.Profile([[trace]], [{limits.POINTWISE_FORWARD: 0.1}], undisturbed, machine)
    parts, details = profile.tables(5)
    assert parts.rows == (
        (limits.POINTWISE_FORWARD, 0.5, 0.5, 0.1, pytest.approx(0.2)),
        (step_trace.IDLE, 0.5, 0.5, 0.0, None),
    )
    assert details.rows == ((limits.POINTWISE_FORWARD, "convolution jit", 0.5),)
    assert len(profile.tables(0)) == 1


def test_a_child_that_fails_says_why(quick, monkeypatch, capsys):
    monkeypatch.setattr(step_profile, "COMMAND", (sys.executable, "-c", "raise KeyError('dreaming')"))
    fails(step_profile.main, ARGUMENTS, capsys, "code 1", "KeyError: 'dreaming'")


def test_bad_strides_are_refused(quick, capsys):
    fails(step_profile.main, (*ARGUMENTS, "--strides", "2,2"), capsys, "--strides 2,2 needs 3 entries")
