"""Losses against NumPy: cross-entropy, smoothing, mixup, a teacher, imitation of another path."""

import numpy as np
import pytest

from spos.engine.compat import mx
from spos.training.losses import Mixup, Objective, Teacher, smooth_labels

NUM_CLASSES, NUM_IMAGES = 5, 6


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.fixture
def logits(rng):
    return rng.normal(0, 3, (NUM_IMAGES, NUM_CLASSES))


LABELS = np.array([0, 1, 2, 3, 4, 0])
ONE_HOT = np.eye(NUM_CLASSES)[LABELS]
IMAGES = mx.nd.arange(NUM_IMAGES * 3).reshape((NUM_IMAGES, 3, 1, 1))


def loss_of(objective, logits, share=1.0):
    return objective(mx.nd.array(logits), objective.example(IMAGES, mx.nd.array(LABELS), share)).asnumpy()


def test_smoothed_labels_sum_to_one_and_keep_the_class():
    smooth = smooth_labels(mx.nd.array([2, 0]), 5, 0.1).asnumpy()
    assert np.allclose(smooth.sum(1), 1)
    assert np.allclose(smooth[0], [0.02, 0.02, 0.92, 0.02, 0.02])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.2])
def test_loss_equals_cross_entropy_in_numpy(logits, smoothing, share):
    targets = (1 - smoothing) * ONE_HOT + smoothing / NUM_CLASSES
    targets = share * targets + (1 - share) * targets[::-1]
    expected = -(targets * log_softmax(logits)).sum(1)
    assert np.allclose(loss_of(Objective(NUM_CLASSES, smoothing), logits, share), expected, rtol=1e-5)


def test_mixed_images_are_the_share_of_each_and_hits_count_the_larger():
    objective = Objective(NUM_CLASSES)
    for share, labels in ((0.7, LABELS), (0.2, LABELS[::-1])):
        example = objective.example(IMAGES, mx.nd.array(LABELS), share)
        images = IMAGES.asnumpy()
        assert np.allclose(example.images.asnumpy(), share * images + (1 - share) * images[::-1])
        assert np.array_equal(example.labels.asnumpy(), labels)


def test_mixup_ends_at_its_epoch_and_draws_beta(rng):
    mixup = Mixup(alpha=0.2, end_epoch=3)
    shares = np.array([mixup.share(2, rng) for _ in range(4000)])
    assert mixup.share(3, rng) == 1.0
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.var() - 0.25 / 1.4) < 0.01  # variance of Beta(a, a) is 1 / (4 (2 a + 1))


class Constant(mx.gluon.HybridBlock):
    """A teacher that says the same of every image."""

    def hybrid_forward(self, F, x):
        return F.broadcast_add(F.zeros((NUM_IMAGES, NUM_CLASSES)), F.array([[1, 2, 3, 4, 5]]))


@pytest.mark.parametrize("hard_weight", [0.0, 0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_distillation_equals_numpy(logits, hard_weight, smoothing):
    """Hinton, Vinyals, Dean (arXiv:1503.02531): T^2 times the soft loss."""
    temperature = 4.0
    objective = Objective(NUM_CLASSES, smoothing, teacher=Teacher(Constant(), temperature, hard_weight))
    soft = np.exp(log_softmax(np.array([[1, 2, 3, 4, 5]]) / temperature))
    targets = (1 - smoothing) * ONE_HOT + smoothing / NUM_CLASSES
    expected = -(1 - hard_weight) * temperature**2 * (soft * log_softmax(logits / temperature)).sum(1)
    expected -= hard_weight * (targets * log_softmax(logits)).sum(1)
    assert np.allclose(loss_of(objective, logits), expected, rtol=1e-5)


def test_imitation_teaches_the_imitator_only(logits):
    objective = Objective(NUM_CLASSES)
    own, model = mx.nd.array(logits), mx.nd.array(logits[::-1].copy())
    for array in (own, model):
        array.attach_grad()
    with mx.autograd.record():
        loss = objective.imitate(own, model * 1)
    loss.backward()
    soft = np.exp(log_softmax(logits[::-1]))
    assert np.allclose(loss.asnumpy(), -(soft * log_softmax(logits)).sum(1), rtol=1e-5)
    assert np.allclose(own.grad.asnumpy(), np.exp(log_softmax(logits)) - soft, atol=1e-6)
    assert not model.grad.asnumpy().any()
