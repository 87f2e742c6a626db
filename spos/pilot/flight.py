"""The flight: all stages of a plan one behind the other, whatever happens in between.

What is done is in `flight.json`, which is written while stages run: so the same command goes on after any end, the time
that has been spent counts, and the page of a running flight has something to show. The work is that of the programs,
each in a process of its own, which go on with their own runs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from subprocess import Popen
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import msgspec
from msgspec import Struct
from tqdm import tqdm

from spos.core.errors import InputError
from spos.core.programs import check_end, start, warnings_in
from spos.core.progress import progress_bar
from spos.core.stopping import StopRequest
from spos.pilot.plan import Plan, change_text, replanned, times_of
from spos.pilot.stages import PACKING, Command, stages_of
from spos.pilot.times import EPOCHS, NETWORKS, REPORT, SEARCH, SLACK, SUPERNET, Times
from spos.runs.files import read_json, write_json
from spos.runs.lock import wait_until_free

FLIGHT_FILE = "flight.json"
WAITING, RUNNING, DONE = "waiting", "running", "done"
POLL_SECONDS, WRITE_SECONDS, PAGE_SECONDS = 0.2, 2.0, 30.0
END_SECONDS = 600.0  # that a program of a flight that was killed gets to end: it may be validating
LEAST_TO_JUDGE = 20.0  # seconds of a stage, from which it says how fast the machine is
SLOWNESS = (0.3, 4.0)  # that is believed
EARLY = (0.04, 0.3)  # shares of a stage's training after which its length is judged, and after which no more
# Of what is left for it, that a stage may take. What the supernet takes too much later stages can make up for.
FITS = {SUPERNET: (0.6, 1.4), NETWORKS: (0.88, 1.06)}


class StageState(Struct):
    """How far a stage is: seconds that it has taken, and the share that is done where its programs tell.

    Args: lost: seconds of a beginning that was given up.
    """

    state: str = WAITING
    seconds: float = 0.0
    fraction: float = 0.0
    lost: float = 0.0

    @property
    def counted(self) -> float:
        """Seconds of what was not given up."""
        return self.seconds - self.lost


class FlightState(Struct):
    """What `flight.json` says.

    Args:
        spent: seconds since the beginning, without those in which nothing ran.
        left: seconds until the end, as it looks now.    updated: when this was written, in seconds since 1970.
        finished: commands that have ended well, as their words.
        judged: stages of which it was asked already, early in their training, if they end in time.
        asked: checksum of what its plan was asked for; empty: nobody wrote it down.
    """

    spent: float
    stages: Dict[str, StageState]
    left: float = 0.0
    updated: float = 0.0
    finished: List[List[str]] = []
    judged: List[str] = []
    asked: str = ""


class Flight:
    """A plan being followed in a folder."""

    def __init__(self, plan: Plan, folder: Path, spent: float) -> None:
        """
        Args: spent: seconds that planning has taken, which count.
        Raises: InputError if the folder holds a flight of another plan.
        """
        self.plan, self.folder = plan, folder
        path = folder / FLIGHT_FILE
        self.state = read_state(path) if path.exists() else FlightState(spent, {})
        asked = _checksum(plan.asked)
        if self.state.asked not in ("", asked):
            raise InputError(
                f"{path} is of a plan that was asked for something else than the one beside it; put that plan back, or "
                "give another --save-dir"
            )
        self.state.asked = asked
        for stage in plan.stages:
            self.state.stages.setdefault(stage.name, StageState())
        self._before = self.state.spent
        self._started = time.monotonic()
        self._written = self._paged = 0.0
        self._page: Optional[Popen] = None

    def fly(self, before: Mapping[str, Callable[[], object]]) -> None:
        """Run what is not done yet.

        Args: before: what else is to be done before a stage, by its name.
        Raises: InputError if a program fails; Stopped after a signal.
        """
        self._write()  # before there is anything that belongs to it
        bar = progress_bar(total=1.0, desc="autopilot", bar_format=_BAR)
        with StopRequest("") as stop, bar:
            try:
                for name in [stage.name for stage in self.plan.stages]:
                    if self.state.stages[name].state != DONE:
                        before.get(name, _nothing)()
                        if name == REPORT:
                            self._end_page()  # the last page is not to be followed by one of before
                        self._fly_stage(name, stop, bar)
            finally:
                self._write()
                self._end_page()

    def _end_page(self) -> None:
        if self._page is not None:
            self._page.terminate()
            self._page.wait()
            self._page = None

    @property
    def spent(self) -> float:
        """Seconds since the beginning, of all flights with this folder."""
        return self._before + time.monotonic() - self._started

    @property
    def _seconds_left(self) -> float:
        """Of the hours that were asked for."""
        return self.plan.asked["hours"] * 3600 * (1 - SLACK) - self.spent

    def _fly_stage(self, name: str, stop: StopRequest, bar: tqdm) -> None:
        own = self.state.stages[name]
        if own.state == WAITING:
            self._replan(name)
        own.state = RUNNING
        before, began = own.seconds, time.monotonic()
        planned = self.plan.stage(name)
        _say(bar, f"{name}: {describe_seconds(planned.seconds)} planned; {planned.why}")
        number, groups = 0, self._groups(name)
        while number < len(groups):
            group = groups[number]
            running = self._start([command for command in group if not self._is_done(command)], stop)
            try:
                while running:
                    with stop.at_once():
                        time.sleep(POLL_SECONDS)
                    self._note_ends(running)
                    own.seconds = before + time.monotonic() - began
                    self._show(name, group, (number, len(groups)), bar)
                    if running and self._is_off(name, own):
                        break
            finally:
                for _, process, _ in running:
                    process.terminate()
                for _, process, _ in running:
                    process.wait()
            if running:
                self._begin_again(name, group, own)
                groups = self._groups(name)
            else:
                number += 1
        own.state, own.fraction, self.state.left = DONE, 1.0, 0.0
        own.seconds = before + time.monotonic() - began
        self._write()
        _say(bar, f"{name}: done in {describe_seconds(own.seconds)}")

    def _groups(self, name: str) -> List[List[Command]]:
        return stages_of(self.plan, self.folder)[name]

    def _note_ends(self, running: List[Tuple[Command, Popen, Path]]) -> None:
        """Take what has ended out of the list. Raises: InputError if it has failed."""
        for command, process, log in list(running):
            if process.poll() is not None:
                running.remove((command, process, log))
                check_end(command.words[0], process.returncode, log)
                if command.words[0] == PACKING:
                    print("".join(warnings_in(log)), end="", flush=True)
                self.state.finished.append(list(command.words))

    def _is_off(self, name: str, own: StageState) -> bool:
        """Whether a training, early on, is clearly going to miss its end. That is asked once of each."""
        if name not in FITS or self.plan.is_fixed or EPOCHS[name] in self.plan.given:
            return False
        if name in self.state.judged or own.fraction < EARLY[0]:
            return False
        if own.seconds < LEAST_TO_JUDGE and own.fraction < EARLY[1]:
            return False
        self.state.judged.append(name)
        low, high = FITS[name]
        return own.fraction <= EARLY[1] and not low < self._to_come(name, own) / max(self._left_for(name), 1.0) < high

    def _begin_again(self, name: str, group: Sequence[Command], own: StageState) -> None:
        """Train anew, for as many epochs as there is time for at the speed that this had."""
        values, times = self.plan.values, self._times
        planned = times.supernet(values) if name == SUPERNET else values.final_epochs * times.final_epoch
        slowness = max(own.seconds - self.plan.rates.start_seconds, 1e-3) / (planned * self._share(name, own))
        begun = [stage for stage, other in self.state.stages.items() if other.state != WAITING and stage != name]
        for run in filter(None, map(_run_of, group)):
            wait_until_free(run, END_SECONDS)
            shutil.rmtree(run)  # before the plan changes: with the new one the old run could not go on
        own.lost = own.seconds
        self._change(replanned(self.plan, begun, self._seconds_left, slowness), f"early in {name}")

    def _left_for(self, name: str) -> float:
        """Seconds that a stage has from now on, so that those behind it end in time."""
        names = [stage.name for stage in self.plan.stages]
        after = sum(stage.seconds for stage in self.plan.stages[names.index(name) + 1 :])
        return self._seconds_left - after

    def _start(self, commands: Sequence[Command], stop: StopRequest) -> List[Tuple[Command, Popen, Path]]:
        started = []
        for command in commands:
            run = _run_of(command)
            if run is not None:
                with stop.at_once():
                    wait_until_free(run, END_SECONDS)
            log = self.folder / "logs" / f"{_log_name(command)}.log"
            started.append((command, start(command.words, command.threads, log), log))
        return started

    def _is_done(self, command: Command) -> bool:
        return list(command.words) in self.state.finished or (command.done is not None and command.done.exists())

    def _replan(self, name: str) -> None:
        """Before a stage begins, give it and those behind it the time that is left."""
        if self.plan.is_fixed or name not in (SEARCH, NETWORKS):
            return
        begun = [stage for stage, own in self.state.stages.items() if own.state != WAITING]
        self._change(replanned(self.plan, begun, self._seconds_left, self._slowness()), f"before {name}")

    def _change(self, changed: Plan, when: str) -> None:
        """Follow another plan from here on, say so, and write it."""
        text = change_text(self.plan, changed, f"{when}, {describe_seconds(self.spent)} gone")
        if text:
            changed = msgspec.structs.replace(changed, changes=[*changed.changes, text])
            print(f"plan changed {text}", flush=True)
        self.plan = changed
        changed.write(self.folder)

    def _slowness(self) -> float:
        """How many times as long as by the rates the supernet took; trainings and candidates slow down alike."""
        own, expected = self.state.stages[SUPERNET], self._times.of(self.plan.values)[SUPERNET]
        if own.state != DONE or own.seconds < LEAST_TO_JUDGE:
            return 1.0
        return min(max(own.counted / expected, SLOWNESS[0]), SLOWNESS[1])

    def _show(self, name: str, group: Sequence[Command], place: Tuple[int, int], bar: tqdm) -> None:
        """How far a stage is, now and then: its programs' journals are read for it.

        Args: place: number of the group, and of how many.
        """
        now = time.monotonic()
        if now - self._written < WRITE_SECONDS:
            return
        self.state.stages[name].fraction = (place[0] + _fraction(group)) / place[1]
        left = self.state.left = round(self._left(name), 1)
        self._write()
        bar.n, bar.desc = self.spent / (self.spent + left), f"{name}, {describe_seconds(left)} left"
        bar.refresh()
        if self._page is not None and self._page.poll() is not None:
            self._page = None
        if self._page is None and name != REPORT and now - self._paged > PAGE_SECONDS:
            self._paged = now
            ((command,),) = stages_of(self.plan, self.folder)[REPORT]
            self._page = start(command.words, 1, self.folder / "logs" / "page.log", low=True)

    def _left(self, name: str) -> float:
        """Seconds until the end: of this stage as it goes, of the others as planned."""
        own, planned = self.state.stages[name], self.plan.stage(name).seconds
        stage = max(0.0, planned - own.counted)
        if own.fraction > 0.02 and own.counted > LEAST_TO_JUDGE / 2:
            stage = self._to_come(name, own)
        return stage + sum(
            other.seconds for other in self.plan.stages if self.state.stages[other.name].state == WAITING
        )

    def _to_come(self, name: str, own: StageState) -> float:
        """Seconds that the rest of a stage takes if it goes on as it does; beginning takes some once."""
        return max(own.counted - self.plan.rates.start_seconds, 0.0) * (1 / self._share(name, own) - 1)

    def _share(self, name: str, own: StageState) -> float:
        """Of the time of a stage, what its epochs so far should have taken."""
        values = self.plan.values
        if name != SUPERNET:
            return own.fraction
        return self._times.supernet(values, own.fraction * values.supernet_epochs) / self._times.supernet(values)

    @property
    def _times(self) -> Times:
        return times_of(self.plan.facts, self.plan.rates, self.plan.values.test_share)

    def _write(self) -> None:
        self._written = time.monotonic()
        self.state.spent, self.state.updated = round(self.spent, 1), time.time()
        write_json(self.folder / FLIGHT_FILE, msgspec.to_builtins(self.state))


_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}"


def read_state(path: Path) -> FlightState:
    """Raises: InputError that names what is wrong."""
    try:
        return msgspec.convert(read_json(path), FlightState)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} does not say how far a flight is: {error}") from None


def _checksum(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def describe_seconds(seconds: float) -> str:
    """Like 1 h 05 min, 12 min or 40 s."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _nothing() -> None:
    pass


def _say(bar: tqdm, line: str) -> None:
    """Above the bar."""
    bar.clear()
    print(line, flush=True)


def _run_of(command: Command) -> Optional[Path]:
    """The run directory that a command writes to."""
    words = command.words
    return Path(words[words.index("--save-dir") + 1]) if "--save-dir" in words else None


def _log_name(command: Command) -> str:
    run = _run_of(command)
    program = command.words[0].replace(".py", "").rpartition(".")[2]
    return run.name if run else f"{program}-{command.done.parent.name}" if command.done else program


def _fraction(group: Sequence[Command]) -> float:
    """The share that the slowest of the programs has done, as far as they tell."""
    shares = [
        min(1.0, _num_lines(command.progress) / command.steps)
        for command in group
        if command.progress and command.steps
    ]
    return min(shares, default=0.0)


def _num_lines(path: Path) -> int:
    try:
        with open(path, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 16), b""))
    except FileNotFoundError:
        return 0
