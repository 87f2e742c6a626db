"""Meter of loss and hits in a training epoch, counted without waiting for the devices."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from spos.core.errors import InputError
from spos.engine.cluster import Cluster
from spos.scoring.accuracy import Accuracy


class LossNotFinite(InputError):
    """Training diverged; the message says where."""


@dataclass(frozen=True)
class Part:
    """What one pass on one device gave: NDArrays, so that nothing waits for them, and where they come from."""

    loss: Any  # sum over images
    hits: Any  # (top-1, top-5)
    num_images: int
    where: str


@dataclass
class Meter:
    """Loss and hits of an epoch, read one step late so that reading does not wait for the step just issued."""

    loss: float = 0.0
    top1_hits: int = 0
    top5_hits: int = 0
    num_images: int = 0  # once for every pass
    _pending: List[Part] = field(default_factory=list, repr=False)

    def add(self, parts: Sequence[Part]) -> None:
        self.flush()
        self._pending = list(parts)

    @property
    def mean_loss(self) -> Optional[float]:
        """Over all that is counted; None before the first."""
        return self.loss / self.num_images if self.num_images else None

    def flush(self) -> None:
        """Count what is pending. Raises LossNotFinite."""
        for part in self._pending:
            value = float(part.loss.asscalar())
            if not math.isfinite(value):
                raise LossNotFinite(f"the loss became {value} at {part.where}")
            top1, top5 = part.hits.asnumpy()
            self.loss += value
            self.top1_hits += int(top1)
            self.top5_hits += int(top5)
            self.num_images += part.num_images
        self._pending = []

    def gathered(self, cluster: Cluster) -> Meter:
        """A meter of all workers together; this one, if there are no others."""
        self.flush()
        if not cluster.is_distributed:
            return self
        hits, num_images = np.array([self.top1_hits, self.top5_hits]), np.array(self.num_images)
        loss, hits, num_images = cluster.total([np.array(self.loss), hits, num_images])
        top1_hits, top5_hits = hits.astype(int).tolist()
        return Meter(float(loss), top1_hits, top5_hits, int(num_images))

    def result(self) -> Dict[str, float]:
        self.flush()
        accuracy = Accuracy(self.top1_hits, self.top5_hits, self.num_images)
        return {"loss": self.loss / self.num_images, "top1": accuracy.top1, "top5": accuracy.top5}

    def to_json(self) -> Dict[str, Any]:
        self.flush()
        return {key: value for key, value in asdict(self).items() if not key.startswith("_")}
