"""Limits on costs: from flags, and what keeps them."""

import pytest

from spos.core.errors import InputError
from spos.sampling.limits import limit_or_none, parse_bounds


@pytest.mark.parametrize("value, expected", ((-1.0, None), (-0.5, None), (0.0, 0.0), (1.5, 1.5)))
def test_negative_flags_mean_no_limit(value, expected):
    assert limit_or_none(value) == expected


@pytest.mark.parametrize(
    "text, expected",
    (
        ("flops-330-params-5.0", (330, 5)),
        ("flops-330", (330, None)),
        ("params-5.0", (None, 5)),
        ("flops-291.475944", (291.475944, None)),
        ("flops-330-params-0", (330, None)),
        ("flops-0-params-5.0", (None, 5)),
        ("params-0", (None, None)),
        ("", (None, None)),
    ),
)
def test_bounds_are_read(text, expected):
    assert parse_bounds(text, "--flag") == expected


@pytest.mark.parametrize(
    "text", ("330", "flops", "flops-", "flop-330", "flops--330", "flops-330params-5", "params-5-flops-330", "flops-nan")
)
def test_malformed_bounds_show_the_form(text):
    with pytest.raises(InputError, match=rf"--flag '{text}' .*flops-330-params-5.0"):
        parse_bounds(text, "--flag")
