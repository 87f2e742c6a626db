"""The agent: one command, which ends with whoever asked for it."""

import os
import signal
import subprocess
import sys

import pytest
from running import assert_ended, is_alive

from spos.core import agent

AGENT = [sys.executable, agent.__file__]
CHILDREN = """
import subprocess, sys, time
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
time.sleep(60)
"""


def start(code):
    return subprocess.Popen([*AGENT, sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    "code, expected",
    (("pass", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL)),
)
def test_the_exit_code_is_that_of_the_command(code, expected):
    with start(code) as process:
        assert process.wait(30) == expected


def test_a_line_asks_the_command_to_end():
    # short sleeps, because a signal just before a long one does not cut it short
    code = "import signal, time; signal.signal(15, lambda *_: exit(5)); print('ready', flush=True)\n"
    code += "for _ in range(600): time.sleep(0.1)"
    with start(code) as process:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(agent.STOP)
        process.stdin.flush()
        assert process.wait(30) == 5


def test_the_end_of_the_input_kills_the_command_and_all_it_started():
    with start(CHILDREN) as process:
        grandchild = int(process.stdout.readline())
        assert is_alive(grandchild)
        process.stdin.close()
        assert process.wait(30) == 128 + signal.SIGKILL
        assert_ended(grandchild)


def test_what_the_command_leaves_behind_ends_with_it():
    with start(CHILDREN.replace("time.sleep(60)", "sys.exit(0)")) as process:
        grandchild = int(process.stdout.readline())
        assert process.wait(30) == 0
        assert_ended(grandchild)


def test_the_agent_itself_does_not_end_by_a_signal_to_it():
    with start("import time; print('ready', flush=True); time.sleep(60)") as process:
        process.stdout.readline()
        os.kill(process.pid, signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.stdin.close()
        process.wait(30)
