"""Tables of flights of the autopilot: what came out, and how long each stage took beside its plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List

from spos.core.intervals import Interval
from spos.core.tables import Column, Table, millions
from spos.pilot.flight import FLIGHT_FILE, FlightState, read_state
from spos.pilot.outcome import OUTCOME_FILE, Outcome, read_outcome
from spos.pilot.plan import PLAN_FILE, Plan, in_bytes, read_plan
from spos.pilot.stages import INT8
from spos.training.log import SECONDS_OF_AN_HOUR
from utils.study.tables import share

LIMITS = {
    "flops_max_m": "{:g}M FLOPs",
    "params_max_m": "{:g}M params",
    "latency_max": "{:g} ms",
}


@dataclass(frozen=True)
class FlightLog:
    """A flight that has ended, by the name of its folder."""

    name: str
    plan: Plan
    state: FlightState
    outcome: Outcome

    @property
    def limit(self) -> str:
        """As it was given."""
        asked = self.plan.asked
        parts = [text.format(asked[name]) for name, text in LIMITS.items() if name in asked]
        return ", ".join(parts + ([in_bytes(asked["model_size_max"])] if "model_size_max" in asked else []))


def has_flights(folder: Path) -> bool:
    return any(folder.glob(f"*/{FLIGHT_FILE}"))


def load_flights(folder: Path) -> List[FlightLog]:
    """All below a folder, by name. Raises: InputError if a file is missing or damaged."""
    return [
        FlightLog(
            path.parent.name,
            read_plan(path.parent / PLAN_FILE),
            read_state(path),
            read_outcome(path.parent / OUTCOME_FILE),
        )
        for path in sorted(folder.glob(f"*/{FLIGHT_FILE}"))
    ]


def flight_tables(flights: List[FlightLog]) -> Dict[str, Table]:
    return {"flights": _outcomes(flights), "stages": _stages(flights)}


def _outcomes(flights: List[FlightLog]) -> Table:
    columns = (
        *(Column("images"), Column("limit"), Column("space and input"), Column("hours", spec=".2f")),
        *(Column("took", spec=".2f"), Column("searched, test top-1 (95%)")),
        *(millions("flops", "FLOPs", ".2f"), millions("params", "params"), Column("random, test top-1 (95%)")),
        *(millions("control_flops", "FLOPs", ".2f"), millions("control_params", "params")),
        *(Column("INT8 top-1", spec=".2%"), Column("INT8 file")),
    )
    rows = [
        (
            flight.name,
            flight.limit,
            str(flight.plan.values.setting),
            flight.plan.asked["hours"],
            flight.state.spent / SECONDS_OF_AN_HOUR,
            share(Interval(flight.outcome.top1, *flight.outcome.interval)),
            flight.outcome.flops,
            flight.outcome.params,
            share(Interval(flight.outcome.control_top1, *flight.outcome.control_interval)),
            flight.outcome.control_flops,
            flight.outcome.control_params,
            flight.outcome.int8_top1,
            in_bytes(flight.outcome.num_bytes[INT8]),
        )
        for flight in flights
    ]
    return Table("", columns, tuple(rows))


def _stages(flights: List[FlightLog]) -> Table:
    columns = (
        *(Column("images"), Column("stage"), Column("first planned, s", spec=",.0f")),
        *(Column("planned at its start, s", spec=",.0f"), Column("took, s", spec=",.0f"), Column("what")),
    )
    rows = [
        (
            flight.name,
            stage.name,
            stage.first_seconds,
            stage.seconds,
            flight.state.stages[stage.name].seconds,
            stage.why,
        )
        for flight in flights
        for stage in flight.plan.stages
    ]
    return Table("", columns, tuple(rows))
