"""Paths by the native kernels against the same paths by MXNet's graphs: training and scoring."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, TINY, fill_parameters, small_file
from tiny_training import CPU, TWO, ListLoader, make_trainer

from execution_tests.test_scored import fast_logits, some_pixels, supernet
from execution_tests.test_trained import assert_alike, filled, one_pass, some_images, trained_parameters
from oneshot_nas_network import Supernet
from spos.engine.compat import mx
from spos.execution import native
from spos.execution.trained import TrainingGraphs
from spos.native.build import SWITCH, are_ready
from spos.space.architecture import Architecture
from spos.space.blocks import KINDS, BlockLayers, register_block
from spos.space.layers import Conv
from spos.space.names import block_position
from spos.space.space_file import parse_space
from spos.training.network import add_gradients

pytestmark = pytest.mark.skipif(not are_ready(), reason="the native library is not built")
WIDE, NARROW = Architecture((0, 3, 1, 2), (9, 8, 9, 7)), Architecture((0, 3, 1, 2), (1, 0, 2, 0))


@pytest.fixture
def by_graphs(monkeypatch):
    """Makes what runs paths by MXNet's graphs."""

    def make(kind, *args):
        with monkeypatch.context() as patch:
            patch.setenv(SWITCH, "0")
            return kind(*args)

    return make


def passed(graphs, images, path):
    """A forward and backward pass as `one_pass` has it: the same dropout, the same gradient of the logits."""
    mx.random.seed(1)
    with mx.autograd.record():
        logits = graphs(images, path)
    logits.backward(mx.nd.array(np.random.default_rng(2).normal(0, 1, logits.shape)))


def test_training_is_that_of_the_graphs(by_graphs, rng):
    net, images = filled(Supernet(TINY), rng), some_images(TINY, rng, 12)
    ours, theirs = TrainingGraphs(net), by_graphs(TrainingGraphs, net)
    assert ours.kernels.startswith("native kernels") and theirs is not ours
    for _ in range(3):
        architecture = TINY.sample(rng)
        assert_alike(
            net, lambda x, path=architecture: ours(x, path), images, lambda x, path=architecture: theirs(x, path)
        )


def test_scoring_is_that_of_the_graphs(by_graphs, rng):
    net, bn_images, images = supernet(TINY), some_pixels(24, 16, 5), some_pixels(10, 16, 5, 1)
    for architecture in (WIDE, NARROW, TINY.sample(rng)):
        ours = fast_logits(net, architecture, bn_images, images, 8)
        theirs = by_graphs(fast_logits, net, architecture, bn_images, images, 8)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
        assert (ours != theirs).any()  # they were two ways


def test_scores_do_not_depend_on_how_many_images_run_together(monkeypatch, rng):
    net, bn_images, images = supernet(TINY), some_pixels(24, 16, 5), some_pixels(10, 16, 5, 1)
    whole = fast_logits(net, WIDE, bn_images, images, 10)
    monkeypatch.setattr(native, "CACHED_FLOATS", 1)  # one after the other
    np.testing.assert_array_equal(fast_logits(net, WIDE, bn_images, images, 10), whole)


def test_two_devices_give_the_same_bits_every_time(rng):
    """Their backward passes run in two threads."""
    net = filled(Supernet(TINY), rng, list(TWO))
    images, graphs = some_images(TINY, rng, 8), TrainingGraphs(net)
    halves = [images[:4].as_in_context(TWO[0]), images[4:].as_in_context(TWO[1])]
    results = []
    for _ in range(3):
        mx.random.seed(1)
        with mx.autograd.record():
            losses = [(graphs(half, WIDE) ** 2).sum() for half in halves]
        mx.autograd.backward(losses)
        gradients = [g.asnumpy() for p in trained_parameters(net).values() for g in p.list_grad()]
        results.append(gradients)
    for one, first in zip(results[1] + results[2], results[0] * 2):
        np.testing.assert_array_equal(one, first)


PASSES = (WIDE, NARROW, Architecture((1, 3, 0, 2), (5, 5, 5, 5)), NARROW)


def test_gradients_of_several_passes_add_up(rng):
    net = filled(Supernet(TINY), rng)
    images, graphs = some_images(TINY, rng), TrainingGraphs(net)
    alone = [one_pass(net, lambda x, path=path: graphs(x, path), images)[1] for path in PASSES]
    add_gradients(net)
    adding = TrainingGraphs(net)
    for _ in range(2):  # the second time on gradients that were set to zero, as a step leaves them
        for parameter in trained_parameters(net).values():
            parameter.zero_grad()
        for path in PASSES:
            passed(adding, images, path)
        for name, parameter in trained_parameters(net).items():
            expected = sum(one[name].astype(np.float64) for one in alone)
            scale = max(np.abs(one[name]).max() for one in alone)
            np.testing.assert_allclose(parameter.grad().asnumpy(), expected, rtol=0, atol=1e-5 * scale, err_msg=name)


def test_a_narrow_path_clears_what_a_wide_one_has_left(rng):
    """Gradients are written, and nobody sets them to zero between two steps."""
    net = filled(Supernet(TINY), rng)
    images, graphs = some_images(TINY, rng), TrainingGraphs(net)
    wanted = one_pass(net, lambda x: graphs(x, NARROW), images)[1]
    for path in (WIDE, NARROW):
        passed(graphs, images, path)
    used = {parameter.name for parameter, _ in net.selected_parameters(NARROW)}
    for name, parameter in trained_parameters(net).items():
        if parameter.name in used:
            np.testing.assert_array_equal(parameter.grad().asnumpy(), wanted[name], err_msg=name)


def test_frozen_parameters_have_no_gradient_and_the_others_theirs(rng):
    net = filled(Supernet(TINY), rng)
    images = some_images(TINY, rng)
    wanted = one_pass(net, lambda x: TrainingGraphs(net)(x, WIDE), images)[1]
    behind = block_position(TINY, TINY.num_choice_blocks)  # the head runs by MXNet
    named = [(name.split("."), p) for name, p in trained_parameters(net).items()]
    kernels = [p for (part, position, *_), p in named if part == "features" and int(position) < behind]
    for parameter in kernels[::3]:  # the stem's weight is the first
        parameter.grad_req = "null"
    got = one_pass(net, lambda x: TrainingGraphs(net)(x, WIDE), images)[1]
    assert len(got) == len(wanted) - len(kernels[::3])
    for name, value in got.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


@pytest.fixture
def grouped():
    """A space with a kind of block of one's own that has no native kernels, beside one that has."""

    @register_block("grouped")
    def grouped(block):
        return BlockLayers("residual", (Conv(block.in_channels, block.out_channels, 3, groups=4),), act="relu")

    stages = [{"num_blocks": 2, "out_channels": 8, "stride": 1}]
    yield parse_space(small_file("own", {"A": {"kind": "grouped"}, "B": {"kind": "basic"}}, stages, stem=8), "own")
    del KINDS["grouped"]


def test_paths_without_native_kernels_run_by_mxnet_and_say_so_once(grouped, by_graphs, rng, capsys):
    net, images = filled(Supernet(grouped), rng), some_images(grouped, rng, 12)
    graphs, plain = TrainingGraphs(net), by_graphs(TrainingGraphs, net)
    for blocks in ((1, 1), (0, 1), (0, 0), (1, 0)):
        path = Architecture(blocks, (0, 0))
        assert_alike(net, lambda x, p=path: graphs(x, p), images, lambda x, p=path: net(x, p))
        same = (
            one_pass(net, lambda x, p=path: graphs(x, p), images),
            one_pass(net, lambda x, p=path: plain(x, p), images),
        )
        is_native = blocks == (1, 1)
        assert (same[0][0][""] != same[1][0][""]).any() == is_native
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "warning: no native kernel for a convolution in 4 groups of channels; paths that have it run by MXNet's "
        "operators, which takes longer"
    )


def test_a_narrow_path_clears_what_mxnets_operators_have_left(grouped, rng):
    net, images = filled(Supernet(grouped), rng), some_images(grouped, rng, 12)
    widest, narrow = len(grouped.choices[1].channel_scales) - 1, Architecture((1, 1), (0, 0))
    wanted = one_pass(net, lambda x: TrainingGraphs(net)(x, narrow), images)[1]
    graphs = TrainingGraphs(net)
    for path in (narrow, Architecture((0, 1), (0, widest)), narrow):  # the second one has no native kernels
        passed(graphs, images, path)
    used = {parameter.name for parameter, _ in net.selected_parameters(narrow)}
    for name, parameter in trained_parameters(net).items():
        if parameter.name in used:
            np.testing.assert_array_equal(parameter.grad().asnumpy(), wanted[name], err_msg=name)


def test_programs_are_kept_within_bounds(monkeypatch, rng):
    monkeypatch.setattr(native, "KEPT_PROGRAMS", 2)
    net, images = filled(Supernet(TINY), rng), some_images(TINY, rng)
    graphs, paths = TrainingGraphs(net), [TINY.sample(rng) for _ in range(5)]
    first = [one_pass(net, lambda x, path=path: graphs(x, path), images)[0][""] for path in paths]
    for path, logits in zip(paths, first):
        np.testing.assert_array_equal(one_pass(net, lambda x, path=path: graphs(x, path), images)[0][""], logits)
        assert len(graphs._programs._programs) <= 2


STEPS = """
import hashlib, sys
sys.path[:0] = [{root!r}, {tests!r}]
import numpy as np
from execution_tests.test_native import WIDE, digest_of_training
from execution_tests.test_scored import fast_logits, some_pixels, supernet
from conftest import TINY
digest, values = digest_of_training()
print(digest)
logits = fast_logits(supernet(TINY), WIDE, some_pixels(24, 16, 5), some_pixels(10, 16, 5, 1), 12)
print(hashlib.sha256(logits.tobytes()).hexdigest())
print(*values)
"""


def digest_of_training():
    """Of the statistics after the first step, and of the parameters after some.

    What MXNet computes behind the pooling has other last bits with another number of threads on some processors (those
    without AVX-512, in a fully connected layer), and the gradients of the kernels with it: so the parameters are
    rounded, and the statistics, which the kernels alone make, are not.
    """
    net = Supernet(TINY)
    fill_parameters(net, ctx=list(CPU))
    trainer, digest = make_trainer(net), hashlib.sha256()
    graphs = TrainingGraphs(net)
    for number, path in enumerate((WIDE, NARROW, WIDE)):
        images, labels, _ = next(ListLoader(batch_size=24).epoch(number))
        mx.random.seed(1)
        example = trainer.recipe.objective.example(images, labels)
        with mx.autograd.record():
            loss = trainer.recipe.objective(graphs(images, path), example)
        loss.backward()
        if number == 0:
            for name, parameter in sorted(net._collect_params_with_prefix().items()):
                if "running" in name:
                    digest.update(name.encode() + parameter.data().asnumpy().tobytes())
        trainer.optimizer.step(24, net.selected_parameters(path))
    return digest.hexdigest(), values_of(net)


def values_of(net):
    """Sums of the parameters, weighted by chance: a few numbers that see a change of any."""
    rng, named = np.random.default_rng(0), net._collect_params_with_prefix()
    arrays = [named[name].data().asnumpy().astype(np.float64) for name in sorted(named)]
    return [float((array * rng.normal(size=array.shape)).sum() / (1 + np.abs(array).sum())) for array in arrays]


def test_results_do_not_depend_on_the_number_of_threads():
    code, printed = STEPS.format(root=str(ROOT), tests=str(ROOT / "tests")), []
    for threads in ("1", "3"):
        environ = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr[-2000:]
        printed.append(done.stdout.split())
    assert printed[0][:2] == printed[1][:2] and len(set(printed[0][:2])) == 2
    values = [np.array(own[2:], float) for own in printed]
    assert len(values[0]) > 100 and np.abs(values[0]).max() > 0.01
    np.testing.assert_allclose(*values, rtol=0, atol=1e-6)


def test_what_the_kernels_cannot_read_is_refused(rng):
    """They are given addresses alone: other values would be read as floats, or others' memory."""
    net, images = filled(Supernet(TINY), rng), some_images(TINY, rng)
    program = TrainingGraphs(net)._programs.of(WIDE)
    for wrong in (images.astype("float16"), images[:, :, :8], images[:, :1]):
        with pytest.raises(ValueError, match="native kernels read float32 images"):
            native.NativeTraining()(wrong, program)
    net.cast("float16")
    with pytest.raises(ValueError, match="float32 parameters, not float16"):
        native.NativeFeatures(program)(images)
