"""Seconds, and how they are shared out."""

import pytest
from msgspec.structs import replace
from pilot_plans import FACTS, RATES, plan

from spos.pilot.plan import times_of
from spos.pilot.times import NETWORKS, SEARCH, SUPERNET, share_out

TIMES = times_of(FACTS, RATES, 0.2)


def total(values, times, names=(SUPERNET, SEARCH, NETWORKS)):
    return sum(times.of(values)[name] for name in names)


@pytest.mark.parametrize("seconds", (200.0, 900.0, 3600.0, 8 * 3600.0))
@pytest.mark.parametrize("faster", (0.3, 1.0, 5.0))
def test_shares_fill_the_time_and_do_not_exceed_it(seconds, faster):
    times = TIMES.slower(1 / faster)
    values = share_out(plan().values, times, seconds, (), {})
    assert total(values, times) <= seconds + 1e-6
    assert total(values, times) >= seconds - 2 * max(times.supernet_epoch, times.final_epoch) - 40 * times.candidate


def test_a_slower_machine_takes_as_many_times_as_long():
    values = plan().values
    start = RATES.start_seconds
    for name, seconds in TIMES.of(values).items():
        assert TIMES.slower(2.0).of(values)[name] - start == pytest.approx(2 * (seconds - start))


@pytest.mark.parametrize("begun, left", (((SUPERNET,), (SEARCH, NETWORKS)), ((SUPERNET, SEARCH), (NETWORKS,))))
def test_what_has_begun_keeps_its_values(begun, left):
    before = plan().values
    values = share_out(before, TIMES, 400.0, begun, {})
    assert values.supernet_epochs == before.supernet_epochs
    if SEARCH in begun:
        assert values.evaluations == before.evaluations
    assert values.final_epochs < before.final_epochs and total(values, TIMES, left) <= 400.0


def test_decided_values_stay_and_others_take_the_rest():
    given = {"supernet_epochs": 7, "evaluations": 40, "finalists": 0}
    values = share_out(plan().values, TIMES, 900.0, (), given)
    assert (values.supernet_epochs, values.evaluations, values.finalists) == (7, 40, 0)
    assert 900.0 - total(values, TIMES) < 2 * TIMES.final_epoch


def test_finalists_take_the_time_of_halving():
    epoch, candidate = TIMES.train / RATES.subnet_images, TIMES.candidate
    assert TIMES.finalists(4, 3) == pytest.approx(4 * (3 * epoch + candidate) + 2 * (6 * epoch + candidate))
    assert TIMES.finalists(0, 1) == 0


def test_no_time_leaves_the_least():
    values = share_out(plan().values, TIMES, 0.0, (), {})
    assert values.supernet_epochs == values.final_epochs == 2 and values.evaluations == 24 and values.finalists == 0


def test_few_steps_begin_aligned_and_many_warm_up():
    few, many = (share_out(plan().values, TIMES, seconds, (), {}) for seconds in (120.0, 8 * 3600.0))
    assert few.aligned and few.warm_up_from == -1
    assert not many.aligned and many.warm_up_from == many.supernet_epochs // 3
    assert not replace(few, warm_up=False).aligned


def test_checkpoints_and_validations_take_little():
    values = share_out(plan().values, TIMES, 3600.0, (), {})
    assert values.supernet_save_every * TIMES.supernet_epoch >= 15.0
    every = values.final_validate_every
    assert every and TIMES.final_validation <= 0.03 * every * TIMES.final_epoch


def test_epochs_at_full_width_take_their_own_time():
    """Those before the warm-up, and half of those in it."""
    rates = replace(RATES, full_width_images=RATES.supernet_images / 2)
    times, values = replace(TIMES, rates=rates), share_out(plan().values, TIMES, 3000.0, (), {})
    first = values.warm_up_from + 9
    assert values.warm_up_from > 0
    assert times.supernet(values) == pytest.approx((values.supernet_epochs + first) * times.supernet_epoch)
    assert times.supernet(values, 5) == pytest.approx(10 * times.supernet_epoch)
    assert times.slower(2.0).supernet(values) == pytest.approx(2 * times.supernet(values))
    assert TIMES.supernet(values) == pytest.approx(values.supernet_epochs * TIMES.supernet_epoch)
    fewer = share_out(plan().values, times, 3000.0, (), {})
    assert fewer.supernet_epochs < values.supernet_epochs
    room = 2 * times.supernet_epoch
    assert times.of(values)["supernet"] - room > times.of(fewer)["supernet"]
    assert times.of(fewer)["supernet"] == pytest.approx(TIMES.of(values)["supernet"], abs=room)
