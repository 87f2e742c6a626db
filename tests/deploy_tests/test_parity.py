"""Parity of networks: what counts as equal, and what is refused."""

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.deploy.parity import RUNTIME_TOLERANCE, check_equal, check_int8, random_images, rms_error, tolerance_of


def test_tolerance_grows_with_what_a_network_makes_of_rounding():
    images = random_images(8)
    assert tolerance_of(lambda x: x.reshape(len(x), -1), images, 1e-5) == 1e-5
    steep = tolerance_of(lambda x: np.exp(60 * x.reshape(len(x), -1).astype(float)), images, 1e-5)
    assert 1e-5 < steep <= 1e-2


@pytest.mark.parametrize(
    "given, words",
    (
        (np.array([[1.0, 2.001]]), "differ by 5.0e-04"),
        (np.array([[1.0, np.nan]]), "differ by nan"),
        (np.array([[1.0, 2.0, 3.0]]), "have shape (1, 3), not (1, 2)"),
    ),
)
def test_other_logits_are_refused(given, words):
    assert check_equal(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]), RUNTIME_TOLERANCE, "logits") == 0
    with pytest.raises(InputError) as error:
        check_equal(np.array([[1.0, 2.0]]), given, RUNTIME_TOLERANCE, "logits")
    assert words in str(error.value)


def test_the_error_of_int8_is_relative_to_the_logits():
    logits = np.array([[3.0, -4.0]])
    assert rms_error(logits, 1.1 * logits) == pytest.approx(0.1)
    assert check_int8(logits, 1.1 * logits, 0.2) == pytest.approx(0.1)
    for given in (2 * logits, np.nan * logits):
        with pytest.raises(InputError, match="above --int8-error-max 0.2; nothing is written"):
            check_int8(logits, given, 0.2)
