"""Errors and warnings: what they say in one line."""

import pytest

from spos.core.errors import InputError, Stopped, engine_reason, warn


@pytest.mark.parametrize(
    "text, reason",
    (
        ("[12:00:00] file.cc:30: MXNetError: Check failed: x > 0", "[12:00:00] file.cc:30: Check failed: x > 0"),
        ("MXNetError: no such file\nStack trace:\n", "no such file"),
        ("Stack trace (most recent call last):\n\n  MXNetError: shapes differ  \n", "shapes differ"),
        ("", "RuntimeError"),
    ),
)
def test_the_reason_stands_without_the_stack_trace(text, reason):
    assert engine_reason(RuntimeError(text)) == reason


def test_a_stop_knows_its_signal():
    assert Stopped(15).signum == 15 and str(Stopped(15)) == "stopped by signal 15"


def test_a_warning_is_one_line_of_standard_error(capsys):
    warn("this is odd")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: this is odd\n")


def test_bad_input_is_a_value_error():
    with pytest.raises(ValueError, match="no such file"):
        raise InputError("no such file")
