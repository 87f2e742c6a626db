"""Accuracy of networks on a list of images, and of an architecture inside a supernet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from spos.batch_norm import recalibrate_batch_norm
from spos.compat import mx
from spos.racing import Race
from spos.search_space import Architecture

CONFIDENCE_Z = 1.959963984540054  # two-sided 95 %
ORDER_SEED = 20190401  # of the one order in which races see the images


@dataclass(frozen=True)
class Accuracy:
    """Hits among images. `top1` and `top5` are fractions 0..1."""

    top1_hits: int
    top5_hits: int
    num_images: int

    @property
    def top1(self) -> float:
        return self.top1_hits / self.num_images

    @property
    def top5(self) -> float:
        return self.top5_hits / self.num_images

    def interval(self) -> Tuple[float, float]:
        """95 % Wilson score interval of `top1` (Wilson, 1927)."""
        n, p, z2 = self.num_images, self.top1, CONFIDENCE_Z**2
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = CONFIDENCE_Z / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return float(max(0.0, centre - half)), float(min(1.0, centre + half))

    def to_json(self) -> Dict[str, Any]:
        return {
            "top1": self.top1,
            "top5": self.top5,
            "top1_interval": list(self.interval()),
            "top1_hits": self.top1_hits,
            "num_images": self.num_images,
        }


def count_hits(logits, labels):
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
    net: mx.gluon.Block, batches: Iterable, ctx: Sequence[mx.Context] = (), dtype: str = "float32"
) -> Accuracy:
    """Accuracy of a network in inference mode. Raises ValueError if `batches` is empty.

    Args:
        batches: (images (N, 3, H, W), labels (N,)); each batch is shared among the devices.
    """
    ctx = list(ctx) or [mx.cpu()]
    hits: List[Any] = []
    num_images = 0
    for images, labels in batches:
        for x, y in zip(*(mx.gluon.utils.split_and_load(part, ctx, even_split=False) for part in (images, labels))):
            hits.append(count_hits(net(x.astype(dtype)), y))
        num_images += images.shape[0]
        if len(hits) > 2 * len(ctx):  # at most two batches in flight
            hits = [mx.nd.array(sum(h.asnumpy() for h in hits), ctx=mx.cpu())]
    if not num_images:
        raise ValueError("there are no images to evaluate on")
    top1, top5 = sum(h.asnumpy().astype(np.float64) for h in hits)
    return Accuracy(int(top1), int(top5), num_images)


@dataclass(frozen=True)
class CandidateEvaluator:
    """Scores an architecture with the weights of a supernet: extract, update BatchNorm, measure accuracy.

    The supernet itself is never changed, so the order of evaluations does not matter.

    Args:
        supernet: anything with `extract(architecture, ctx)`.
        bn_loader, loader: `ImageLoader`s of the BatchNorm update and of the accuracy.
        num_bn_images: images of the update (the paper uses 20 000); None: all that `bn_loader` gives.
    """

    supernet: Any
    bn_loader: Any
    loader: Any
    num_bn_images: Optional[int]
    ctx: Tuple[mx.Context, ...]

    def __call__(self, architecture: Architecture, race: Optional[Race] = None) -> Accuracy:
        """Accuracy on all images; in a race that is lost, on those seen until then."""
        subnet = self.supernet.extract(architecture, list(self.ctx))
        recalibrate_batch_norm(subnet, self.bn_loader.epoch(0), self.num_bn_images, self.ctx)
        subnet.hybridize()
        if race is None:
            return evaluate(subnet, self.loader.epoch(0), self.ctx)
        return self._evaluate_racing(subnet, race)

    def _evaluate_racing(self, subnet: mx.gluon.Block, race: Race) -> Accuracy:
        images, labels = (mx.nd.concat(*parts, dim=0) for parts in zip(*self.loader.epoch(0)))
        order = mx.nd.array(np.random.default_rng(ORDER_SEED).permutation(race.num_images), dtype="int32")
        sizes, top1, top5 = race.looks(), 0, 0
        for start, end in zip((0, *sizes), sizes):
            batch = (mx.nd.take(images, order[start:end]), mx.nd.take(labels, order[start:end]))
            part = evaluate(subnet, [batch], self.ctx)
            top1, top5 = top1 + part.top1_hits, top5 + part.top5_hits
            if end < race.num_images and race.is_lost(top1, end):
                break
        return Accuracy(top1, top5, end)
