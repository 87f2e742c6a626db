"""Losses against NumPy: cross-entropy, smoothing, mixup, a teacher, imitation of another path."""

import numpy as np
import pytest

from spos.core.seeds import derive_rng
from spos.engine.compat import mx
from spos.training.losses import CutMix, Mixing, Mixup, Objective, Teacher, kept, smooth_labels

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
    return objective(mx.nd.array(logits), objective.example(IMAGES, mx.nd.array(LABELS), Mixing(share))).asnumpy()


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
        example = objective.example(IMAGES, mx.nd.array(LABELS), Mixing(share))
        images = IMAGES.asnumpy()
        assert np.allclose(example.images.asnumpy(), share * images + (1 - share) * images[::-1])
        assert np.array_equal(example.labels.asnumpy(), labels)


def test_mixup_ends_at_its_epoch_and_draws_beta(rng):
    mixup = Mixup(alpha=0.2, end_epoch=3)
    shares = np.array([mixup.share(2, rng) for _ in range(4000)])
    assert mixup.share(3, rng) == 1.0
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.var() - 0.25 / 1.4) < 0.01  # variance of Beta(a, a) is 1 / (4 (2 a + 1))


def test_cutmix_pastes_a_box_and_labels_go_by_its_area(rng):
    images = mx.nd.array(rng.normal(size=(NUM_IMAGES, 3, 6, 8)))
    mixing = Mixing(kept((1, 4, 2, 8), 6, 8), (1, 4, 2, 8))
    assert mixing.share == 1 - 18 / 48
    example = Objective(NUM_CLASSES).example(images, mx.nd.array(LABELS), mixing)
    expected = images.asnumpy().copy()
    expected[:, :, 1:4, 2:8] = images.asnumpy()[::-1, :, 1:4, 2:8]
    assert np.array_equal(example.images.asnumpy(), expected)
    assert np.allclose(example.targets.asnumpy(), mixing.share * ONE_HOT + (1 - mixing.share) * ONE_HOT[::-1])


def test_boxes_keep_the_share_that_is_drawn_but_for_what_the_rim_cuts_off(rng):
    """Beta(1, 1) is uniform: half of an image is replaced on average by boxes that lie within it."""
    cutmix = CutMix(alpha=1.0, end_epoch=3)
    assert cutmix.box(3, rng, 32, 32) is None
    boxes = [cutmix.box(2, rng, 32, 64) for _ in range(3000)]
    for top, bottom, left, right in boxes:
        assert 0 <= top <= bottom <= 32 and 0 <= left <= right <= 64
    inner = [(b - t) / 32 - (r - left) / 64 for t, b, left, r in boxes if t > 0 and b < 32 and left > 0 and r < 64]
    assert len(inner) > 300 and np.abs(inner).max() <= 2 / 32  # of the image's aspect
    assert 0.6 < np.mean([kept(box, 32, 64) for box in boxes]) < 0.72


def test_mixing_is_a_function_of_seed_and_step_and_takes_turns_by_chance():
    mixup, cutmix = Mixup(0.2, 5), CutMix(1.0, 5)
    assert Objective(NUM_CLASSES).mixing(0, 0, 0, 8, 8) == Mixing()
    alone = Objective(NUM_CLASSES, mixup=mixup).mixing(3, 1, 2, 8, 8)
    assert alone == Mixing(mixup.share(1, derive_rng(3, "mixup", 1, 2)))
    both = Objective(NUM_CLASSES, mixup=mixup, cutmix=cutmix)
    drawn = [both.mixing(3, 1, step, 8, 8) for step in range(200)]
    assert drawn == [both.mixing(3, 1, step, 8, 8) for step in range(200)]
    assert 70 < sum(one.box is not None for one in drawn) < 130
    assert both.mixing(3, 5, 0, 8, 8) == Mixing()


class Constant(mx.gluon.HybridBlock):
    """A teacher that says the same of every image."""

    def hybrid_forward(self, F, x):
        return F.broadcast_add(F.zeros((NUM_IMAGES, NUM_CLASSES)), F.array([[1, 2, 3, 4, 5]]))


@pytest.mark.parametrize("hard_weight", [0.0, 0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_distillation_equals_numpy(logits, hard_weight, smoothing):
    """Hinton, Vinyals, Dean (arXiv:1503.02531): T^2 times the soft loss."""
    temperature = 4.0
    objective = Objective(NUM_CLASSES, smoothing, teacher=Teacher([Constant()], temperature, hard_weight))
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
