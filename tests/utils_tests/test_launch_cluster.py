"""What the launcher starts where, and what it refuses; without starting anything but a stand-in for ssh."""

import os
import stat
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from spos.core.errors import InputError
from spos.core.flags import run_program
from spos.core.processes import Host
from utils import launch_cluster
from utils.launch_cluster import LaunchOptions, find_hosts, plan, worker_command


def hosts_of(tmp_path, text):
    file = tmp_path / "hosts"
    file.write_text(text)
    return find_hosts(LaunchOptions(hosts=str(file)))


def test_host_file(tmp_path):
    text = "# two machines\nlocalhost 2\n\nuser@10.0.0.7   # one worker\ngpu-3 4\n"
    assert hosts_of(tmp_path, text) == [Host("localhost", 2), Host("user@10.0.0.7", 1), Host("gpu-3", 4)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "at least one worker"),
        ("a 0", "at least one worker"),
        ("a 1 2", "line 1"),
        ("a\nb many", "line 2"),
        ("-oProxyCommand=x", "line 1"),
        ("a 1\na 2", "twice"),
    ],
)
def test_bad_host_files_are_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        hosts_of(tmp_path, text)


def test_every_worker_has_its_number_and_scheduler_and_servers_come_first():
    tasks = plan([Host("localhost", 2), Host("b", 1)], LaunchOptions(servers=3, address="10.0.0.1"), ["run"], 9091, {})
    assert [task.name for task in tasks] == [
        "scheduler",
        *(f"server {i}" for i in range(3)),
        *map("worker {}".format, range(3)),
    ]
    assert [task.host.name for task in tasks] == [
        "localhost",
        "localhost",
        "b",
        "localhost",
        "localhost",
        "localhost",
        "b",
    ]
    assert [task.variables.get("SPOS_WORKER") for task in tasks[4:]] == ["0", "1", "2"]
    for task in tasks:
        assert task.variables["DMLC_PS_ROOT_URI"] == "10.0.0.1" and task.variables["DMLC_PS_ROOT_PORT"] == "9091"
        assert (task.variables["DMLC_NUM_WORKER"], task.variables["DMLC_NUM_SERVER"]) == ("3", "3")
        assert task.variables["DMLC_ROLE"] == task.name.split()[0]
        assert "DMLC_NODE_HOST" not in task.variables
    assert [task.variables.get("OMP_NUM_THREADS") for task in tasks[4:]] == ["1", "1", None]


def test_on_one_machine_all_talk_through_the_loopback():
    tasks = plan([Host("localhost", 1)], LaunchOptions(), ["run"], 9091, {"OMP_NUM_THREADS": "3"})
    assert [task.name for task in tasks] == ["scheduler", "server 0", "worker 0"]
    assert all(task.variables["DMLC_PS_ROOT_URI"] == task.variables["DMLC_NODE_HOST"] == "127.0.0.1" for task in tasks)
    assert "OMP_NUM_THREADS" not in tasks[2].variables  # alone on its machine: what the environment says


@pytest.mark.parametrize(
    "rest, start",
    [
        (["--lr", "1"], [sys.executable, str(ROOT / "train_imagenet.py"), "--lr", "1"]),
        (["scripts/train_supernet.sh", "--lr", "1"], ["sh", "scripts/train_supernet.sh", "--lr", "1"]),
        (["my.py"], [sys.executable, "my.py"]),
    ],
)
def test_worker_command(rest, start):
    assert list(worker_command(rest)) == [*start, "--kv-store", "dist_sync"]
    assert list(worker_command([*rest, "--kv-store=dist_async"])) == [*start, "--kv-store=dist_async"]
    assert list(worker_command([*rest, "--kv_store", "dist_async"])) == [*start, "--kv_store", "dist_async"]


@pytest.mark.parametrize(
    "argv, word",
    [
        (["--workers", "2"], "nothing to run"),
        (["--workers", "2", "--", "train"], "neither"),
        (["--", "--lr", "1"], "--hosts FILE or --workers"),
        (["--workers", "1", "--hosts", "x", "--", "--lr", "1"], "--hosts FILE or --workers"),
        (["--hosts", "gone", "--", "--lr", "1"], "gone"),
        (["--workers", "1", "--port", "1000000", "--", "--lr", "1"], "--port 1000000"),
    ],
)
def test_launcher_refuses(argv, word, capsys):
    assert run_program(launch_cluster.main, argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and word in lines[0]


FAKE_SSH = """#!/bin/sh
# Runs the command here: the options and the host come before it.
for last in "$@"; do :; done
exec sh -c "$last"
"""


def test_other_hosts_are_reached_by_ssh(tmp_path):
    """With a stand-in for ssh: the worker gets its variables and its folder, and its failure ends the job."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(FAKE_SSH)
    ssh.chmod(ssh.stat().st_mode | stat.S_IEXEC)
    (tmp_path / "hosts").write_text("there 2\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, time\n"
        "print(os.getcwd(), os.environ['SPOS_WORKER'], os.environ['DMLC_ROLE'], os.environ.get('PORT'), sys.argv[1:])\n"
        "if os.environ['SPOS_WORKER'] == '1':\n    time.sleep(1)\n    sys.exit('no disk')\n"
        "time.sleep(60)\n"
    )
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "utils.launch_cluster", "--hosts", str(tmp_path / "hosts"), "--address", "127.0.0.1"]
        + ["--", str(program), "a b", "--kv-store", "dist_sync"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{ssh.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PORT": "80"},
    )
    assert done.returncode == 1 and time.time() - started < 30
    for number in range(2):
        assert f"worker {number}: {tmp_path} {number} worker None ['a b', '--kv-store', 'dist_sync']" in done.stdout
    assert "worker 1: no disk" in done.stderr
    assert "warning: MXNet's scheduler, servers and workers listen on the network" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: worker 1 on there ended with exit code 1")


@pytest.mark.parametrize("content", (b"\xef\xbb\xbflocalhost 2\r\nother\r\n", b"localhost 2\nother 1\n"))
def test_a_file_of_hosts_may_begin_with_a_byte_order_mark(content, tmp_path):
    (tmp_path / "hosts").write_bytes(content)
    hosts = find_hosts(LaunchOptions(hosts=str(tmp_path / "hosts")))
    assert [(host.name, host.num_workers) for host in hosts] == [("localhost", 2), ("other", 1)]


@pytest.mark.parametrize(
    "content", (b"host\xff 1\n", b"h\xc3\xb6st 1\n", b"host 99999999999\n", b"host\x00name\n", b"a b c\n")
)
def test_a_file_that_is_no_list_of_hosts_is_refused(content, tmp_path):
    (tmp_path / "hosts").write_bytes(content)
    with pytest.raises(InputError, match="hosts"):
        find_hosts(LaunchOptions(hosts=str(tmp_path / "hosts")))
