"""Optimizers of a training: NAG, as published, and AdamW."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Tuple

from spos.engine.compat import mx

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class AdamW(mx.optimizer.Optimizer):
    """Adam with decoupled weight decay (arXiv:1711.05101); MXNet 1.9.1 has its operator, but no such optimizer.

    Averages of gradients are corrected by how often *this* parameter was updated: in a supernet, by the steps whose
    path it was in. `count` says which those are, once a step, whatever the number of devices.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.counts: Dict[int, int] = {}  # updates by index of the parameter
        self._rescale: Tuple[float, Dict[mx.Context, mx.nd.NDArray]] = (0.0, {})

    def count(self, indices: Iterable[int]) -> None:
        """Begin a step that updates these parameters."""
        for index in indices:
            self.counts[index] = self.counts.get(index, 0) + 1

    def create_state(self, index: int, weight: mx.nd.NDArray) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Averages of gradients and of their squares."""
        return mx.nd.zeros_like(weight), mx.nd.zeros_like(weight)

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        mean, variance = state
        correction, epsilon = self.corrected(index)
        mx.nd.contrib.adamw_update(
            weight,
            grad,
            mean,
            variance,
            self._rescaling(weight.context),
            lr=correction,
            eta=self._get_lr(index),
            beta1=BETAS[0],
            beta2=BETAS[1],
            epsilon=epsilon,
            wd=self._get_wd(index),
            out=weight,
        )

    def corrected(self, index: int) -> Tuple[float, float]:
        """What the average of the gradients is multiplied by, and what is added to the root of that of the squares.

        So that both are corrected, and EPSILON is added to the corrected root.
        """
        first, second = (1 - beta ** self.counts[index] for beta in BETAS)
        return math.sqrt(second) / first, EPSILON * math.sqrt(second)

    def _rescaling(self, ctx: mx.Context) -> mx.nd.NDArray:
        """What gradients are multiplied by, as the operator wants it; made once, not for each parameter."""
        if self._rescale[0] != self.rescale_grad:
            self._rescale = (self.rescale_grad, {})
        arrays = self._rescale[1]
        if ctx not in arrays:
            arrays[ctx] = mx.nd.full((1,), self.rescale_grad, ctx)
        return arrays[ctx]


def make_nag(lr: float, momentum: float, wd: float, dtype: str) -> mx.optimizer.Optimizer:
    """NAG, with float32 master weights for float16 networks."""
    return mx.optimizer.NAG(learning_rate=lr, momentum=momentum, wd=wd, multi_precision=dtype != "float32")


def make_adamw(lr: float, wd: float) -> AdamW:
    """For float32 networks."""
    return AdamW(learning_rate=lr, wd=wd)
