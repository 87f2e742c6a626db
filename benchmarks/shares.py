"""Where the time of a candidate goes: decoding, transfer, weights, BatchNorm update, scoring, and an idle device.

The stages are timed on a serialized run, which waits for the engine at the end of every batch. In the run beside it
nothing waits that would not in a search; MXNet's profiler says how long operators were running there, and what is left
of its time is host code with the device idle.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Sequence

import numpy as np

from benchmarks.candidate_ways import Batches, CandidateWay
from spos.core.tables import Column, Table
from spos.engine.compat import mx
from spos.scoring.accuracy import count_hits
from spos.space.architecture import Architecture

WEIGHTS, DECODE, TRANSFER, UPDATE, SCORING = STAGES = ("weights", "decode", "transfer", "BN update", "scoring")


class Stopwatch:
    """Seconds of stages that follow one another; each ends when the engine has nothing left to do."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What was done since the last lap belongs to this stage."""
        mx.nd.waitall()
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now


@dataclass(frozen=True)
class Shares:
    """Of one candidate.

    Args:
        stages: seconds of the serialized run by stage.
        wall: seconds when nothing waits.
        profiled, busy: seconds of such a run under the profiler, and of all operators in it.
    """

    stages: Mapping[str, float]
    wall: float
    profiled: float
    busy: float

    @property
    def idle(self) -> float:
        """Share of the time in which host code ran and no operator."""
        return max(0.0, 1 - self.busy / self.profiled)

    def to_json(self) -> Dict[str, Any]:
        total = sum(self.stages.values())
        shares = {stage: seconds / total for stage, seconds in self.stages.items()}
        return {"seconds": dict(self.stages), "shares": shares, "wall": self.wall, "python_share": self.idle}


def measure_shares(way: CandidateWay, loads: str, architectures: Sequence[Architecture]) -> Shares:
    """Medians over the architectures; the first of them is not counted.

    Args:
        loads: the stage that getting a batch belongs to, DECODE or TRANSFER.
    """
    found = [_shares_of(way, loads, architecture) for architecture in architectures][1:]
    stages = {stage: float(np.median([one.stages[stage] for one in found])) for stage in STAGES}
    return Shares(stages, *(float(np.median([getattr(one, n) for one in found])) for n in ("wall", "profiled", "busy")))


def _shares_of(way: CandidateWay, loads: str, architecture: Architecture) -> Shares:
    stages = _serialized(way, loads, architecture)
    wall = _seconds(lambda: way.score(architecture))
    with tempfile.TemporaryDirectory() as folder:
        mx.profiler.set_config(
            profile_imperative=True, profile_symbolic=True, aggregate_stats=True, filename=str(Path(folder) / "p.json")
        )
        mx.profiler.set_state("run")
        profiled = _seconds(lambda: way.score(architecture))
        mx.profiler.set_state("stop")
        rows = json.loads(mx.profiler.dumps(reset=True, format="json"))["Time"].get("operator", {})
    return Shares(stages, wall, profiled, sum(row["Total"] for row in rows.values()) / 1000)


def _serialized(way: CandidateWay, loads: str, architecture: Architecture) -> Dict[str, float]:
    """The same work in the same order, waiting for each stage."""
    watch = Stopwatch()
    with way.execution():
        forward = way.prepare(architecture, _watched(way.decoded("bn"), watch, loads, WEIGHTS, UPDATE))
        watch.lap(UPDATE)
        for images, labels in _watched(way.decoded(way.setup.score_on), watch, loads, UPDATE, SCORING):
            count_hits(forward(images), labels)
        watch.lap(SCORING)
    return {stage: watch.seconds[stage] for stage in STAGES}


def _watched(batches: Batches, watch: Stopwatch, loads: str, before: str, during: str) -> Iterator[Any]:
    """The batches, with what went before them, getting them, and what is done with each noted."""
    stage = before
    iterator = iter(batches)
    while True:
        watch.lap(stage)
        batch = next(iterator, None)
        watch.lap(loads)
        if batch is None:
            return
        yield batch
        stage = during


def _seconds(run: Callable[[], Any]) -> float:
    mx.nd.waitall()
    start = time.perf_counter()
    run()
    mx.nd.waitall()
    return time.perf_counter() - start


def table(shares: Mapping[str, Shares]) -> Table:
    """A row for each stage of every way."""
    columns = (
        Column("way"),
        Column("stage"),
        Column("seconds", "time", "s", spec=".3f"),
        Column("share", spec=".1%"),
    )
    rows = []
    for name, one in shares.items():
        total = sum(one.stages.values())
        rows += [(name, stage, seconds, seconds / total) for stage, seconds in one.stages.items()]
        rows.append((name, "all, one after the other", total, 1.0))
        rows.append((name, "the same when nothing waits", one.wall, one.wall / total))
        rows.append((name, "of it Python, no operator running", one.idle * one.wall, one.idle))
    return Table("", columns, tuple(rows))
