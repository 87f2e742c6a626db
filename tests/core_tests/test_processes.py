"""Processes: their commands and variables, their output, and their end."""

import os
import socket
import sys
import time

import pytest

from spos.core.errors import InputError
from spos.core.processes import (
    KILL_SECONDS,
    ROOT,
    Host,
    Task,
    free_port,
    kill,
    own_address,
    send_stop,
    start_command,
    start_member,
    wait_for,
)

HERE = Host("localhost", 1)


def start(code, **variables):
    return start_member(Task("worker 0", HERE, (sys.executable, "-u", "-c", code), variables))


def test_variable_port_is_not_passed_on():
    environ = {"PORT": "80", "PATH": "/bin", "DMLC_INTERFACE": "eth1", "SECRET": "x"}
    for host in ("localhost", "b"):
        task = Task("worker 0", Host(host, 1), ("run", "it's"), {"SPOS_WORKER": "0"})
        command, variables = start_command(task, environ)
        if host == "localhost":
            assert "PORT" not in variables and variables["DMLC_INTERFACE"] == "eth1"
            assert variables["SPOS_WORKER"] == "0" and command[-2:] == ["run", "it's"]
        else:
            assert command[0] == "ssh" and command[-2] == "b"
            assert "env -u PORT" in command[-1] and "DMLC_INTERFACE=eth1" in command[-1]
            assert "SPOS_WORKER=0" in command[-1]
            assert "SECRET" not in command[-1] and """'it'"'"'s'""" in command[-1]


def test_what_is_started_finds_this_project_first():
    for given, expected in (({}, [str(ROOT)]), ({"PYTHONPATH": "/a"}, [str(ROOT), "/a"])):
        _, variables = start_command(Task("server 0", HERE, ("run",), {}), given)
        assert variables["PYTHONPATH"].split(os.pathsep) == expected
    assert (ROOT / "train_imagenet.py").is_file()


def test_a_taken_port_is_refused_and_a_free_one_found():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port() != port
        with pytest.raises(InputError, match=f"--port {port}"):
            free_port(port)


def test_a_host_that_nobody_knows_is_named():
    with pytest.raises(InputError, match="host nowhere.invalid cannot be found.*--address"):
        own_address([HERE, Host("me@nowhere.invalid", 1)])


def test_the_own_address_is_that_of_the_route():
    assert own_address([HERE, Host("127.0.0.2", 1)]).startswith("127.")


def test_output_appears_behind_the_name(capfd):
    member = start("import sys, os; print('one'); print(os.environ['ASKED'], file=sys.stderr)", ASKED="two")
    wait_for([member], 30)
    kill([member])
    assert member.process.returncode == 0 and member.is_worker
    captured = capfd.readouterr()
    assert captured.out == "worker 0: one\n" and captured.err == "worker 0: two\n"


def test_a_member_may_end_as_it_is_asked_to(capfd):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "print('ready')\n"
        "time.sleep(60)"
    )
    member = start(code)
    ends = time.monotonic() + 30
    seen = ""
    while "ready" not in seen and time.monotonic() < ends:
        time.sleep(0.05)
        seen += capfd.readouterr().out
    send_stop(member)
    wait_for([member], 30)
    kill([member])
    assert member.process.returncode == 3


def test_killing_ends_a_member_that_does_not_listen():
    member = start("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    began = time.monotonic()
    kill([member])
    assert member.process.returncode is not None and time.monotonic() - began < KILL_SECONDS + 10


def test_waiting_ends_with_its_time():
    member = start("import time; time.sleep(60)")
    began = time.monotonic()
    wait_for([member], 0.3)
    assert member.process.poll() is None and time.monotonic() - began < 5
    kill([member])
