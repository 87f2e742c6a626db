"""Seeds derived from (seed, purpose, epoch): all that makes a step repeatable."""

from __future__ import annotations

import zlib
from typing import Tuple

import numpy as np


def derive_seed(seed: int, *purpose: object) -> int:
    """A 31-bit seed that depends on `seed` and on what it is for, the same on every machine.

    Zeros at the end of a purpose count for nothing: `(.., "a", 0)` is `(.., "a")`.
    """
    return int(np.random.SeedSequence([seed, *_entropy(purpose)]).generate_state(1)[0]) & 0x7FFFFFFF


def derive_rng(seed: int, *purpose: object) -> np.random.Generator:
    """A generator for one purpose, for example `derive_rng(seed, "sampling", epoch)`.

    Randomness that is a function of (seed, epoch) has no state to save: resuming at an epoch is exact.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, *_entropy(purpose)]))


def _entropy(purpose: Tuple[object, ...]) -> Tuple[int, ...]:
    return tuple(part if isinstance(part, int) else zlib.crc32(str(part).encode()) for part in purpose)


def random_order(num: int, *entropy: int) -> np.ndarray:
    """Return a permutation of range(num) that depends on `entropy` (whole numbers >= 0) alone.

    Sorts raw uniform draws, the part of NumPy's stream that does not change between versions.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
    return np.argsort(rng.random(num), kind="stable")
