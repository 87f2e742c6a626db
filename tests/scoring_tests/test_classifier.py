"""Classifiers of candidates, against ridge regression written down directly."""

import numpy as np
import pytest

from spos.scoring.classifier import RIDGE, RidgeClassifier


def batches_of(features, labels, size):
    return [(features[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


def test_it_is_ridge_regression_on_standardised_features(rng):
    features = (rng.normal(size=(300, 20)) * rng.uniform(0.1, 9, 20) + 5).astype(np.float32)
    labels = rng.integers(0, 4, 300).astype(np.float32)
    found = RidgeClassifier(batches_of(features, labels, 64), 4)(features)
    mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    x, y = (features - mean) / std, np.eye(4)[labels.astype(int)]
    rows = np.concatenate([x, np.sqrt(RIDGE * 300) * np.eye(20)])
    weights = np.linalg.lstsq(rows, np.concatenate([y - y.mean(0), np.zeros((20, 4))]), rcond=None)[0]
    assert found == pytest.approx(x @ weights + y.mean(0), abs=1e-4)


def test_the_size_of_batches_changes_nothing_that_counts(rng):
    features, labels = rng.normal(size=(200, 30)).astype(np.float32), rng.integers(0, 5, 200)
    one, other = (RidgeClassifier(batches_of(features, labels, size), 5)(features) for size in (200, 32))
    assert one == pytest.approx(other, abs=1e-6) and (one.argmax(1) == other.argmax(1)).all()


def test_classes_that_features_tell_apart_are_told_apart(rng):
    """A constant feature, as of a channel that ReLU never lets through, is no obstacle."""
    labels = np.arange(400) % 4
    features = np.concatenate([np.eye(4)[labels] * 3, np.full((400, 1), 2.0)], axis=1)
    features[:, :4] += rng.normal(size=(400, 4))
    found = RidgeClassifier([(features.astype(np.float32), labels)], 4)(features.astype(np.float32))
    assert np.isfinite(found).all() and (found.argmax(1) == labels).mean() > 0.85
