"""Accuracies: hits over batches, ties, and logits that are not a number."""

import numpy as np
import pytest

from spos.engine.compat import mx
from spos.scoring.accuracy import Accuracy, HitCount, count_hits, evaluate


def logits_of_labels(labels, wrong):
    """Logits whose best class is the label, or the next one if `wrong`."""
    return mx.nd.one_hot(mx.nd.array((labels.asnumpy().astype(int) + wrong) % 5), 5)


def test_hits_are_counted_over_all_batches():
    count = HitCount()
    with pytest.raises(ValueError, match="no images"):
        count.accuracy()
    labels = mx.nd.array([0, 1, 2, 3])
    for wrong in (0, 1, 0, 0, 0, 1, 0):
        count.add(logits_of_labels(labels, wrong), labels)
    assert (count.accuracy().top1_hits, count.accuracy().num_images) == (20, 28)
    batches = [[(None, labels)], [(None, labels)]]
    assert evaluate(lambda _: logits_of_labels(labels, 0), batches).top1 == 1.0


def test_of_equal_logits_the_smaller_class_is_first():
    logits = mx.nd.zeros((3, 7))
    assert count_hits(logits, mx.nd.array([0, 4, 5])).asnumpy().tolist() == [1, 2]


def test_logits_that_are_not_a_number_are_no_hit():
    logits = mx.nd.array([[np.nan, 0.0], [1.0, 0.0]])
    assert count_hits(logits, mx.nd.array([0, 0])).asnumpy().tolist() == [1, 1]


def test_an_accuracy_says_how_sure_it_is():
    accuracy = Accuracy(30, 39, 40)
    low, high = accuracy.interval()
    assert (accuracy.top1, accuracy.top5) == (0.75, 0.975) and 0.59 < low < 0.75 < high < 0.87
    assert accuracy.to_json()["top1_interval"] == [low, high]
