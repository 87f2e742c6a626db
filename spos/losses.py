"""Losses."""

from __future__ import annotations

from spos.compat import mx

SMOOTHING = 0.1  # of the published recipe


def smooth_labels(labels, num_classes: int, smoothing: float = SMOOTHING):
    """One-hot labels with `smoothing` of the mass spread evenly over all classes (arXiv:1512.00567).

    Args:
        labels: class ids (N,).    Returns: (N, num_classes), rows sum to 1.
    """
    off = smoothing / num_classes
    return mx.nd.one_hot(labels, num_classes, on_value=1 - smoothing + off, off_value=off)


class ClassificationLoss:
    """Softmax cross-entropy in float32, on smoothed labels if `smoothing` is above 0. (N, classes), (N,) -> (N,)."""

    def __init__(self, num_classes: int, smoothing: float = 0.0) -> None:
        self.num_classes = num_classes
        self.smoothing = smoothing
        self._loss = mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=not smoothing)

    def __call__(self, logits, labels):
        if self.smoothing:
            labels = smooth_labels(labels, self.num_classes, self.smoothing)
        return self._loss(logits.astype("float32"), labels)
