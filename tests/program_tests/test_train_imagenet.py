"""`train_imagenet.py` with every kind of network, loss and sampling; stopped by signals; resumed from given files."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, data_flags, fails

import train_imagenet
from spos.core.flags import run_program
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, save_parameters
from spos.runs.files import read_json
from spos.training.checkpoint import newest_checkpoint
from spos.training.zoo import complete_shapes, zoo_model
from utils import check_resume

SMALL = "oneshot-s+ --num-epochs 1"
FIXED = f"--model ShuffleNas_fixArch --architecture {SMALL}"


def arguments(work, save_dir, line, **changes):
    flags = data_flags(work, **{"input-size": 16, **changes})
    if "--model" in line and "ShuffleNas" not in line:  # a zoo network has no stride plan
        del flags[flags.index("--strides") : flags.index("--strides") + 2]
    return [*flags, "--save-dir", str(save_dir), *line.split()]


def run(work, save_dir, line, **changes):
    assert run_program(train_imagenet.main, arguments(work, save_dir, line, **changes)) == 0
    return [json.loads(row) for row in (save_dir / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    net = zoo_model("cifar_resnet20_v1", 10)
    net.initialize()
    complete_shapes(net, 16, (mx.cpu(),))
    path = tmp_path_factory.mktemp("teacher") / "teacher.params"
    save_parameters(path, net)
    return path


@pytest.mark.parametrize(
    "line",
    [
        f"{FIXED} --mode symbolic --lr-mode poly",
        f"{FIXED} --mode imperative --mixup --mixup-alpha 0.4 --label-smoothing",
        f"{FIXED} --teacher cifar_resnet20_v1 --teacher-params TEACHER --temperature 4 --lr-mode step --lr-decay 0.5",
        "--model cifar_resnet20_v1 --num-epochs 2 --mixup --mixup-off-epoch 1",
        "--num-epochs 1 --val-architectures 1 --sampling fair --use-se --reduced-dataset-scale 3",
        "--num-epochs 1 --val-architectures 1 --sampling sandwich --reduced-dataset-scale 3",
        "--num-epochs 1 --val-architectures 1 --use-all-blocks --use-all-channels --num-cpus-ctx 2",
    ],
    ids=["symbolic", "mixup", "teacher", "zoo", "fair", "sandwich", "all-blocks"],
)
def test_every_kind_of_training_runs_to_its_end(work, tmp_path, teacher, line):
    rows = run(work, tmp_path / "run", line.replace("TEACHER", str(teacher)))
    assert all(np.isfinite(row["loss"]) for row in rows) and 0 <= rows[-1]["val_top1"] <= 1
    arrays = load_arrays(tmp_path / "run" / "model.params")
    assert all(np.isfinite(array.asnumpy()).all() for array in arrays.values())


def test_symbolic_imperative_and_hybrid_train_the_same_network(work, tmp_path):
    losses = {}
    for mode in ("symbolic", "hybrid", "imperative"):
        losses[mode] = run(work, tmp_path / mode, f"{FIXED} --lr 0.01 --mode {mode}")[0]["loss"]
    assert losses["symbolic"] == pytest.approx(losses["hybrid"], rel=1e-3)
    assert losses["imperative"] == pytest.approx(losses["hybrid"], rel=1e-3)


def test_metrics_are_tensorboard_events_too(work, tmp_path):
    rows = run(work, tmp_path / "run", f"{FIXED} --tensorboard")
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    values = dict(scalars(events))
    assert values["val_top1"] == pytest.approx(rows[0]["val_top1"]) and values["loss"] == pytest.approx(rows[0]["loss"])


def scalars(path):
    """(name, value) of an event file: records of length, CRC, event, CRC."""
    from tensorboardX.proto.event_pb2 import Event

    data, position = path.read_bytes(), 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 8], "little")
        event = Event.FromString(data[position + 12 : position + 12 + length])
        yield from ((value.tag, value.simple_value) for value in event.summary.value)
        position += length + 16


@pytest.mark.parametrize(
    "signum, code",
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
    ids=["ctrl-c", "sigterm"],
)
def test_a_signal_ends_a_program_with_a_checkpoint_inside_the_epoch(work, tmp_path, signum, code):
    """SIGTERM in the quick suite: training_tests/test_trainer.py, and its exit code in test_stopping.py."""
    save_dir = tmp_path / "run"
    line = "--num-epochs 3 --val-architectures 1 --save-steps 1"
    flags = arguments(work, save_dir, line, **{"batch-size": 8})
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train_imagenet.py"), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.time() + 60
    while not list(save_dir.glob("checkpoints/epoch-0000-step-*")):
        assert process.poll() is None and time.time() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in stderr and "run the same command again" in stderr
    reached = newest_checkpoint(save_dir)
    assert reached.epoch < 3 and (reached.epoch, reached.step) > (0, 0)
    assert not (save_dir / "model.params").exists()


@pytest.mark.parametrize("mode", ["hybrid", "symbolic"])
def test_a_run_begins_where_given_files_end(work, tmp_path, mode):
    """Parameters, optimizer state and epoch of another run: the last epoch is the one that run would have had.

    That one was validated in between, which must not change what follows.
    """
    line = f"--model cifar_resnet20_v1 --num-epochs 2 --lr-mode cosine --val-frequency 1 --mode {mode}"
    whole = run(work, tmp_path / "whole", line + " --keep-checkpoints 9")
    first = tmp_path / "whole" / "checkpoints" / "epoch-0001"
    files = f"--resume-epoch 1 --resume-params {first / 'model.params'} --resume-states {first / 'optimizer.states'}"
    rest = run(work, tmp_path / "rest", f"{line} {files}")
    for row in (*whole, *rest):
        del row["images_per_second"]
    assert rest == whole[1:]
    one, other = (load_arrays(tmp_path / name / "model.params") for name in ("whole", "rest"))
    assert all(np.array_equal(one[name].asnumpy(), other[name].asnumpy()) for name in one)


def test_config_names_the_model_of_the_zoo(work, tmp_path):
    run(work, tmp_path / "run", "--model mobilenetv2_0.25 --num-epochs 1", **{"input-size": 32})
    config = read_json(tmp_path / "run" / "config.json")
    assert config["options"]["model"] == "mobilenetv2_0.25" and config["space"] is None


REFUSALS = {
    "pickled states": ("--resume-params OWN --resume-states PICKLE --model cifar_resnet20_v1", ["pickle"]),
    "teacher file": ("--teacher cifar_resnet20_v1 --teacher-params gone.params", ["gone.params"]),
    "teacher of other classes": ("--teacher cifar_resnet20_v1 --teacher-params OWN --classes 12", ["another network"]),
    "pretrained": ("--model resnet18_v1 --use-pretrained", ["1000 classes", "10"]),
    "size": ("--model alexnet", ["--input-size"]),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_training_refuses(work, tmp_path, teacher, capsys, case):
    line, words = REFUSALS[case]
    pickle = tmp_path / "trainer.states"
    pickle.write_bytes(b"\x80\x04.")
    line = line.replace("OWN", str(teacher)).replace("PICKLE", str(pickle))
    fails(train_imagenet.main, arguments(work, tmp_path / "run", line), capsys, *words)
    assert case == "pickled states" or not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "devices, kills, more",
    [
        (2, 2, ""),
        (1, 2, ""),
        (1, 2, "--optimizer adamw --lr-restarts 1 --auto-augment trivial --random-erasing 0.5 --cutmix"),
    ],
    ids=["two-devices", "one-device", "adamw"],
)
def test_killed_runs_end_with_the_same_bits(tmp_path, devices, kills, more, capsys):
    """Contract C4; `python -m utils.check_resume --kills 10` is the full count.

    On one device in the quick suite: test_killed_training_ends_like_an_uninterrupted_one in test_programs.py.
    """
    flags = f"--kills {kills} --devices {devices} --folder {tmp_path / 'check'} --recipe".split()
    recipe = check_resume.RECIPE.replace("--num-epochs 4", "--num-epochs 2").replace("scale 4", "scale 6")
    recipe += f" --data-dir {tmp_path} {more}"
    assert run_program(check_resume.main, [*flags, recipe]) == 0
    assert f"after {kills} kills" in capsys.readouterr().out
