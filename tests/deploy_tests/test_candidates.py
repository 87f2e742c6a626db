"""Candidates in INT8: the network that is scored is the one that would be deployed."""

import numpy as np
import pytest
from conftest import TINY, fill_parameters
from exported_files import INFO
from sized_spaces import SIZED

from oneshot_nas_network import Supernet
from spos.deploy import candidates
from spos.deploy.calibration import NAIVE
from spos.deploy.candidates import Int8Path
from spos.deploy.flags import ExportOptions
from spos.deploy.formats import MxnetFormat
from spos.deploy.subnet import merge_batch_norm, pad_widths, read_subnet
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.compat import mx
from spos.engine.parameters import save_parameters
from spos.engine.resizing import resized


def batches_of(space, rng, sizes):
    shape = (3, space.input_size, space.input_size)
    return [[(mx.nd.array(rng.normal(size=(n, *shape)).astype("float32")), mx.nd.zeros(n))] for n in sizes]


@pytest.mark.parametrize("space", (TINY, SIZED), ids=("one size", "a choice of sizes"))
@pytest.mark.parametrize("most", (500, 25))
def test_it_is_the_network_that_would_be_deployed(space, most, tmp_path, rng, monkeypatch):
    """To the last bit: cut out, statistics updated, written, read, merged, padded, and quantized."""
    monkeypatch.setattr(candidates, "CALIBRATION_IMAGES", most)
    net = Supernet(space)
    net.initialize()
    fill_parameters(net)
    architecture = space.sample(rng)
    batches = batches_of(space, rng, (16, 16, 7))
    path = Int8Path(net, architecture)
    path.update_batch_norm(batches)

    subnet = net.extract(architecture)
    size = subnet.space.input_size
    own = [(resized(images, size), labels) for ((images, labels),) in batches]
    recalibrate_batch_norm(subnet, own)
    save_parameters(tmp_path / "model.params", subnet)
    read = read_subnet(tmp_path / "model.params", subnet.space, subnet.architecture)
    calibration = np.concatenate([images.asnumpy() for images, _ in own])[:most]
    maker = MxnetFormat(pad_widths(merge_batch_norm(read), ExportOptions.pad_to), INFO)
    deployed = maker.int8(np.split(calibration, range(10, len(calibration), 10)), NAIVE, ())
    images = batches[1][0][0]
    expected = deployed.logits(resized(images, size).asnumpy())
    np.testing.assert_array_equal(path.logits(images).asnumpy(), expected)
    assert np.abs(expected - subnet(resized(images, size)).asnumpy()).max() > 0  # INT8 indeed
