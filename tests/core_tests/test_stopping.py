"""A signal is noted, a second one ends at once, and inside `at_once` the first one does."""

import os
import signal

import pytest

from spos.core.errors import Stopped
from spos.core.flags import run_program
from spos.core.stopping import StopRequest


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_ends(signum, capsys):
    with StopRequest() as stop:
        os.kill(os.getpid(), signum)
        assert stop.signum == signum
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signum)
            signal.sigtimedwait([], 1)
    assert "after this batch" in capsys.readouterr().err


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
