"""Right and wrong by class, confusion and calibration, against counting by hand."""

import numpy as np
import pytest

from spos.core.intervals import wilson_interval
from spos.deploy.classification import NUM_BINS, Predictions

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, 1, 2, 0, 2, 2])


def predictions_of(labels, predicted, num_classes=4, sure=2.0):
    logits = np.zeros((len(labels), num_classes), np.float32)
    logits[np.arange(len(labels)), predicted] = sure
    return Predictions(logits, labels, np.arange(len(labels)) + 100)


def test_classes_are_counted():
    first, second, third, empty = predictions_of(LABELS, PREDICTED).by_class
    assert first == (0, 3, 1 / 3, (1 / 3, *wilson_interval(1, 3)), 1 / 2, 1)
    assert (second.num_images, second.top1, second.precision, second.mistaken_for) == (2, 1.0, 0.5, None)
    assert (third.num_images, third.top1, third.precision, third.mistaken_for) == (4, 0.75, 1.0, 0)
    assert empty == (3, 0, None, None, None, None)
    assert predictions_of(LABELS, PREDICTED).mean_class_top1 == pytest.approx((1 / 3 + 1 + 0.75) / 3)


def test_the_confusion_matrix_has_every_image(rng):
    labels, predicted = rng.integers(0, 5, (2, 200))
    confusion = predictions_of(labels, predicted, 5).confusion
    expected = [[((labels == i) & (predicted == j)).sum() for j in range(5)] for i in range(5)]
    assert confusion.tolist() == expected and confusion.sum() == 200


def test_of_equal_logits_the_first_class_is_taken():
    logits = np.array([[1.0, 3.0, 3.0], [500.0, 500.0, 499.0]], np.float32)
    assert Predictions(logits, np.array([2, 1]), np.arange(2)).predicted.tolist() == [1, 0]


def test_the_calibration_error_is_that_of_its_definition(rng):
    logits, labels = rng.normal(size=(500, 6)).astype(np.float32) * 3, rng.integers(0, 6, 500)
    found = Predictions(logits, labels, np.arange(500))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    error = 0.0
    for low in np.arange(NUM_BINS) / NUM_BINS:
        own = (confidence >= low) & (confidence < low + 1 / NUM_BINS)
        error += abs(confidence[own].sum() - right[own].sum()) / 500
    assert (
        found.calibration_error == pytest.approx(error, abs=1e-6) and sum(one.num_images for one in found.bins) == 500
    )
    assert found.losses == pytest.approx(-np.log(probabilities[np.arange(500), labels]), rel=1e-5)


def test_who_is_always_sure_and_right_is_calibrated():
    found = predictions_of(LABELS, LABELS, sure=1000.0)
    assert found.calibration_error == 0 and [one.confidence for one in found.bins] == [1.0]
    assert predictions_of(LABELS, (LABELS + 1) % 4, sure=1000.0).calibration_error == 1.0


def test_the_worst_images_have_the_largest_loss(rng):
    logits = rng.normal(size=(50, 4)).astype(np.float32)
    found = Predictions(logits, rng.integers(0, 4, 50), np.arange(50))
    worst = found.worst(7)
    assert found.losses[worst].tolist() == sorted(found.losses.tolist(), reverse=True)[:7]


def test_json_names_classes_and_leaves_a_large_matrix_to_the_csv():
    record = predictions_of(LABELS, PREDICTED).to_json(("ant", "bee", "cat", "dog"))
    assert [one["class"] for one in record["classes"]] == ["ant", "bee", "cat", "dog"]
    assert record["classes"][2]["mistaken_for"] == "ant" and record["confusion"][0] == [1, 2, 0, 0]
    many = predictions_of(LABELS, PREDICTED, 101).to_json()
    assert "confusion" not in many and many["classes"][100]["class"] == "100"
