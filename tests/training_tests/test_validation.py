"""Validation: when it is due, what it says, and that training goes on as if it had not been."""

import numpy as np
import pytest
from conftest import TINY, fill_parameters

from oneshot_nas_network import Subnet
from spos.data.pixels import Pixels
from spos.engine.compat import mx
from spos.scoring.accuracy import Accuracy
from spos.space.architecture import Architecture
from spos.training.validation import keep_best, validate_network, validate_supernet, validate_when_due

CPU = (mx.cpu(),)


@pytest.mark.parametrize("frequency, due", [(0, [6]), (1, [0, 1, 2, 3, 4, 5, 6]), (3, [2, 5, 6]), (9, [6])])
def test_validation_is_due_every_so_many_epochs_and_after_the_last(frequency, due):
    rows = [validate_when_due(lambda epoch: {"epoch": epoch}, frequency, 7, epoch) for epoch in range(7)]
    assert [row["epoch"] for row in rows if row] == due


@pytest.mark.parametrize(
    "row, best, is_saved",
    (
        ({"val_top1": 0.3}, -1.0, True),
        ({"val_top1": 0.5}, 0.3, True),
        ({"val_top1": 0.5}, 0.5, False),
        ({"val_top1": 0.4}, 0.5, False),
        ({}, -1.0, False),
    ),
)
def test_parameters_are_saved_when_no_epoch_before_was_as_good(row, best, is_saved):
    saved = []
    assert keep_best(lambda epoch: row, lambda: best, lambda: saved.append(1), 0) is row
    assert saved == [1] * is_saved


def test_accuracy_of_a_network_is_that_of_its_logits(rng):
    net = Subnet(TINY, Architecture((0, 3, 1, 2), (9, 0, 4, 2)))
    fill_parameters(net)
    pixels = rng.integers(0, 256, (21, 3, 16, 16)).astype(np.uint8)
    mean, std = (120.0, 110.0, 100.0), (60.0, 61.0, 62.0)
    normalised = (pixels - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    classes = net(mx.nd.array(normalised)).asnumpy().argsort(1)[:, ::-1]
    labels = np.where(np.arange(21) < 13, classes[:, 0], classes[:, -1]).astype(np.float32)
    row = validate_network(net, lambda: Pixels(pixels, labels, mean, std), 8, CPU, "float32", epoch=0)
    assert row == {"val_top1": 13 / 21, "val_top5": 1.0, "val_images": 21}


def test_a_supernet_is_measured_on_paths_of_steps_all_over_the_epoch():
    asked, scored = [], []

    def policy(epoch, step, rng):
        asked.append((epoch, step, rng.integers(1 << 30)))
        return Architecture((step,), (epoch,))

    def score(architecture):
        scored.append(architecture.block_choices[0])
        return Accuracy(len(scored), 3, 4)

    row = validate_supernet(lambda: score, policy, 3, 100, seed=1, epoch=7)
    assert [step for _, step, _ in asked] == scored == [0, 33, 66] and {epoch for epoch, _, _ in asked} == {7}
    assert row == {"val_top1": 0.5, "val_top5": 0.75, "val_top1_each": [0.25, 0.5, 0.75], "val_images": 4}
    first, asked[:] = list(asked), []
    scored.clear()
    assert validate_supernet(lambda: score, policy, 3, 100, seed=1, epoch=7) == row and asked == first
