"""search_supernet.py itself: several processes, races, stops, longer searches, old histories, and bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, data_flags, fails

import search_supernet
from oneshot_nas_network import Supernet
from spos.core import executors
from spos.core.flags import run_program
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, save_arrays
from spos.runs.files import read_json, write_json
from spos.runs.journal import as_lines, read_rows
from spos.runs.run import SUPERNET
from spos.space.space_file import search_space
from utils import compare_search

FLAGS = ("--search-iters", "2", "--population-size", "4", "--retain-length", "2", "--topk", "2", "--seed", "5")
STOPPED = "stopped; run the same command again to go on"


@pytest.fixture(scope="module")
def supernet(work):
    """The run of a supernet that has not learnt anything, which is all that is needed here."""
    space = search_space(
        num_classes=10, use_se=True, last_conv_after_pooling=True, input_size=16, strides=(2, 2, 2, 2, 2)
    )
    mx.random.seed(5)
    net = Supernet(space)
    net.initialize()
    folder = work / "initial-supernet"
    folder.mkdir()
    net.save_parameters(str(folder / "model.params"))
    write_json(folder / "config.json", {"options": {"model": SUPERNET}, "space": space.to_json()})
    return folder / "model.params"


@pytest.fixture
def arguments(work, supernet):
    """Flags of a search, with a run directory and others."""

    def make(save_dir, *flags, **changes):
        data = data_flags(work, **{"input-size": 16, **changes})
        return [*data, "--supernet-params", str(supernet), *FLAGS, "--save-dir", str(save_dir), *map(str, flags)]

    return make


@pytest.fixture(scope="module")
def finished(work, supernet):
    save_dir = work / "finished-search"
    flags = [*data_flags(work, **{"input-size": 16}), "--supernet-params", supernet, *FLAGS, "--save-dir", save_dir]
    assert run_program(search_supernet.main, list(map(str, flags))) == 0
    return save_dir


def rows_of(save_dir, file="history.jsonl"):
    return read_rows(save_dir / file)


def copy_of(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_the_run_directory_is_complete(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        "best.json",
        "config.json",
        "control.json",
        "history.jsonl",
        "log.jsonl",
        "top-1.json",
        "top-2.json",
    ]
    log = rows_of(finished, "log.jsonl")
    assert [row["iteration"] for row in log] == [0, 1]
    assert sum(row["evaluations"] for row in log) == len(rows_of(finished))
    config, best = read_json(finished / "config.json"), read_json(finished / "best.json")
    identity = {"fingerprint": config["fingerprint"], "supernet": config["supernet_sha256"][:16]}
    assert all({**row, **identity, "images": config["images"]} == row for row in rows_of(finished))
    assert best["ties"] <= len(rows_of(finished)) - 1


@pytest.mark.parametrize(
    "signum, code", [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stopped_search_goes_on_with_other_workers(finished, arguments, tmp_path, capsys, signum, code):
    """Two processes until a signal reaches them all, as Ctrl-C does; then one."""
    command = [sys.executable, str(ROOT / "search_supernet.py"), *arguments(tmp_path / "run", "--num-cpus-ctx", "2")]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environ, cwd=ROOT, start_new_session=True
    )
    history = tmp_path / "run" / "history.jsonl"
    while not history.is_file():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors.strip()) == (code, STOPPED)
    assert 0 < history.read_bytes().count(b"\n") < len(rows_of(finished))
    assert run_program(search_supernet.main, arguments(tmp_path / "run")) == 0
    for name in ("history.jsonl", "best.json"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
    assert read_json(tmp_path / "run" / "config.json")["options"]["num_cpus_ctx"] == 1


def test_a_finished_search_can_be_made_longer_but_not_shorter(finished, arguments, tmp_path, capsys):
    save_dir, before = copy_of(finished, tmp_path), rows_of(finished)
    assert run_program(search_supernet.main, arguments(save_dir, "--search-iters", 3)) == 0
    assert rows_of(save_dir)[: len(before)] == before and len(rows_of(save_dir)) > len(before)
    assert read_json(save_dir / "config.json")["options"]["search_iters"] == 3
    fails(search_supernet.main, arguments(save_dir), capsys, "--search-iters 2", "begun with 3")


def test_a_search_is_seeded_from_an_old_one(finished, arguments, tmp_path, capsys):
    old = copy_of(finished, tmp_path).rename(tmp_path / "old")
    flags = arguments(tmp_path / "new", "--seed-history", old, "--seed", 6, "--search-iters", 1)
    assert run_program(search_supernet.main, flags) == 0
    rows = rows_of(tmp_path / "new")
    taken = [row for row in rows if row.get("from_history")]
    assert len(taken) == 2 and taken[0]["fitness"] == max(row["fitness"] for row in rows_of(finished))
    shutil.rmtree(old)  # the run directory has its own copy
    assert run_program(search_supernet.main, flags) == 0
    assert rows_of(tmp_path / "new") == rows


@pytest.mark.parametrize(
    "key, words",
    [("fingerprint", "another search space"), ("supernet", "another supernet"), ("images", "other images")],
)
def test_a_history_of_something_else_is_refused(finished, arguments, tmp_path, capsys, key, words):
    save_dir = copy_of(finished, tmp_path)
    rows = [{**row, key: "0123"} for row in read_rows(save_dir / "history.jsonl")]
    (save_dir / "history.jsonl").write_bytes(as_lines(rows, with_check=True))
    fails(search_supernet.main, arguments(save_dir), capsys, "history.jsonl", words)
    fails(search_supernet.main, arguments(tmp_path / "new", "--seed-history", save_dir), capsys, words)
    assert not (tmp_path / "new").exists()


def test_a_supernet_that_changed_since_is_refused(finished, arguments, supernet, tmp_path, capsys):
    save_dir, folder = copy_of(finished, tmp_path), tmp_path / "supernet"
    shutil.copytree(supernet.parent, folder)
    arrays = load_arrays(folder / "model.params")
    arrays["output.0.bias"] += 1
    save_arrays(folder / "model.params", arrays)
    config = read_json(save_dir / "config.json")
    config["options"]["supernet_params"] = str(folder / "model.params")
    write_json(save_dir / "config.json", config)
    before = (save_dir / "history.jsonl").read_bytes()
    flags = arguments(save_dir, "--supernet-params", folder / "model.params")
    fails(search_supernet.main, flags, capsys, "the content of --supernet-params has changed since")
    assert (save_dir / "history.jsonl").read_bytes() == before


def test_a_line_cut_short_is_said_and_its_evaluation_made_again(finished, arguments, tmp_path, capsys):
    save_dir = copy_of(finished, tmp_path)
    history = save_dir / "history.jsonl"
    history.write_bytes(history.read_bytes()[:-20])
    assert run_program(search_supernet.main, arguments(save_dir)) == 0
    warnings = capsys.readouterr().err.strip().splitlines()
    assert len(warnings) == 1 and "history.jsonl: the last line was cut short" in warnings[0]
    assert history.read_bytes() == (finished / "history.jsonl").read_bytes()


def test_fewer_images_than_a_batch_are_one_smaller_batch(finished, arguments, tmp_path, capsys):
    flags = arguments(tmp_path / "run", **{"batch-size": 50})
    assert run_program(search_supernet.main, flags) == 0
    warnings = capsys.readouterr().err.strip().splitlines()
    assert len(warnings) == 1 and "have 32 and 32 images, fewer than --batch-size 50" in warnings[0]
    alike = [[{**row, "images": ""} for row in rows_of(run)] for run in (tmp_path / "run", finished)]
    assert alike[0] == alike[1]  # the size of a batch is a part of what a score holds for


def test_a_search_that_races_says_what_it_dropped(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("spos.scoring.racing.FIRST_LOOK", 8)
    monkeypatch.setattr("spos.search.searcher.WINDOW", 1)
    flags = arguments(tmp_path / "run", "--racing", "--confidence", "0.1", "--population-size", "6")
    assert run_program(search_supernet.main, flags) == 0
    dropped = [row for row in rows_of(tmp_path / "run") if row.get("dropped")]
    assert dropped and all(row["num_images"] in (8, 12, 18) for row in dropped)
    assert f"({len(dropped)} dropped early)" in capsys.readouterr().out


REFUSALS = {
    "scheduler that is not there": (["--scheduler", "tcp://127.0.0.1:1"], ["--scheduler tcp://127.0.0.1:1", "reached"]),
    "confidence of 1": (["--racing", "--confidence", "1"], ["--confidence", "between 0 and 1"]),
    "confidence without racing": (["--confidence", "0.9"], ["--racing"]),
    "seed history that is not there": (["--seed-history", "gone.jsonl"], ["gone.jsonl", "does not exist"]),
    "nothing feasible": (["--flop-max-m", "1"], ["FLOPs <= 1", "smallest reachable"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(arguments, tmp_path, capsys, monkeypatch, case):
    if "scheduler" in case:
        pytest.importorskip("distributed", reason="Dask is not installed")
        monkeypatch.setattr(executors, "CONNECT_SECONDS", 2)
    flags, words = REFUSALS[case]
    fails(search_supernet.main, arguments(tmp_path / "run", *flags), capsys, *words)
    assert not (tmp_path / "run" / "history.jsonl").exists()


@pytest.mark.slow
def test_search_cluster_gives_the_history_of_one_process(finished, arguments, tmp_path):
    """The script as people run it: scheduler and two workers, and nothing of them afterwards."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    command = ["sh", str(ROOT / "scripts" / "search_cluster.sh"), "--workers", "2", "--", *arguments(tmp_path / "run")]
    environ = {**os.environ, "SPOS_PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert "best searched top-1" in done.stdout
    for name in ("history.jsonl", "best.json"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_workers_and_programs_change_nothing(supernet, tmp_path, capsys):
    """What the README states, made small; the whole of it is `python -m utils.check_search`."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    from utils import check_search

    flags = ["--kills", "3", "--processes", "2", "--dask", "2", "--folder", tmp_path / "check"]
    recipe = check_search.RECIPE.replace("--search-iters 4", "--search-iters 2")
    flags += ["--recipe", recipe, "--supernet-params", trained_on_digits(supernet, tmp_path)]
    assert run_program(check_search.main, list(map(str, flags))) == 0
    assert capsys.readouterr().out.count("equal byte for byte") == 2


def trained_on_digits(supernet, tmp_path):
    """The same supernet in a run that knows no lists, so that the digits' own are used."""
    folder = shutil.copytree(supernet.parent, tmp_path / "supernet")
    shutil.rmtree(folder / "lists", ignore_errors=True)
    return folder / "model.params"


def test_a_search_can_be_compared_on_its_supernet(finished, tmp_path, capsys):
    run = copy_of(finished, tmp_path)
    flags = ["--supernet", str(run), "--evaluations", "5", "--seeds", "2", "--population-size", "4"]
    flags += ["--retain-length", "2", "--json"]
    assert run_program(compare_search.main, flags) == 0
    first = json.loads(capsys.readouterr().out)
    assert set(first["searches"]) == {"genetic", "spos", "surrogate", "random"} and first["oracle"].endswith("run")
    scored = rows_of(run, "comparison.jsonl")
    assert 0 < len(scored) <= 40 and len({tuple(row["block_choices"] + row["channel_choices"]) for row in scored})
    assert run_program(compare_search.main, flags) == 0  # from what was kept
    assert json.loads(capsys.readouterr().out) == first
    assert rows_of(run, "comparison.jsonl") == scored
    fails(compare_search.main, ["--supernet", run, "--flop-max-m", "5"], capsys, "--supernet says what can be visited")
    fails(compare_search.main, ["--supernet", tmp_path], capsys, "config.json")
