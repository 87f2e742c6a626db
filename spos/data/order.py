"""The order in which a pass reads the images of a list, and its batches. Pure: no files, no MXNet."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from spos.core.seeds import random_order


@dataclass(frozen=True)
class Order:
    """Which images of a list a pass reads, in which order; a function of (seed, epoch).

    Args:
        seed: of the random order, and of augmentation. None: in the order of the list, which is often class by class,
            so that a batch is not like the whole.
        every_epoch: another random order in each epoch, as training wants it; else one for all.
        part, num_parts: read a part of one order that all parts share. With `drop_last`, all parts have as many
            batches, and their k-th batches one after the other are the k-th batch of an order without parts whose
            batches are num_parts times as large, augmentation included: what several workers train on is what one
            would. Without, a part is every num_parts-th image, and their sizes may differ by one.
        drop_last: leave out the smaller last batch.
        labels: (images,) of the list, to read as many images of every class as of any other; None: each image once.
        reduced_scale: read only the first num_batches // reduced_scale batches of each epoch's order (at least one).
    """

    seed: Optional[int] = None
    every_epoch: bool = False
    part: int = 0
    num_parts: int = 1
    drop_last: bool = False
    reduced_scale: int = 1
    labels: Optional[np.ndarray] = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.num_parts or self.reduced_scale < 1 or (self.seed or 0) < 0:
            raise ValueError(
                "expected 0 <= part < num_parts, reduced_scale >= 1 and seed >= 0, "
                f"got {self.part} of {self.num_parts}, {self.reduced_scale}, {self.seed}"
            )
        if self.every_epoch and self.seed is None:
            raise ValueError("an order that changes with the epoch needs a seed")
        if self.labels is not None and not self.every_epoch:
            raise ValueError("an order by class is another one in every epoch")

    def num_batches(self, num_listed: int, batch_size: int) -> int:
        """Batches of this part of a list; 0 if there are too few images for one."""
        whole = math.ceil(self._num_own(num_listed) / batch_size)
        if self.drop_last:
            whole = num_listed // (self.num_parts * batch_size)
        return max(1, whole // self.reduced_scale) if whole else 0

    def num_images(self, num_listed: int, batch_size: int) -> int:
        """Images that this part reads in a pass."""
        return min(self._num_own(num_listed), self.num_batches(num_listed, batch_size) * batch_size)

    def positions(self, num_listed: int, batch_size: int, epoch: int) -> np.ndarray:
        """Positions in the list that this part reads in this epoch, in order."""
        order = self._whole(num_listed, epoch)
        num_images = self.num_images(num_listed, batch_size)
        if not self.drop_last:
            return order[self.part :: self.num_parts][:num_images]
        batches = order[: num_images * self.num_parts].reshape(-1, self.num_parts, batch_size)
        return batches[:, self.part].ravel()

    def rng(self, epoch: int) -> np.random.Generator:
        """What augmentation draws from in this epoch; parts share it where their batches are parts of one."""
        part = (0, 1) if self.drop_last else (self.part, self.num_parts)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed or 0, epoch, *part))))

    def _num_own(self, num_listed: int) -> int:
        return len(range(self.part, num_listed, self.num_parts))

    def _whole(self, num_listed: int, epoch: int) -> np.ndarray:
        if self.seed is None:
            return np.arange(num_listed)
        if self.labels is not None:
            return balanced_order(self.labels, self.seed, epoch)
        return random_order(num_listed, self.seed, epoch) if self.every_epoch else random_order(num_listed, self.seed)


def balanced_order(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Positions (N,), as many of every class (one more of some, if N is no multiple), in random order.

    Each class is gone through again and again in random orders of its own, on from where the epoch before has stopped:
    so all of its images are shown equally often, those of a small class several times in an epoch.

    Args:
        labels: (N,) integers.
    """
    classes = np.unique(labels).tolist()
    share, more = divmod(len(labels), len(classes))
    chosen = []
    for number, label in enumerate(classes):
        members, count = np.flatnonzero(labels == label), share + (number < more)
        first, start = divmod(epoch * count, len(members))
        rounds = range(first, first + -(-(start + count) // len(members)))
        passes = [members[random_order(len(members), seed, label, one)] for one in rounds]
        chosen.append(np.concatenate(passes)[start : start + count])
    positions = np.concatenate(chosen)
    return positions[random_order(len(positions), seed, epoch)]
