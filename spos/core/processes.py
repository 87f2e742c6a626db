"""Processes started from this project: those of a cluster, on this machine or over ssh, that are ended together."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Dict, List, Mapping, Sequence, Tuple

from spos.core import agent as cluster_agent
from spos.core.errors import InputError
from spos.core.installation import ROOT

LOCAL_HOSTS = ("localhost", "127.0.0.1")
PASSED_ON = ("DMLC_", "SPOS_", "MXNET_", "PS_", "OMP_")  # variables that other hosts get too
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
POLL_SECONDS = 0.1
END_SECONDS = 30.0  # for servers and scheduler, after the last worker or before it
KILL_SECONDS = 10.0


@dataclass(frozen=True)
class Host:
    name: str
    num_workers: int

    @property
    def is_local(self) -> bool:
        return self.name in LOCAL_HOSTS


@dataclass(frozen=True)
class Task:
    """One process to start: what it is called, where it runs, its command and its variables."""

    name: str
    host: Host
    command: Tuple[str, ...]
    variables: Mapping[str, str]


@dataclass
class Member:
    """A started task."""

    task: Task
    process: subprocess.Popen
    threads: List[threading.Thread] = field(default_factory=list)

    @property
    def is_worker(self) -> bool:
        return self.task.name.startswith("worker")

    @property
    def orders(self) -> IO[str]:
        """What the agent reads."""
        if self.process.stdin is None:
            raise ValueError(f"{self.task.name} was started without a pipe to its agent")
        return self.process.stdin


def free_port(wanted: int = 0) -> int:
    """A port of this machine that nothing listens on. Raises InputError if the wanted one is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", wanted))
        except (OSError, OverflowError):
            raise InputError(f"--port {wanted} cannot be used on this machine: taken, or not allowed") from None
        return probe.getsockname()[1]


def own_address(hosts: Sequence[Host]) -> str:
    """The address of this machine on its route to the first other host. Nothing is sent."""
    other = next(host.name for host in hosts if not host.is_local)
    name = other.rpartition("@")[2]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((name, 9))
            return probe.getsockname()[0]
    except OSError as error:
        raise InputError(f"host {name} cannot be found ({error}); or give --address") from None


def start_command(task: Task, environ: Mapping[str, str]) -> Tuple[List[str], Dict[str, str]]:
    """Command and environment of the agent that runs a task, or of the ssh that starts it there.

    An environment variable PORT would be taken by ps-lite for the port of every process, so it is removed.
    """
    agent = [sys.executable, str(Path(cluster_agent.__file__).resolve()), *task.command]
    path = os.pathsep.join([str(ROOT), *filter(None, [environ.get("PYTHONPATH")])])
    if task.host.is_local:
        kept = {name: value for name, value in environ.items() if name != "PORT"}
        return agent, {**kept, **task.variables, "PYTHONPATH": path}
    passed = {name: value for name, value in environ.items() if name.startswith(PASSED_ON)}
    variables = [f"{name}={value}" for name, value in {**passed, **task.variables, "PYTHONPATH": path}.items()]
    words = ["exec", "env", "-u", "PORT", *variables, *agent]
    line = f"cd {shlex.quote(os.getcwd())} && " + " ".join(map(shlex.quote, words))
    return [*SSH, task.host.name, line], dict(environ)


def start_member(task: Task) -> Member:
    """Start a task; its output appears line by line behind its name."""
    command, variables = start_command(task, os.environ)
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, env=variables, start_new_session=True, text=True, errors="replace", **pipes)
    member = Member(task, process)
    for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        thread = threading.Thread(target=copy_lines, args=(source, target, task.name), daemon=True)
        thread.start()
        member.threads.append(thread)
    return member


def copy_lines(source: IO[str], target: IO[str], name: str) -> None:
    for line in source:
        target.write(f"{name}: {line.rstrip()}\n")
        target.flush()


def send_stop(member: Member) -> None:
    with contextlib.suppress(OSError):  # it has just ended
        member.orders.write(cluster_agent.STOP.decode())
        member.orders.flush()


def wait_for(members: Sequence[Member], seconds: float) -> None:
    """Wait until all have ended, but not longer."""
    deadline = time.monotonic() + seconds
    while any(member.process.poll() is None for member in members) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def kill(members: Sequence[Member]) -> None:
    """End what still runs: the end of its input makes an agent kill its command. Then show the last output."""
    for member in members:
        with contextlib.suppress(OSError):  # it has just ended
            member.orders.close()
    wait_for(members, KILL_SECONDS)
    for member in members:
        if member.process.poll() is None:
            member.process.kill()
            member.process.wait()
        for thread in member.threads:
            thread.join(KILL_SECONDS)
