"""Flights, with programs that stand for the real ones: order, progress, replanning, stopping, going on."""

import json
import os
import signal
import threading
import time

import msgspec
import pytest
from pilot_plans import FACTS, RATES, plan, smallest_plan

from spos.core import programs
from spos.core.errors import InputError, Stopped
from spos.pilot import flight as module
from spos.pilot.flight import DONE, FLIGHT_FILE, RUNNING, Flight, describe_seconds, read_state
from spos.pilot.plan import read_plan, times_of
from spos.pilot.stages import stages_of
from spos.pilot.times import NETWORKS, REPORT, SEARCH, SUPERNET

PROGRAM = """import json, os, pathlib, sys, time
words = sys.argv[1:]
flag = lambda name, default="": words[words.index(name) + 1] if name in words else default
run = pathlib.Path(flag("--save-dir") or flag("--details") or pathlib.Path(flag("--output")).parent)
run.mkdir(parents=True, exist_ok=True)
with open(os.environ["CALLS"], "a") as file:
    file.write(NAME + " " + run.name + chr(10))
steps = int(flag("--num-epochs", "1"))
for step in range(steps):
    if step >= len((run / "log.jsonl").read_text().splitlines() if (run / "log.jsonl").exists() else ()):
        time.sleep(float(os.environ.get("STEP", "0")))
        with open(run / "log.jsonl", "a") as file:
            file.write(json.dumps({"epoch": step}) + chr(10))
if os.environ.get("FAIL") == run.name:
    sys.exit("error: it is said to fail")
for name in ("model.params", "worst.png"):
    (run / name).touch()
if NAME == "utils.export_model":
    pathlib.Path(flag("--output") + ".onnx").touch()
"""
ORDER = [
    *("train_imagenet supernet", "search_supernet search", "train_imagenet searched", "train_imagenet control"),
    *("utils.export_model searched", "utils.export_model searched", "utils.evaluate evaluation"),
    *("utils.evaluate evaluation-holdout", "utils.evaluate evaluation-int8", "utils.evaluate evaluation-int8-holdout"),
    *("utils.evaluate evaluation", "utils.report flown"),
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "__init__.py").touch()
    for name in ("train_imagenet", "search_supernet", "utils.export_model", "utils.evaluate", "utils.report"):
        (tmp_path / f"{name.replace('.', '/')}.py").write_text(f"NAME = {name!r}\n{PROGRAM}")
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)  # where -m looks first
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(module, "PAGE_SECONDS", 1000.0)
    return tmp_path


def calls(root):
    return (root / "calls").read_text().splitlines()


def fly(root, made, before=None):
    folder = root / "flown"
    folder.mkdir(exist_ok=True)
    made.write(folder)
    flight = Flight(made, folder, 10.0)
    flight.fly(before or {})
    return flight


def test_stages_follow_each_other_and_are_done_once(root):
    flight = fly(root, smallest_plan())
    found = [line for line in calls(root) if line != ORDER[-1]] + ORDER[-1:]  # the page is made in between, too
    assert sorted(found[2:4]) == sorted(ORDER[2:4]) and found[:2] + found[4:] == ORDER[:2] + ORDER[4:]
    state = read_state(root / "flown" / FLIGHT_FILE)
    assert all(own.state == DONE and own.fraction == 1.0 and own.seconds > 0 for own in state.stages.values())
    assert state.spent > 10.0 + sum(own.seconds for own in state.stages.values()) - 0.5
    before = len(calls(root))
    again = fly(root, smallest_plan())
    assert len(calls(root)) == before and again.spent > flight.spent - 0.5


def test_what_packing_warns_of_is_printed(root, capsys):
    pack = "import pathlib, sys\nprint('warning: no cat tests', file=sys.stderr)\nrun = pathlib.Path(sys.argv[2])\n"
    (root / "utils" / "pack_images.py").write_text(f"{pack}run.mkdir(parents=True)\n(run / 'train.rec').touch()\n")
    pictures = msgspec.structs.replace(FACTS, kind="pictures", where="raw")
    fly(root, msgspec.structs.replace(plan(facts=pictures, finalists=0), is_fixed=True))
    assert capsys.readouterr().out.count("warning: no cat tests\n") == 1


def test_what_is_done_before_a_stage_is_done_between_the_two(root):
    seen = []
    fly(root, smallest_plan(), {REPORT: lambda: seen.append(calls(root)[-1])})
    assert seen == ["utils.evaluate evaluation"]


def test_a_program_that_fails_ends_the_flight_which_goes_on_with_it(root, monkeypatch):
    monkeypatch.setenv("FAIL", "control")
    with pytest.raises(InputError, match="train_imagenet.py: it is said to fail .its output: .*control.log"):
        fly(root, smallest_plan())
    state = read_state(root / "flown" / FLIGHT_FILE)
    assert (state.stages[SEARCH].state, state.stages[NETWORKS].state) == (DONE, RUNNING)
    monkeypatch.delenv("FAIL")
    before = len(calls(root))
    fly(root, smallest_plan())
    assert calls(root)[before] == "train_imagenet control" or calls(root)[before + 1] == "train_imagenet control"
    assert "search_supernet search" not in calls(root)[before:]


def test_a_signal_stops_the_programs_and_the_same_command_goes_on(root, monkeypatch):
    monkeypatch.setenv("STEP", "0.3")
    made = msgspec.structs.replace(plan(supernet_epochs=20, final_epochs=2, evaluations=8, finalists=0), is_fixed=True)
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        fly(root, made)
    assert time.monotonic() - began < 5
    done = (root / "flown" / "supernet" / "log.jsonl").read_text().count("\n")
    state = read_state(root / "flown" / FLIGHT_FILE)
    assert 1 <= done < 20 and state.stages[SUPERNET].state == RUNNING and 0 < state.stages[SUPERNET].fraction < 1
    assert state.left > 0
    time.sleep(0.4)
    assert (root / "flown" / "supernet" / "log.jsonl").read_text().count("\n") == done  # it has ended
    monkeypatch.setenv("STEP", "0")
    flight = fly(root, made)
    assert flight.state.stages[SUPERNET].seconds > state.stages[SUPERNET].seconds
    assert (root / "flown" / "supernet" / "log.jsonl").read_text().count("\n") == 20


def slow_plan(is_fixed=False):
    """The supernet was to take a second for an epoch, and takes a fifth of it."""
    made = plan(seconds=1700.0)
    return msgspec.structs.replace(made, is_fixed=is_fixed)


@pytest.mark.parametrize("seconds", (200.0, 1000.0))
def test_later_stages_fit_what_is_left(root, monkeypatch, seconds, capsys):
    made = slow_plan()
    monkeypatch.setattr(Flight, "spent", property(lambda self: 1746.0 - seconds))
    flight = fly(root, made)
    left = [stage.seconds for stage in flight.plan.stages if stage.name not in (SUPERNET, SEARCH)]
    assert 0.9 * seconds < sum(left) <= seconds  # what is spent stands still here, so the search took nothing
    assert flight.plan.values.supernet_epochs == made.values.supernet_epochs
    written = read_plan(root / "flown" / "plan.json")
    assert written == flight.plan and len(written.changes) >= 1
    assert "final epochs" in written.changes[0] and "plan changed before search" in capsys.readouterr().out


def test_a_fixed_plan_is_followed_to_the_letter(root, monkeypatch):
    monkeypatch.setattr(Flight, "spent", property(lambda self: 1600.0))
    made = slow_plan(is_fixed=True)
    assert fly(root, made).plan == made


def test_a_machine_that_became_slower_makes_what_is_to_come_shorter(root):
    made = slow_plan()
    flight = Flight(made, root, 0.0)
    own = flight.state.stages[SUPERNET]
    own.state, own.seconds = DONE, 2 * made.stage(SUPERNET).seconds
    assert flight._slowness() == pytest.approx(2.0, rel=0.01)
    own.seconds = 1e6
    assert flight._slowness() == 4.0
    own.seconds = 5.0
    assert flight._slowness() == 1.0  # too short to judge


def test_what_is_left_is_that_of_the_stage_as_it_goes_and_of_others_as_planned(root):
    made = slow_plan()
    flight = Flight(made, root, 0.0)
    own = flight.state.stages[SUPERNET]
    own.state, own.seconds, own.fraction = RUNNING, 100.0, 0.25
    others = sum(stage.seconds for stage in made.stages if stage.name != SUPERNET)
    assert flight._left(SUPERNET) == pytest.approx(3 * (100.0 - made.rates.start_seconds) + others)
    own.seconds, own.fraction = 1.0, 0.0
    assert flight._left(SUPERNET) == pytest.approx(made.seconds - 1.0)


def test_the_page_is_made_while_stages_run(root, monkeypatch):
    monkeypatch.setenv("STEP", "0.3")
    monkeypatch.setattr(module, "PAGE_SECONDS", 0.2)
    fly(root, smallest_plan())
    assert calls(root).count("utils.report flown") > 1 and calls(root)[-1] == "utils.report flown"


def test_a_state_that_is_damaged_is_one_line(root):
    (root / FLIGHT_FILE).write_text(json.dumps({"spent": "long", "stages": {}}))
    with pytest.raises(InputError, match="does not say how far a flight is: .*spent"):
        Flight(smallest_plan(), root, 0.0)


def test_a_flight_of_another_plan_is_refused(root):
    Flight(plan(), root, 0.0)._write()
    Flight(plan(seconds=900.0), root, 0.0)  # planned anew, asked for the same
    with pytest.raises(InputError, match="flight.json is of a plan that was asked for something else.*--save-dir"):
        Flight(plan({"flops_max_m": 6.0}), root, 0.0)


def test_a_flight_from_before_it_said_what_was_asked_goes_on(root):
    flight = Flight(plan(), root, 0.0)
    state = msgspec.to_builtins(flight.state)
    del state["asked"]
    (root / FLIGHT_FILE).write_text(json.dumps(state))
    assert Flight(plan({"flops_max_m": 6.0}), root, 0.0).state.asked not in ("", flight.state.asked)


def test_a_flight_is_written_before_its_first_stage(root, monkeypatch):
    monkeypatch.setattr(Flight, "_fly_stage", lambda self, name, *_: read_state(self.folder / FLIGHT_FILE))
    fly(root, smallest_plan())


@pytest.mark.parametrize("seconds, text", ((3.4, "3 s"), (89, "89 s"), (100, "2 min"), (3900, "1 h 05 min")))
def test_seconds_as_people_say_them(seconds, text):
    assert describe_seconds(seconds) == text


def early(root, seconds, epochs, monkeypatch, left=1000.0, name=NETWORKS, **rates):
    """A flight whose supernet, or networks, have trained for so many of their epochs."""
    made = plan(rates=msgspec.structs.replace(RATES, **rates), seconds=1700.0)
    flight = Flight(made, root, 0.0)
    for done in (SUPERNET, SEARCH) if name == NETWORKS else ():
        flight.state.stages[done].state = DONE
    own = flight.state.stages[name]
    count = made.values.supernet_epochs if name == SUPERNET else made.values.final_epochs
    own.state, own.seconds, own.fraction = RUNNING, seconds, epochs / count
    monkeypatch.setattr(Flight, "_seconds_left", property(lambda self: left))
    return flight, own


@pytest.mark.parametrize("times", (0.5, 1.0, 2.0))
def test_networks_that_would_miss_the_end_begin_again(root, monkeypatch, times, capsys):
    made = plan(seconds=1700.0)
    epoch = times_of(made.facts, made.rates, 0.2).final_epoch
    left = made.stage(NETWORKS).seconds + sum(stage.seconds for stage in made.stages[-2:]) - 25 * epoch
    flight, own = early(root, made.rates.start_seconds + times * 25 * epoch, 25, monkeypatch, left)
    group = stages_of(flight.plan, root)[NETWORKS][0]
    assert flight._is_off(NETWORKS, own) == (times != 1.0)
    assert not flight._is_off(NETWORKS, own)  # it is asked once
    for run in ("searched", "control"):
        (root / run).mkdir()
    flight._begin_again(NETWORKS, group, own)
    assert not (root / "searched").exists() and not (root / "control").exists()
    changed = read_plan(root / "plan.json")
    assert changed.values.final_epochs == pytest.approx((made.values.final_epochs - 25) / times, rel=0.05)
    assert changed.stage(NETWORKS).seconds <= left
    assert (times == 1.0) or "early in networks" in changed.changes[-1]


@pytest.mark.parametrize("times", (0.4, 1.0, 1.3, 3.0))
def test_a_supernet_that_takes_far_too_long_begins_again(root, monkeypatch, times, capsys):
    """As slow as a warm-up is expected to begin is not slow; later stages make up for less than 40%."""
    made = plan(rates=msgspec.structs.replace(RATES, full_width_images=RATES.supernet_images / 2), seconds=1700.0)
    values, planned = made.values, times_of(made.facts, made.rates, 0.2)
    assert values.warm_up_from > 20
    begun = planned.supernet(values, 20)
    assert begun == pytest.approx(40 * planned.supernet_epoch)
    left, rates = 1700.0 - times * begun, {"full_width_images": RATES.supernet_images / 2}
    flight, own = early(root, RATES.start_seconds + times * begun, 20, monkeypatch, left, SUPERNET, **rates)
    (group,) = stages_of(flight.plan, root)[SUPERNET]
    assert flight._is_off(SUPERNET, own) == (times in (0.4, 3.0)) and flight.state.judged == [SUPERNET]
    if times != 3.0:
        return
    (root / "supernet").mkdir()
    flight._begin_again(SUPERNET, group, own)
    changed = read_plan(root / "plan.json")
    assert not (root / "supernet").exists() and own.lost == own.seconds
    assert changed.values.supernet_epochs < 0.5 * values.supernet_epochs
    assert changed.values.final_epochs < 0.5 * values.final_epochs
    assert sum(stage.seconds for stage in changed.stages) <= left
    assert "early in supernet" in changed.changes[-1]
    own.seconds += RATES.start_seconds + 3 * planned.supernet(changed.values)
    own.state = DONE
    assert flight._slowness() == pytest.approx(3.0, rel=0.05)


def test_trainings_are_not_judged_too_early_too_late_or_in_a_fixed_plan(root, monkeypatch):
    flight, own = early(root, 1.0, 1, monkeypatch)
    assert not flight._is_off(NETWORKS, own) and not flight.state.judged
    flight, own = early(root, 2000.0, 0.5 * plan().values.final_epochs, monkeypatch)
    assert not flight._is_off(NETWORKS, own)
    flight, own = early(root, 2000.0, 30, monkeypatch)
    assert not flight._is_off(SEARCH, own)
    flight.plan = msgspec.structs.replace(flight.plan, is_fixed=True)
    assert not flight._is_off(NETWORKS, own) and not flight.state.judged


@pytest.mark.parametrize("name, value", ((SUPERNET, "supernet_epochs"), (NETWORKS, "final_epochs")))
def test_a_training_whose_epochs_are_decided_is_not_given_up(root, monkeypatch, name, value):
    flight, own = early(root, 2000.0, 30, monkeypatch, name=name)
    flight.plan = msgspec.structs.replace(flight.plan, edited={value: getattr(flight.plan.values, value)})
    assert not flight._is_off(name, own) and not flight.state.judged
    flight.plan = msgspec.structs.replace(flight.plan, edited={})
    assert flight._is_off(name, own)
