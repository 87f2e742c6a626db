"""Accuracy of networks on a list of images, and of an architecture inside a supernet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, Iterable, Sequence, Tuple

import numpy as np

from spos.core.intervals import wilson_interval
from spos.engine.compat import mx

MAX_IN_FLIGHT = 4  # batches whose hits nobody has waited for


@dataclass(frozen=True)
class Accuracy:
    """Hits among images. `top1` and `top5` are fractions 0..1.

    Args:
        num_supernets: that saw the images; hits are those of all together, so accuracies are their means.
    """

    top1_hits: int
    top5_hits: int
    num_images: int
    num_supernets: int = 1

    @property
    def top1(self) -> float:
        return self.top1_hits / (self.num_images * self.num_supernets)

    @property
    def top5(self) -> float:
        return self.top5_hits / (self.num_images * self.num_supernets)

    def interval(self) -> Tuple[float, float]:
        """95% interval of `top1`. Supernets see the same images, so several count as one that has their mean."""
        return wilson_interval(self.top1_hits / self.num_supernets, self.num_images)

    def to_json(self) -> Dict[str, Any]:
        several = {"num_supernets": self.num_supernets} if self.num_supernets > 1 else {}
        return {
            "top1": self.top1,
            "top5": self.top5,
            "top1_interval": list(self.interval()),
            "top1_hits": self.top1_hits,
            "num_images": self.num_images,
            **several,
        }


def mean_accuracy(accuracies: Sequence[Accuracy]) -> Accuracy:
    """The mean of the accuracies of several supernets, each on the same images."""
    hits = (sum(one.top1_hits for one in accuracies), sum(one.top5_hits for one in accuracies))
    return Accuracy(*hits, accuracies[0].num_images, len(accuracies))


def count_hits(logits: mx.nd.NDArray, labels: mx.nd.NDArray) -> mx.nd.NDArray:
    """Hits of a batch, as an NDArray (top-1, top-5), so that nothing waits for the device.

    The true class is at rank r if r classes have a larger logit, or an equal one and a smaller index, as with
    argmax. Logits that are not a number are no hit.

    Args:
        logits: (N, classes).    labels: (N,).
    """
    logits = logits.astype("float32")
    labels = labels.astype("float32").reshape((-1, 1))
    classes = mx.nd.arange(logits.shape[1], ctx=logits.context).reshape((1, -1))
    own = mx.nd.pick(logits, labels, axis=1, keepdims=True)
    ahead = mx.nd.broadcast_greater(logits, own)
    equal = mx.nd.broadcast_equal(logits, own) * mx.nd.broadcast_lesser(classes, labels)
    rank = (ahead + equal).sum(axis=1, keepdims=True)  # (N, 1)
    is_number = mx.nd.broadcast_equal(own, own)
    return mx.nd.concat(is_number * (rank < 1), is_number * (rank < 5), dim=1).sum(axis=0)


def evaluate(
    net: Callable[[mx.nd.NDArray], mx.nd.NDArray],
    batches: Iterable[Sequence[Tuple[mx.nd.NDArray, mx.nd.NDArray]]],
) -> Accuracy:
    """Accuracy of a network in inference mode. Raises ValueError if `batches` is empty.

    Args:
        net: images -> logits.
        batches: each a list with (images (N, 3, H, W), labels (N,)) for every device.
    """
    count = HitCount()
    for batch in batches:
        for images, labels in batch:
            count.add(net(images), labels)
    return count.accuracy()


class HitCount:
    """Adds up hits without waiting for every batch."""

    def __init__(self) -> None:
        self._hits = np.zeros(2)
        self._pending: Deque[Any] = deque()
        self.num_images = 0

    def add(self, logits: mx.nd.NDArray, labels: mx.nd.NDArray) -> None:
        self.num_images += labels.shape[0]
        self._pending.append(count_hits(logits, labels))
        while len(self._pending) > MAX_IN_FLIGHT:
            self._hits += self._pending.popleft().asnumpy()

    def accuracy(self) -> Accuracy:
        """Hits so far; waits for them. Raises ValueError if there were no images."""
        if not self.num_images:
            raise ValueError("there are no images to evaluate on")
        while self._pending:
            self._hits += self._pending.popleft().asnumpy()
        top1, top5 = self._hits.astype(int).tolist()
        return Accuracy(top1, top5, self.num_images)
