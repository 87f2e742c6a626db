"""Flags of limits: none by default, and -1 is none."""

import pytest

from spos.core.flags import OneLineParser, pick
from spos.sampling.flags import LimitOptions, constraints_of


def limits(flags):
    parsed = OneLineParser("", (LimitOptions,)).parse_args(flags.split())
    return list(map(str, constraints_of(pick(LimitOptions, parsed)).limits()))


@pytest.mark.parametrize(
    "flags, expected",
    (
        ("", []),
        ("--flop-max -1 --score-max -1 --param-max-m -1", []),
        ("--flop-max-m 5 --param-max-m 0.1", ["FLOPs <= 5 M", "params <= 0.1 M"]),
        ("--flop-max 0.5 --param-max 2", ["FLOPs <= 0.5 x of SinglePathOneShot", "params <= 2 x of SinglePathOneShot"]),
        ("--score-max 1 --comparison-model MobileNetV2_1.4", ["combined score <= 1"]),
    ),
)
def test_limits_are_those_that_are_given(flags, expected):
    assert limits(flags) == expected


@pytest.mark.parametrize("flag", ("--flop-max", "--param-max", "--score-max", "--flop-max-m", "--param-max-m"))
def test_a_limit_is_a_number(flag, capsys):
    with pytest.raises(SystemExit):
        limits(f"{flag} inf")
    assert flag in capsys.readouterr().err
