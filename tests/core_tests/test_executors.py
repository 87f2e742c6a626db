"""Executors: this process, spawned ones and Dask workers, and those that die."""

import os
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor

import pytest
from calls import die, die_once, fail, refuse, sleep, who
from conftest import ROOT
from running import assert_ended, is_alive

from spos.core import executors
from spos.core.errors import InputError
from spos.core.executors import DaskExecutor, EmbeddedExecutor, ProcessesExecutor, open_executor

FOLDER = ROOT / "tests"


def test_one_device_needs_no_process():
    with open_executor(1, "1") as executor:
        assert isinstance(executor, EmbeddedExecutor)
        assert executor.submit(os.getpid).result() == os.getpid()
        with pytest.raises(InputError, match="bad input"):
            executor.submit(fail, InputError).result()


def test_every_process_has_its_own_device(processes):
    found = {future.result() for future in [processes.submit(who) for _ in range(8)]}
    assert {(device, threads) for device, _, threads in found} == {(0, "1"), (1, "1")}
    assert len({pid for _, pid, _ in found} - {os.getpid()}) == 2


def test_errors_arrive_as_they_were_raised(processes):
    with pytest.raises(InputError, match="^bad input$"):
        processes.submit(fail, InputError).result()
    with pytest.raises(KeyError):
        processes.submit(fail, KeyError).result()


def test_a_call_is_made_again_when_its_process_dies(processes, tmp_path):
    futures = [processes.submit(die_once, str(tmp_path / str(i))) for i in range(4)]
    assert [future.result() for future in futures] == ["done"] * 4


def test_a_call_that_always_ends_its_process_is_given_up_and_others_go_on(processes):
    futures = [processes.submit(call) for call in (who, die, who, who)]
    with pytest.raises(BrokenExecutor, match="3 processes died"):
        futures[1].result()
    assert all(futures[i].result() for i in (0, 2, 3))


def test_shutting_down_does_not_wait_for_what_is_running(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JOBLIB_MULTIPROCESSING", "1")
    executor = ProcessesExecutor(2, "1")
    pids = [executor.submit(who).result()[1] for _ in range(2)]
    for _ in range(4):
        executor.submit(sleep)
    time.sleep(0.2)
    start = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - start < 5
    assert_ended(*pids)


PARENT = """
import sys, time
sys.path[:0] = [{root!r}, {folder!r}]
from spos.core.executors import ProcessesExecutor
from calls import sleep, who
if __name__ == "__main__":
    executor = ProcessesExecutor(2, "1")
    print(*{{future.result()[1] for future in [executor.submit(who) for _ in range(6)]}}, flush=True)
    executor.submit(sleep)
    time.sleep(60)
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(root=str(ROOT), folder=str(FOLDER)))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    pids = list(map(int, parent.stdout.readline().split()))
    assert len(pids) == 2 and all(map(is_alive, pids))
    parent.kill()
    parent.wait()
    assert_ended(*pids)


# --- Dask ---


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(executors, "FIRST_WORKER_SECONDS", 2)


def test_a_scheduler_without_dask_names_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="sh scripts/setup.sh --cluster"):
        DaskExecutor("tcp://127.0.0.1:1")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://here", "127.0.0.1"])
def test_a_scheduler_that_does_not_answer_is_one_clear_line(no_waiting, address):
    pytest.importorskip("distributed", reason="Dask is not installed")
    with pytest.raises(InputError, match=f"--scheduler {address} cannot be reached"):
        DaskExecutor(address)


def test_a_scheduler_without_workers_is_one_clear_line(cluster, no_waiting):
    with pytest.raises(InputError, match="has no workers after 2 s.*dask_worker"):
        DaskExecutor(cluster.address)


def test_workers_without_this_code_are_one_clear_line(cluster):
    cluster.add_worker()
    words = "cannot import this project .*calls"
    with open_executor(1, "1", cluster.address) as executor, pytest.raises(InputError, match=words):
        executor.submit(refuse).result()
