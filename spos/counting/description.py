"""What a budget can mean in a space: its smallest, median and largest costs, its choices, and what limits leave."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from spos.core.seeds import derive_rng
from spos.core.tables import Column, Table, millions
from spos.counting.budget import Budget, Left
from spos.counting.distribution import provenance, sample_costs
from spos.counting.summary import by_size, describe_input
from spos.counting.sums import median, sums_of
from spos.sampling.limits import Limit
from spos.space.cost import Cost, cost_table
from spos.space.layers import conv_size
from spos.space.space import SearchSpace

NUM_SAMPLES = 100_000  # of a median that cannot be counted
LONGEST_NUMBER = 10**15  # that is shown with all of its digits

COST_COLUMNS = (
    Column("statistic"),
    millions("flops", "FLOPs"),
    millions("params", "params"),
    Column("is", "of"),
)
PLACE_COLUMNS = (
    Column("choice_block", "choice block"),
    Column("stage"),
    Column("output"),
    Column("block_choices", "block choices"),
    Column("channel_scales", "channel scales"),
    Column("num_choices", "choices"),
)
LEFT_COLUMNS = (
    Column("num_left", "left"),
    Column("forced"),
    Column("never"),
)


def description_json(space: SearchSpace, limits: Sequence[Limit], seed: int) -> Dict[str, Any]:
    """Everything that `description_tables` shows, for machines.

    Args:
        limits: upper ones on FLOPs and params; without any, nothing is said of what they leave.
        seed: of a median or a number of architectures that is not exact.
    """
    smallest, largest = cost_table(space).range()
    middle, median_is = median_cost(space, seed)
    ends = {"smallest": smallest, "median": middle, "largest": largest}
    report: Dict[str, Any] = {
        "num_architectures": space.num_architectures,
        "num_choice_blocks": space.num_choice_blocks,
        **{name: {"flops": cost.macs, "params": cost.params} for name, cost in ends.items()},
        "median_is": median_is,
        "choice_blocks": [_place(space, index) for index in range(space.num_choice_blocks)],
    }
    if limits:
        budget = Budget.of(space, limits, derive_rng(seed, "budget"))
        report["within"] = _within(space, budget)
        for place, own in zip(report["choice_blocks"], budget.left):
            place.update(_left(own))
    return {**report, **provenance(space, seed)}


def median_cost(space: SearchSpace, seed: int) -> Tuple[Cost, str]:
    """The median FLOPs and the median params, each taken alone, and of what: all architectures, or a sample."""
    table = cost_table(space)
    sums = [sums_of([block[:, axis] for block in table.choice_costs()]) for axis in range(len(Cost._fields))]
    counted = [median(own) for own in sums if own is not None]
    if len(counted) == len(sums):
        return table.fixed + tuple(counted), "all, exact"
    costs = sample_costs(space, NUM_SAMPLES, derive_rng(seed, "distribution"))
    middle = np.percentile(costs, 50, axis=0, method="inverted_cdf").tolist()
    return Cost(*map(int, middle)), f"{NUM_SAMPLES:,} drawn (seed {seed})"


def _place(space: SearchSpace, index: int) -> Dict[str, Any]:
    block, own = space.choice_blocks[index], space.choices[index]
    size = conv_size(block.in_size, block.stride)
    return {
        "choice_block": index,
        "stage": block.stage + 1,
        "output": by_size((block.out_channels, size, size)),
        "block_choices": [kind.name for kind in own.blocks],
        "channel_scales": [own.channel_scales[c] for c in space.channel_choices(index)],
        "num_choices": len(space.pairs(index)),
    }


def _left(own: Left) -> Dict[str, Any]:
    return {
        "num_left": own.num_pairs - own.num_never,
        "forced_block": own.forced_block,
        "forced_scale": own.forced_scale,
        "never_blocks": list(own.never_blocks),
        "never_scales": list(own.never_scales),
    }


def _within(space: SearchSpace, budget: Budget) -> Dict[str, Any]:
    value, interval = budget.number.value, budget.number.interval
    return {
        "limits": list(budget.limits),
        "can_be_met": budget.can_be_met,
        "num_architectures": value,
        "is": "exact" if budget.number.is_exact else f"estimated by {budget.number.num_tries:,} tries of the sampler",
        "interval": None if interval is None else list(interval),
        "share": None if value is None else value / space.num_architectures,
    }


def description_tables(report: Mapping[str, Any]) -> List[Table]:
    """Costs and choices, from what `description_json` gives."""
    rows = [
        (name, report[name]["flops"], report[name]["params"], report["median_is"] if name == "median" else "all, exact")
        for name in ("smallest", "median", "largest")
    ]
    notes = [
        f"Architectures: {digits(report['num_architectures'])}, of {report['num_choice_blocks']} choice blocks. FLOPs "
        "and params are each taken alone.",
        *([within_note(report["within"], report["num_architectures"])] if "within" in report else []),
        report["convention"],
    ]
    costs = Table(f"Budgets in a search space: {describe_input(report)}", COST_COLUMNS, tuple(rows), tuple(notes))
    return [costs, _choices_table(report)]


def _choices_table(report: Mapping[str, Any]) -> Table:
    has_limits = report.get("within", {}).get("can_be_met", False)
    rows = []
    for place in report["choice_blocks"]:
        row = [place["choice_block"], place["stage"], place["output"]]
        row += [_listed(place["block_choices"]), _listed(place["channel_scales"]), place["num_choices"]]
        if has_limits:
            forced = [own for own in (place["forced_block"], place["forced_scale"]) if own is not None]
            never = [*place["never_blocks"], *place["never_scales"]]
            row += [place["num_left"], _listed(forced) or None, _listed(never) or None]
        rows.append(tuple(row))
    notes = ["Choices: a block with a scale of its middle; a block without a middle counts once."]
    if has_limits:
        notes.append(
            "Left: choices that some architecture within the limits has (exact). Forced: the only block or scale that "
            "is left of several. Never: those that no architecture within the limits has."
        )
    return Table("Choice blocks", PLACE_COLUMNS + LEFT_COLUMNS * has_limits, tuple(rows), tuple(notes))


def within_note(within: Mapping[str, Any], total: int) -> str:
    """Whether limits can be met, and how many of all architectures keep them, in one sentence."""
    limits = " and ".join(within["limits"])
    if not within["can_be_met"]:
        return f"{limits}: kept by none of them (exact)."
    if within["num_architectures"] is None:
        return f"{limits}: kept by some of them, too few for the sampler to count ({within['is']})."
    interval = within["interval"]
    about = "" if interval is None else f", 95% interval {digits(interval[0])} to {digits(interval[1])}"
    number = digits(within["num_architectures"])
    return f"{limits}: kept by {number} of {digits(total)} ({within['is']}{about}), a share of {within['share']:.3g}."


def digits(number: float) -> str:
    """A number of architectures: all digits of a short integer, five of any other."""
    return f"{number:,}" if isinstance(number, int) and number < LONGEST_NUMBER else f"{number:.4e}"


def _listed(values: Sequence[Any]) -> str:
    return " ".join(value if isinstance(value, str) else f"{value:g}" for value in values)
