"""Ways to do the same work, timed in turns and written down.

Every way does the work of every round, in random order, so a machine whose speed drifts favours none. A round gives
each way a ratio to the plain one beside it; the median of these ratios is what counts (spos/core/timing.py).
"""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, flag
from spos.core.machine import processor_name
from spos.core.progress import progress_bar
from spos.core.tables import Column, Table, as_text
from spos.core.timing import CLOCKS, Timing
from spos.engine.compat import num_threads
from spos.engine.devices import versions
from spos.runs.files import check_output

PLAIN, OURS, PYTORCH, ONNX_RUNTIME, OTHER = ROLES = ("plain", "ours", "pytorch", "onnxruntime", "other")


@dataclass(frozen=True)
class OutputOptions(JsonOptions):
    """Output."""

    out: str = flag("", "also append the result to this file, as a line of JSON")

    def check(self) -> None:
        """Raise InputError now if the result could not be written later."""
        if self.out and not Path(self.out).is_file():
            check_output(self.out)


@dataclass(frozen=True)
class Way:
    """One way to do the work.

    Args:
        role: what it is in the table of all stages; the fastest of a role stands there.
        run: does the work of a round.
        tells_seconds: it returns how long that took, and is not timed here.
    """

    name: str
    role: str
    run: Callable[[Any], Any]
    tells_seconds: bool = False


def take_turns(
    ways: Sequence[Way],
    rounds: Sequence[Any],
    warm_up: int,
    rng: np.random.Generator,
    clock: str = "wall",
    twice: bool = False,
) -> Dict[str, List[float]]:
    """Seconds of every way in every counted round.

    Args:
        rounds: what each round is about, given to every way; the first `warm_up` of them are not counted.
        clock: one of `spos.core.timing.CLOCKS`.
        twice: do the work twice and time the second, so that short work finds its data in the caches.
    """
    seconds: Dict[str, List[float]] = {way.name: [] for way in ways}
    for number, subject in enumerate(progress_bar(rounds, unit="round")):
        for i in rng.permutation(len(ways)):
            if twice:
                ways[i].run(subject)
            taken = _seconds(ways[i], subject, CLOCKS[clock])
            if number >= warm_up:
                seconds[ways[i].name].append(taken)
    return seconds


def _seconds(way: Way, subject: Any, now: Callable[[], float]) -> float:
    start = now()
    told = way.run(subject)
    return told if way.tells_seconds else now() - start


@dataclass(frozen=True)
class Row:
    """What was measured of one way. Times are seconds of one `unit`.

    Args:
        speedup: median over the rounds of the plain way's time by this one's; 2 is twice as fast.
        error: its relative standard error.
        ours: (median over the rounds of the time of ours by this one's, its relative standard error): below 1 where
            ours is faster. Of PyTorch only; of several ways of ours the fastest.
    """

    name: str
    role: str
    median: float
    quartiles: Tuple[float, float]
    speedup: float
    error: float
    rounds: int
    ours: Optional[Tuple[float, float]] = None

    @classmethod
    def of(
        cls, way: Way, seconds: Sequence[float], base: Sequence[float], ours: Optional[Sequence[float]] = None
    ) -> Row:
        timing = Timing.of(np.array(base) / np.array(seconds))
        low, median, high = np.percentile(seconds, (25, 50, 75)).tolist()
        row = cls(way.name, way.role, median, (low, high), timing.ratio, timing.error, len(seconds))
        if ours is None:
            return row
        beside = Timing.of(np.array(ours) / np.array(seconds))
        return replace(row, ours=(beside.ratio, beside.error))


def rows_of(ways: Sequence[Way], seconds: Mapping[str, Sequence[float]]) -> List[Row]:
    """In the order of `ways`; the first with the role of the plain one is the base."""
    base = next(way.name for way in ways if way.role == PLAIN)
    ours = min((seconds[way.name] for way in ways if way.role == OURS), key=np.median, default=None)
    return [Row.of(way, seconds[way.name], seconds[base], ours if way.role == PYTORCH else None) for way in ways]


@dataclass(frozen=True)
class Result:
    """A stage as it was measured.

    Args:
        unit: what the times are of, for eyes: "a step".
        notes: what was left out and why, and what was checked before.
        extra: versions of libraries beyond our own, and the like.
    """

    stage: str
    unit: str
    options: Mapping[str, Any]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Dict[str, Any]:
        return {
            "stage": self.stage,
            "unit": self.unit,
            "options": dict(self.options),
            "rows": [{**vars(row), "quartiles": list(row.quartiles)} for row in self.rows],
            "notes": list(self.notes),
            **where_and_when(),
            **self.extra,
        }

    def table(self) -> Table:
        columns = (
            Column("way", self.stage),
            Column("median", unit="ms"),
            Column("quartiles", unit="ms"),
            Column("speedup", "times as fast as plain", spec=".2f"),
            Column("error", "standard error", spec=".1%"),
            Column("ours", "ours / PyTorch"),
        )
        rows = tuple(
            (
                row.name,
                milliseconds(row.median),
                " to ".join(map(milliseconds, row.quartiles)),
                row.speedup,
                row.error,
                with_error(*row.ours) if row.ours else None,
            )
            for row in self.rows
        )
        return Table("", columns, rows, notes=(f"Times are of {self.unit}.", *self.notes))

    def report(self, output: OutputOptions) -> None:
        """Print the table, or the line of JSON; append the line to the file that was asked for."""
        line = json.dumps(self.to_json())
        write_line(line, output)
        print(line if output.json else as_text(self.table()))


def with_error(value: float, error: float) -> str:
    """A ratio and its standard error, which is given relative to it."""
    return f"{significant(value)} ± {significant(error * value, 1)}"


def significant(value: float, digits: int = 3) -> str:
    """With so many digits, but never as a power of ten."""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if value >= 10**digits or "e+" in text else text


def milliseconds(seconds: float) -> str:
    """Three digits, for eyes, of anything from microseconds to minutes."""
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def write_line(line: str, output: OutputOptions) -> None:
    """Append a line to `--out`, if it is given."""
    if output.out:
        with open(output.out, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def where_and_when() -> Dict[str, Any]:
    """What a time depends on beside the program: machine, threads, versions, commit, and what else ran."""
    return {
        "threads": num_threads(),
        "machine": machine(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "versions": versions(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def machine() -> Dict[str, Any]:
    """Processor, cores this process may use, and memory in bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": processor_name(), "cores": len(os.sched_getaffinity(0)), "memory": memory}


def check_close(expected: np.ndarray, given: np.ndarray, tolerance: float, what: str) -> float:
    """Relative difference in the Euclidean norm. Raises InputError if it is larger: nothing may be timed then."""
    if expected.shape != given.shape:
        raise InputError(f"{what} have shape {given.shape}, not {expected.shape}: another computation, not timed")
    norm = float(np.linalg.norm(expected))
    difference = float(np.linalg.norm(np.subtract(expected, given, dtype=np.float64))) / (norm or 1.0)
    if not difference <= tolerance:
        raise InputError(f"{what} differ by {difference:.1e}, above {tolerance:.0e}: another computation, not timed")
    return difference
