"""Timing calls against a reference on a machine whose speed changes: here one of our own making."""

import numpy as np
import pytest

from spos.core import timing
from spos.core.timing import Rounds, Timing, time_in_turns

PLAIN = Rounds()


class Machine:
    """A clock that calls move, by their work divided by a speed that drifts and jitters."""

    def __init__(self, drift=0.0, jitter=0.0):
        self.now = 0.0
        self.called = []
        self._drift, self._jitter = drift, jitter
        self._random = np.random.default_rng(0)

    def call(self, name, work):
        def run():
            self.called.append(name)
            speed = 1 + self._drift * np.sin(self.now / 50)
            self.now += work / speed * self._random.lognormal(0, self._jitter)

        return run


@pytest.fixture
def time_on(monkeypatch):
    def run(machine, works, rounds=PLAIN, reference=1.0):
        monkeypatch.setitem(timing.CLOCKS, "wall", lambda: machine.now)
        runs = [machine.call(i, work) for i, work in enumerate(works)]
        return time_in_turns(machine.call("reference", reference), runs, "wall", rounds, np.random.default_rng(1))

    return run


def test_times_are_relative_to_the_reference(time_on):
    timings, seconds = time_on(Machine(), (0.5, 2, 8), reference=4.0)
    assert [timing.ratio for timing in timings] == pytest.approx([0.125, 0.5, 2])
    assert seconds == pytest.approx(4)


def test_a_drifting_machine_does_not_change_them(time_on):
    works = (0.5, 1, 2, 3)
    machine = Machine(drift=0.6, jitter=0.02)
    timings, _ = time_on(machine, works, Rounds(30, 30))
    assert machine.now > 4 * 50 * np.pi  # it was slow and fast several times
    assert [timing.ratio for timing in timings] == pytest.approx(works, rel=0.05)


def test_each_call_is_warm_and_lies_between_two_of_the_reference(time_on):
    machine = Machine()
    time_on(machine, (1, 1), Rounds(2, 2))
    called = [tuple(machine.called[i : i + 2]) for i in range(0, len(machine.called), 2)]
    assert called[::2] == [("reference", "reference")] * 5
    assert [set(called[i : i + 3 : 2]) for i in (1, 5)] == [{(0, 0), (1, 1)}] * 2


def test_passes_are_pooled():
    assert Timing.pool([Timing(2.0, 0.03, 10, 1)]) == Timing(2.0, 0.03, 10, 1)
    pooled = Timing.pool([Timing(1.9, 0.01, 10, 1), Timing(2.0, 0.01, 12, 0), Timing(2.1, 0.01, 11, 2)])
    assert (pooled.ratio, pooled.rounds, pooled.outliers) == (pytest.approx(2.0), 33, 3)
    assert pooled.error == pytest.approx(0.1 / 2 / 3**0.5)


def test_calls_are_timed_until_they_are_sure(time_on):
    timings, _ = time_on(Machine(), (1, 2), Rounds(7, 50))
    assert [timing.rounds for timing in timings] == [7, 7]
    timings, _ = time_on(Machine(jitter=0.1), (1, 2), Rounds(7, 1000, 0.01))
    assert all(100 < timing.rounds < 1000 and timing.error <= 0.01 for timing in timings)
    timings, _ = time_on(Machine(jitter=1), (1, 2), Rounds(7, 20, 0.01))
    assert all(timing.rounds == 20 and timing.error > 0.01 for timing in timings)


def test_the_error_is_the_standard_error_of_the_median():
    draws = np.random.default_rng(0).normal(10, 1, (400, 101))
    timings = [Timing.of(row) for row in draws]
    actual = np.std([timing.ratio for timing in timings]) / 10
    assert np.median([timing.error for timing in timings]) == pytest.approx(actual, rel=0.1)


def test_outliers_are_counted_and_do_not_count():
    assert Timing.of([2.0] * 9 + [30.0, 0.5]) == Timing(2.0, 0.0, 11, 2)
