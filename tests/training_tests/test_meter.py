"""The meter of an epoch: sums over passes, read one step late."""

import pytest

from spos.engine.cluster import LOCAL
from spos.engine.compat import mx
from spos.training.meter import LossNotFinite, Meter, Part


def test_loss_that_is_not_a_number_stops_training():
    with pytest.raises(LossNotFinite, match="the loss became nan at epoch 3, step 7"):
        meter = Meter()
        meter.add([Part(mx.nd.array([float("nan")]), mx.nd.zeros(2), 4, "epoch 3, step 7")])
        meter.result()


def part(loss, hits, num_images):
    return Part(mx.nd.array([loss]), mx.nd.array(hits), num_images, "here")


def test_passes_are_read_when_the_next_step_is_added():
    meter = Meter()
    meter.add([part(6, (1, 2), 4), part(2, (0, 3), 4)])
    assert meter.mean_loss is None
    meter.add([part(1, (2, 2), 2)])
    assert (meter.mean_loss, meter.num_images) == (1.0, 8)
    assert meter.result() == {"loss": 0.9, "top1": 0.3, "top5": 0.7}
    assert meter.gathered(LOCAL) is meter


def test_a_meter_goes_on_from_its_json():
    meter = Meter()
    meter.add([part(6, (1, 2), 4)])
    state = meter.to_json()
    assert state == {"loss": 6.0, "top1_hits": 1, "top5_hits": 2, "num_images": 4}
    assert Meter(**state).result() == meter.result()
