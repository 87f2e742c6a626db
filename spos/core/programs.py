"""Programs of this project, started beside this one: they end with it, and say in a file what they print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from spos.core.agent import end_with_parent
from spos.core.errors import WARNING, InputError
from spos.core.installation import ROOT
from spos.core.stopping import StopRequest

POLL_SECONDS = 0.1
_LOW_PRIORITY = 10  # of what nobody waits for


def run_side_by_side(
    commands: Sequence[Sequence[str]], threads: Sequence[int], logs: Sequence[Path]
) -> List[Tuple[float, int]]:
    """Seconds and bytes of memory of each program. Raises: InputError with the last line of one that fails."""
    started = time.monotonic()
    running = [start(command, count, log) for command, count, log in zip(commands, threads, logs)]
    done: Dict[int, Tuple[float, int]] = {}
    with StopRequest("") as stop:
        try:
            while len(done) < len(running):
                with stop.at_once():
                    time.sleep(POLL_SECONDS)
                for number, process in enumerate(running):
                    if number in done:
                        continue
                    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                    if pid:
                        process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                        done[number] = time.monotonic() - started, usage.ru_maxrss * 1024
                        check_end(commands[number][0], process.returncode, logs[number])
        finally:
            for number, process in enumerate(running):
                if number not in done:
                    process.terminate()
                    process.wait()
    return [done[number] for number in range(len(running))]


def start(command: Sequence[str], num_threads: Optional[int], log: Path, low: bool = False) -> subprocess.Popen:
    """Start a program of this project: a file in its root, or a module of utils. Its output is added to `log`.

    Args:
        num_threads: None: as many as this program.
        low: give way to others.
    """
    program, *flags = command
    launched = [str(ROOT / program)] if program.endswith(".py") else ["-m", program]
    threads = {} if num_threads is None else {"OMP_NUM_THREADS": str(num_threads)}
    environment = {**os.environ, **threads, "PYTHONPATH": _python_path()}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, *launched, *flags],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which stops the others
            preexec_fn=partial(_prepare, low),
        )


def _prepare(low: bool) -> None:
    end_with_parent(signal.SIGTERM)
    if low:
        os.nice(_LOW_PRIORITY)


def _python_path() -> str:
    given = os.environ.get("PYTHONPATH")
    return f"{ROOT}{os.pathsep}{given}" if given else str(ROOT)


def warnings_in(log: Path) -> List[str]:
    """Lines of a program's output that warn, each once, with their line ends."""
    lines = log.read_text("utf-8", "replace").splitlines(keepends=True)
    return list(dict.fromkeys(line for line in lines if line.startswith(WARNING)))


def check_end(name: str, code: int, log: Path) -> None:
    """Raise InputError with the last line of a program that has failed, or the signal that ended it."""
    if code < 0:
        usual = ", usually for lack of memory" if -code == signal.SIGKILL else ""
        raise InputError(f"{name}: ended by signal {-code}{usual} (its output: {log})")
    if code:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        last = (lines[-1] if lines else f"it ended with code {code}").replace("error: ", "", 1)
        raise InputError(f"{name}: {last} (its output: {log})")
