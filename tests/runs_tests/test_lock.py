"""The lock of a directory: who is kept out, what releases it, and file systems that have none."""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

from spos.core.errors import InputError
from spos.runs.files import PARTIAL
from spos.runs.lock import LOCK_FILE, locked

HOLD = """
import os, sys, time
from spos.runs.lock import locked
with locked(sys.argv[1]):
    if len(sys.argv) < 3 or os.fork():  # a child outlives it
        print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def start():
    """Starts processes that hold a lock; they and their children end with the test."""
    started = []

    def start(folder, *more):
        command = [sys.executable, "-c", HOLD, folder, *more]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):  # nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_another_process_is_kept_out_and_told_who_holds_it(tmp_path, start):
    process = start(tmp_path / "run")
    with pytest.raises(InputError) as error, locked(tmp_path / "run"):
        pytest.fail("entered")
    for words in (f"process {process.pid} on {socket.gethostname()}", str(tmp_path / "run"), "is in use by"):
        assert words in str(error.value)


def test_a_directory_that_another_name_leads_to_is_locked_too(tmp_path, start):
    start(tmp_path / "run")
    (tmp_path / "link").symlink_to("run")
    with pytest.raises(InputError, match="in use"), locked(tmp_path / "link"):
        pytest.fail("entered")


def test_other_directories_are_free(tmp_path, start):
    start(tmp_path / "run")
    with locked(tmp_path / "other"), locked(tmp_path / "run" / "inside"):
        pass


@pytest.mark.parametrize("signum", (signal.SIGKILL, signal.SIGTERM))
@pytest.mark.parametrize("more", ((), ("with a child that goes on",)))
def test_it_is_free_when_its_holder_is_gone(tmp_path, start, signum, more):
    process = start(tmp_path, *more)
    process.send_signal(signum)
    process.wait()
    with locked(tmp_path):
        assert (tmp_path / LOCK_FILE).is_file()


def test_nothing_is_left_behind(tmp_path):
    with locked(tmp_path):
        assert (tmp_path / LOCK_FILE).is_file()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_made_for_nothing_is_removed(tmp_path):
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK_FILE).is_file()
    assert not (tmp_path / "run").exists()
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "result").write_text("1")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["result"]


def test_what_a_killed_program_had_begun_to_write_is_removed(tmp_path):
    (tmp_path / "lists").mkdir()
    for name in (f".best.json.x1y2{PARTIAL}", f"lists/.a.idx.x1y2{PARTIAL}", "lists/kept.partial", ".hidden"):
        (tmp_path / name).write_text("half")
    with locked(tmp_path):
        left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".hidden", LOCK_FILE, "kept.partial"]


def test_one_process_cannot_enter_twice(tmp_path):
    with locked(tmp_path):
        with pytest.raises(InputError, match="in use by this very process"), locked(tmp_path):
            pytest.fail("entered")
        assert (tmp_path / LOCK_FILE).is_file()
    with locked(tmp_path):
        pass


def test_of_many_that_come_at_once_one_enters_at_a_time(tmp_path):
    """While each removes the file as it leaves."""
    code = (
        "import os, sys, time\nfrom spos.core.errors import InputError\nfrom spos.runs.lock import locked\n"
        "entered = 0\nend = time.monotonic() + 2\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with locked(sys.argv[1]):\n"
        "            os.mkdir(sys.argv[1] + '/alone'); os.rmdir(sys.argv[1] + '/alone'); entered += 1\n"
        "    except InputError:\n"
        "        pass\n"
        "print(entered)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [(process.communicate()[0], process.returncode) for process in processes]
    assert [code for _, code in answers] == [0, 0, 0]  # `mkdir` fails beside another one
    assert sum(int(text) for text, _ in answers) > 10


@pytest.mark.parametrize("content", ("", "{", "[1]", '{"host": 1}', "\xff"))
def test_a_holder_that_has_not_said_who_it_is(tmp_path, start, content):
    start(tmp_path)
    (tmp_path / LOCK_FILE).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="is in use by another program"), locked(tmp_path):
        pytest.fail("entered")


def test_a_file_system_without_locks_gets_a_warning(tmp_path, monkeypatch, capsys):
    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", without)
    with locked(tmp_path):
        pass
    assert "has no locks (No locks available)" in capsys.readouterr().err


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK_FILE).symlink_to(victim)
    with pytest.raises(OSError), locked(run):
        pytest.fail("entered")
    assert victim.read_text() == "mine"
