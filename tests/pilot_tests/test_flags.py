"""What the autopilot is asked for."""

import argparse

import pytest

from spos.core.errors import InputError
from spos.core.flags import fill
from spos.pilot.flags import AutopilotOptions, ValueOptions, check_options, size_in_bytes

GOOD = {"data_dir": "pictures", "flops_max_m": 60.0, "hours": 1.0}


@pytest.mark.parametrize(
    "text, size",
    (("2MB", 2 * 10**6), ("2 mb", 2 * 10**6), ("1.5MiB", 3 * 2**19), ("500KiB", 512_000), ("100000", 100_000)),
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ("", "MB", "2 GBit", "-2MB", "0", "nan"))
def test_what_is_no_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        size_in_bytes(text)


def test_one_limit_is_enough():
    for limit in ({"flops_max_m": 60.0}, {"params_max_m": 1.0}, {"latency_max": 5.0}, {"model_size_max": 10**6}):
        options = AutopilotOptions(data_dir="pictures", hours=1.0, **limit)
        check_options(options, ValueOptions())
        assert options.limits == limit


@pytest.mark.parametrize(
    "changes, values, message",
    (
        ({"data_dir": ""}, {}, "--data-dir is missing"),
        ({"flops_max_m": 0.0}, {}, "there is no limit: give --flops-max-m 60"),
        ({"hours": 0.0}, {}, "--hours is missing"),
        ({"hours": 0.01}, {}, "are 0.6 minutes"),
        ({"plan": "plan.json"}, {"final_epochs": 3}, "says every value.*leave out --final-epochs"),
        ({"plan": "plan.json", "plan_only": True}, {}, "has a plan already"),
    ),
)
def test_what_is_missing_or_contradicts_is_one_line(changes, values, message):
    with pytest.raises(InputError, match=message):
        check_options(AutopilotOptions(**{**GOOD, **changes}), ValueOptions(**values))


def test_values_that_are_given_are_those_that_were_changed():
    assert ValueOptions().given() == {}
    assert ValueOptions(space="tiny", finalists=0).given() == {"space": "tiny", "finalists": 0}


@pytest.mark.parametrize("flag, value", (("test_share", 1.0), ("int8_loss_max", -0.1), ("finalists", -1.5)))
def test_values_that_mean_nothing_are_refused(flag, value):
    with pytest.raises(InputError, match=f"{flag} is {value}"):
        fill(ValueOptions, **{flag: value})
