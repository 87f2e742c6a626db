"""Latency tables of a flight, before anything is trained."""

import re

import numpy as np
import pytest
from latency_tests.test_table import make_table
from msgspec.structs import replace
from pilot_plans import SHAPE, plan

from spos.core.errors import InputError
from spos.pilot.latency import check_latency, latency_of
from spos.pilot.settings import Setting
from spos.pilot.stages import table_file
from spos.runs.files import write_json

SETTING = Setting("tiny", "", 32)
SPACE = SETTING.search_space(10)


@pytest.fixture
def flown(tmp_path):
    """Writes a table beside a plan, and checks it with a limit in ms, and perhaps others."""

    def check(latency_max, changes=None, **asked):
        write_json(table_file(tmp_path), make_table(SPACE, **(changes or {})).to_json())
        limits = {"flops_max_m": 0.0, "latency_max": latency_max, **asked}
        check_latency(plan(limits, shape=replace(SHAPE, setting=SETTING)), tmp_path)
        return tmp_path

    return check


def drawn(rng, num=400):
    table = make_table(SPACE)
    return np.array([table.latency_ms(SPACE.sample(rng)) for _ in range(num)])


def test_a_limit_that_a_good_part_of_the_space_keeps_is_taken(flown, rng):
    flown(float(np.median(drawn(rng))))
    flown(0.0)


def test_a_limit_that_hardly_any_architecture_keeps_says_what_would_do(flown, rng):
    with pytest.raises(InputError, match="--latency-max .*; give .*another --save-dir") as refused:
        flown(float(drawn(rng).min()) * 0.9)
    least = float(re.search(r"give --latency-max ([0-9.]+)", str(refused.value))[1])
    flown(least)


def test_limits_are_kept_together(flown, rng):
    """Most are fast enough, and none of these has so few FLOPs."""
    with pytest.raises(InputError, match="0.0% of the architectures of tiny at 32 px keep .*give larger limits"):
        flown(float(drawn(rng).max()), flops_max_m=1e-3)


@pytest.mark.parametrize("error, message", ((0.5, "off by 50.0%"), (None, "off by an unknown share")))
def test_a_table_that_is_far_off_is_refused(flown, error, message):
    with pytest.raises(InputError, match=f"latency.json is {message}.*allowed are"):
        flown(1e3, {"held_out_error": error})


def test_a_network_has_the_latency_that_the_search_saw(flown, rng):
    architecture = SPACE.sample(rng)
    assert latency_of(flown(1e3), architecture) == make_table(SPACE).latency_ms(architecture)
