"""A signal is noted, a second one ends at once, and inside `at_once` the first one does."""

import os
import signal
import time

import pytest

from spos.core.errors import Stopped
from spos.core.flags import run_program
from spos.core.stopping import SIGNALS, StopRequest, note_signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_ends(signum, capsys):
    with StopRequest() as stop:
        os.kill(os.getpid(), signum)
        assert stop.signum == signum
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signum)
            signal.sigtimedwait([], 1)
    assert "after this batch" in capsys.readouterr().err


def test_a_terminal_that_goes_away_is_a_request(capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signum == signal.SIGHUP
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "after this batch" in capsys.readouterr().err


def test_programs_that_watch_others_note_signals_and_heed_nohup():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        noted = note_signals()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert noted == [signal.SIGTERM, signal.SIGINT]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_under_nohup_a_terminal_may_go_away():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signum is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Doomed:
    """An object in whose destructor a signal comes."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 0.05)


@pytest.mark.filterwarnings("error")  # of exceptions that Python cannot raise
def test_a_second_signal_in_a_destructor_is_not_lost():
    with StopRequest("") as stop, pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGINT)
        doomed = Doomed()
        del doomed
        assert stop.signum == signal.SIGINT  # nothing was raised there
        time.sleep(5)  # and comes now


def test_a_terminal_that_is_gone_does_not_take_the_answer(monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("builtins.print", fail)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM


def test_at_once_ends_where_the_signal_arrives():
    with StopRequest() as stop, pytest.raises(Stopped), stop.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 1)


def test_a_signal_that_came_before_ends_at_once(capsys):
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped), stop.at_once():
            pytest.fail("not reached")


@pytest.mark.parametrize("signum, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_programs_end_with_the_code_of_the_signal(signum, code, capsys):
    def main(argv):
        raise Stopped(signum)

    assert run_program(main, []) == code
    assert "same command again" in capsys.readouterr().err
