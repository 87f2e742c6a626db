"""How sure a measured share is."""

from __future__ import annotations

import math
from typing import Tuple

CONFIDENCE_Z = 1.959963984540054  # two-sided 95 %


def wilson_interval(hits: int, num_images: int) -> Tuple[float, float]:
    """95 % Wilson score interval of the share of hits (Wilson, 1927)."""
    n, p, z2 = num_images, hits / num_images, CONFIDENCE_Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = CONFIDENCE_Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
