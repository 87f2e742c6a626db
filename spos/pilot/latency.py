"""The latency table that a flight has measured, looked at before hours are spent on what it says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from spos.core.errors import InputError
from spos.core.seeds import derive_rng
from spos.latency.table import LatencyTable
from spos.pilot.plan import Plan
from spos.pilot.settings import LEAST_SHARE
from spos.pilot.stages import table_file
from spos.search.flags import DEFAULT_LATENCY_ERROR_MAX
from spos.space.architecture import Architecture
from spos.space.cost import cost_table
from spos.space.space import SearchSpace

NUM_DRAWN = 2000


def check_latency(plan: Plan, folder: Path) -> None:
    """Raise InputError if the table is not to be relied on, or too few architectures keep the limits by it.

    The search would say so after the supernet, which takes a third of the hours.
    """
    limit = plan.limits.latency_ms
    if not limit:
        return
    table, setting = _sound_table(folder), plan.values.setting
    latencies = _latencies(plan, table, setting.search_space(plan.facts.num_classes))
    share = float((latencies <= limit).mean())
    if share < LEAST_SHARE:
        least = np.sort(latencies)[math.ceil(2 * LEAST_SHARE * len(latencies)) - 1]
        flag = f"--latency-max {math.ceil(100 * least) / 100:.2f}" if math.isfinite(least) else "larger limits"
        raise InputError(
            f"{share:.1%} of the architectures of {setting} keep the limits by the latencies that were measured here, "
            f"--latency-max {limit:g} among them; give {flag} or another --space, and another --save-dir"
        )


def latency_of(folder: Path, architecture: Architecture) -> float:
    """Milliseconds by the table of a flight."""
    return LatencyTable.read(table_file(folder)).latency_ms(architecture)


def _sound_table(folder: Path) -> LatencyTable:
    """Raises: InputError if it is off by more than a search allows."""
    file = table_file(folder)
    table = LatencyTable.read(file)
    if table.held_out_error is None or table.held_out_error > DEFAULT_LATENCY_ERROR_MAX:
        error = "an unknown share" if table.held_out_error is None else f"{table.held_out_error:.1%}"
        raise InputError(
            f"{file} is off by {error} on half of the networks that it was tried on, allowed are "
            f"{DEFAULT_LATENCY_ERROR_MAX:.1%}; end other programs, and begin again with another --save-dir"
        )
    return table


def _latencies(plan: Plan, table: LatencyTable, space: SearchSpace) -> np.ndarray:
    """(NUM_DRAWN,) ms of architectures drawn uniformly; infinite where they do not keep the limits that are counted."""
    limits, costs, rng = plan.limits, cost_table(space), derive_rng(0, "latency")
    most_macs, most_params = limits.macs or math.inf, limits.params_for(space.num_choice_blocks) or math.inf
    found = np.full(NUM_DRAWN, math.inf)
    for number in range(NUM_DRAWN):
        architecture = space.sample(rng)
        cost = costs.cost(architecture)
        if cost.macs <= most_macs and cost.params <= most_params:
            found[number] = table.latency_ms(architecture)
    return found
