"""BatchNorm statistics: collecting them exactly over a list of images, and the layer that can give them.

A subnet cut from a supernet carries running statistics of other paths, so its accuracy means nothing before they
are replaced (arXiv:1904.00420). On CPU, MXNet changes running statistics only in backward: a forward pass in
training mode leaves them as they are. Here every BatchNorm returns the moments of its batch, and they are pooled.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from spos.engine.compat import mx

EPSILON = 1e-5
MOMENTUM = 0.9  # MXNet: share of the OLD value kept; PyTorch writes the same thing as 0.1
BETA_INIT = 1e-4

_Row = Tuple["BatchNorm", Any, Any]  # layer, mean and 1/std of its batch
_collector: Optional[List[_Row]] = None


@contextmanager
def collect_moments() -> Iterator[List[_Row]]:
    """Let every `BatchNorm` called inside append (layer, mean of its batch, 1/std of its batch)."""
    global _collector
    _collector = []
    try:
        yield _collector
    finally:
        _collector = None


class BatchNorm(mx.gluon.nn.BatchNorm):
    """Gluon's BatchNorm with this project's constants, able to give the moments of its batch."""

    def __init__(self, channels: int, **kwargs) -> None:
        super().__init__(
            in_channels=channels,
            epsilon=EPSILON,
            momentum=MOMENTUM,
            beta_initializer=mx.init.Constant(BETA_INIT),
            **kwargs,
        )

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if _collector is None:
            return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)
        out, mean, inv_std = F.BatchNorm(
            x, gamma, beta, running_mean, running_var, name="fwd", output_mean_var=True, **self._kwargs
        )
        _collector.append((self, mean, inv_std))
        return out

    @property
    def op_kwargs(self) -> dict:
        """Arguments of the BatchNorm operator, for running the layer on a part of its channels."""
        return dict(self._kwargs)


def scale_and_shift(gamma, beta, mean, inv_std):
    """BatchNorm with known statistics is `scale * x + shift`, so a convolution before it can take it in.

    Args: (C,) each, NumPy or MXNet arrays; `inv_std` is 1 / sqrt(variance + EPSILON).
    """
    scale = gamma * inv_std
    return scale, beta - scale * mean


class _BatchMoments(mx.gluon.HybridBlock):
    """`net` returning, behind its logits, the batch mean and 1/std of all its BatchNorm layers; hybridizes.

    Args:
        layers: filled with those layers, in the order of the outputs.
    """

    def __init__(self, net: mx.gluon.HybridBlock, layers: List[BatchNorm]) -> None:
        super().__init__(prefix=net.prefix)
        self.net = net
        self._note_layers = lambda rows: layers.__setitem__(slice(None), [layer for layer, _, _ in rows])

    def hybrid_forward(self, F, x):
        with collect_moments() as rows:
            logits = self.net(x)
        self._note_layers(rows)
        return [logits] + [output for _, mean, inv_std in rows for output in (mean, inv_std)]


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations (M2) of a set of values, for each channel, in float64."""

    count: int
    mean: np.ndarray
    m2: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Biased, as BatchNorm uses it on CPU."""
        return self.m2 / self.count

    def merge(self, other: Moments) -> Moments:
        """Moments of the union of two sets (Chan, Golub and LeVeque, 1983)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta**2 * (self.count * other.count / count)
        return Moments(count, mean, m2)


def batch_moments(num_images: int, mean: np.ndarray, inv_std: np.ndarray) -> Moments:
    """Moments from what the BatchNorm operator returns.

    The count is in images: every image gives a layer the same number of values, so that factor cancels.
    """
    mean = mean.astype(np.float64)
    variance = np.maximum(inv_std.astype(np.float64) ** -2 - EPSILON, 0.0)
    return Moments(num_images, mean, variance * num_images)


def recalibrate_batch_norm(
    net: mx.gluon.HybridBlock,
    batches: Iterable[Tuple[Any, Any]],
    num_images: Optional[int] = None,
    ctx: Optional[Sequence[mx.Context]] = None,
) -> int:
    """Replace the running BatchNorm statistics of a network by those of fresh training images, pooled exactly.

    A subnet cut from a supernet needs this before its accuracy means anything:

        subnet = supernet.extract(architecture)
        recalibrate_batch_norm(subnet, loader.epoch(0), 20_000)

    Each layer is normalised by its own batch while collecting, as in training. Means and variances are merged over
    batches and devices by `Moments.merge`, so they do not depend on the order of images within a batch. Weights
    are not changed.

    Args:
        net: a network of this project, for example a `Subnet`. Its statistics change in place.
        batches: (images, labels) with images (N, 3, H, W), normalised; labels are ignored.
        num_images: images to use (images, not batches; the paper uses 20 000). The last batch is cut to fit.
            None: all that come.
        ctx: devices that share each batch; the net's parameters must be on all of them. CPU by default.
    Returns: images used.    Raises: ValueError if `batches` ends before `num_images`.
    """
    ctx = list(ctx or [mx.cpu()])
    layers: List[BatchNorm] = []
    collector = _BatchMoments(net, layers)
    collector.hybridize()
    pooled: List[Moments] = []
    used = 0
    for images, _ in batches:
        if num_images is not None:
            images = images[: num_images - used]
        for part in mx.gluon.utils.split_and_load(images, ctx, even_split=False):
            moments = _moments_of(collector, part)
            pooled = [a.merge(b) for a, b in zip(pooled, moments)] if pooled else moments
        used += images.shape[0]
        if used == num_images:
            break
    if used < (num_images or 1):
        raise ValueError(f"the BatchNorm update needs {num_images or 1} images, only {used} came")
    for layer, union in zip(layers, pooled):
        layer.running_mean.set_data(mx.nd.array(union.mean))
        layer.running_var.set_data(mx.nd.array(union.variance))
    return used


def _moments_of(collector: _BatchMoments, images: mx.nd.NDArray) -> List[Moments]:
    with mx.autograd.train_mode():
        _, *outputs = [output.asnumpy() for output in collector(images)]
    return [batch_moments(images.shape[0], mean, inv) for mean, inv in zip(outputs[::2], outputs[1::2])]
