"""Flags of latency tables."""

from __future__ import annotations

from dataclasses import dataclass

from spos.core.flags import flag


@dataclass(frozen=True)
class LatencyTableOptions:
    """Latencies that were measured."""

    latency_table: str = flag(
        "", "file of latencies of the search space (utils.build_latency_table); latencies are then said too"
    )
