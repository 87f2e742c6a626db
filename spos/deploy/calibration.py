"""The range of every tensor of a graph over calibration images: what INT8 rounds into 255 steps.

A collector sees the values of each tensor, batch by batch, and says a range for each at the end. MXNet's kernels use
the larger end of a range as the scale of both signs, so only the largest of the absolute values matters, and whether
anything is negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Tuple, Type

import numpy as np

from spos.core.errors import InputError
from spos.core.progress import progress_bar
from spos.deploy.flags import PERCENTILE
from spos.engine.compat import mx

Ranges = Dict[str, Tuple[float, float]]  # (smallest, largest) by the name of the tensor

# Bits of a float32 that a bin leaves out, of the mantissa's 23: a bin is 1/256 wide, relative to its values.
DROPPED_BITS = 15
NUM_BINS = 2 ** (31 - DROPPED_BITS)

ENTROPY_BINS = 8001  # MXNet's number, from the smallest to the largest value of the first images
MOST_BINS = 4 * ENTROPY_BINS  # when later images have larger values; MXNet has no limit


class Collector:
    """Smallest and largest value of every tensor: 'naive'."""

    def __init__(self, percentile: float) -> None:
        self._ends: Ranges = {}

    def observe(self, name: str, values: np.ndarray) -> None:
        """Take notice of float32 values of any shape. Nothing is raised: MXNet could not pass it on."""
        low, high = values.min(), values.max()
        if name in self._ends:
            low, high = np.minimum(low, self._ends[name][0]), np.maximum(high, self._ends[name][1])  # NaN stays
        self._ends[name] = float(low), float(high)

    def ranges(self) -> Ranges:
        """A range for every tensor that was seen.    Raises: InputError if a value was not finite."""
        for name, ends in self._ends.items():
            if not np.isfinite(ends).all():
                raise InputError(
                    f"the block cannot be quantized by these images: values of {name} reach from {ends[0]} to {ends[1]}"
                )
        return {name: self._range(name) for name in self._progress()}

    def _progress(self):
        return self._ends

    def _range(self, name: str) -> Tuple[float, float]:
        return self._ends[name]

    def _up_to(self, name: str, threshold: float) -> Tuple[float, float]:
        """From 0 where nothing is negative: what a fused ReLU gives is unsigned, and needs such a range."""
        return (-threshold if self._ends[name][0] < 0 else 0.0), threshold


class PercentileCollector(Collector):
    """A percentile of the absolute values, so that single large ones do not cost all others their precision.

    Values are counted by the first bits of their float32 form, so the result is within 0.4% of that of all values,
    whatever their range, in half a megabyte for a tensor. A tensor in which fewer values than the percentile leaves
    out differ from 0 keeps its largest.
    """

    def __init__(self, percentile: float) -> None:
        super().__init__(percentile)
        self.percentile = percentile
        self._counts: Dict[str, np.ndarray] = {}

    def observe(self, name: str, values: np.ndarray) -> None:
        super().observe(name, values)
        bits = np.ascontiguousarray(values, np.float32).ravel().view(np.uint32) & np.uint32(0x7FFFFFFF)  # no sign
        counts = np.bincount(bits >> np.uint32(DROPPED_BITS), minlength=NUM_BINS)
        if name in self._counts:
            self._counts[name] += counts
        else:
            self._counts[name] = counts

    def _range(self, name: str) -> Tuple[float, float]:
        largest = max(map(abs, self._ends[name]))
        threshold = min(count_percentile(self._counts[name], self.percentile), largest)
        return self._up_to(name, threshold or largest)


class EntropyCollector(Collector):
    """The range whose 8-bit histogram tells most about the one of float32, by MXNet: half a second for a tensor.

    Where no value is near 0, MXNet's search ends at a range that holds none at all. A range that cuts more than half
    of the values is not taken, but the largest.
    """

    def __init__(self, percentile: float) -> None:
        super().__init__(percentile)
        self._histograms: Dict[str, tuple] = {}

    def observe(self, name: str, values: np.ndarray) -> None:
        super().observe(name, values)
        low, high = values.min(), values.max()
        threshold = max(abs(low), abs(high))
        if not np.isfinite(threshold):
            return
        old = self._histograms.get(name)
        if old is not None and threshold * len(old[0]) <= old[-1] * MOST_BINS:
            self._histograms[name] = mx.contrib.quantization.combine_histogram(old, values, low, high, threshold)
            return
        counts, edges = np.histogram(values, ENTROPY_BINS, (-threshold, threshold))
        if old is not None:  # in the finer bins it would need more and more of them
            middles = (old[1][1:] + old[1][:-1]) / 2
            counts += np.histogram(middles, edges, weights=old[0])[0].astype(counts.dtype)
            low, high = min(low, old[2]), max(high, old[3])
        self._histograms[name] = counts, edges, low, high, threshold

    def _progress(self):
        return progress_bar(self._ends, desc="entropy", unit="tensor")

    def _range(self, name: str) -> Tuple[float, float]:
        if self._ends[name] == (0, 0):
            return 0.0, 0.0
        histogram = self._histograms.pop(name)
        _, _, threshold, _ = mx.contrib.quantization._get_optimal_threshold(histogram, "auto")
        counts, edges = histogram[:2]
        inside = counts[np.abs(edges[1:] + edges[:-1]) / 2 <= threshold].sum()
        if inside < counts.sum() / 2:
            return self._ends[name]
        return self._up_to(name, threshold.item())


COLLECTORS: Mapping[str, Type[Collector]] = {
    "naive": Collector,
    "percentile": PercentileCollector,
    "entropy": EntropyCollector,
}


@dataclass(frozen=True)
class Calibration:
    """How ranges are found.

    Args:
        method: 'naive' takes the smallest and largest value of every tensor, 'percentile' that percentile of the
            absolute values, 'entropy' what loses the least information.
        percentile: of 'percentile', above 0, at most 100.
    Raises: InputError if the method is not known or the percentile is not one.
    """

    method: str = "naive"
    percentile: float = PERCENTILE

    def __post_init__(self) -> None:
        if self.method not in COLLECTORS:
            raise InputError(f"calibration {self.method!r} is not known: {', '.join(COLLECTORS)}")
        if not 0 < self.percentile <= 100:
            raise InputError(f"the percentile of a calibration is above 0 and at most 100, not {self.percentile}")

    def collector(self) -> Collector:
        return COLLECTORS[self.method](self.percentile)


NAIVE = Calibration()


def count_percentile(counts: np.ndarray, percentile: float) -> float:
    """The percentile of absolute values from how many fall into each of the NUM_BINS bins, as `numpy.percentile`."""
    ends = np.cumsum(counts)
    rank = percentile / 100 * (ends[-1] - 1)
    below = int(rank)
    low, high = (_of_rank(counts, ends, min(order, int(ends[-1]) - 1)) for order in (below, below + 1))
    return low + (high - low) * (rank - below)


def _of_rank(counts: np.ndarray, ends: np.ndarray, rank: int) -> float:
    """The value that `rank` others precede, as if the values of a bin were evenly spread in it."""
    index = int(np.searchsorted(ends, rank, side="right"))
    low, high = np.array([index, index + 1], np.uint32) * np.uint32(2**DROPPED_BITS)
    place = (rank - (ends[index] - counts[index]) + 0.5) / counts[index]
    low, high = (float(np.array(bits, np.uint32).view(np.float32)) for bits in (low, high))
    return low + (high - low) * place if index else 0.0  # the first bin holds 0 and denormal numbers
