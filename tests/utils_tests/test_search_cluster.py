"""utils.search_cluster: where what it starts listens."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT

from spos.runs.lock import locked
from utils import search_cluster
from utils.search_cluster import remove_folders_of_the_killed

psutil = pytest.importorskip("psutil")
LOOPBACK = ("127.0.0.1", "::1")
WAITING = "import time\ntime.sleep(60)\n"


def listening(process):
    """Addresses that a process and its descendants listen on."""
    found = []
    for member in [process, *process.children(recursive=True)]:
        try:
            found += [c.laddr for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return found


@pytest.fixture
def start():
    started = []

    def start(script, *arguments):
        command = ["sh", str(ROOT / "scripts" / script), *map(str, arguments)]
        environ = {**os.environ, "SPOS_PYTHON": sys.executable}
        started.append(subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL))
        return psutil.Process(started[-1].pid)

    yield start
    for process in started:
        members = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(members, timeout=3)
        for member in alive:  # how they end by themselves is tested elsewhere
            member.kill()
        process.wait(30)


def wait_for_listeners(process, number):
    """All addresses, when so many ports are open and no more have come for a while."""
    deadline, seen = time.monotonic() + 60, []
    while time.monotonic() < deadline:
        now = listening(process)
        if len(now) >= number and now == seen:
            return now
        seen = now
        time.sleep(2)
    pytest.fail(f"only {seen} listen")


def test_a_local_search_cluster_listens_on_loopback_alone(start, tmp_path):
    """Scheduler, two workers, and the HTTP server that each of them has."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    script = tmp_path / "wait.py"
    script.write_text(WAITING)
    addresses = wait_for_listeners(start("search_cluster.sh", "--workers", 2, "--", script), 6)
    assert {address.ip for address in addresses} <= set(LOOPBACK), addresses


def test_a_local_training_cluster_listens_on_loopback_alone(start, tmp_path):
    """Scheduler, server and two workers of MXNet's KVStore, which have met when both say so."""
    script = tmp_path / "wait.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from spos.engine.cluster import open_cluster\nopen_cluster('dist_sync')\n{WAITING}"
    )
    addresses = wait_for_listeners(start("train_cluster.sh", "--workers", 2, "--servers", 1, "--", script), 4)
    assert {address.ip for address in addresses} <= set(LOOPBACK), addresses


def test_folders_of_clusters_that_were_killed_are_removed(tmp_path, monkeypatch):
    """And those of clusters that run are not."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for name in ("spos-dask-dead", "spos-dask-alive", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text("")
    with locked(tmp_path / "spos-dask-alive"):
        remove_folders_of_the_killed()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "spos-dask-alive"]


class Ended:
    """A process that has ended with a code, or goes on with None."""

    def __init__(self, code=None):
        self.code = code

    def poll(self):
        return self.code


def test_a_search_that_goes_on_without_its_scheduler_is_ended_and_said(monkeypatch, capsys):
    monkeypatch.setattr(search_cluster, "END_SECONDS", 0.05)
    going = SimpleNamespace(process=Ended())
    cluster = SimpleNamespace(workers=[going], scheduler=SimpleNamespace(process=Ended(1)))
    assert search_cluster.watch(going, cluster, []) == 1
    assert capsys.readouterr().err == "error: the scheduler has ended; the same command goes on\n"
