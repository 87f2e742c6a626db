"""Flags of limits on what an architecture costs, as ratios to a published network and in millions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from spos.core.flags import flag, number
from spos.sampling.limits import Constraints, limit_or_none
from spos.space.flags import ComparisonOptions


@dataclass(frozen=True)
class LimitOptions(ComparisonOptions):
    """What an architecture may cost."""

    flop_max: Optional[float] = flag(
        None,
        "largest FLOPs, as a ratio to the comparison model (-1: no limit) [1.0 in a search without --flop-max-m]",
        type=number,
    )
    param_max: float = flag(-1.0, "largest parameters, as a ratio to the comparison model (-1: no limit)", type=number)
    score_max: Optional[float] = flag(
        None,
        "largest 0.5 flop ratio + 0.5 param ratio (-1: no limit) [1.0 in a search, but by --evolution spos]",
        type=number,
    )
    flop_max_m: float = flag(-1.0, "largest FLOPs in millions (-1: no limit)", type=number)
    param_max_m: float = flag(-1.0, "largest parameters in millions (-1: no limit)", type=number)


def constraints_of(options: LimitOptions) -> Constraints:
    """The limits that the flags set, and no others."""
    flop_max, score_max = (-1.0 if value is None else value for value in (options.flop_max, options.score_max))
    return Constraints(
        options.comparison_model,
        flop_max=limit_or_none(flop_max),
        param_max=limit_or_none(options.param_max),
        score_max=limit_or_none(score_max),
        flop_max_m=limit_or_none(options.flop_max_m),
        param_max_m=limit_or_none(options.param_max_m),
    )
