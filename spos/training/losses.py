"""Losses of a training step: cross-entropy, with smoothed labels, mixup and a teacher's predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from spos.engine.compat import import_gluoncv, mx

SMOOTHING = 0.1  # of the published recipe


def smooth_labels(labels, num_classes: int, smoothing: float = SMOOTHING):
    """One-hot labels with `smoothing` of the mass spread evenly over all classes (arXiv:1512.00567).

    Args:
        labels: class ids (N,).    Returns: (N, num_classes), rows sum to 1.
    """
    off = smoothing / num_classes
    return mx.nd.one_hot(labels, num_classes, on_value=1 - smoothing + off, off_value=off)


@dataclass(frozen=True)
class Mixup:
    """Train on convex combinations of two images and of their labels (arXiv:1710.09412).

    Args:
        alpha: of Beta(alpha, alpha), from which the share of the first image is drawn for every step.
        end_epoch: first epoch, counted from 0, without mixup.
    """

    alpha: float
    end_epoch: int

    def share(self, epoch: int, rng: np.random.Generator) -> float:
        """Share of the first image of a pair in this step; 1 is no mixing."""
        return float(rng.beta(self.alpha, self.alpha)) if epoch < self.end_epoch else 1.0


@dataclass(frozen=True)
class Teacher:
    """A trained network whose softened predictions are learned beside the labels (arXiv:1503.02531).

    Args:
        hard_weight: weight of the labels' loss; the rest is the teacher's, times temperature squared.
    """

    net: mx.gluon.Block
    temperature: float
    hard_weight: float

    def probabilities(self, images):
        """Softened predictions (N, num_classes), float32, without gradients."""
        with mx.autograd.pause(train_mode=False):
            return mx.nd.softmax(self.net(images).astype("float32") / self.temperature)


@dataclass(frozen=True)
class Example:
    """A batch on one device, ready for the loss.

    labels: (N,), of the larger share when images are mixed; hits are counted against them.
    targets: (N,) class ids, or (N, num_classes) probabilities.    taught: the teacher's probabilities, or None.
    """

    images: Any
    labels: Any
    targets: Any
    taught: Any = None


class Objective:
    """Turns batches into examples and logits into losses, both in float32."""

    def __init__(
        self,
        num_classes: int,
        smoothing: float = 0.0,
        mixup: Optional[Mixup] = None,
        teacher: Optional[Teacher] = None,
    ) -> None:
        self.num_classes = num_classes
        self.smoothing = smoothing
        self.mixup = mixup
        self.teacher = teacher
        self._hard = mx.gluon.loss.SoftmaxCrossEntropyLoss()
        self._soft = mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        self._distillation = {}
        if teacher:
            import_gluoncv()
            from gluoncv.loss import DistillationSoftmaxCrossEntropyLoss

            for sparse in (True, False):
                self._distillation[sparse] = DistillationSoftmaxCrossEntropyLoss(
                    teacher.temperature, teacher.hard_weight, sparse_label=sparse
                )

    def example(self, images, labels, share: float = 1.0) -> Example:
        """Mix images with those of the reversed batch, make targets, ask the teacher.

        Args:
            images: (N, 3, H, W).    labels: (N,).    share: of the first image of a pair, 1 for no mixing.
        """
        targets = labels
        if share < 1 or self.smoothing:
            targets = smooth_labels(labels, self.num_classes, self.smoothing)
        if share < 1:
            images = share * images + (1 - share) * images[::-1]
            targets = share * targets + (1 - share) * targets[::-1]
            labels = labels if share >= 0.5 else labels[::-1]
        return Example(images, labels, targets, self.teacher.probabilities(images) if self.teacher else None)

    def __call__(self, logits, example: Example):
        """Loss of every image, (N,)."""
        logits, sparse = logits.astype("float32"), example.targets.ndim == 1
        if self.teacher:
            return self._distillation[sparse](logits, example.targets, example.taught)
        return (self._hard if sparse else self._soft)(logits, example.targets)

    def imitate(self, logits, model_logits):
        """Loss of every image against the predictions of another path, which get no gradient (arXiv:2003.11142)."""
        return self._soft(logits.astype("float32"), mx.nd.softmax(model_logits.detach().astype("float32")))
