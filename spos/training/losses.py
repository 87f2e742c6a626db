"""Losses of a training step: cross-entropy, with smoothed labels, mixup and a teacher's predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence, Tuple

import numpy as np

from spos.core.seeds import derive_rng
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


Box = Tuple[int, int, int, int]  # top, bottom, left, right, in pixels


@dataclass(frozen=True)
class CutMix:
    """Train on images with a box of another image in them, and on both labels by their areas (arXiv:1905.04899).

    Args:
        alpha: of Beta(alpha, alpha), from which the area that an image keeps is drawn for every step.
        end_epoch: first epoch, counted from 0, without it.
    """

    alpha: float
    end_epoch: int

    def box(self, epoch: int, rng: np.random.Generator, height: int, width: int) -> Optional[Box]:
        """What is replaced in this step: of the image's aspect, around a uniform centre, cut at the rim; None after it.

        The box that is drawn may lose a part at the rim, so labels go by `kept`.
        """
        if epoch >= self.end_epoch:
            return None
        side = float(np.sqrt(1 - rng.beta(self.alpha, self.alpha)))
        y, x = rng.integers(height), rng.integers(width)
        half_height, half_width = int(height * side / 2), int(width * side / 2)
        return (
            int(max(y - half_height, 0)),
            int(min(y + half_height, height)),
            int(max(x - half_width, 0)),
            int(min(x + half_width, width)),
        )


def kept(box: Box, height: int, width: int) -> float:
    """Share of an image that a box leaves."""
    top, bottom, left, right = box
    return 1 - (bottom - top) * (right - left) / (height * width)


@dataclass(frozen=True)
class Mixing:
    """How the images of a step are mixed with those of the reversed batch.

    Args:
        share: of the first image of a pair, 1 for no mixing.    box: what the other fills; None: both lie upon another.
    """

    share: float = 1.0
    box: Optional[Box] = None


@dataclass(frozen=True)
class Teacher:
    """Trained networks whose softened predictions, on average, are learned beside the labels (arXiv:1503.02531).

    Args:
        logits: of images, by each of them.
        hard_weight: weight of the labels' loss; the rest is the teacher's, times temperature squared.
    """

    logits: Sequence[Callable[[Any], Any]]
    temperature: float
    hard_weight: float

    def probabilities(self, images):
        """Softened predictions (N, num_classes), float32, without gradients."""
        with mx.autograd.pause(train_mode=False):
            each = [mx.nd.softmax(one(images).astype("float32") / self.temperature) for one in self.logits]
            return each[0] if len(each) == 1 else mx.nd.add_n(*each) / len(each)


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


def _mixed(images, mixing: Mixing):
    if mixing.box is None:
        return mixing.share * images + (1 - mixing.share) * images[::-1]
    top, bottom, left, right = mixing.box
    mixed = images.copy()
    mixed[:, :, top:bottom, left:right] = images[::-1][:, :, top:bottom, left:right]
    return mixed


class Objective:
    """Turns batches into examples and logits into losses, both in float32."""

    def __init__(
        self,
        num_classes: int,
        smoothing: float = 0.0,
        mixup: Optional[Mixup] = None,
        teacher: Optional[Teacher] = None,
        cutmix: Optional[CutMix] = None,
    ) -> None:
        self.num_classes = num_classes
        self.smoothing = smoothing
        self.mixup = mixup
        self.cutmix = cutmix
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

    def mixing(self, seed: int, epoch: int, step: int, height: int, width: int) -> Mixing:
        """How the images (H, W) of a step are mixed: by mixup, by CutMix, or by one of both with equal chance."""
        mixup, cutmix = self.mixup, self.cutmix
        if mixup and cutmix:
            takes_mixup = derive_rng(seed, "mixing", epoch, step).random() < 0.5
            mixup, cutmix = (mixup, None) if takes_mixup else (None, cutmix)
        if mixup:
            return Mixing(mixup.share(epoch, derive_rng(seed, "mixup", epoch, step)))
        box = cutmix.box(epoch, derive_rng(seed, "cutmix", epoch, step), height, width) if cutmix else None
        return Mixing(kept(box, height, width), box) if box else Mixing()

    def example(self, images, labels, mixing: Mixing = Mixing()) -> Example:  # noqa: B008  # frozen
        """Mix images with those of the reversed batch, make targets, ask the teacher.

        Args:
            images: (N, 3, H, W).    labels: (N,).
        """
        share, targets = mixing.share, labels
        if share < 1 or self.smoothing:
            targets = smooth_labels(labels, self.num_classes, self.smoothing)
        if share < 1:
            images = _mixed(images, mixing)
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
