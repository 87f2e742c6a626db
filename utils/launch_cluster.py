"""Start train_imagenet.py on several machines: a scheduler, servers and workers of MXNet's KVStore.

    python -m utils.launch_cluster --hosts FILE [--servers N] -- arguments of train_imagenet.py
    python -m utils.launch_cluster --workers 2 -- scripts/train_supernet.sh --dataset digits

What follows `--` is arguments of train_imagenet.py, or a script or program with its arguments; `--kv-store dist_sync`
is added if it names none. FILE has a host a line, with the number of workers there if it is not 1. Workers on other
hosts are started by ssh, which must not ask for a password, in the same folder. Worker 0 writes the run directory.
On this machine alone everything listens on its loopback; on several, whoever reaches a server can run code there.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple

from spos.core.errors import InputError, warn
from spos.core.flags import (
    OneLineParser,
    flag,
    not_negative,
    pick,
    positive,
    run_program,
    split_arguments,
    with_hyphens,
)
from spos.core.processes import (
    END_SECONDS,
    POLL_SECONDS,
    ROOT,
    Host,
    Member,
    Task,
    free_port,
    kill,
    own_address,
    send_stop,
    start_member,
    wait_for,
)
from spos.core.stopping import note_signals
from spos.runs.files import read_text

_HOST_LINE = re.compile(r"^(?!-)([!-~]{1,255})(?:\s+([0-9]{1,4}))?$")
DOOR = (
    "MXNet's scheduler, servers and workers listen on the network, and whoever reaches a server's port can run code "
    "there: trusted networks only (docs/clusters.md)"
)
STOPPED = tuple(128 + number for number in (signal.SIGTERM, signal.SIGINT))  # exit codes of a worker told to stop


@dataclass(frozen=True)
class LaunchOptions:
    """Which processes run where."""

    hosts: str = flag("", "file with a host a line, and the number of workers there if it is not 1")
    workers: int = flag(0, "workers on this machine, without --hosts", type=not_negative)
    servers: int = flag(0, "servers, dealt out to the hosts in turn (0: one for each host)", type=not_negative)
    port: int = flag(0, "port of the scheduler on this machine (0: a free one)", type=not_negative)
    address: str = flag("", "address of this machine for the other hosts (default: of its route to them)")
    stop_seconds: int = flag(600, "seconds that workers get to finish a step when told to stop", type=positive)


def main(argv: Optional[List[str]] = None) -> int:
    own, rest = split_arguments(sys.argv[1:] if argv is None else argv)
    options = pick(LaunchOptions, OneLineParser(__doc__, (LaunchOptions,)).parse_args(own))
    if not rest:
        raise InputError("nothing to run: give the arguments of train_imagenet.py after --")
    hosts = find_hosts(options)
    tasks = plan(hosts, options, worker_command(rest), free_port(options.port), os.environ)
    if not all(host.is_local for host in hosts):
        warn(DOOR)
    return run(tasks, options.stop_seconds)


def find_hosts(options: LaunchOptions) -> List[Host]:
    """The hosts of the flags. Raises InputError if there are none, or the file is not a list of hosts."""
    if bool(options.hosts) == bool(options.workers):
        raise InputError("give either --hosts FILE or --workers N, for N workers on this machine")
    if not options.hosts:
        return [Host("localhost", options.workers)]
    hosts = []
    for number, line in enumerate(read_text(options.hosts).splitlines(), 1):
        text = line.partition("#")[0].strip()
        match = _HOST_LINE.match(text)
        if text and not match:
            raise InputError(
                f"{options.hosts} line {number}: expected a host and a number of workers, not '{text[:80]}'"
            )
        if match:
            hosts.append(Host(match[1], int(match[2] or 1)))
    if not hosts or not all(host.num_workers for host in hosts):
        raise InputError(f"{options.hosts}: every host needs at least one worker, and there must be one host")
    if len({host.name for host in hosts}) < len(hosts):
        raise InputError(f"{options.hosts} names a host twice; write its number of workers behind its name")
    return hosts


def worker_command(rest: Sequence[str]) -> Tuple[str, ...]:
    """The command of a worker from what follows `--`."""
    if rest[0].endswith(".sh"):
        command = ["sh", *rest]
    elif rest[0].endswith(".py"):
        command = [sys.executable, *rest]
    elif rest[0].startswith("-"):
        command = [sys.executable, str(ROOT / "train_imagenet.py"), *rest]
    else:
        raise InputError(f"{rest[0]} after -- is neither a flag of train_imagenet.py nor a script (.sh, .py)")
    if not any(word.split("=")[0] == "--kv-store" for word in with_hyphens(rest)):
        command += ["--kv-store", "dist_sync"]
    return tuple(command)


def plan(
    hosts: Sequence[Host], options: LaunchOptions, command: Sequence[str], port: int, environ: Mapping[str, str]
) -> List[Task]:
    """Everything to start, in this order: scheduler, servers, workers. Workers are numbered as the hosts stand."""
    here, alone = Host("localhost", 0), all(host.is_local for host in hosts)
    num_servers = options.servers or len(hosts)
    common = {
        "DMLC_PS_ROOT_URI": "127.0.0.1" if alone else options.address or own_address(hosts),
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(sum(host.num_workers for host in hosts)),
        "DMLC_NUM_SERVER": str(num_servers),
        "PYTHONUNBUFFERED": "1",
        "SPOS_PYTHON": sys.executable,
    }
    if alone:
        common["DMLC_NODE_HOST"] = "127.0.0.1"
    # Importing MXNet in these roles is what runs them, until the last worker is done.
    serve = (sys.executable, "-c", "from spos.engine.compat import mx")
    single = {"OMP_NUM_THREADS": environ.get("OMP_NUM_THREADS") or "1"}
    tasks = [Task("scheduler", here, serve, {**common, **single, "DMLC_ROLE": "scheduler"})]
    for i in range(num_servers):
        tasks.append(Task(f"server {i}", hosts[i % len(hosts)], serve, {**common, **single, "DMLC_ROLE": "server"}))
    number = 0
    for host in hosts:
        for _ in range(host.num_workers):
            variables = {**common, "DMLC_ROLE": "worker", "SPOS_WORKER": str(number)}
            if host.num_workers > 1:
                variables.update(single)
            tasks.append(Task(f"worker {number}", host, tuple(command), variables))
            number += 1
    return tasks


def run(tasks: Sequence[Task], stop_seconds: float) -> int:
    """Start all tasks and watch them to their end. Returns the exit code of the whole."""
    signals = note_signals()
    members: List[Member] = []
    try:
        for task in tasks:
            members.append(start_member(task))
        code, message = watch(members, signals, stop_seconds)
    finally:
        kill(members)
    if message:
        print(f"{'error: ' if code else ''}{message}", file=sys.stderr, flush=True)
    return code


def watch(members: Sequence[Member], signals: Sequence[int], stop_seconds: float) -> Tuple[int, str]:
    """Wait until the workers are done, or one process failed, or the time is over. Returns exit code and message.

    The first signal is passed on to the workers, which finish their step; at the second everything is ended.
    """
    workers = [member for member in members if member.is_worker]
    others = [member for member in members if not member.is_worker]
    told, deadline, early_end = False, float("inf"), float("inf")
    while True:
        time.sleep(POLL_SECONDS)
        now = time.monotonic()
        stopping = told or any(worker.process.poll() in STOPPED for worker in workers)
        for member in members:
            code = member.process.poll()
            if code and not (stopping and member.is_worker and (code < 128 or code in STOPPED)):
                return code if 0 < code < 128 else 1, describe_failure(member, code)
        if all(worker.process.poll() is not None for worker in workers):
            wait_for(others, END_SECONDS)
            return summary(workers)
        if any(other.process.poll() == 0 for other in others):
            early_end = min(early_end, now + END_SECONDS)
        if now > early_end:
            return 1, "servers or scheduler ended before the workers; everything was ended. The same command goes on"
        if signals and not told:
            told, deadline = True, now + stop_seconds
            print("stopping: the workers finish their step", file=sys.stderr, flush=True)
            for worker in workers:
                send_stop(worker)
        if stopping and any(worker.process.poll() is not None for worker in workers):
            deadline = min(deadline, now + END_SECONDS)  # they end together
        if now > deadline or len(signals) > 1:
            for worker in workers:
                if worker.process.poll() not in (None, 0, *STOPPED):
                    return worker.process.returncode, describe_failure(worker, worker.process.returncode)
            code = 128 + (signals or [signal.SIGTERM])[0]
            return code, "workers were ended in the middle of a step; the same command goes on"


def describe_failure(member: Member, code: int) -> str:
    who = f"{member.task.name} on {member.task.host.name}"
    if 0 < code < 128:
        return f"{who} ended with exit code {code}, see its last lines; all others were ended"
    return (
        f"{who} was killed by signal {code - 128 if code > 128 else -code}; all others were ended. "
        "The same command goes on from the last checkpoint"
    )


def summary(workers: Sequence[Member]) -> Tuple[int, str]:
    """Exit code and message when all workers have ended, as they should or because they were told to stop."""
    codes = [worker.process.returncode for worker in workers if worker.process.returncode]
    return (codes[0], "stopped; the same command goes on") if codes else (0, "")


if __name__ == "__main__":
    sys.exit(run_program(main))
