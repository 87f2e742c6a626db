"""Schedules: warm-up, then decay; a function of the step alone."""

import pytest

from spos.training.schedule import LR_MODES, make_schedule


def test_schedule_warms_up_then_decays():
    schedule = make_schedule("cosine", 1.0, 10, 5, warmup_epochs=2)
    rates = [schedule(t) for t in range(50)]
    assert rates[0] == 0 and max(rates) == 1.0 and rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.01
    assert rates == [schedule(t) for t in range(50)]  # a function of the step alone


def test_step_schedule_decays_at_its_epochs():
    schedule = make_schedule("step", 1.0, 10, 5, warmup_epochs=2, decay_factor=0.5, decay_epochs=(4, 8))
    assert [round(schedule(5 * epoch + 2), 6) for epoch in range(2, 10)] == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_restarts_begin_again_in_equal_parts():
    schedule = make_schedule("cosine", 1.0, 11, 4, warmup_epochs=2, restarts=2)
    rates = [schedule(step) for step in range(8, 44)]
    assert rates[:12] == rates[12:24] == rates[24:] == sorted(rates[:12], reverse=True)
    assert rates[0] == 1.0 and rates[11] == pytest.approx(0, abs=1e-12)
    once = make_schedule("cosine", 1.0, 3, 4)
    assert rates[:12] == [once(step) for step in range(12)]
    uneven = make_schedule("linear", 1.0, 5, 3, restarts=3)  # 3, 4, 4 and 4 steps
    assert [step for step in range(15) if uneven(step) == 1.0] == [0, 3, 7, 11]


def test_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        make_schedule("cosine", 1.0, 5, 5, warmup_epochs=5)


@pytest.mark.parametrize("mode", LR_MODES)
def test_every_mode_begins_at_the_rate_after_warm_up_and_never_rises(mode):
    schedule = make_schedule(mode, 0.5, 6, 4, warmup_epochs=2, decay_epochs=(3,))
    rates = [schedule(step) for step in range(8, 24)]
    assert rates[0] == 0.5 and rates == sorted(rates, reverse=True)
    assert (len(set(rates)) == 1) == (mode == "constant")


@pytest.mark.parametrize("mode", LR_MODES)
def test_a_warm_up_of_one_step_is_the_first_of_a_rise(mode):
    schedule = make_schedule(mode, 0.4, 3, 1, warmup_lr=0.1, warmup_epochs=1, decay_epochs=(2,))
    assert [schedule(0), schedule(1)] == [pytest.approx(0.1), pytest.approx(0.4)]
