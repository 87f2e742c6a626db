"""Settings that suit limits, images and hours."""

import re

import numpy as np
import pytest
from msgspec.structs import replace
from pilot_plans import FACTS

from spos.core.errors import InputError
from spos.pilot.settings import DeploymentLimits, Setting, costs_of, rank_settings, settings_for

PHOTOS = replace(FACTS, kind="pictures", side=300, num_train=4000)


def best(facts, limits, seconds=4e-3, slowness=1.0, space="", strides="", size=0):
    return rank_settings(facts, limits, seconds, slowness, space, strides, size)[0]


@pytest.mark.parametrize("macs", (1e6, 5e6, 20e6, 60e6, 300e6))
@pytest.mark.parametrize("facts", (FACTS, PHOTOS), ids=("digits", "photos"))
def test_the_range_of_a_chosen_space_holds_the_limit(facts, macs):
    chosen = best(facts, DeploymentLimits(macs=macs))
    costs = costs_of(chosen.setting, facts.num_classes)
    assert costs.lowest[0] < chosen.macs <= macs and chosen.share >= 0.02
    assert (costs.drawn[:, 0] <= macs).mean() == pytest.approx(chosen.share)


def test_costs_are_those_of_the_space_that_the_flags_mean():
    setting = Setting("small", "2,1,2,2,2", 32)
    costs = costs_of(setting, 10)
    assert setting.search_space(10).strides == (2, 1, 2, 2, 2) and costs.num_blocks == 8
    assert costs.lowest[0] <= costs.drawn[:, 0].min() <= costs.drawn[:, 0].max() <= costs.highest[0]
    assert setting.flags == ["--space", "small", "--strides", "2,1,2,2,2", "--use-se", "--last-conv-after-pooling"]
    with pytest.raises(InputError, match="needs 4 entries, not 5"):
        costs_of(Setting("nas-bench-macro", "2,1,2,2,2", 32), 10)


def test_images_are_never_enlarged_above_the_smallest_size():
    assert {setting.input_size for setting in settings_for(replace(FACTS, kind="record", side=70), "", "", 0)} == {
        *(32, 48, 64),
    }
    assert {setting.input_size for setting in settings_for(replace(FACTS, side=8), "", "", 0)} == {32}


def test_a_space_of_which_a_good_part_keeps_the_limit_is_preferred():
    ranked = rank_settings(FACTS, DeploymentLimits(macs=5e6), 4e-3, 1.0, "", "", 0)
    assert ranked[0].share >= 0.3
    assert "mobilenet" in {candidate.setting.space for candidate in ranked if candidate.share < 0.3}


def test_little_time_makes_networks_smaller():
    chosen = [best(PHOTOS, DeploymentLimits(macs=300e6), seconds).macs for seconds in (1e-3, 1e-2, 1e-1)]
    assert chosen[0] < chosen[1] < chosen[2]


def test_a_slow_machine_is_like_little_time():
    assert best(PHOTOS, DeploymentLimits(macs=300e6), 1e-2, slowness=4.0) == best(
        PHOTOS, DeploymentLimits(macs=300e6), 2.5e-3
    )


@pytest.mark.parametrize("file_bytes", (400_000, 2_000_000, 8_000_000))
def test_a_file_of_a_size_holds_the_parameters_and_the_graph(file_bytes):
    limits = DeploymentLimits(file_bytes=file_bytes)
    chosen = best(PHOTOS, limits)
    most = limits.params_for(costs_of(chosen.setting, 10).num_blocks)
    assert 0 < 4 * most < file_bytes and (costs_of(chosen.setting, 10).drawn[:, 1] <= most).mean() >= 0.02
    assert DeploymentLimits(params=1000.0, file_bytes=file_bytes).params_for(8) == 1000.0
    assert DeploymentLimits().params_for(8) == 0.0


def test_what_is_decided_stays():
    chosen = best(PHOTOS, DeploymentLimits(params=2e6), space="mobilenet", size=128)
    assert chosen.setting == Setting("mobilenet", "", 128)


@pytest.mark.parametrize(
    "decided, message",
    (
        ({"space": "smal"}, "smal"),
        ({"space": "small", "strides": "2,2"}, "--strides 2,2 needs 5 entries, not 2"),
        ({"strides": "2,x"}, "--strides"),
        ({"space": "mobilenet", "strides": "2,2", "size": 64}, "--strides 2,2 needs"),
    ),
)
def test_what_was_mistyped_is_said_and_no_limit_blamed(decided, message):
    with pytest.raises(InputError, match=message) as refused:
        best(FACTS, DeploymentLimits(macs=5e6), **decided)
    assert "comfortably" not in str(refused.value)


def test_a_broken_space_file_is_said(tmp_path):
    (tmp_path / "mine.json").write_text('{"schema": 1}')
    with pytest.raises(InputError, match="mine.json"):
        best(FACTS, DeploymentLimits(macs=5e6), space=str(tmp_path / "mine.json"))


def test_a_plan_that_some_spaces_have_leaves_the_others_out():
    assert best(FACTS, DeploymentLimits(macs=5e6), strides="2,2,2,2,2").setting.space != "nas-bench-macro"


@pytest.mark.parametrize(
    "limits, message",
    (
        (DeploymentLimits(macs=1000.0), r"--flops-max-m 0.001 \(at least 0\.\d\d\)"),
        (DeploymentLimits(params=100.0), r"--params-max-m 0.0001 \(at least 0.0\d\d\)"),
        (DeploymentLimits(file_bytes=10_000.0), r"--model-size-max 10000 \(at least \d+\)"),
        (DeploymentLimits(latency_ms=1e-3), r"--latency-max 0.001 \(at least \d"),
        (DeploymentLimits(macs=1000.0, params=100.0), "together"),
    ),
)
def test_an_impossible_limit_says_what_would_do(limits, message):
    with pytest.raises(InputError, match=message):
        best(FACTS, limits)


def test_the_same_costs_are_drawn_every_time():
    setting = Setting("tiny", "", 32)
    first = costs_of(setting, 10).drawn
    costs_of.cache_clear()
    assert np.array_equal(first, costs_of(setting, 10).drawn)


@pytest.mark.parametrize("given", ({"macs": 1000.0}, {"params": 100.0}, {"file_bytes": 10_000.0}, {"latency_ms": 1e-3}))
def test_what_is_said_to_do_does(given):
    with pytest.raises(InputError) as refused:
        best(FACTS, DeploymentLimits(**given))
    least = float(re.search(r"at least ([0-9.]+)", str(refused.value))[1])
    (name,) = given
    unit = 1e6 if name in ("macs", "params") else 1.0
    digits = {"macs": 0.005, "params": 0.0005, "file_bytes": 0.5, "latency_ms": 0.005}[name]  # of what is printed
    assert best(FACTS, DeploymentLimits(**{name: (least + digits) * unit})).share >= 0.02
