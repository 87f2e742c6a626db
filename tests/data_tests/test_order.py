"""Orders: which images of a list a pass reads, and in which batches."""

import numpy as np
import pytest

from spos.core.seeds import random_order
from spos.data.order import Order, balanced_order

NUM = 50


def positions(order, batch_size=8, epoch=0):
    return order.positions(NUM, batch_size, epoch).tolist()


def test_without_a_seed_images_come_as_listed():
    assert positions(Order()) == positions(Order(), epoch=3) == list(range(NUM))


@pytest.mark.parametrize("every_epoch", (False, True))
def test_with_a_seed_they_are_mixed_once_or_in_every_epoch(every_epoch):
    order = Order(seed=1, every_epoch=every_epoch)
    assert sorted(positions(order)) == sorted(positions(order, epoch=1)) == list(range(NUM))
    assert positions(order) != list(range(NUM)) and positions(order) != positions(Order(2, every_epoch))
    assert (positions(order) != positions(order, epoch=1)) == every_epoch


@pytest.mark.parametrize("num_parts", (1, 2, 3, 7))
@pytest.mark.parametrize("seed, every_epoch", ((None, False), (4, True)))
def test_parts_share_the_images(num_parts, seed, every_epoch):
    orders = [Order(seed, every_epoch, part=part, num_parts=num_parts) for part in range(num_parts)]
    parts = [positions(order, epoch=2) for order in orders]
    assert sorted(sum(parts, [])) == list(range(NUM))
    assert [order.num_images(NUM, 8) for order in orders] == list(map(len, parts))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("num_parts", (1, 2, 3))
def test_batches_of_parts_are_those_of_one_order_with_larger_ones(num_parts):
    whole = positions(Order(4, True, drop_last=True), batch_size=4 * num_parts)
    orders = [Order(4, True, part=part, num_parts=num_parts, drop_last=True) for part in range(num_parts)]
    parts = [np.array(positions(order, batch_size=4)).reshape(-1, 4) for order in orders]
    assert np.concatenate(parts, axis=1).ravel().tolist() == whole
    assert {float(order.rng(5).random()) for order in orders} == {float(Order(4, True).rng(5).random())}


def test_parts_that_are_augmented_by_themselves_draw_other_numbers():
    assert len({float(Order(4, part=part, num_parts=3).rng(0).random()) for part in range(3)}) == 3


@pytest.mark.parametrize(
    "order, batch_size, num_batches, num_images",
    (
        (Order(), 8, 7, 50),
        (Order(drop_last=True), 8, 6, 48),
        (Order(reduced_scale=3), 8, 2, 16),
        (Order(reduced_scale=99), 8, 1, 8),
        (Order(drop_last=True), 51, 0, 0),
        (Order(), 64, 1, 50),
        (Order(part=2, num_parts=3), 8, 2, 16),
        (Order(part=2, num_parts=3, drop_last=True), 4, 4, 16),
        (Order(part=50, num_parts=51), 8, 0, 0),
    ),
)
def test_counts_of_batches_and_images(order, batch_size, num_batches, num_images):
    assert (order.num_batches(NUM, batch_size), order.num_images(NUM, batch_size)) == (num_batches, num_images)
    assert len(positions(order, batch_size)) == num_images


@pytest.mark.parametrize(
    "wrong", ({"part": 1}, {"part": -1}, {"reduced_scale": 0}, {"seed": -1}, {"every_epoch": True}), ids=str
)
def test_orders_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="expected|needs a seed"):
        Order(**wrong)


@pytest.mark.parametrize("counts", ((3, 40, 17), (5, 5), (1, 99)))
def test_a_balanced_order_shows_every_class_alike_and_every_image_of_it_equally_often(counts):
    labels = np.repeat(np.arange(len(counts)) * 2, counts)[random_order(sum(counts), 5)]
    seen = np.zeros(len(labels), int)
    orders = [balanced_order(labels, 3, epoch) for epoch in range(12)]
    for positions in orders:
        shown = np.unique(labels[positions], return_counts=True)[1]
        assert shown.sum() == len(labels) and shown.max() - shown.min() <= 1
        np.add.at(seen, positions, 1)
    for label in np.unique(labels):
        assert np.ptp(seen[labels == label]) <= 1
    assert orders[3].tolist() == balanced_order(labels, 3, 3).tolist() != balanced_order(labels, 4, 3).tolist()


def test_parts_of_a_balanced_order_are_one_order():
    labels = np.repeat([0, 1], [10, 54])
    whole = Order(seed=1, every_epoch=True, drop_last=True, labels=labels)
    parts = [Order(1, True, part, 2, True, labels=labels) for part in (0, 1)]
    positions = whole.positions(64, 16, 2).reshape(-1, 2, 8)
    for number, part in enumerate(parts):
        assert part.positions(64, 8, 2).tolist() == positions[:, number].ravel().tolist()
    with pytest.raises(ValueError, match="another one in every epoch"):
        Order(seed=1, labels=labels)
