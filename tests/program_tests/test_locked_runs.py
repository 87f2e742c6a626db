"""Two programs in one run directory: the second is refused before it writes anything, the first goes on as if alone."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, data_flags, fails, make_work
from study_tests.test_alone import trainer  # noqa: F401  a fixture
from study_tests.test_matched import make_searched

import search_supernet
import train_imagenet
from spos.core.flags import run_program
from spos.runs.files import write_json
from utils import bn_update_effect, build_latency_table, compare_search, rank_correlation, searched_against_random

HOLD = (
    "import sys, time\nfrom spos.runs.lock import locked\n"
    "with locked(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(300)\n"
)
TINY_TRAINING = ("--channels-layout", "Small", "--val-architectures", 1, "--lr", 0.1, "--batch-size", 32)


@dataclass(frozen=True)
class Pipeline:
    """A supernet that is hardly trained, a search in it, and the flags of their images."""

    folder: Path
    data: list

    def training(self, save_dir, *more):
        return [*self.data, *TINY_TRAINING, "--num-epochs", 1, "--save-dir", save_dir, *more]

    def search(self, save_dir):
        sizes = ("--search-iters", 1, "--population-size", 4, "--retain-length", 2, "--score-max", -1)
        supernet = self.folder / "supernet" / "model.params"
        return [*self.data, *sizes, "--supernet-params", supernet, "--save-dir", save_dir]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    work = make_work(tmp_path_factory.mktemp("locked"))
    made = Pipeline(work, data_flags(work, **{"input-size": 16}))
    assert run_program(train_imagenet.main, list(map(str, made.training(work / "supernet")))) == 0
    assert run_program(search_supernet.main, list(map(str, made.search(work / "search")))) == 0
    return made


@contextlib.contextmanager
def held(folder):
    """Another process that is in the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PROGRAMS = {
    "training": (train_imagenet, lambda own, run: own.training(run)),
    "search": (search_supernet, lambda own, run: own.search(run)),
    "ranking": (
        rank_correlation,
        lambda own, run: ["--supernet", own.folder / "supernet", "--num-architectures", 4, "--strata", 2]
        + ["--save-dir", run, "--", "--seconds", 0],
    ),
    "searched": (
        searched_against_random,
        lambda own, run: ["--architecture", own.folder / "best.json", "--num-random", 2, "--seeds", 2]
        + ["--tolerance", 0.05, "--save-dir", run, "--", "--seconds", 0],
    ),
    "latency": (
        build_latency_table,
        lambda own, run: ["--channels-layout", "Small", "--input-size", 32, "--classes", 10, "--save-dir", run],
    ),
    "bn_update": (bn_update_effect, lambda own, run: ["--supernet", run, "--architectures", 1]),
    "comparison": (
        compare_search,
        lambda own, run: ["--supernet", run, "--evaluations", 4, "--population-size", 4, "--retain-length", 2]
        + ["--seeds", 2],
    ),
}
IN_A_RUN_THAT_IS_THERE = {"bn_update": "supernet", "comparison": "search"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_second_program_is_refused_in_one_line_and_writes_nothing(
    name,
    pipeline,
    trainer,  # noqa: F811
    tmp_path,
    rng,
    capsys,
):
    program, flags = PROGRAMS[name]
    run = pipeline.folder / IN_A_RUN_THAT_IS_THERE[name] if name in IN_A_RUN_THAT_IS_THERE else tmp_path / "run"
    if name == "searched":
        write_json(pipeline.folder / "best.json", make_searched(rng, 1)[0].to_json())
    with held(run) as process:
        before = contents(run)
        fails(program.main, flags(pipeline, run), capsys, f"{run} is in use by", f"process {process} on")
        assert contents(run) == before


def start(pipeline, run, *more):
    words = [sys.executable, ROOT / "train_imagenet.py", *pipeline.training(run), "--num-epochs", 6, *more]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, words)), cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)


def results(run):
    """What a training leaves, but for its speed and its folder's name."""
    rows = [line.partition('"images_per_second"')[0] for line in (run / "log.jsonl").read_text().splitlines()]
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    return rows, names, (run / "model.params").read_bytes()


def test_the_first_of_two_trainings_ends_as_if_it_were_alone(pipeline, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert start(pipeline, alone).wait(120) == 0
    first = start(pipeline, shared)
    end = time.monotonic() + 60
    while not (shared / "config.json").exists():
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)  # or it ends before the second has loaded its modules
    second = start(pipeline, shared)
    _, refusal = second.communicate(timeout=120)
    first.send_signal(signal.SIGCONT)
    assert first.wait(120) == 0
    assert second.returncode == 2 and "is in use by train_imagenet.py (process" in refusal, refusal
    assert results(shared) == results(alone)


def test_a_killed_training_leaves_its_directory_free(pipeline, tmp_path):
    """And what it had begun to write is removed."""
    process = start(pipeline, tmp_path / "run")
    end = time.monotonic() + 60
    while not (tmp_path / "run" / "config.json").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "run" / ".model.params.0a1b2c.partial").write_bytes(b"half")
    (tmp_path / "run" / "lists" / ".bn.idx.0a1b2c.partial").write_bytes(b"half")
    assert start(pipeline, tmp_path / "run").wait(120) == 0
    assert not [path for path in (tmp_path / "run").rglob(".*")]
