"""A training step part by part: how long each took, its share, and the shortest time that it could take."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple
from typing import Counter as Counts

import numpy as np

from benchmarks.limits import Machine
from benchmarks.measure import milliseconds, where_and_when
from benchmarks.step_trace import IDLE, KINDS, OTHER, Piece, StepTrace, typical_pieces
from spos.core.tables import Column, Table

MILLI, MIB, GIGA = 1e-3, 2**20, 1e9


@dataclass(frozen=True)
class Undisturbed:
    """Medians of steps without a profiler; of a supernet the means of its paths' medians.

    Args:
        wall: seconds of a step, without those in which its busiest thread waited for a processor that others had; at
            most its processor time.
        waited: these.    python, system: seconds in which the interpreter's thread, and the system, computed.
        faults: page faults of a step.
        one_image: as `wall`, of a step on one image: what does not depend on the batch.
        transfer: seconds in which a batch in memory becomes an array of the engine; no part of the step.
    """

    wall: float
    waited: float
    python: float
    system: float
    faults: float
    one_image: float
    transfer: float


@dataclass(frozen=True)
class Share:
    """A part of the step.

    Args:
        seconds: mean of the paths.    share: of the step.
        limit: the shortest time that it could take.
        speed: of convolutions, FLOP/s as executed by the peak.
    """

    kind: str
    seconds: float
    share: float
    limit: float
    speed: Optional[float] = None


class Profile:
    """What was measured.

    Args:
        traces: steps by path.    limits: seconds by kind, of each path.
    """

    def __init__(
        self,
        traces: Sequence[Sequence[StepTrace]],
        limits: Sequence[Mapping[str, float]],
        undisturbed: Undisturbed,
        machine: Machine,
    ) -> None:
        self.undisturbed = undisturbed
        self.machine = machine
        self.num_steps = sum(map(len, traces))
        self.num_paths = len(traces)
        self.traced = float(np.mean([np.median([trace.wall for trace in own]) for own in traces]))
        self.stray = float(np.mean([np.median([trace.stray for trace in own]) for own in traces]))
        self.pieces = self._sums([piece for own in traces for piece in typical_pieces(own)])
        self.rows = self._rows(limits)

    def _sums(self, pieces: Sequence[Piece]) -> List[Piece]:
        """By part and name, the longest first; means of the paths."""
        sums: Dict[Tuple[str, str], Piece] = {}
        for piece in pieces:
            one = sums.get((piece.kind, piece.name), replace(piece, seconds=0.0, flops=0.0))
            seconds, flops = piece.seconds / self.num_paths, piece.flops / self.num_paths
            sums[piece.kind, piece.name] = replace(one, seconds=one.seconds + seconds, flops=one.flops + flops)
        return sorted(sums.values(), key=lambda piece: -piece.seconds)

    def _rows(self, limits: Sequence[Mapping[str, float]]) -> List[Share]:
        """Parts in the order of KINDS, those that take no time left out; what is left of the step is IDLE."""
        wall = self.undisturbed.wall
        seconds: Counts[str] = Counter()
        flops: Counts[str] = Counter()
        for piece in self.pieces:
            seconds[piece.kind] += piece.seconds
            flops[piece.kind] += piece.flops
        seconds[IDLE] = wall - sum(seconds.values())
        rows = []
        for kind in KINDS:
            limit = float(np.mean([own.get(kind, 0.0) for own in limits]))
            if seconds[kind] or limit:
                speed = flops[kind] / seconds[kind] / self.machine.peak if flops[kind] else None
                rows.append(Share(kind, seconds[kind], seconds[kind] / wall, limit, speed))
        return rows

    def to_json(self) -> Dict[str, Any]:
        return {
            "shares": [vars(row) for row in self.rows],
            "details": [vars(piece) for piece in self.pieces],
            "traced": self.traced,
            "stray": self.stray,
            "undisturbed": vars(self.undisturbed),
            "limits": vars(self.machine),
            **where_and_when(),
        }

    def tables(self, num_details: int) -> List[Table]:
        """The parts, and if wanted so many operators and kernels."""
        time = Column("seconds", "time", "ms", MILLI, ".1f")
        columns = (
            Column("kind", "part"),
            time,
            Column("share", spec=".1%"),
            Column("limit", "at best", "ms", MILLI, ".1f"),
            Column("speed", "of peak", spec=".0%"),
        )
        values = tuple((row.kind, row.seconds, row.share, row.limit, row.speed) for row in self.rows)
        total = ("a step", self.undisturbed.wall, 1.0, sum(row.limit for row in self.rows), None)
        tables = [Table("", columns, values, self._notes(), totals=(total,))]
        if num_details:
            longest = tuple((piece.kind, piece.name, piece.seconds) for piece in self.pieces[:num_details])
            tables.append(Table("", (columns[0], Column("name", "operator or kernel"), time), longest))
        return tables

    def _notes(self) -> Tuple[str, ...]:
        own, machine = self.undisturbed, self.machine
        rates = ", ".join(f"{rate / GIGA:.0f} GB/s on {size / MIB:g} MiB" for size, rate in machine.bandwidths)
        others = sorted({piece.name for piece in self.pieces if piece.kind == OTHER})
        return (
            f"{self.num_steps} steps of {self.num_paths} path{'s' * (self.num_paths > 1)}: lower quartiles of every "
            f"operator and kernel under the profiler, whose step took {milliseconds(self.traced)} ms, and medians of "
            f"undisturbed steps, without {milliseconds(own.waited)} ms in which the busiest thread waited for a "
            "processor.",
            f"A step of one image: {milliseconds(own.one_image)} ms. Python's thread computes "
            f"{milliseconds(own.python)} ms of a step, beside operators. A batch reaches the engine in "
            f"{milliseconds(own.transfer)} ms, before it.",
            f"Page faults: {own.faults:,.0f} a step, at {machine.fault * 1e6:.1f} us each "
            f"{milliseconds(own.faults * machine.fault)} ms; the system's time in a step: "
            f"{milliseconds(own.system)} ms. They lie in the parts whose memory is new, or in the rest.",
            f"Peak: {machine.peak / GIGA:.0f} GFLOP/s (a product of matrices). Copies: {rates}.",
            *([f"Other operators: {', '.join(others)}."] if others else []),
        )
