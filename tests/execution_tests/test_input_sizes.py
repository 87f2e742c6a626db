"""Paths at each input size: masked, sliced, by graphs and as the extracted subnet, on images that were resized."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, fill_parameters
from sized_spaces import DIGITS, SIZED

from execution_tests.test_scored import CPU, TWO, assert_alike, some_pixels
from execution_tests.test_trained import filled, one_pass
from oneshot_nas_network import Subnet, Supernet
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.compat import mx
from spos.engine.resizing import resized
from spos.execution.scored import PathExecutor
from spos.execution.trained import TrainingGraphs
from spos.native.build import SWITCH

CASES = [(space, size) for space in (SIZED, DIGITS) for size in space.input_sizes]
NAMES = [f"{space.layout} {size}" for space, size in CASES]


@pytest.mark.parametrize("space, size", CASES, ids=NAMES)
def test_mask_slice_and_subnet_give_the_same_logits(space, size, rng):
    net = Supernet(space)
    fill_parameters(net)
    x = mx.nd.array(rng.normal(0, 1, (3, 3, size, size)))
    for _ in range(3):
        path = replace(space.sample(rng), input_size=size)
        subnet = net.extract(path)
        assert subnet.space == space.at(size) and subnet.architecture.input_size is None
        wanted = subnet(x).asnumpy()
        for execution in ("mask", "slice"):
            net.execution = execution
            assert_alike(net(x, path).asnumpy(), wanted, 1e-4)


@pytest.mark.parametrize("ctx", (CPU, TWO), ids=("one device", "two"))
@pytest.mark.parametrize("space, size", CASES, ids=NAMES)
def test_scoring_gives_the_logits_of_the_extracted_subnet_on_resized_images(space, size, ctx, rng):
    """BatchNorm is updated at the size too; several sizes and paths share one executor."""
    net = Supernet(space)
    fill_parameters(net, ctx=ctx)
    bn_images, images = (some_pixels(n, space.input_size, space.num_classes, n) for n in (24, 12))
    executor = PathExecutor(net, ctx)
    for other in (size, space.input_sizes[0], size):
        path = replace(space.sample(rng), input_size=other)
        fast = executor.path(path)
        fast.update_batch_norm(bn_images.batches(16, ctx))
        got = [fast.logits(x).asnumpy() for batch in images.batches(16, ctx) for x, _ in batch]
        subnet = net.extract(path, ctx)
        recalibrate_batch_norm(subnet, [(resized(x, other), y) for ((x, y),) in bn_images.batches(16, CPU)], None, ctx)
        wanted = [subnet(resized(x, other)).asnumpy() for ((x, _),) in images.batches(16, CPU)]
        assert_alike(np.concatenate(got), np.concatenate(wanted), 3e-4)


@pytest.mark.parametrize("space, size", CASES, ids=NAMES)
def test_training_graphs_give_the_gradients_of_the_network(space, size, rng):
    net = filled(Supernet(space), rng)
    graphs = TrainingGraphs(net)
    x = mx.nd.array(rng.normal(0, 1, (6, 3, size, size)))
    for _ in range(2):
        path = replace(space.sample(rng), input_size=size)
        wanted, got = (one_pass(net, lambda images, f=f, p=path: f(images, p), x) for f in (net, graphs))
        for own, theirs in zip(got, wanted):
            for name, value in theirs.items():
                np.testing.assert_allclose(own[name], value, atol=2e-3 * np.abs(value).max() + 1e-5, err_msg=name)


def test_images_of_another_size_than_the_path_are_refused(rng):
    graphs = TrainingGraphs(filled(Supernet(SIZED), rng))
    path = replace(SIZED.sample(rng), input_size=12)
    with pytest.raises(ValueError, match="images of 16 x 16, compiled for 12 x 12"), mx.autograd.record():
        graphs(mx.nd.zeros((2, 3, 16, 16)), path)


def test_graphs_are_shared_by_sizes_where_their_maps_agree(rng, monkeypatch):
    """Only what depends on the size is compiled for each."""
    monkeypatch.setenv(SWITCH, "0")
    net = filled(Supernet(SIZED), rng)
    executor, path = PathExecutor(net, CPU), SIZED.sample(rng)
    counts = []
    for size in (16, 12, 16, 12):
        executor.path(replace(path, input_size=size))
        counts.append(executor.num_parts)
    assert counts[0] == TINY.num_choice_blocks + 2 and counts[1] == counts[2] == counts[3] < 2 * counts[0]


def test_a_subnet_is_that_of_its_size(rng):
    path = replace(SIZED.sample(rng), input_size=12)
    net = Subnet(SIZED, path)
    assert (net.space, net.architecture) == (SIZED.at(12), replace(path, input_size=None))
    assert Subnet(SIZED.at(12), path).architecture == net.architecture
