"""Logits of trained networks by native kernels against the networks themselves."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import VARIANTS

from execution_tests.test_trained import filled, some_images
from oneshot_nas_network import Subnet
from spos.deploy.subnet import DeployedSubnet, merge_batch_norm
from spos.engine.compat import mx
from spos.execution.inferred import Inference
from spos.native.build import are_ready

TOLERANCE = 1e-4  # of the largest logit


def subnet(variant, rng, num_images=5):
    space = replace(VARIANTS[variant], num_classes=10, input_size=64)
    net = filled(Subnet(space, space.sample(rng)), rng)
    for name, parameter in net._collect_params_with_prefix().items():
        if name.endswith("running_var"):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 2, parameter.shape)))
    return net, some_images(space, rng, num_images)


def assert_close(found, wanted):
    found, wanted = found.asnumpy(), wanted.asnumpy()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


@pytest.mark.skipif(not are_ready(), reason="there is no native library")
@pytest.mark.parametrize("num_images", (1, 5, 33))
@pytest.mark.parametrize("variant", ("plain", "se-last-conv", "v2plus"))
def test_a_subnet_gives_its_logits(variant, num_images, rng, monkeypatch):
    net, images = subnet(variant, rng, num_images)
    wanted = net(images)
    logits = Inference(net)
    monkeypatch.setattr(Subnet, "hybrid_forward", None)  # nothing of the network itself may run
    assert_close(logits(images), wanted)


def test_statistics_and_weights_are_those_of_the_moment_it_is_made(rng):
    net, images = subnet("plain", rng)
    Inference(net)(images)
    for parameter in net._collect_params_with_prefix().values():
        parameter.set_data(parameter.data() * 1.1)
    assert_close(Inference(net)(images), net(images))


def test_images_of_another_size_run_through_the_network(rng):
    net, images = subnet("plain", rng)
    smaller = images[:, :, :48, :48]
    assert (Inference(net)(smaller).asnumpy() == net(smaller).asnumpy()).all()


def test_what_has_no_batch_norm_runs_as_it_is(rng):
    net, images = subnet("plain", rng)
    arrays = {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}
    merged = merge_batch_norm(DeployedSubnet(net.space, net.architecture, arrays)).network()
    assert (Inference(merged)(images).asnumpy() == merged(images).asnumpy()).all()


def test_without_native_kernels_the_network_runs(rng, monkeypatch):
    monkeypatch.setenv("SPOS_NATIVE", "0")
    net, images = subnet("plain", rng)
    assert (Inference(net)(images).asnumpy() == net(images).asnumpy()).all()
