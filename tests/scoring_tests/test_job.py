"""Candidates in other processes: spawned ones and Dask workers, those that die, and those with other files."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
from calls import die, die_once, fail, refuse, sleep, who
from conftest import ROOT, TINY, data_flags

from oneshot_nas_network import Supernet
from spos.core import executors
from spos.core.errors import InputError
from spos.core.executors import DaskExecutor, EmbeddedExecutor, ProcessesExecutor, open_executor
from spos.core.flags import OneLineParser, pick
from spos.data.flags import DataOptions
from spos.data.registry import open_data
from spos.engine.compat import threads_of_each
from spos.engine.gpu import AUTOTUNE
from spos.scoring import job as scoring
from spos.scoring.job import score
from spos.scoring.racing import Race
from spos.scoring.trained import TrainedSupernet
from spos.space.space import search_space

FOLDER = Path(__file__).parents[1]


@pytest.fixture
def processes(monkeypatch):
    for name in ("OMP_NUM_THREADS", "JOBLIB_MULTIPROCESSING"):  # puts them back
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    with open_executor(2, "1") as executor:
        yield executor


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
    assert_ended(pids)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_ended(pids):
    """All of them, within some seconds: a killed process takes a moment."""
    end = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))


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
    assert_ended(pids)


def test_threads_are_shared_out_unless_the_user_said(monkeypatch):
    from spos.engine import compat

    monkeypatch.setattr(compat, "physical_cores", lambda: 8)
    for of_user, expected in ((None, ["8", "4", "1"]), ("3", ["3", "3", "3"])):
        monkeypatch.setattr(compat, "THREADS_OF_USER", of_user)
        assert [threads_of_each(n) for n in (1, 2, 16)] == expected


# --- The evaluator of a process ---


@pytest.fixture(scope="module")
def job(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    return make_supernet(work, folder).job(folder)


def make_supernet(work, folder):
    """A tiny supernet with initial weights, and the digits of the other tests."""
    options = pick(DataOptions, OneLineParser("", (DataOptions,)).parse_args(tiny_flags(work)))
    space = replace(TINY, num_classes=10)
    net = Supernet(space)
    net.initialize()
    net.save_parameters(str(folder / "model.params"))
    return TrainedSupernet(str(folder / "model.params"), space, options, open_data(options), folder / "lists")


def tiny_flags(work):
    flags = data_flags(work, **{"input-size": 16})
    at = flags.index("--strides")
    return flags[:at] + flags[at + 2 :]


def test_processes_score_like_this_one(job, processes, rng):
    architectures = [job.space.sample(rng) for _ in range(4)]
    here = [score(job, architecture) for architecture in architectures]
    assert [processes.submit(score, job, architecture).result() for architecture in architectures] == here
    assert {accuracy.num_images for accuracy in here} == {32}


def test_a_race_that_cannot_be_won_ends_early(job, rng, monkeypatch):
    architecture = job.space.sample(rng)
    full = score(job, architecture)
    monkeypatch.setattr("spos.scoring.racing.FIRST_LOOK", 8)
    assert score(job, architecture, Race(0, 32, 0.01)) == full
    lost = score(job, architecture, Race(33, 32, 0.01))
    assert lost.num_images == 8 and lost.top1_hits <= full.top1_hits


def test_the_evaluator_is_built_once(job, rng, monkeypatch):
    built = []
    monkeypatch.setattr(scoring, "_evaluators", {})
    monkeypatch.setattr(scoring, "make_evaluator", lambda job: built.append(job) or (lambda *_: "accuracy"))
    other = replace(job, search_on="val")
    for asked in (job, job, other, other, job):
        assert score(asked, job.space.sample(rng)) == "accuracy"
    assert built == [job, other, job]


def test_a_worker_with_other_files_refuses(job, processes, tmp_path, rng):
    architecture = job.space.sample(rng)
    other = replace(job, supernet_params=str(tmp_path / "gone.params"))
    with pytest.raises(InputError, match="gone.params does not exist there"):
        processes.submit(score, other, architecture).result()
    shutil.copy(job.supernet_params, tmp_path / "other.params")
    with open(tmp_path / "other.params", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x07")
    other = replace(job, supernet_params=str(tmp_path / "other.params"))
    with pytest.raises(InputError, match="not the supernet that the search began with"):
        processes.submit(score, other, architecture).result()
    other = replace(job, images=(job.images[0], (job.images[1][0], (1, 2))))
    with pytest.raises(InputError, match="other images in its list 'search_val'"):
        processes.submit(score, other, architecture).result()


def test_scores_are_for_one_space_one_supernet_and_these_images(job):
    assert set(job.identity) == {"fingerprint", "supernet", "images"}
    changes = {
        "fingerprint": {"space": search_space()},
        "supernet": {"supernet_sha256": "f" * 64},
        "images": {"images": job.images[:1]},
    }
    for key, change in changes.items():
        other = replace(job, **change).identity
        assert [name for name in other if other[name] != job.identity[name]] == [key]
    elsewhere = replace(job, supernet_params="/b", lists="/c", data=replace(job.data, data_dir="/d", num_workers=9))
    assert elsewhere.identity == job.identity


@pytest.mark.parametrize("of_user, expected", ((None, "0"), ("2", "2")))
def test_on_gpus_kernels_are_chosen_by_rule_so_that_all_processes_choose_the_same(job, monkeypatch, of_user, expected):
    monkeypatch.setattr(scoring.mx, "gpu", scoring.mx.cpu)  # none is here
    monkeypatch.setenv(AUTOTUNE, of_user or "")  # puts back what there is
    if of_user is None:
        monkeypatch.delenv(AUTOTUNE)
    scoring.make_evaluator(job)
    assert os.environ.get(AUTOTUNE) == of_user  # a CPU has nothing to tune
    scoring.make_evaluator(replace(job, on_gpu=True))
    assert os.environ[AUTOTUNE] == expected


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


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and workers in processes of their own."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    from utils.search_cluster import LocalCluster

    with LocalCluster(0) as cluster:
        yield cluster


@pytest.fixture
def reach_calls(monkeypatch):
    """Let what is started find this folder's `calls`."""
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))


def test_a_scheduler_without_workers_is_one_clear_line(cluster, no_waiting):
    with pytest.raises(InputError, match="has no workers after 2 s.*dask_worker"):
        DaskExecutor(cluster.address)


def test_calls_of_a_dead_worker_are_made_elsewhere(reach_calls, cluster, job, rng):
    """Also what a worker raises arrives, and its scores are those of this process."""
    for _ in range(2):
        cluster.add_worker()
    with open_executor(1, "1", cluster.address) as executor:
        with pytest.raises(InputError, match="^bad input$"):
            executor.submit(refuse).result()
        architectures = [job.space.sample(rng) for _ in range(12)]
        futures = [executor.submit(score, job, architecture) for architecture in architectures]
        wait(futures[:1])
        cluster.kill_worker(0)
        assert [future.result() for future in futures] == [score(job, architecture) for architecture in architectures]


def test_workers_without_this_code_are_one_clear_line(cluster):
    cluster.add_worker()
    words = "cannot import this project .*calls"
    with open_executor(1, "1", cluster.address) as executor, pytest.raises(InputError, match=words):
        executor.submit(refuse).result()
