"""The correction of a latency table, and how agreement with measurements is told."""

import math

import numpy as np
import pytest

from spos.latency.fit import Agreement, Correction, fit_correction


def test_a_factor_and_an_offset_are_found():
    sums = np.array([2.0, 3.0, 5.0, 9.0])
    fitted = fit_correction(sums, 1.25 * sums + 0.5, 1.0)
    assert (fitted.scale, fitted.offset) == pytest.approx((1.25, 0.5))
    assert fitted.apply([4.0]) == pytest.approx([5.5])


def test_relative_errors_are_fitted(rng):
    """Minimal relative squares: no other line has less."""
    sums = rng.uniform(1, 100, 30)
    measured = 2 * sums * rng.lognormal(0, 0.1, 30) + 1

    def loss(correction):
        return ((correction.apply(sums) / measured - 1) ** 2).sum()

    best = fit_correction(sums, measured, 1.0)
    nearby = [Correction(best.scale * a, best.offset + b) for a in (0.99, 1, 1.01) for b in (-0.05, 0, 0.05)]
    assert min(map(loss, nearby)) == loss(best)


def test_a_factor_is_never_negative():
    sums, measured = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    fitted = fit_correction(sums, measured, 1.0)
    assert fitted.scale > 0 and fitted.offset == 0


def test_no_architecture_takes_less_than_no_time():
    """Few networks on a noisy machine: a steep line, which is below zero where smaller architectures are."""
    sums, measured = np.array([1.0, 1.1, 1.2]), np.array([2.0, 4.0, 6.0])
    assert fit_correction(sums, measured, 0.95).offset < 0
    fitted = fit_correction(sums, measured, 0.85)
    assert fitted.scale > 0 and fitted.offset == 0


@pytest.mark.parametrize("count", (0, 1, 2))
def test_too_few_networks_are_refused(count):
    with pytest.raises(ValueError, match=f"needs 3 networks or more, not {count}"):
        fit_correction([1.0] * count, [1.0] * count, 1.0)


def test_an_order_that_nothing_is_measured_of_is_null_in_a_file():
    own = Agreement.of([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    assert math.isnan(own.tau_b) and own.to_json()["tau_b"] is None


def test_agreement():
    own = Agreement.of([1.1, 2.0, 2.7, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 4.0])
    assert own.networks == 5
    assert own.median_error == pytest.approx(0.1)
    assert own.max_error == pytest.approx(0.25)
    assert own.p90_error == pytest.approx(0.1 + 0.6 * 0.15)
    assert own.tau_b == pytest.approx(9 / math.sqrt(10 * 9))  # 9 pairs in order, one tied in the measurements
    assert "median error 10.0%, 90% below 19.0%, largest 25.0%, Kendall tau-b 0.949, 5 networks" in str(own)
