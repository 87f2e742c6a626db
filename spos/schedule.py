"""Length of a run in steps and seeds derived from (seed, purpose, epoch): all that makes a step repeatable."""

from __future__ import annotations

import zlib
from typing import Tuple

import numpy as np

from spos.errors import InputError


def derive_seed(seed: int, *purpose: object) -> int:
    """A 31-bit seed that depends on `seed` and on what it is for, the same on every machine."""
    return int(np.random.SeedSequence([seed, *_entropy(purpose)]).generate_state(1)[0]) & 0x7FFFFFFF


def derive_rng(seed: int, *purpose: object) -> np.random.Generator:
    """A generator for one purpose, for example `derive_rng(seed, "sampling", epoch)`.

    Randomness that is a function of (seed, epoch) has no state to save: resuming at an epoch is exact.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, *_entropy(purpose)]))


def _entropy(purpose: Tuple[object, ...]) -> Tuple[int, ...]:
    return tuple(part if isinstance(part, int) else zlib.crc32(str(part).encode()) for part in purpose)


def decay_epochs(lr_decay_epoch: str, lr_decay_period: int, num_epochs: int) -> Tuple[int, ...]:
    """Epochs at which `--lr-mode step` decays. Raises InputError if the list holds no integers."""
    if lr_decay_period > 0:
        return tuple(range(lr_decay_period, num_epochs, lr_decay_period))
    try:
        return tuple(int(item) for item in lr_decay_epoch.split(",") if item.strip())
    except ValueError:
        raise InputError(f"--lr-decay-epoch '{lr_decay_epoch}' must be epochs like 40,60") from None
