"""The correction of a latency table by whole networks, and how well the table predicts.

Sums of blocks that were timed alone miss what happens between them: calls that are paid once, maps that leave the
cache, layouts that change. A factor and an offset, fitted on whole networks, take up what is common to all networks.
What is left is the error, told by networks that the fit did not see.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Sequence, Union

import numpy as np

from spos.core.ranking import kendall_tau
from spos.runs.files import without_nan

FEWEST_TO_FIT = 3  # a factor and an offset, and something left over
FEWEST_TO_JUDGE = 2  # for an order
Numbers = Union[Sequence[float], np.ndarray]


@dataclass(frozen=True)
class Correction:
    """latency = offset + scale * sum of the table."""

    scale: float
    offset: float

    def apply(self, sums: np.ndarray) -> np.ndarray:
        return self.offset + self.scale * np.asarray(sums)


def fit_correction(sums: Numbers, measured: Numbers, smallest: float) -> Correction:
    """Least squares of relative errors; without an offset if the factor or some latency would not be positive.

    Args:
        sums, measured: milliseconds of the same networks, by the table and by the clock.
        smallest: sum of any architecture in the table.
    Raises: ValueError for fewer than 3 networks.
    """
    predicted, times = np.asarray(sums, dtype=float), np.asarray(measured, dtype=float)
    if len(times) < FEWEST_TO_FIT or len(times) != len(predicted):
        raise ValueError(f"a correction needs {FEWEST_TO_FIT} networks or more, not {len(times)}")
    design = np.column_stack([predicted, np.ones(len(times))]) / times[:, None]
    scale, offset = np.linalg.lstsq(design, np.ones(len(times)), rcond=None)[0]
    if scale <= 0 or offset + scale * smallest <= 0:
        ratio = predicted / times
        scale, offset = ratio.sum() / (ratio**2).sum(), 0.0
    return Correction(float(scale), float(offset))


@dataclass(frozen=True)
class Agreement:
    """How predictions agree with measurements on networks.

    Args:
        median_error, p90_error, max_error: relative, of the absolute differences.
        tau_b: Kendall's rank correlation; NaN if all measurements are equal.
    """

    networks: int
    median_error: float
    p90_error: float
    max_error: float
    tau_b: float

    @classmethod
    def of(cls, predicted: Numbers, measured: Numbers) -> Agreement:
        errors = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
        median, p90 = np.percentile(errors, (50, 90))
        tau = kendall_tau(predicted, measured)
        return cls(len(errors), float(median), float(p90), float(errors.max()), tau)

    def to_json(self) -> Dict[str, Any]:
        """With null for a rank correlation that is none."""
        return without_nan(asdict(self))

    def __str__(self) -> str:
        return (
            f"median error {self.median_error:.1%}, 90% below {self.p90_error:.1%}, largest {self.max_error:.1%}, "
            f"Kendall tau-b {self.tau_b:.3f}, {self.networks} networks"
        )
