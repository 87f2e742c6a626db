"""The straightforward implementation that everything is compared with.

It is built from this project's own networks by small switches, so that there is no second network file: what is chosen
computes as much as everything (channel masks at full width), operators are composed of simpler ones, the supernet runs
imperatively, the optimizer steps whole parameters, and every step waits for its loss.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterable, Iterator, List, Optional

import numpy as np

import oneshot_nas_blocks as blocks
from oneshot_nas_network import Subnet, Supernet
from spos.counting.symbol import count_symbol
from spos.engine.batch_norm import BatchNorm
from spos.engine.compat import mx
from spos.space.architecture import Architecture
from spos.space.cost import Cost
from spos.space.space import SearchSpace
from spos.training.losses import SMOOTHING
from spos.training.path_trainer import NO_DECAY


@contextmanager
def clip_and_divide() -> Iterator[None]:
    """Hard-swish and hard sigmoid of three operators. Graphs traced inside keep what they found."""
    ours = blocks.HardSwish.hybrid_forward, blocks.HardSigmoid.hybrid_forward
    blocks.HardSwish.hybrid_forward = lambda self, F, x: x * (F.clip(x + 3, 0, 6) / 6)
    blocks.HardSigmoid.hybrid_forward = lambda self, F, x: F.clip(x + 3, 0, 6) / 6
    try:
        yield
    finally:
        blocks.HardSwish.hybrid_forward, blocks.HardSigmoid.hybrid_forward = ours


class PlainTraining:
    """Training steps as one writes them first.

    Labels are smoothed on the host, whole parameters are updated by `gluon.Trainer`, which leaves those without a fresh
    gradient alone, and loss and accuracy are read in every step.

    Args:
        net: a supernet that runs by masks, or a subnet.
    """

    def __init__(self, net: mx.gluon.Block, num_classes: int, lr: float, momentum: float, wd: float) -> None:
        self.net = net
        self.num_classes = num_classes
        self.metric = mx.metric.Accuracy()
        self._loss = mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        parameters = net.collect_params()
        for name, parameter in parameters.items():
            parameter.wd_mult = 0.0 if name.endswith(NO_DECAY) else 1.0
        settings = {"learning_rate": lr, "momentum": momentum, "wd": wd}
        self.trainer = mx.gluon.Trainer(parameters, "nag", settings)

    def step(self, images: Any, labels: np.ndarray, architecture: Optional[Architecture] = None) -> float:
        """One update of the whole network, or of one path of a supernet. Returns the mean loss."""
        with clip_and_divide():
            targets = mx.nd.array(smooth_on_host(labels, self.num_classes))
            with mx.autograd.record():
                logits = self.net(images) if architecture is None else self.net(images, architecture)
                loss = self._loss(logits, targets)
            loss.backward()
            self.trainer.step(len(labels), ignore_stale_grad=True)
            self.metric.update(mx.nd.array(labels), logits)
            return float(loss.asnumpy().mean())


def smooth_on_host(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """One-hot rows with SMOOTHING of the mass spread evenly."""
    targets = np.full((len(labels), num_classes), SMOOTHING / num_classes, np.float32)
    targets[np.arange(len(labels)), labels.astype(int)] += 1 - SMOOTHING
    return targets


def batch_norms(block: mx.gluon.Block) -> Iterator[BatchNorm]:
    """All BatchNorm layers below a block."""
    for child in block._children.values():
        if isinstance(child, BatchNorm):
            yield child
        yield from batch_norms(child)


def update_by_backward(net: Supernet, architecture: Architecture, batches: Iterable[Any], momentum: float) -> None:
    """Statistics of a path as moving averages, which MXNet updates on a CPU in backward, so with all gradients.

    They are written into the supernet.

    Args:
        batches: images (N, 3, H, W).    momentum: the share of the old statistics that every batch leaves.
    """
    layers: List[BatchNorm] = list(batch_norms(net))
    before = [layer._kwargs["momentum"] for layer in layers]
    with clip_and_divide():
        for layer in layers:
            layer._kwargs["momentum"] = momentum
        try:
            for images in batches:
                with mx.autograd.record():
                    logits = net(images, architecture)
                logits.backward()
            mx.nd.waitall()
        finally:
            for layer, own in zip(layers, before):
                layer._kwargs["momentum"] = own


def count_by_symbol(space: SearchSpace, architecture: Architecture) -> Cost:
    """Build the network of an architecture, its graph, and walk it."""
    return count_network(Subnet(space, architecture), space)


def count_network(net: mx.gluon.HybridBlock, space: SearchSpace) -> Cost:
    """Build the graph of a network and walk it."""
    return count_symbol(net(mx.sym.var("data")), (1, 3, space.input_size, space.input_size))
