"""Training many networks alone: what is kept, what goes on, what stops; with a program that stands for the trainer."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, TINY
from sized_spaces import SIZED

from spos.core import programs
from spos.core.errors import InputError
from spos.runs.journal import read_rows
from spos.runs.lock import locked
from spos.study import alone
from spos.study.alone import ALONE_FILE, Network, check_recipe, mean_top1, train_all

TRAINER = '''"""Stands for train_imagenet.py: "trains" at once; its accuracy is a function of architecture and seed."""
import argparse, json, pathlib, sys, time
parser = argparse.ArgumentParser()
for name in ("model", "architecture", "save-dir", "fail", "train-on", "val-on"):
    parser.add_argument("--" + name)
parser.add_argument("--seed", type=int)
parser.add_argument("--num-epochs", type=int, default=0)
parser.add_argument("--seconds", type=float, default=0)
parser.add_argument("--gain", type=float, default=0)
parser.add_argument("--ema", type=float)
parser.add_argument("--images", type=int, default=100)
args, _ = parser.parse_known_args()
record = json.load(open(args.architecture))
run = pathlib.Path(args.save_dir)
run.mkdir(parents=True, exist_ok=True)
with open(run / "starts", "a") as file:
    file.write("x")
time.sleep(args.seconds)
if args.fail == record["name"]:
    sys.exit("error: it is said to fail")
top1 = sum(record["channel_choices"]) / 100 + args.seed / 1000 + args.gain * (1 + args.seed)
top1 += args.num_epochs / 10000
row = {"epoch": 0, "loss": 1.5, "val_top1": top1, "val_top5": 1.0, "val_images": args.images}
if args.ema:
    row["ema_top1"] = top1 + args.ema
(run / "log.jsonl").write_text(json.dumps(row) + chr(10))
'''


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    (tmp_path / "train_imagenet.py").write_text(TRAINER)
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    return tmp_path


def make_networks(count, seeds=(0,)):
    rng = np.random.default_rng(3)
    architectures = [TINY.sample(rng) for _ in range(count)]
    return [Network(one, seed, {"stratum": i}) for seed in seeds for i, one in enumerate(architectures)]


def test_equal_choices_at_two_input_sizes_are_two_networks(trainer):
    drawn = SIZED.sample(np.random.default_rng(3))
    networks = [Network(replace(drawn, input_size=size), 0) for size in SIZED.input_sizes]
    rows = train_all(networks, SIZED, [], trainer / "out", 1)
    assert [row["input_size"] for row in rows] == [12, 16] and rows[0]["flops"] < rows[1]["flops"]
    assert [one.name.split("-")[-2:] for one in networks] == [["12px", "0"], ["16px", "0"]]
    assert list(mean_top1(rows)) == [one.architecture for one in networks]


@pytest.mark.parametrize("num_jobs", (1, 3))
def test_rows_come_in_the_order_of_the_networks(trainer, num_jobs):
    networks = make_networks(4, seeds=(0, 1))
    rows = train_all(networks, TINY, [], trainer / "out", num_jobs)
    assert [row["stratum"] for row in rows] == [0, 1, 2, 3] * 2
    assert [row["seed"] for row in rows] == [0] * 4 + [1] * 4
    for row, network in zip(rows, networks):
        assert row["top1"] == pytest.approx(sum(network.architecture.channel_choices) / 100 + network.seed / 1000)
        assert row["flops"] > 0 and row["num_images"] == 100
    means = mean_top1(rows)
    assert list(means) == [network.architecture for network in networks[:4]]
    assert means[networks[0].architecture] == pytest.approx((rows[0]["top1"] + rows[4]["top1"]) / 2)


def test_what_has_been_trained_is_not_trained_again(trainer):
    networks = make_networks(4)
    train_all(networks[:2], TINY, [], trainer / "out", 1)
    train_all(networks, TINY, [], trainer / "out", 2)
    starts = {path.parent.name: path.read_text() for path in (trainer / "out").rglob("starts")}
    assert starts == {network.name: "x" for network in networks}
    assert len(read_rows(trainer / "out" / ALONE_FILE)) == 4


def test_a_training_that_fails_is_named_with_its_last_line(trainer):
    networks = make_networks(3)
    with pytest.raises(InputError, match=f"training {networks[1].name}: it is said to fail"):
        train_all(networks, TINY, ["--fail", networks[1].name], trainer / "out", 1)
    assert len(read_rows(trainer / "out" / ALONE_FILE)) == 1
    assert len(train_all(networks, TINY, [], trainer / "out", 1)) == 3


def test_variants_of_a_recipe_are_networks_of_their_own(trainer):
    """Also of one architecture and seed; and a variant that has rows keeps its flags."""
    plain = make_networks(1)[0]
    better = replace(plain, variant="better", flags=("--gain", "0.25", "--ema", "0.125"))
    rows = train_all([plain, better], TINY, [], trainer / "out", 2)
    assert rows[1]["top1"] == pytest.approx(rows[0]["top1"] + 0.25)
    assert rows[1]["ema_top1"] == pytest.approx(rows[1]["top1"] + 0.125) and "ema_top1" not in rows[0]
    assert (rows[1]["variant"], rows[1]["flags"]) == ("better", "--gain 0.25 --ema 0.125")
    assert train_all([better, plain], TINY, [], trainer / "out", 2) == rows[::-1]
    with pytest.raises(InputError, match="better was trained with other flags"):
        train_all([replace(better, flags=("--gain", "0.5"))], TINY, [], trainer / "out", 2)


@pytest.mark.parametrize("signum", (signal.SIGTERM, signal.SIGKILL))
def test_trainings_end_with_the_program_that_started_them(trainer, signum):
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "import pathlib, conftest, study_tests.test_alone as t\n"
        f"t.programs.ROOT = pathlib.Path({str(trainer)!r})\n"
        f"t.train_all(t.make_networks(2), conftest.TINY, ['--seconds', '60'], t.programs.ROOT / 'out', 2)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    started = [trainer / "out" / "networks" / network.name / "starts" for network in make_networks(2)]
    wait_until(lambda: all(path.exists() for path in started))
    process.send_signal(signum)
    assert process.wait(30) != 0
    wait_until(lambda: not children_of(trainer))


def test_a_training_of_a_killed_ranking_that_still_ends_is_waited_for(trainer, capsys):
    """And only then is the network trained on."""
    networks = make_networks(2)
    run = trainer / "out" / "networks" / networks[1].name
    code = (
        "import sys, time, pathlib\nfrom spos.runs.lock import locked\nrun = pathlib.Path(sys.argv[1])\n"
        "with locked(run):\n    print('ending', flush=True)\n    time.sleep(1.5)\n    (run / 'ended').write_text('')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ending\n"
    assert len(train_all(networks, TINY, [], trainer / "out", 2)) == 2
    assert process.wait(10) == 0
    assert (run / "ended").stat().st_mtime <= (run / "starts").stat().st_mtime
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {run} is in use by") and line.endswith("waiting for it")


def test_a_network_that_somebody_else_trains_is_not_waited_for_without_end(trainer, monkeypatch):
    networks = make_networks(1)
    monkeypatch.setattr(alone, "END_SECONDS", 0.3)
    with locked(trainer / "out" / "networks" / networks[0].name), pytest.raises(InputError, match="is in use by"):
        train_all(networks, TINY, [], trainer / "out", 1)
    assert not read_rows(trainer / "out" / ALONE_FILE)


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def children_of(folder):
    """Processes that run the trainer of a folder."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:  # no process, or one that has just ended
            continue
        found += [entry] if str(folder / "train_imagenet.py") in words else []
    return found


@pytest.mark.parametrize(
    "recipe, words",
    (
        ([], "the recipe is missing"),
        (["--dataset", "digits", "--seed", "3"], "--seed is set for each network"),
        (["--save-dir=x"], "--save-dir=x is set for each network"),
    ),
)
def test_a_recipe_that_cannot_be_used_is_refused(recipe, words):
    with pytest.raises(InputError, match=words):
        check_recipe(recipe)


def test_the_architecture_file_of_a_network_can_be_read_again(trainer):
    (network,) = make_networks(1)
    train_all([network], TINY, [], trainer / "out", 1)
    record = json.loads((trainer / "out" / "networks" / f"{network.name}.json").read_text())
    assert tuple(record["block_choices"]) == network.architecture.block_choices
    assert record["fingerprint"] == TINY.fingerprint
