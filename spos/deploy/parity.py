"""Parity of two networks: the last thing that is looked at before a converted one is kept."""

from __future__ import annotations

from typing import Callable

import numpy as np

from spos.core.errors import InputError

MERGED_TOLERANCE = 1e-5  # of the largest logit, float32
RUNTIME_TOLERANCE = 1e-4  # the same, between two runtimes
NUM_IMAGES = 4
ROUNDING = 1e-7  # relative, of float32
ALLOWANCE, LARGEST_TOLERANCE = 20, 1e-2

Logits = Callable[[np.ndarray], np.ndarray]


def random_images(input_size: int, num_images: int = NUM_IMAGES, seed: int = 0) -> np.ndarray:
    """(N, 3, S, S) float32 of a standard normal distribution, roughly that of normalised images."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_images, 3, input_size, input_size), dtype=np.float32)


def relative_difference(expected: np.ndarray, given: np.ndarray) -> float:
    """Largest difference, of the largest expected value."""
    return float(np.abs(expected - given).max() / np.abs(expected).max())


def rms_error(expected: np.ndarray, given: np.ndarray) -> float:
    """Root mean square of the differences, relative to that of the expected values."""
    return float(np.sqrt(np.square(expected - given, dtype=float).mean() / np.square(expected, dtype=float).mean()))


def tolerance_of(network: Logits, images: np.ndarray, wanted: float) -> float:
    """`wanted`, or what the network itself makes of a change in the last bit of its input, if that is more.

    A trained network damps rounding. One with random weights may multiply it by thousands, block after block, most of
    all with squeeze-and-excite; two right ways to compute it differ by as much.
    """
    expected, rng = network(images), np.random.default_rng(0)
    responses = []
    for _ in range(3):
        noise = rng.standard_normal(images.shape, dtype=np.float32)
        responses.append(relative_difference(expected, network(images * (1 + np.float32(ROUNDING) * noise))))
    return max(wanted, min(ALLOWANCE * max(responses), LARGEST_TOLERANCE))


def check_equal(expected: np.ndarray, given: np.ndarray, tolerance: float, what: str) -> float:
    """The relative difference. Raises InputError if it is above the tolerance, or not a number."""
    if expected.shape != given.shape:
        raise InputError(f"{what} have shape {given.shape}, not {expected.shape}; nothing is written")
    difference = relative_difference(expected, given)
    if not difference <= tolerance:
        raise InputError(f"{what} differ by {difference:.1e} of the largest, above {tolerance:.1e}; nothing is written")
    return difference


def check_int8(expected: np.ndarray, given: np.ndarray, error_max: float) -> float:
    """The error of INT8 logits. Raises InputError if it is too large: rounding has left nothing of the function."""
    error = rms_error(expected, given)
    if not error <= error_max:
        raise InputError(
            f"INT8 changes the logits by {error:.1%} of themselves (RMS), above --int8-error-max {error_max}; "
            "nothing is written. Try another --calibration, --float-first-conv or --float-se"
        )
    return error
