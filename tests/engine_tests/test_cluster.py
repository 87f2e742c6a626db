"""Several processes that train one network: the same result as one process, and an end to every way of failing.

Processes are real ones, started by scripts/train_cluster.sh; what they run stands in cluster_worker.py.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cluster_worker import PATHS, make_trainer, snapshot
from conftest import ROOT, data_flags, make_work
from program_tests.test_programs import same_parameters, without_speed
from training_tests.test_path_trainer import assert_only_path_moved

from spos.core.errors import InputError
from spos.data.recordio import RecordFile
from spos.data.registry import check_same_lists
from spos.engine.cluster import LOCAL, STEPS_BETWEEN_AGREEMENTS, Cluster, open_cluster
from spos.engine.compat import mx
from spos.engine.devices import join_cluster
from spos.engine.flags import TrainDeviceOptions
from spos.training.checkpoint import newest_checkpoint

PROGRAM = "tests/cluster_worker.py"
SECONDS = 100
TRAIN_FLAGS = "--num-epochs 2 --val-architectures 1 --seed 5 --batch-size 16"


class Launch:
    """scripts/train_cluster.sh on this machine, and the processes it started."""

    def __init__(self, *arguments, flags=("--workers", "2", "--servers", "1"), **variables):
        self.mark = f"SPOS_MARK={uuid.uuid4().hex}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DMLC_")}
        environ.update(SPOS_PYTHON=sys.executable, OMP_NUM_THREADS="1", **variables)
        environ.update([self.mark.split("=")])
        command = ["sh", str(ROOT / "scripts" / "train_cluster.sh"), *flags, "--", *map(str, arguments)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environ, cwd=ROOT)

    def end(self, seconds=SECONDS):
        """Returns exit code, standard output, and standard error; nothing of it may be left running."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        finally:
            self.process.kill()
        assert self.processes() == {}
        return self.process.returncode, out, err

    def processes(self):
        """What runs of it, by name: pid of the command itself, not of the agent that holds it."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has ended
                continue
            if self.mark in variables and "agent.py" not in command and "launch_cluster" not in command:
                known = dict(item.partition("=")[::2] for item in variables)
                found[known.get("DMLC_ROLE", "launcher") + known.get("SPOS_WORKER", "")] = int(folder.name)
        found.pop("launcher", None)
        return found


def wait_until(condition, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, "it did not happen"
        time.sleep(0.05)


def load(folder, name, rank):
    with np.load(folder / f"{name}-{rank}.npz") as file:
        return dict(file)


def one_process(folder, num_devices):
    """What the steps give without a cluster: the snapshot after the last, with as many threads as workers have."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, PROGRAM, "alone", str(folder), str(num_devices)]
    subprocess.run(command, check=True, env=environ, cwd=ROOT, timeout=SECONDS)
    return load(folder, "after", "alone")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return make_work(tmp_path_factory.mktemp("programs"))


def differing(got, expected):
    """Names of arrays that are not the same bits."""
    return [name for name, value in got.items() if not np.array_equal(value, expected[name])]


def launch_steps(folder, *flags, **variables):
    launch = Launch(PROGRAM, "steps", folder, *flags, **variables)
    code, out, err = launch.end()
    assert code == 0, out + err


# Two workers and a server on this machine


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Results of the scenario `both`; an environment variable PORT of web servers is set, which ps-lite would take."""
    folder = tmp_path_factory.mktemp("together")
    code, out, err = Launch(PROGRAM, "both", folder, PORT="9000").end()
    assert code == 0, out + err
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return one_process(tmp_path_factory.mktemp("alone"), 2)


def test_two_workers_train_like_two_devices_of_one_process(together, alone):
    """Parameters and momentum, bit for bit, though worker 1 began with other values and another momentum."""
    for rank in range(2):
        got = load(together, "after", rank)
        statistics = [name for name in got if "running" in name]
        own = {name: value for name, value in got.items() if name not in statistics}
        here = {name: alone[name.replace("cpu(0)", f"cpu({rank})")] for name in got}
        assert differing(own, here) == []
        assert differing({name: got[name] for name in statistics}, here) == []  # each its own device's


def test_only_the_sampled_path_moves_on_workers(together):
    net = make_trainer([mx.cpu()], seed=0, filled=False).net
    for rank in range(2):
        assert_only_path_moved(net, PATHS[-1], load(together, "before", rank), load(together, "after", rank))


def test_running_statistics_are_averaged_over_workers(together):
    first, second = (load(together, "after", rank) for rank in range(2))
    settled = [load(together, "settled", rank) for rank in range(2)]
    assert differing(*settled) == []
    for name, value in settled[0].items():
        if "running" in name:
            assert np.allclose(value, (first[name] + second[name]) / 2, rtol=1e-6), name
        else:
            assert np.array_equal(value, first[name]), name


@pytest.mark.parametrize("rank", [0, 1])
def test_calls_among_workers(together, rank):
    answers = json.loads((together / f"calls-{rank}.json").read_text())
    assert (answers["rank"], answers["num_workers"], answers["is_chief"]) == (rank, 2, rank == 0)
    assert answers["agreed"] == [25]
    assert answers["totals"] == [[[3, 3, 3], [3, 3, 3]], [3, 3 * 699_999], 1]
    assert answers["shared"] == np.float32([0.1, 1e30, 3]).tolist()
    assert answers["told"] == {"epoch": 3, "text": "é" * 5000}
    assert answers["PORT"] is None and answers["threads"] == "1"
    assert answers["seconds_to_agree"] < 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_start_is_right(tmp_path, alone):
    """Without the barrier after the first exchange of parameters about half of the runs went wrong."""
    for run in range(8):
        folder = tmp_path / str(run)
        folder.mkdir()
        launch_steps(folder)
        for rank in range(2):
            got = {name: v for name, v in load(folder, "after", rank).items() if "running" not in name}
            here = {name: alone[name.replace("cpu(0)", f"cpu({rank})")] for name in got}
            assert differing(got, here) == [], f"run {run}, worker {rank}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dist_sync", "dist_sync_device"])
def test_workers_with_two_devices_and_two_servers(tmp_path, kind):
    """Two workers of two devices: the sum is taken in another order than over four devices of one process."""
    launch = Launch(PROGRAM, "steps", tmp_path, "2", "--kv-store", kind, flags=("--workers", "2", "--servers", "2"))
    code, out, err = launch.end()
    assert code == 0, out + err
    expected = one_process(tmp_path, 4)
    for rank in range(2):
        for name, value in load(tmp_path, "after", rank).items():
            if "running" not in name:
                there = expected[name]
                assert np.abs(value - there).max() < 1e-4 * np.abs(there).max() + 1e-7, name


# dist_async


@pytest.mark.slow
def test_one_asynchronous_worker_trains_like_one_process(tmp_path):
    launch = Launch(PROGRAM, "steps", tmp_path, "--kv-store", "dist_async", flags=("--workers", "1"))
    code, out, err = launch.end()
    assert code == 0, out + err
    expected = one_process(tmp_path, 1)
    for name, value in load(tmp_path, "settled", 0).items():
        assert np.abs(value - expected[name]).max() < 1e-4 * np.abs(expected[name]).max() + 1e-7, name


@pytest.mark.slow
def test_asynchronous_workers_move_only_what_was_sampled(tmp_path):
    """Servers add changes, which are zero outside the path: no momentum or decay moves anything there."""
    launch = Launch(PROGRAM, "both", tmp_path, "--kv-store", "dist_async")
    code, out, err = launch.end()
    assert code == 0, out + err
    settled = [load(tmp_path, "settled", rank) for rank in range(2)]
    parameters = [name for name in settled[0] if not name.startswith("momentum/")]
    assert [name for name in parameters if not np.array_equal(settled[0][name], settled[1][name])] == []
    trainer = make_trainer([mx.cpu()], seed=0, filled=True)
    initial = snapshot(trainer)
    used = [trainer.net.selected_parameters(path) for path in PATHS]
    names = {id(p): f"cpu(0)/{n}" for n, p in trainer.net._collect_params_with_prefix().items()}
    sampled = {name: np.zeros(initial[name].shape, bool) for name in parameters if "running" not in name}
    for selected in used:
        for parameter, shape in selected:
            sampled[names[id(parameter)]][tuple(slice(0, n) for n in shape)] = True
    for name, mask in sampled.items():
        assert np.array_equal(settled[0][name][~mask], initial[name][~mask]), name
    assert sum((settled[0][name] != initial[name])[mask].any() for name, mask in sampled.items()) > 100
    for rank in range(2):
        answers = json.loads((tmp_path / f"calls-{rank}.json").read_text())
        at = 25 // STEPS_BETWEEN_AGREEMENTS * STEPS_BETWEEN_AGREEMENTS + STEPS_BETWEEN_AGREEMENTS - 1
        assert answers["agreed"] == [at]
        assert answers["totals"] == [[[3, 3, 3], [3, 3, 3]], [3, 3 * 699_999], 1]
        assert answers["shared"] == np.float32([0.1, 1e30, 3]).tolist()


# Ends


def test_workers_told_to_stop_end_after_the_same_step(tmp_path):
    launch = Launch(PROGRAM, "loop", tmp_path)
    wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    time.sleep(0.5)
    launch.process.send_signal(signal.SIGTERM)
    code, out, err = launch.end(30)
    assert code == 128 + signal.SIGTERM, out + err
    assert "stopped; the same command goes on" in err.splitlines()[-1]
    steps = [int((tmp_path / f"steps-{rank}").read_text()) for rank in range(2)]
    assert steps[0] == steps[1] > 0


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all(tmp_path):
    launch = Launch(PROGRAM, "loop", tmp_path)
    wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    os.kill(int((tmp_path / "pid-1").read_text()), signal.SIGTERM)
    code, out, err = launch.end(30)
    assert code == 128 + signal.SIGTERM, out + err
    assert (tmp_path / "steps-0").read_text() == (tmp_path / "steps-1").read_text()


@pytest.mark.parametrize(
    "who",
    [
        "worker1",
        pytest.param("worker0", marks=pytest.mark.slow),
        pytest.param("server", marks=pytest.mark.slow),
        pytest.param("scheduler", marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_ends_all_with_a_message(tmp_path, who):
    launch = Launch(PROGRAM, "loop", tmp_path)
    wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    started = time.time()
    os.kill(launch.processes()[who], signal.SIGKILL)
    code, out, err = launch.end(30)
    assert code == 1 and time.time() - started < 10
    name = {"worker0": "worker 0", "worker1": "worker 1", "server": "server 0"}.get(who, who)
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"error: {name} on localhost was killed by signal 9") and "same command" in last


@pytest.mark.slow
def test_a_worker_that_fails_ends_all(tmp_path):
    """MXNet would let it wait for the others at its exit."""
    code, out, err = Launch(PROGRAM, "fail", tmp_path).end(60)
    assert code == 2
    assert "worker 1: OSError: the disk of worker 1 is full" in err
    assert err.strip().splitlines()[-1].startswith("error: worker 1 on localhost ended with exit code 2")


@pytest.mark.slow
def test_a_killed_launcher_leaves_nothing_behind(tmp_path):
    launch = Launch(PROGRAM, "loop", tmp_path)
    wait_until(lambda: len(list(tmp_path.glob("pid-*"))) == 2)
    assert set(launch.processes()) == {"scheduler", "server", "worker0", "worker1"}
    launch.process.kill()
    wait_until(lambda: launch.processes() == {}, 15)


@pytest.mark.slow
def test_workers_that_never_meet_give_up(tmp_path):
    """One worker too few: the number of workers is what the launcher says, so only a wrong variable can do it."""
    environ = {**os.environ, "DMLC_ROLE": "worker", "DMLC_NUM_WORKER": "2", "DMLC_NUM_SERVER": "1"}
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        environ.update(DMLC_PS_ROOT_URI="127.0.0.1", DMLC_PS_ROOT_PORT=str(silent.getsockname()[1]))
        environ.update(SPOS_CLUSTER_START_SECONDS="3", DMLC_NODE_HOST="127.0.0.1", PYTHONPATH=str(ROOT))
        command = [sys.executable, PROGRAM, "calls", str(tmp_path), "--kv-store", "dist_sync"]
        done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=ROOT, timeout=60)
    assert done.returncode == 2
    assert "error: not all workers and servers came together within 3 s" in done.stderr


# The program


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_program_in_two_workers_is_the_program_on_two_devices(work, tmp_path):
    """Lists, data order, augmentation, parameters, momentum, log. Killed, it goes on and ends the same."""
    flags = [*map(str, data_flags(work)), *TRAIN_FLAGS.split()]
    whole, killed, single = (tmp_path / name for name in ("whole", "killed", "single"))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, PROGRAM, "train", *flags, "--num-cpus-ctx", "2", "--save-dir", str(single)]
    subprocess.run(command, check=True, env=environ, cwd=ROOT, timeout=SECONDS)
    code, out, err = Launch(PROGRAM, "train", *flags, "--save-dir", whole).end()
    assert code == 0, out + err
    assert out.count("finished") == 1 and out.splitlines()[-1].startswith("worker 0: finished")

    launch = Launch(PROGRAM, "train", *flags, "--save-dir", killed)
    wait_until((killed / "checkpoints" / "epoch-0001").is_dir)
    os.kill(launch.processes()["worker1"], signal.SIGKILL)
    code, out, err = launch.end(20)
    assert code == 1 and "worker 1 on localhost was killed by signal 9" in err
    code, out, err = Launch(PROGRAM, "train", *flags, "--save-dir", killed).end()
    assert code == 0, out + err
    assert "worker 0: continuing" in out

    for folder in (whole, killed):
        assert same_parameters(folder / "model.params", single / "model.params")
        states = Path("checkpoints") / "epoch-0002" / "optimizer.states"
        assert same_parameters(folder / states, single / states)
        for row, expected in zip(without_speed(folder / "log.jsonl"), without_speed(single / "log.jsonl")):
            assert row.pop("val_top1_each", 0) == expected.pop("val_top1_each", 0)
            assert row == pytest.approx(expected, rel=1e-5)  # sums over workers are float32
        for name in ("train", "bn", "search_val", "test"):
            lists = [path / "lists" / f"{name}.idx" for path in (single, folder, folder / "worker-1")]
            assert len({path.read_bytes() for path in lists}) == 1

    code, out, err = Launch(PROGRAM, "train", *flags, "--save-dir", whole, flags=("--workers", "1")).end()
    assert code == 2 and "the number of workers has changed" in err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_program_told_to_stop_writes_a_checkpoint_inside_the_epoch_and_goes_on(work, tmp_path):
    flags = [*map(str, data_flags(work, **{"batch-size": 4})), *TRAIN_FLAGS.split(), "--save-steps", "1"]
    folder = tmp_path / "run"
    launch = Launch(*flags, "--save-dir", folder)
    wait_until(lambda: list(folder.glob("checkpoints/epoch-0000-step-*")))
    launch.process.send_signal(signal.SIGTERM)
    code, out, err = launch.end()
    assert code == 143 and "stopped; the same command goes on" in err, out + err
    reached = newest_checkpoint(folder)
    assert (0, 0) < (reached.epoch, reached.step) < (2, 0) and not (folder / "model.params").exists()
    code, out, err = Launch(*flags, "--save-dir", folder).end()
    assert code == 0, out + err
    assert "worker 0: continuing" in out and (folder / "model.params").is_file()
    assert [row["epoch"] for row in without_speed(folder / "log.jsonl")] == [0, 1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_program_runs_asynchronously(work, tmp_path):
    flags = [*map(str, data_flags(work)), *TRAIN_FLAGS.split(), "--kv-store", "dist_async"]
    code, out, err = Launch(*flags, "--save-dir", tmp_path / "run").end()
    assert code == 0, out + err
    assert (tmp_path / "run" / "model.params").is_file()


# Without processes


@pytest.mark.parametrize("kind", ["dist_sync", "dist_sync_device", "dist_async"])
def test_a_worker_on_its_own_is_told_how_to_start(kind, monkeypatch):
    monkeypatch.delenv("DMLC_ROLE", raising=False)
    with pytest.raises(InputError, match=r"--kv-store dist_.* DMLC_ROLE is not set.*train_cluster\.sh"):
        open_cluster(kind)


def test_one_process_is_a_cluster_of_one():
    cluster = open_cluster("device")
    assert cluster is LOCAL and cluster.is_chief and not cluster.is_distributed and not cluster.is_async
    assert cluster.agree(True) is True and cluster.agree(False) is False
    array = np.float32([0.1, 2])
    assert cluster.total([array])[0].tolist() == cluster.share([array])[0].tolist() == array.tolist()
    assert cluster.share_json({"a": 1}) == {"a": 1}
    cluster.barrier()
    assert Cluster() == cluster


def test_one_device_keeps_its_running_statistics():
    trainer = make_trainer([mx.cpu()], seed=1, filled=True)
    before = snapshot(trainer)
    LOCAL.average_statistics(trainer.net)
    assert differing(snapshot(trainer), before) == []


def test_asynchronous_training_in_half_precision_is_refused():
    with pytest.raises(InputError, match="dist_async .* float16 .* use --dtype float32"):
        join_cluster(TrainDeviceOptions(kv_store="dist_async", dtype="float16"))


class WithChief(Cluster):
    """Worker 1, with what the chief says written down."""

    def share_json(self, value):
        return json.loads(self.kvstore)


@pytest.mark.parametrize("name, other", (("train", [1, 2]), ("train (its content)", "2f")))
def test_workers_with_other_images_than_the_chief_are_refused(tmp_path, name, other):
    for file, content in (("train.idx", "0\t0\n"), ("train.rec", "records")):
        (tmp_path / file).write_text(content)
    images = RecordFile(str(tmp_path / "train.rec"), str(tmp_path / "train.idx"))
    data = SimpleNamespace(name="pictures", splits={"train": images}, contents=lambda: {"train": "1f"})
    same = {"train": [zlib.crc32(b"0\t0\n"), len("records")], "train (its content)": "1f"}
    check_same_lists(data, WithChief(1, 2, json.dumps(same)))
    with pytest.raises(InputError, match=re.escape(f"worker 1 has other images in its list '{name}' of pictures than")):
        check_same_lists(data, WithChief(1, 2, json.dumps({**same, name: other})))
