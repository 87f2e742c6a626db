"""The section of the autopilot: its stages, how far they are, and what was decided anew."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path
from typing import List, Tuple

from spos.core.tables import Column, Table, millions
from spos.pilot.flight import DONE, FLIGHT_FILE, RUNNING, FlightState, describe_seconds, read_state
from spos.pilot.outcome import OUTCOME_FILE, Outcome, next_steps, read_outcome
from spos.pilot.plan import PLAN_FILE, Plan, in_bytes, read_plan
from spos.pilot.stages import FLOAT32, INT8
from spos.pilot.times import REPORT
from utils.report.page import Section, command, table, text

REFRESH_SECONDS = 15
SILENT_SECONDS = 300.0  # after which a flight that writes nothing is taken for stopped


def is_under_way(folder: Path) -> bool:
    """Whether a page about it should load itself again: something is to come, and something was written lately."""
    if not (folder / FLIGHT_FILE).exists():
        return False
    state = read_state(folder / FLIGHT_FILE)
    return not _has_ended(state) and time.time() - state.updated < SILENT_SECONDS


def _has_ended(state: FlightState) -> bool:
    """Whether everything is done but the page, which this is."""
    return bool(state.stages) and all(own.state == DONE for name, own in state.stages.items() if name != REPORT)


def flight_section(folder: Path) -> Section:
    """Raises: InputError if there is no plan, or it cannot be read."""
    plan = read_plan(folder / PLAN_FILE)
    state = read_state(folder / FLIGHT_FILE) if (folder / FLIGHT_FILE).exists() else FlightState(0.0, {})
    parts = [text(_where(plan, state, is_under_way(folder))), _bar(plan, state), table(_stages(plan, state), wide=(4,))]
    parts += [text(f"Plan changed {change}.", "muted") for change in plan.changes]
    if (folder / OUTCOME_FILE).exists():
        outcome = read_outcome(folder / OUTCOME_FILE)
        parts += [table(_networks(outcome)), table(_files(outcome)), command(next_steps(plan, outcome, folder))]
    return Section("autopilot", "Autopilot", parts)


def flight_cards(folder: Path) -> List[Tuple[str, str, str]]:
    """The most important figures of the outcome, if there is one yet."""
    if not (folder / OUTCOME_FILE).exists():
        return []
    outcome = read_outcome(folder / OUTCOME_FILE)
    low, high = outcome.interval
    return [
        ("test top-1", f"{outcome.top1:.2%}", f"95% {low:.1%} to {high:.1%}, {outcome.num_images:,} images"),
        ("random control", f"{outcome.control_top1:.2%}", "within the same limit, trained alike"),
    ]


def _where(plan: Plan, state: FlightState, under_way: bool) -> str:
    hours = f"{describe_seconds(state.spent)} of {plan.asked['hours']:g} hours gone"
    running = [name for name, own in state.stages.items() if own.state == RUNNING]
    if _has_ended(state):
        return f"All stages are done: {hours}."
    if not running:
        return f"{hours}."
    if not under_way:
        return f"Stopped in the stage {running[0]}: {hours}. The same command goes on."
    return (
        f"In the stage {running[0]}: {hours}, about {describe_seconds(state.left)} left. This page loads itself again."
    )


def _bar(plan: Plan, state: FlightState) -> str:
    """A strip of all stages, as wide as they take, filled as far as they are."""
    total = sum(max(stage.seconds, 1.0) for stage in plan.stages)
    cells: List[str] = []
    for stage in plan.stages:
        own = state.stages.get(stage.name)
        share = 1.0 if own and own.state == DONE else own.fraction if own else 0.0
        label = escape(f"{stage.name}: {share:.0%}")
        cells.append(
            f'<span title="{label}" style="flex:{max(stage.seconds, 1.0) / total:.4f}">'
            f'<i style="width:{share:.1%}"></i></span>'
        )
    return f'<div class="flight" role="img" aria-label="how far the stages are">{"".join(cells)}</div>'


def _networks(outcome: Outcome) -> Table:
    columns = (
        *(
            Column("network"),
            Column("test top-1", spec=".2%"),
            Column("95% from", spec=".2%"),
            Column("to", spec=".2%"),
        ),
        *(millions("flops", "FLOPs (M)"), millions("params", "params (M)")),
    )
    rows = (
        ("searched", outcome.top1, *outcome.interval, outcome.flops, outcome.params),
        ("random", outcome.control_top1, *outcome.control_interval, outcome.control_flops, outcome.control_params),
    )
    return Table("", columns, rows)


def _files(outcome: Outcome) -> Table:
    columns = (Column("file"), Column("size"), Column("ms an image", spec=".2f"), Column("test top-1", spec=".2%"))
    top1 = {FLOAT32: outcome.top1, INT8: outcome.int8_top1}
    rows = [
        (f"{name}.onnx", in_bytes(size), outcome.latency_ms[name], top1[name])
        for name, size in outcome.num_bytes.items()
    ]
    return Table(
        "", columns, tuple(rows), notes=(f"To deploy: {outcome.model}: {outcome.why}. ONNX Runtime on this machine.",)
    )


def _stages(plan: Plan, state: FlightState) -> Table:
    columns = (Column("stage"), Column("planned"), Column("took"), Column("done"), Column("what"))
    rows = []
    for stage in plan.stages:
        own = state.stages.get(stage.name)
        took = describe_seconds(own.seconds) if own and own.seconds else "-"
        share = f"{own.fraction:.0%}" if own and (own.seconds or own.state == DONE) else "-"
        rows.append((stage.name, describe_seconds(stage.seconds), took, share, stage.why))
    return Table("", columns, tuple(rows))
