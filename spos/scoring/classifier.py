"""Classifiers of candidates: a supernet's own suits no path, so each path may have one that fits what it gives.

All paths share the classifier of their supernet, which was trained for what they give on average. Ridge regression from
the pooled features of a path to the classes, on training images, is the best linear one for that path (by squares), has
a closed form, and costs one pass over the images and one product of matrices.
"""

from __future__ import annotations

from typing import Any, Iterable, Tuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import threadpool_limits

RIDGE = 0.025  # of standardised features: how much variance every one of them seems to have besides


class RidgeClassifier:
    """From features to one number for each class.

    Args:
        batches: (features (N, F), labels (N,)) of training images.
    """

    def __init__(self, batches: Iterable[Tuple[np.ndarray, np.ndarray]], num_classes: int) -> None:
        count: int = 0
        sums: Any = 0.0
        squares: Any = 0.0
        products: Any = 0.0
        shares: Any = 0.0
        with threadpool_limits(1, "blas"):  # the same bits with any number of threads
            for features, labels in batches:
                own, targets = features.astype(np.float64), np.eye(num_classes)[labels.astype(int)]
                count, sums, shares = count + len(own), sums + own.sum(0), shares + targets.sum(0)
                squares, products = squares + own.T @ own, products + own.T @ targets
            mean, share = np.asarray(sums) / count, np.asarray(shares) / count
            covariance = squares / count - np.outer(mean, mean)
            scale = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
            covariance /= np.outer(scale, scale)
            covariance[np.diag_indices_from(covariance)] += RIDGE
            wanted = (products / count - np.outer(mean, share)) / scale[:, None]
            weights = cho_solve(cho_factor(covariance, lower=True), wanted) / scale[:, None]
        self._weights = weights.astype(np.float32)
        self._bias = (share - mean @ weights).astype(np.float32)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(N, classes) float32 of features (N, F)."""
        with threadpool_limits(1, "blas"):
            return features @ self._weights + self._bias
