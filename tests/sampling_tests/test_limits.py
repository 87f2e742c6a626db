"""Limits on costs: from flags, and what keeps them."""

import pytest

from spos.sampling.limits import limit_or_none


@pytest.mark.parametrize("value, expected", ((-1.0, None), (-0.5, None), (0.0, 0.0), (1.5, 1.5)))
def test_negative_flags_mean_no_limit(value, expected):
    assert limit_or_none(value) == expected
