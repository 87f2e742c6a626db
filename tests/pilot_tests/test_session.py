"""The autopilot as a whole: what it refuses before it begins, and what it gives, also if it is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import msgspec
import pytest
from conftest import ROOT
from image_files import png, random_images
from pilot_plans import FACTS, RATES, plan, smallest_plan

from spos.core.errors import InputError, Stopped
from spos.core.flags import run_program
from spos.pilot import session
from spos.pilot.flight import DONE, Flight, read_state
from spos.pilot.outcome import Outcome, next_steps, outcome_text, read_outcome
from spos.pilot.plan import read_plan
from spos.pilot.session import trainable_seconds
from spos.runs.files import file_digest
from utils import autopilot
from utils.report.flight import flight_cards, flight_section, is_under_way

DIGITS = ["--data-dir", "digits", "--flops-max-m", "5", "--hours", "0.5"]
OUTCOME = Outcome(
    model="runs/x/searched/model-int8.onnx",
    why="faster, and loses 0.50% on held-out images",
    top1=0.95,
    interval=[0.92, 0.97],
    num_images=360,
    control_top1=0.9,
    control_interval=[0.87, 0.93],
    int8_top1=0.945,
    held_out_top1={"model": 0.99, "model-int8": 0.985},
    latency_ms={"model": 0.5, "model-int8": 0.3},
    flops=4_900_000,
    params=500_000,
    control_flops=3_000_000,
    control_params=450_000,
    num_bytes={"model": 2_100_000, "model-int8": 700_000},
    report="runs/x/report.html",
    hours=0.49,
)


@pytest.fixture
def nothing_starts(monkeypatch):
    def begun(*_):
        raise AssertionError("something was started")

    monkeypatch.setattr(session, "calibrate", begun)
    monkeypatch.setattr(session, "Bench", begun)


def fill(folder, classes):
    for name, num in classes.items():
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(random_images(num)):
            (folder / name / f"{i}.png").write_bytes(png(image))
    return folder


def refusal(capsys, tmp_path, *words):
    """The only line of a program that has refused; the folder of the results is not there."""
    code = run_program(autopilot.main, [*words, "--save-dir", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and err.startswith("error: "), err
    assert not (tmp_path / "run" / "plan.json").exists()
    return err


@pytest.mark.parametrize(
    "classes, message",
    (
        ({}, "has no sub-folders"),
        ({"a": 30}, "one class only"),
        ({"a": 30, "b": 3}, "fewer than 5 training images, the smallest 3"),
        ({"a": 9, "b": 8}, "fewer than a batch of 16; give a smaller --batch-size (9 at most)"),
        (dict.fromkeys("abcdef", 5), "12 images are left for the supernet to learn from, fewer than a batch of 16"),
    ),
)
def test_images_that_cannot_be_used_are_refused(tmp_path, capsys, nothing_starts, classes, message):
    (tmp_path / "pictures").mkdir()
    folder = fill(tmp_path / "pictures", classes)
    assert message in refusal(capsys, tmp_path, "--data-dir", str(folder), "--flops-max-m", "5", "--hours", "1")


@pytest.mark.parametrize(
    "words, message",
    (
        (
            ("--flops-max-m", "0.001"),
            "no network of the spaces that ship comfortably keeps --flops-max-m 0.001 (at least",
        ),
        (("--model-size-max", "10KB"), "--model-size-max 10000 (at least"),
        (("--params-max-m", "1", "--space", "oneshot"), "no network of oneshot comfortably keeps --params-max-m 1"),
        ((), "there is no limit"),
    ),
)
def test_an_impossible_limit_is_refused(tmp_path, capsys, nothing_starts, words, message):
    assert message in refusal(capsys, tmp_path, "--data-dir", "digits", "--hours", "1", *words)


def test_a_latency_is_not_refused_before_the_machine_is_measured(tmp_path, nothing_starts):
    with pytest.raises(AssertionError, match="something was started"):
        autopilot.main(["--data-dir", "digits", "--hours", "1", "--latency-max", "0.01", "--save-dir", str(tmp_path)])


@pytest.mark.parametrize("error, stays", ((InputError("measured"), True), (Stopped(15), False), (None, False)))
def test_the_output_of_a_measuring_that_failed_stays(tmp_path, error, stays):
    work = tmp_path / "measure"
    work.mkdir()
    (work / "old.log").touch()
    with suppress(InputError, Stopped), session._work_folder(work):
        work.mkdir()
        (work / "supernet.log").write_text("why")
        if error:
            raise error
    assert [path.name for path in tmp_path.rglob("*.log")] == ["supernet.log"] * stays


def test_too_little_disk_and_memory_are_refused(tmp_path, capsys, nothing_starts, monkeypatch):
    folder = fill(tmp_path / "pictures", {"a": 40, "b": 40})
    words = ("--data-dir", str(folder), "--flops-max-m", "5", "--hours", "1")
    monkeypatch.setattr(session, "available_memory", lambda: 10**8)
    assert "100.0 MB of memory are free, and the smallest training takes 700.0 MB" in refusal(capsys, tmp_path, *words)
    monkeypatch.undo()
    monkeypatch.setattr(session, "free_disk", lambda folder: 1000)
    assert "of disk, and 1.0 kB are free at --save-dir" in refusal(capsys, tmp_path, *words)


def test_another_wish_for_the_same_folder_is_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    plan().write(folder)
    words = [*DIGITS, "--save-dir", str(folder), "--plan-only"]
    assert run_program(autopilot.main, words) == 0
    assert "the digits of the installation" not in capsys.readouterr().out  # it has not looked again
    for changed, message in (
        (("--hours", "0.7"), "asked for another hours (0.5, not 0.7)"),
        (("--final-epochs", "3"), "asked for another values (None, not {'final_epochs': 3})"),
    ):
        assert run_program(autopilot.main, [*words, *changed]) == 2
        assert message in capsys.readouterr().err


def test_a_plan_is_for_what_it_was_made_for(tmp_path, capsys):
    plan().write(tmp_path)
    words = ["--plan", str(tmp_path / "plan.json"), "--save-dir", str(tmp_path / "run")]
    for changed, message in (
        (("--hours", "2"), "is for hours 0.5, not 2.0"),
        (("--flops-max-m", "6"), "is for flops-max-m 5.0, not 6.0"),
        (("--params-max-m", "6"), "is for params-max-m None, not 6.0"),
        (("--seed", "5"), "is for seed 0, not 5"),
        (("--final-epochs", "6"), "leave out --final-epochs"),
    ):
        assert run_program(autopilot.main, [*words, *changed]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    plan(seconds=900.0).write(tmp_path / "other")
    assert run_program(autopilot.main, [*words[:2], "--save-dir", str(tmp_path / "other")]) == 2
    assert "holds another plan" in capsys.readouterr().err


@pytest.mark.parametrize("left", ("flight.json", "supernet", "searched"))
@pytest.mark.parametrize("has_plan", (True, False))
def test_results_of_a_plan_that_is_gone_are_not_taken_for_those_of_another(
    tmp_path, capsys, nothing_starts, left, has_plan
):
    plan().write(tmp_path)
    folder = tmp_path / "run"
    (folder / left).mkdir(parents=True)
    words = ["--plan", str(tmp_path / "plan.json")] if has_plan else DIGITS
    message = f"holds {left} of a flight whose plan.json is gone; put that back, or give another --save-dir"
    assert message in refusal(capsys, tmp_path, *words)


def test_more_images_leave_less_time_for_each():
    few, many = (trainable_seconds(msgspec.structs.replace(FACTS, num_train=n), 1.0, 2) for n in (5000, 10_000))
    assert few == pytest.approx(2 * many)
    assert trainable_seconds(FACTS, 2.0, 2) == pytest.approx(2 * trainable_seconds(FACTS, 1.0, 2))


def flown(folder, **changes):
    """A folder with a plan and a state, as a flight leaves them."""
    made = plan()
    made.write(folder)
    flight = Flight(made, folder, 100.0)
    for name, own in flight.state.stages.items():
        own.state, own.seconds, own.fraction = changes.get(name, (DONE, 60.0, 1.0))
    flight._write()
    return made, flight.state


def test_the_end_says_what_came_out_and_what_to_do_next(tmp_path):
    made, state = flown(tmp_path)
    text = outcome_text(made, state, OUTCOME, tmp_path)
    for words in (
        "95.00%  (95% interval 92.00% to 97.00%, 360 images)",
        "90.00%",
        "0.30 ms an image",
        "0.49 of 0.5 hours",
    ):
        assert words in text
    steps = next_steps(made, OUTCOME, tmp_path).splitlines()
    assert [line.split(":")[0] for line in steps] == ["predict", "fine-tune", "other limit"]
    assert "--flop-max-m 2.5" in steps[2] and "--strides 2,2,2,2,2" in steps[2]


def test_the_page_tells_how_far_it_is(tmp_path):
    made, _ = flown(
        tmp_path, networks=("running", 120.0, 0.4), deploy=("waiting", 0.0, 0.0), report=("waiting", 0.0, 0.0)
    )
    assert is_under_way(tmp_path)
    content = "".join(flight_section(tmp_path).parts)
    assert "In the stage networks" in content and "This page loads itself again" in content and "width:40.0%" in content
    state = json.loads((tmp_path / "flight.json").read_text())
    assert "loads itself again" in "".join(flight_section(tmp_path).parts)
    (tmp_path / "flight.json").write_text(json.dumps({**state, "updated": 0.0}))
    assert not is_under_way(tmp_path) and "Stopped in the stage networks" in "".join(flight_section(tmp_path).parts)
    flown(tmp_path, report=("running", 1.0, 0.0))  # as the last page finds it
    (tmp_path / "outcome.json").write_text(json.dumps(msgspec.to_builtins(OUTCOME)))
    assert not is_under_way(tmp_path) and "All stages are done" in "".join(flight_section(tmp_path).parts)
    assert [card[1] for card in flight_cards(tmp_path)] == ["95.00%", "90.00%"]


def test_a_damaged_outcome_is_one_line(tmp_path):
    (tmp_path / "outcome.json").write_text('{"top1": "high"}')
    with pytest.raises(InputError, match="says no outcome"):
        read_outcome(tmp_path / "outcome.json")


def fly(folder, plan_file, cwd):
    command = [sys.executable, "-m", "utils.autopilot", "--plan", str(plan_file), "--save-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_fixed_plan_gives_the_same_network_however_often_it_is_killed(tmp_path):
    """All of it on the digits, undisturbed and killed at random moments."""
    smallest_plan().write(tmp_path)
    began = time.monotonic()
    whole = fly(tmp_path / "whole", tmp_path / "plan.json", ROOT)
    output, _ = whole.communicate(timeout=600)
    took = time.monotonic() - began
    assert whole.returncode == 0, output
    outcome = read_outcome(tmp_path / "whole" / "outcome.json")
    assert 0.0 < outcome.top1 <= 1.0 and outcome.flops <= 5e6 and outcome.num_images == 360
    assert (tmp_path / "whole" / "report.html").stat().st_size > 10**6 and "predict:" in output
    assert all(own.state == DONE for own in read_state(tmp_path / "whole" / "flight.json").stages.values())
    assert read_plan(tmp_path / "whole" / "plan.json").values == smallest_plan().values
    moments = random.Random(0)
    for _ in range(int(os.environ.get("SPOS_KILLS", "3"))):
        process = fly(tmp_path / "killed", tmp_path / "plan.json", ROOT)
        time.sleep(moments.uniform(0.05, 0.6) * took)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    last = fly(tmp_path / "killed", tmp_path / "plan.json", ROOT)
    output, _ = last.communicate(timeout=900)
    assert last.returncode == 0, output
    for name in ("supernet/model.params", "searched/model.params", "control/model.params"):
        assert file_digest(tmp_path / "killed" / name) == file_digest(tmp_path / "whole" / name), name
    for name in ("top1", "int8_top1", "control_top1", "flops", "params"):
        assert getattr(read_outcome(tmp_path / "killed" / "outcome.json"), name) == getattr(outcome, name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_plan_is_made_of_what_is_measured_here(tmp_path):
    fill(tmp_path / "pictures", {"a": 60, "b": 60})
    words = ["--data-dir", str(tmp_path / "pictures"), "--model-size-max", "2MB", "--hours", "0.2", "--plan-only"]
    assert autopilot.main([*words, "--save-dir", str(tmp_path / "run")]) == 0
    made = read_plan(tmp_path / "run" / "plan.json")
    assert 0.7 * 720 < made.seconds < 720 and made.rates != RATES
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["plan.json"]
