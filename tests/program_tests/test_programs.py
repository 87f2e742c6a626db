"""The programs as people run them: supernet, search, subnet; killed and resumed; twice with one seed; bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, data_flags, fails, write_subset
from latency_tests.test_table import make_table

import search_supernet
import train_imagenet
from spos.core.flags import run_program
from spos.core.seeds import derive_rng
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, save_arrays
from spos.runs.files import read_json, write_json
from spos.runs.run import open_run_directory
from spos.search.flags import ConstraintOptions, SearchOptions, make_domain
from spos.space.architecture_file import load_architecture
from spos.space.space import SearchSpace
from spos.training import assembly
from utils import summarize

SUPERNET_FLAGS = "--model ShuffleNas --use-se --last-conv-after-pooling --num-epochs 2 --val-architectures 1 --seed 5"
SEARCH_FLAGS = "--search-iters 2 --population-size 4 --retain-length 2 --mutate-chance 0.3 --topk 2 --seed 5"
SUBNET_FLAGS = "--model ShuffleNas_fixArch --num-epochs 1 --label-smoothing --no-wd --seed 5"


def command(program, work, save_dir, *flags, **changes):
    flags = [part for text in flags for part in (text.split() if isinstance(text, str) else [str(text)])]
    return [sys.executable, str(ROOT / program), *data_flags(work, **changes), "--save-dir", str(save_dir), *flags]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def execute(arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def kill_when(arguments, condition):
    """Start a program and kill it as soon as `condition()` holds."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(), cwd=ROOT
    )
    while not condition():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def supernet(work):
    execute(command("train_imagenet.py", work, work / "supernet", SUPERNET_FLAGS))
    return work / "supernet"


@pytest.fixture(scope="module")
def search(work, supernet):
    flags = ("--supernet-params", supernet / "model.params", SEARCH_FLAGS)
    print(execute(command("search_supernet.py", work, work / "search", *flags)))
    return work / "search"


@pytest.fixture(scope="module")
def subnet(work, search):
    execute(command("train_imagenet.py", work, work / "subnet", SUBNET_FLAGS, "--architecture", search / "best.json"))
    return work / "subnet"


def without_speed(file):
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]


def same_parameters(one, other):
    one, other = load_arrays(one), load_arrays(other)
    return set(one) == set(other) and all(np.array_equal(one[n].asnumpy(), other[n].asnumpy()) for n in one)


def test_run_directory_of_a_supernet_is_complete(supernet):
    config = read_json(supernet / "config.json")
    assert config["options"]["seed"] == 5 and config["space"]["num_classes"] == 10
    assert {"fingerprint", "versions", "data", "program"} <= set(config)
    rows = without_speed(supernet / "log.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1] and "val_top1" in rows[-1]
    assert (supernet / "model.params").is_file()
    lists = {path.stem: path.read_text().splitlines() for path in (supernet / "lists").glob("*.idx")}
    assert {name: len(lines) for name, lines in lists.items()} == {"train": 96, "bn": 32, "search_val": 32, "test": 40}
    offsets = [line.split("\t")[1] for lines in lists.values() for line in lines]
    assert len(set(offsets)) == len(offsets), "an image is in two lists"


def test_killed_training_ends_like_an_uninterrupted_one(work, supernet):
    stopped = work / "stopped"
    arguments = command("train_imagenet.py", work, stopped, SUPERNET_FLAGS)
    kill_when(arguments, (stopped / "checkpoints" / "epoch-0001").is_dir)
    assert not (stopped / "model.params").exists()
    assert "continuing" in execute(arguments)
    assert same_parameters(stopped / "model.params", supernet / "model.params")
    assert without_speed(stopped / "log.jsonl") == without_speed(supernet / "log.jsonl")


def test_a_supernet_is_trained_and_resumed_within_constraints(work, monkeypatch, capsys):
    """The walk through the plane, its costs checked by symbol graphs; the second half by a resumed run."""
    drawn = []
    monkeypatch.setattr(assembly, "count_by_symbol", count_and_note(assembly.count_by_symbol, drawn))
    flags = (
        f"{SUPERNET_FLAGS} --epoch-start-cs 1 --train-upper-constraints flops-9-params-4 --train-bottom-constraints "
        "flops-5-params-2 --train-constraint-method evolution --flop-param-method symbol"
    )
    write_subset(work / "train.idx", range(64), work / "few.idx")
    few = {"rec-train-idx": work / "few.idx", "holdout": 16, "update-bn-images": 16, "batch-size": 16}
    arguments = command("train_imagenet.py", work, work / "constrained", flags, **few)[2:]
    assert run_program(train_imagenet.main, arguments) == 0
    assert "constraints hold from epoch 1 on (counted from 0); before it every width" in capsys.readouterr().out
    whole = (work / "constrained" / "model.params").read_bytes()
    assert len(drawn) == 5  # 2 steps in each of 2 epochs, 1 to validate
    assert all(cost.macs > 9e6 for cost in drawn[:2])
    assert all(5e6 <= cost.macs <= 9e6 and 2e6 <= cost.params <= 4e6 for cost in drawn[2:])
    (work / "constrained" / "model.params").unlink()
    shutil.rmtree(work / "constrained" / "checkpoints" / "epoch-0002")
    assert run_program(train_imagenet.main, arguments) == 0
    assert (work / "constrained" / "model.params").read_bytes() == whole
    assert drawn[5:] == drawn[2:5]


def count_and_note(count, drawn):
    def counting(space, architecture):
        drawn.append(count(space, architecture))
        return drawn[-1]

    return counting


def test_finished_run_is_not_trained_again(work, supernet):
    before = (supernet / "model.params").read_bytes(), (supernet / "log.jsonl").read_bytes()
    assert "finished" in execute(command("train_imagenet.py", work, supernet, SUPERNET_FLAGS))
    assert before == ((supernet / "model.params").read_bytes(), (supernet / "log.jsonl").read_bytes())


def test_search_records_every_evaluation_and_its_best(search):
    rows = without_speed(search / "history.jsonl")
    assert [row["evaluation"] for row in rows] == list(range(len(rows))) and len(rows) > 4
    assert len({tuple(row["block_choices"] + row["channel_choices"]) for row in rows}) == len(rows)
    best = load_architecture(search / "best.json")
    assert best.more["searched_accuracy"]["top1"] == max(row["top1"] for row in rows)
    assert best.more["searched_accuracy"]["num_images"] == 32
    assert (search / "top-2.json").is_file()


def test_killed_search_loses_and_repeats_nothing(work, supernet, search):
    stopped = work / "stopped-search"
    history = stopped / "history.jsonl"
    flags = ("--supernet-params", supernet / "model.params", SEARCH_FLAGS)
    arguments = command("search_supernet.py", work, stopped, *flags)
    kill_when(arguments, lambda: history.is_file() and history.read_bytes().count(b"\n") >= 2)
    kept = history.read_bytes()
    execute(arguments)
    assert history.read_bytes().startswith(kept)
    assert history.read_bytes() == (search / "history.jsonl").read_bytes()
    assert (stopped / "best.json").read_bytes() == (search / "best.json").read_bytes()


def test_search_within_a_latency_limit_and_only_by_the_same_table(work, supernet, tmp_path, capsys):
    space = SearchSpace.from_json(read_json(supernet / "config.json")["space"])
    table, file = make_table(space), tmp_path / "latency.json"
    latencies = [table.latency_ms(space.sample(np.random.default_rng(seed))) for seed in range(50)]
    bound = min(latencies)
    write_json(file, table.to_json())
    flags = "--score-max -1 --search-iters 1 --population-size 3 --retain-length 2 --topk 1 --latency-max"
    paths = ("--supernet-params", supernet / "model.params", "--latency-table", file)
    arguments = command("search_supernet.py", work, tmp_path / "run", *paths, flags, bound)
    execute(arguments)
    rows = without_speed(tmp_path / "run" / "history.jsonl")
    assert len(rows) == 3 and all(0 < row["latency_ms"] <= bound for row in rows)
    assert load_architecture(tmp_path / "run" / "best.json").more["latency_ms"] in [row["latency_ms"] for row in rows]
    write_json(file, make_table(space, noise=0.2).to_json())
    fails(search_supernet.main, arguments[2:], capsys, "the content of --latency-table has changed")
    write_json(file, {**table.to_json(), "fingerprint": "other"})
    fails(search_supernet.main, arguments[2:], capsys, "latency.json: fingerprint other")


def test_same_seed_gives_the_same_files_in_another_process(work, supernet, search):
    """Contract C6, through all three programs."""
    execute(command("train_imagenet.py", work, work / "supernet-2", SUPERNET_FLAGS))
    assert same_parameters(work / "supernet-2" / "model.params", supernet / "model.params")
    flags = ("--supernet-params", work / "supernet-2" / "model.params", SEARCH_FLAGS)
    execute(command("search_supernet.py", work, work / "search-2", *flags))
    assert (work / "search-2" / "best.json").read_bytes() == (search / "best.json").read_bytes()


def test_subnet_of_a_searched_architecture_is_trained_and_summarised(supernet, search, subnet, capsys):
    arrays = load_arrays(subnet / "model.params")
    assert arrays["output.0.weight"].shape[0] == 10
    assert run_program(summarize.main, [str(supernet), str(search), str(subnet)]) == 0
    printed = capsys.readouterr().out
    for words in ("supernet top-1", "random architectures", "test top-1", "best.json", "model.params"):
        assert words in printed
    assert "a random network" not in printed
    assert run_program(summarize.main, [str(supernet), str(search), str(subnet), str(subnet)]) == 0
    printed = capsys.readouterr().out
    (trained,) = re.findall(r"^trained from scratch, test top-1 +(.*)$", printed, re.M)
    assert re.search(rf"^a random network, trained alike +{re.escape(trained)}$", printed, re.M)
    assert len(set(re.findall(r"^  FLOPs, params +(.*)$", printed, re.M))) == 1
    for wrong, words in (
        ((subnet, search, subnet), f"{subnet} is the run of a subnet, where that of a supernet belongs"),
        ((supernet, search, supernet), f"{supernet} is the run of a supernet, where that of a subnet belongs"),
        ((search, search, subnet), f"{search} is the run of a search"),
    ):
        fails(summarize.main, wrong, capsys, words)


def test_search_leaves_the_supernet_file_alone(supernet, search):
    assert sorted(path.name for path in supernet.iterdir()) == [
        "checkpoints",
        "config.json",
        "lists",
        "log.jsonl",
        "model.params",
    ]


TRAIN_REFUSALS = {
    "unknown model": (["--model", "ResNet99"], ["ResNet99", "ShuffleNas"]),
    "unknown data set": (["--dataset", "mnist"], ["mnist", "digits"]),
    "flag value": (["--num-epochs", "many"], ["--num-epochs", "many"]),
    "zero epochs": (["--num-epochs", "0"], ["--num-epochs", "at least 1"]),
    "unknown flag": (["--learning-rate", "1"], ["--learning-rate"]),
    "19 choices": (
        ["--model", "ShuffleNas_fixArch", "--block-choices", "0," * 19, "--channel-choices", "9," * 19],
        ["19 block choices", "20"],
    ),
    "choice out of range": (
        ["--model", "ShuffleNas_fixArch", "--block-choices", "0," * 19 + "4", "--channel-choices", "9," * 20],
        ["block choice 4", "0..3"],
    ),
    "no integers": (
        ["--model", "ShuffleNas_fixArch", "--block-choices", "a," * 20, "--channel-choices", "9," * 20],
        ["integers"],
    ),
    "no architecture": (["--model", "ShuffleNas_fixArch"], ["--architecture"]),
    "unknown architecture": (["--model", "ShuffleNas_fixArch", "--architecture", "two"], ["two", "oneshot-s+"]),
    "float16 on CPU": (["--dtype", "float16"], ["float16", "GPU"]),
    "GPU that is not there": (["--num-gpus", "64"], ["64", "GPU"]),
    "worker on its own": (["--kv-store", "dist_sync"], ["--kv-store dist_sync", "train_cluster.sh"]),
    "unknown KVStore": (["--kv-store", "nccl"], ["nccl", "dist_sync_device"]),
    "warm-up too long": (["--num-epochs", "2", "--warmup-epochs", "2"], ["--warmup-epochs"]),
    "stride plan": (["--strides", "2,2"], ["5 entries"]),
    "space that is not there": (["--strides", "", "--space", "huge"], ["no space 'huge'", "tiny"]),
    "blocks that are not there": (["--blocks", "gone.py"], ["--blocks gone.py: no such file"]),
    "nothing left to train on": (["--holdout", "150"], ["160 images", "Hold out fewer"]),
    "resume without a run": (["--resume"], ["no run"]),
    "constraint text": (["--train-upper-constraints", "flop-330"], ["flop-330", "flops-330-params-5.0"]),
    "crossed constraints": (
        ["--train-upper-constraints", "flops-5", "--train-bottom-constraints", "flops-6"],
        ["lower limit of FLOPs", "5 M"],
    ),
    "constraint out of reach": (["--train-upper-constraints", "flops-0.5"], ["FLOPs <= 0.5", "reachable"]),
    "constraint not before the end": (
        ["--train-upper-constraints", "flops-5", "--epoch-start-cs", "60", "--num-epochs", "60"],
        ["before 60", "--num-epochs is 60", "--epoch-start-cs"],
    ),
    "constraints at full width": (
        ["--train-upper-constraints", "flops-5", "--use-all-channels"],
        ["--use-all-channels"],
    ),
    "constraints on all blocks": (["--train-bottom-constraints", "flops-5", "--use-all-blocks"], ["--use-all-blocks"]),
    "constraints on a subnet": (
        ["--model", "ShuffleNas_fixArch", "--architecture", "oneshot", "--train-upper-constraints", "flops-330"],
        ["subnet"],
    ),
    "constraint method": (["--train-constraint-method", "annealing"], ["annealing", "evolution"]),
    "evolution without constraints": (["--train-constraint-method", "evolution"], ["--train-upper-constraints"]),
    "symbol without constraints": (["--flop-param-method", "symbol"], ["--train-upper-constraints"]),
}


@pytest.mark.parametrize("case", TRAIN_REFUSALS)
def test_training_refuses(work, tmp_path, capsys, case):
    flags, words = TRAIN_REFUSALS[case]
    fails(train_imagenet.main, [*data_flags(work), "--save-dir", tmp_path / "run", *flags], capsys, *words)
    assert not (tmp_path / "run").exists()


def test_training_refuses_bad_record_files(work, tmp_path, capsys):
    truncated = tmp_path / "cut.rec"
    truncated.write_bytes((work / "digits.rec").read_bytes()[:5000])
    save = ["--save-dir", tmp_path / "run"]
    fails(train_imagenet.main, [*data_flags(work, **{"rec-train": truncated}), *save], capsys, "cut.rec")
    missing = tmp_path / "gone.rec"
    flags = data_flags(work, **{"rec-train": missing})
    fails(train_imagenet.main, [*flags, *save], capsys, "gone.rec", "--dataset digits")
    assert not (tmp_path / "run").exists()


def test_training_refuses_an_output_directory_that_cannot_be_written(work, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    fails(train_imagenet.main, [*data_flags(work), "--save-dir", tmp_path / "file" / "run"], capsys, "file")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_training_refuses_the_directory_of_another_run(work, supernet, capsys):
    before = (supernet / "config.json").read_bytes()
    flags = [*data_flags(work), "--save-dir", supernet, *SUPERNET_FLAGS.split(), "--lr", "0.7"]
    fails(train_imagenet.main, flags, capsys, "--lr", "0.7", "another")
    assert (supernet / "config.json").read_bytes() == before


def test_training_refuses_parameters_of_another_network(work, supernet, tmp_path, capsys):
    flags = [*data_flags(work), "--save-dir", tmp_path / "run", "--resume-params", supernet / "model.params"]
    fails(train_imagenet.main, flags, capsys, "another space")  # without SE
    arrays = load_arrays(supernet / "model.params")
    arrays["output.0.weight"] = mx.nd.zeros((7, 1024, 1, 1))
    save_arrays(tmp_path / "seven.params", arrays)
    flags = [*flags[:-1], tmp_path / "seven.params", "--use-se", "--last-conv-after-pooling"]
    fails(train_imagenet.main, flags, capsys, "7 classes", "10")


SEARCH_REFUSALS = {
    "missing supernet": (["--supernet-params", "gone.params"], ["gone.params"]),
    "constraint too small": (["--flop-max-m", "1"], ["FLOPs <= 1", "smallest reachable"]),
    "parameters too few": (["--param-max-m", "0.5"], ["params <= 0.5", "smallest reachable"]),
    "latency without a table": (["--latency-max", "3"], ["--latency-max needs --latency-table"]),
    "ratio too small": (["--flop-max", "0.001"], ["FLOPs", "smallest reachable", "SinglePathOneShot"]),
    "retained more than there are": (["--retain-length", "60"], ["--retain-length"]),
    "another space": (["--channels-layout", "ShuffleNetV2+"], ["another space"]),
    "fixed choices": (["--fixed-block-choices", "0,1"], ["2 block choices"]),
    "another class count": (["--classes", "7"], ["10 classes", "7"]),
    "comparison model": (["--comparison-model", "VGG"], ["VGG", "MobileNetV3_large"]),
}


@pytest.mark.parametrize("case", SEARCH_REFUSALS)
def test_search_refuses(work, supernet, tmp_path, capsys, case):
    flags, words = SEARCH_REFUSALS[case]
    save = ["--supernet-params", supernet / "model.params", "--save-dir", tmp_path / "run"]
    fails(search_supernet.main, [*data_flags(work), *save, *flags], capsys, *words)
    assert not (tmp_path / "run").exists()


def test_search_refuses_what_is_no_supernet(work, subnet, tmp_path, capsys):
    flags = [*data_flags(work), "--supernet-params", subnet / "model.params", "--save-dir", tmp_path / "run"]
    fails(search_supernet.main, flags, capsys, "ShuffleNas_fixArch", "needs a supernet")


def test_search_refuses_a_truncated_supernet(work, supernet, tmp_path, capsys):
    cut = tmp_path / "cut.params"
    cut.write_bytes((supernet / "model.params").read_bytes()[:100_000])
    flags = [*data_flags(work), "--supernet-params", cut, "--save-dir", tmp_path / "run", "--use-se"]
    arguments = [sys.executable, str(ROOT / "search_supernet.py"), *map(str, flags)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(), cwd=ROOT)
    assert done.returncode == 2, done.stderr
    assert "cut.params" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_the_control_of_a_search_is_a_random_architecture_within_its_limits(search):
    """Whatever the search has scored and chosen; two searches with one seed draw the same."""
    control, best = (load_architecture(search / name) for name in ("control.json", "best.json"))
    assert control.space == best.space and control.more["origin"] == best.more["origin"]
    run = open_run_directory(search)
    domain = make_domain(control.space, run.flags(SearchOptions), run.flags(ConstraintOptions))
    assert domain.constraints.limits() and domain.admits(control.architecture)
    assert control.architecture == domain.sample(derive_rng(5, "control"))


@pytest.mark.parametrize(
    "script", ["train_supernet.sh", "search_supernet.sh", "train_oneshot.sh", "train_oneshot.sh --control"]
)
def test_scripts_name_what_is_missing(script, tmp_path):
    """On a machine without ImageNet: how to prepare it, and the digits alternative."""
    script, *flags = script.split()
    done = subprocess.run(
        ["sh", str(ROOT / "scripts" / script), *flags, "--save-dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env={**os.environ, "SPOS_PYTHON": sys.executable},
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert not (tmp_path / "run").exists()
    assert "does not exist" in done.stderr or "no architecture" in done.stderr
    if script == "train_oneshot.sh":
        assert ("runs/search/control.json" if flags else "runs/search/best.json") in done.stderr
    if script == "train_supernet.sh":
        assert "README.md" in done.stderr and "--dataset digits" in done.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("*.sh")))
def test_scripts_are_posix_shell(script):
    assert Path(ROOT / "scripts" / script).read_text().startswith("#!/bin/sh\n")
    subprocess.run(["dash", "-n", str(ROOT / "scripts" / script)], check=True)


def test_scripts_do_not_take_the_python_of_the_set_up(tmp_path):
    """PYTHON chooses the interpreter that makes env/; the programs run in env/ all the same."""
    done = subprocess.run(
        ["sh", str(ROOT / "scripts" / "run.sh"), "calculate_flops.py", "--architecture", "oneshot", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": "/bin/false", "SPOS_PYTHON": sys.executable},
        cwd=tmp_path,
    )
    assert done.returncode == 0 and json.loads(done.stdout)["flops"] == 327_909_096


@pytest.mark.parametrize("script", ["train_oneshot.sh", "train_oneshot-s+.sh", "train_oneshot+.sh"])
def test_a_control_is_no_named_architecture(script):
    named = ["--architecture", "oneshot"] if script == "train_oneshot.sh" else []
    done = subprocess.run(
        ["sh", str(ROOT / "scripts" / script), "--control", *named], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "") and "leave out --architecture" in done.stderr
