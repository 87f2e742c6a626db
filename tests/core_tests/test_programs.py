"""Programs beside this one: their output, their memory, their end."""

import os
import signal
import time

import pytest

from spos.core import programs
from spos.core.errors import InputError
from spos.core.programs import check_end, run_side_by_side, start, warnings_in

PROGRAM = """import os, sys, time
print("threads", os.environ["OMP_NUM_THREADS"], "nice", os.nice(0), *sys.argv[1:], flush=True)
time.sleep(float(sys.argv[1]))
if len(sys.argv) > 2:
    sys.exit("error: " + sys.argv[2])
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").touch()
    (tmp_path / "tools" / "module.py").write_text(PROGRAM)
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    return tmp_path


def test_files_and_modules_run_side_by_side(root):
    logs = [root / "logs" / "a.log", root / "logs" / "b.log"]
    began = time.monotonic()
    found = run_side_by_side([["program.py", "1"], ["tools.module", "1.5"]], [1, 3], logs)
    assert time.monotonic() - began < 2.4
    assert all(seconds >= 0.9 and memory > 10**6 for seconds, memory in found)
    assert [log.read_text() for log in logs] == [
        f"threads 1 nice {os.nice(0)} 1\n",
        f"threads 3 nice {os.nice(0)} 1.5\n",
    ]


def test_a_program_that_fails_ends_the_other_with_its_last_line(root):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"program.py: it is broken \(its output: .*b.log\)"):
        run_side_by_side(
            [["program.py", "60"], ["program.py", "0", "it is broken"]], [1, 1], [root / "a", root / "b.log"]
        )
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("signum, usual", ((signal.SIGKILL, ", usually for lack of memory"), (signal.SIGTERM, "")))
def test_a_program_that_a_signal_ends_is_said_with_the_signal(root, signum, usual):
    (root / "log").write_text("epoch 3 of 60\n")
    with pytest.raises(InputError, match=rf"program.py: ended by signal {signum:d}{usual} \(its output: .*log\)"):
        check_end("program.py", -signum, root / "log")
    check_end("program.py", 0, root / "log")


def test_warnings_are_told_once(root):
    (root / "log").write_text("packed\nwarning: a is bad\nno warning: b\nwarning: a is bad\nwarning: c\n")
    assert warnings_in(root / "log") == ["warning: a is bad\n", "warning: c\n"]


def test_what_nobody_waits_for_gives_way(root):
    process = start(["program.py", "0"], 1, root / "log", low=True)
    assert process.wait() == 0 and f"nice {min(os.nice(0) + 10, 19)}" in (root / "log").read_text()
