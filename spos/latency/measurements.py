"""Measurements that the builder of latency tables writes, and the table that follows from them.

`measurements.jsonl` of its run directory has one row for each pass over each group of calls that are timed in turns:

    {"pass": 0, "kind": "fixed" | "blocks" | "networks",
     "key": ...,                  which group of its kind
     "timings": [{"ratio": ..., "error": ..., "rounds": ..., "outliers": ...}, ...],
     "reference_ms": 4.1}         median time of the reference call meanwhile

Ratios are times relative to a reference call (`spos/core/timing.py`): a choice block, or for `networks` a network.
`fixed` times the stem, then head and classifier; `blocks` copies of one choice block under one block choice, key
[choice block, block choice], at every searchable channel choice, or once where there is no width to choose; `networks`
whole networks, key [part, number of the first], as `draw_networks` gives them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Hashable, Iterator, List, Mapping, Sequence, Tuple, Union

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from typing_extensions import Annotated, Literal

from spos.core.errors import InputError
from spos.core.seeds import derive_rng
from spos.core.timing import Timing
from spos.latency.fit import Agreement, fit_correction
from spos.latency.table import LONGEST_MS, LatencyTable
from spos.runs.files import check_shape, read_json
from spos.runs.journal import read_rows
from spos.runs.run import CONFIG_FILE
from spos.runs.schema import Choices, Count, Text
from spos.sampling.limits import MILLION, Limit
from spos.sampling.strips import path_sampler
from spos.space.architecture import Architecture
from spos.space.blocks import BlockLayers
from spos.space.cost import cost_table
from spos.space.space import SearchSpace
from spos.space.space_file import described_space

MEASUREMENTS_FILE = "measurements.jsonl"
TABLE_FILE = "latency.json"
PROGRAM = "utils.build_latency_table"
FIT, HELD_OUT = "fit", "held_out"
FIXED_CALLS = 2  # the stem; head and classifier
NETWORKS_AT_ONCE = 5  # timed in turns with each other
MS_PER_SECOND = 1e3

Key = Tuple[Any, ...]
Pair = Annotated[List[Choices], Meta(min_length=2, max_length=2)]  # block choices, channel choices


class TimingShape(Struct, forbid_unknown_fields=True):
    ratio: Annotated[float, Meta(gt=0, le=1e9)]
    error: Annotated[float, Meta(ge=0, le=1e9)]
    rounds: Annotated[int, Meta(ge=1, le=10**9)]
    outliers: Annotated[int, Meta(ge=0, le=10**9)]


class MeasurementRow(Struct, rename={"number": "pass"}):
    """A row of `measurements.jsonl`."""

    number: Count
    kind: Literal["fixed", "blocks", "networks"]
    key: Annotated[List[Union[Count, Text]], Meta(max_length=2)]
    timings: Annotated[List[TimingShape], Meta(min_length=1, max_length=1000)]
    reference_ms: Annotated[float, Meta(gt=0, le=LONGEST_MS)]


class PlanOptions(Struct):
    copies: Annotated[int, Meta(ge=1, le=1000)]
    passes: Annotated[int, Meta(ge=1, le=1000)]


class Drawn(Struct, forbid_unknown_fields=True):
    fit: Annotated[List[Pair], Meta(min_length=1, max_length=10_000)]
    held_out: Annotated[List[Pair], Meta(min_length=1, max_length=10_000)]


class BuilderConfig(Struct):
    """What the `config.json` of the builder says at least."""

    program: Text
    options: PlanOptions
    space: Dict[str, Any]
    networks: Drawn
    fingerprint: Union[Text, UnsetType] = UNSET  # older runs have none


def alike(space: SearchSpace) -> Dict[Hashable, List[int]]:
    """Choice blocks by what makes one take longer than another: what they read, and the layers of every choice."""
    groups: Dict[Hashable, List[int]] = {}
    for block in space.choice_blocks:
        groups.setdefault((block.in_channels, block.in_size, layers_of(space, block.index)), []).append(block.index)
    return groups


def layers_of(space: SearchSpace, index: int) -> Tuple[Tuple[BlockLayers, ...], ...]:
    """`layers_of(space, i)[b][c]` of every choice of a choice block."""
    widths = range(len(space.choices[index].channel_scales))
    blocks = range(len(space.choices[index].blocks))
    return tuple(tuple(space.block_layers(index, b, c) for c in widths) for b in blocks)


def draw_parts(space: SearchSpace, counts: Mapping[str, int], seed: int) -> Dict[str, List[Architecture]]:
    """By part so many networks, none of which an earlier part has."""
    parts: Dict[str, List[Architecture]] = {}
    for part, count in counts.items():
        known = {network for own in parts.values() for network in own}
        parts[part] = [network for network in draw_networks(space, part, count, seed) if network not in known]
    return parts


def draw_networks(space: SearchSpace, part: str, count: int, seed: int) -> List[Architecture]:
    """Architectures spread over the FLOPs that the space can reach: uniformly drawn from each of `count` equal ranges.

    A range that holds none is left out, and so is what an earlier one has given. The two parts are drawn
    independently.
    """
    rng = derive_rng(seed, "latency", part)
    low, high = (cost.macs for cost in cost_table(space).range())
    edges = np.linspace(low, high, count + 1)
    networks = []
    for lower, upper in zip(edges, edges[1:]):
        limit = Limit("FLOPs", "M", (1,), float(upper), float(lower), MILLION)
        try:
            networks.append(path_sampler(space, space.min_channel_choice, (limit,)).draw(rng))
        except InputError:  # an empty range, in a tiny space
            continue
    return list(dict.fromkeys(networks))


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        copies: of a choice block, that are timed together.
        passes: how often everything is measured.
        networks: architectures by part, to fit the correction and to judge the table.
    """

    space: SearchSpace
    copies: int
    passes: int
    networks: Mapping[str, Sequence[Architecture]]

    def rows(self) -> Iterator[Tuple[int, str, Key]]:
        """(pass, kind, key) of every row, in order."""
        for number in range(self.passes):
            yield from ((number, kind, key) for kind, key in self.groups())

    def groups(self) -> Iterator[Tuple[str, Key]]:
        """(kind, key) of every group, in order."""
        yield "fixed", ()
        for positions in alike(self.space).values():
            for block_choice in range(len(self.space.choices[positions[0]].blocks)):
                if self.space.block_layers(positions[0], block_choice, 0).main:  # nothing takes no time
                    yield "blocks", (positions[0], block_choice)
        for part, networks in self.networks.items():
            for first in range(0, len(networks), NETWORKS_AT_ONCE):
                yield "networks", (part, first)

    def num_calls(self, kind: str, key: Key) -> int:
        """Calls of a group: stem and the rest; the searchable widths of a block; some networks."""
        if kind == "networks":
            return len(self.at_once(*key))
        return FIXED_CALLS if kind == "fixed" else len(self.widths(*key))

    def widths(self, index: int, block_choice: int) -> Sequence[int]:
        """The searchable channel choices of a choice: one, where there is no width to choose."""
        widths = self.space.channel_choices(index)
        return widths if self.space.has_middle(index, block_choice) else widths[-1:]

    def at_once(self, part: str, first: int) -> Sequence[Architecture]:
        return self.networks[part][first : first + NETWORKS_AT_ONCE]

    @cached_property
    def reference_choice(self) -> Tuple[int, int]:
        """(choice block, block choice) that is at full width the reference call: the first that computes something.

        Of the choice block nearest to the middle that keeps the shape of the map. If none does that and computes
        something, of the one nearest to the middle.
        """
        space, middle = self.space, self.space.num_choice_blocks / 2
        computing = [
            (not block.keeps_shape, abs(block.index - middle), block.index, b)
            for block in space.choice_blocks
            for b in range(len(space.choices[block.index].blocks))
            if space.block_layers(block.index, b, 0).main
        ]
        return min(computing)[2:]

    @property
    def reference_network(self) -> Architecture:
        """The one of middling FLOPs that the correction is fitted on: the reference call of networks."""
        return self.networks[FIT][len(self.networks[FIT]) // 2]


def as_row(number: int, kind: str, key: Key, timings: Sequence[Timing], reference_seconds: float) -> Dict[str, Any]:
    return {
        "pass": number,
        "kind": kind,
        "key": list(key),
        "timings": [asdict(timing) for timing in timings],
        "reference_ms": reference_seconds * MS_PER_SECOND,
    }


@dataclass(frozen=True)
class Measurements:
    """All rows of a plan. Raises InputError if one is missing."""

    plan: Plan
    rows: Mapping[Tuple[int, str, Key], Mapping[str, Any]]

    @classmethod
    def of(cls, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> Measurements:
        by_place = {place_of(row): row for row in rows}
        missing = [place for place in plan.rows() if place not in by_place]
        if missing:
            raise InputError(f"the measurement is not finished: {len(missing)} groups are missing; run it again")
        for number, kind, key in plan.rows():
            count, expected = len(by_place[number, kind, key]["timings"]), plan.num_calls(kind, key)
            if count != expected:
                raise InputError(f"pass {number} over {kind} {list(key)} timed {count} calls, expected {expected}")
        return cls(plan, by_place)

    @cached_property
    def timings(self) -> Dict[Tuple[str, Key], List[Timing]]:
        """Of every group, pooled over the passes."""
        pooled = {}
        for kind, key in self.plan.groups():
            passes = [self.rows[number, kind, key]["timings"] for number in range(self.plan.passes)]
            pooled[kind, key] = [Timing.pool([Timing(**one) for one in same]) for same in zip(*passes)]
        return pooled

    def reference_ms(self, kind: str) -> float:
        """The usual time of the reference call of a kind."""
        name = _reference_of(kind)
        return float(
            np.median([row["reference_ms"] for row in self.rows.values() if _reference_of(row["kind"]) == name])
        )

    def table(self, **fields: Any) -> LatencyTable:
        """The table with its correction and the error on held-out networks.

        Args:
            fields: of the LatencyTable that measurements do not tell.
        """
        plain = LatencyTable(self.plan.space, self._fixed_ms(), self._blocks_ms(), **fields)
        sums, measured = self.compare(plain, FIT)
        visited = [[ms for row in block for ms in row if ms is not None] for block in plain.blocks_ms]
        fitted = fit_correction(sums, measured, plain.fixed_ms + sum(map(min, visited)))
        table = replace(plain, scale=fitted.scale, offset_ms=fitted.offset)
        agreement = Agreement.of(*self.compare(table, HELD_OUT))
        details = {**table.details, "held_out": agreement.to_json(), "noise": self.noise()}
        return replace(table, held_out_error=agreement.median_error, details=details)

    def compare(self, table: LatencyTable, part: str) -> Tuple[np.ndarray, np.ndarray]:
        """Milliseconds of the networks of a part: by the table, and measured."""
        networks = self.plan.networks[part]
        measured = [time for key in self._keys("networks") if key[0] == part for time in self._times("networks", key)]
        return np.array([table.latency_ms(network) for network in networks]), np.array(measured)

    def noise(self) -> Dict[str, Any]:
        """How sure the times are, and how much the speed of the machine changed."""
        timings = [timing for group in self.timings.values() for timing in group]
        errors = [timing.error for timing in timings]
        speeds = [row["reference_ms"] / self.reference_ms(row["kind"]) for row in self.rows.values()]
        return {
            "calls": len(timings),
            "rounds": sum(timing.rounds for timing in timings),
            "median_error": float(np.median(errors)),
            "largest_error": max(errors),
            "outliers": sum(timing.outliers for timing in timings) / sum(timing.rounds for timing in timings),
            "drift": max(speeds) / min(speeds),
        }

    def _fixed_ms(self) -> float:
        return sum(self._times("fixed", ()))

    def _blocks_ms(self) -> Tuple[Tuple[Tuple[Any, ...], ...], ...]:
        space = self.plan.space
        first = {index: positions[0] for positions in alike(space).values() for index in positions}
        return tuple(
            tuple(self._widths_ms(first[index], choice) for choice in range(len(space.choices[index].blocks)))
            for index in range(space.num_choice_blocks)
        )

    def _widths_ms(self, index: int, block_choice: int) -> Tuple[Any, ...]:
        """Of every channel choice of a choice; None where it is not searched."""
        searched, every = self.plan.space.channel_choices(index), self.plan.space.channel_choices(index, 0)
        if not self.plan.space.block_layers(index, block_choice, 0).main:
            times = [0.0] * len(searched)
        else:
            times = [time / self.plan.copies for time in self._times("blocks", (index, block_choice))]
        times *= len(searched) // len(times)  # a single one is that of all widths
        return (None,) * (len(every) - len(searched)) + tuple(times)

    def _keys(self, kind: str) -> List[Key]:
        return [key for own, key in self.plan.groups() if own == kind]

    def _times(self, kind: str, key: Key) -> List[float]:
        """Milliseconds, at the usual speed of the machine."""
        unit = self.reference_ms(kind)
        return [timing.ratio * unit for timing in self.timings[kind, key]]


def place_of(row: Mapping[str, Any]) -> Tuple[int, str, Key]:
    return row["pass"], row["kind"], tuple(row["key"])


def _reference_of(kind: str) -> str:
    return "network" if kind == "networks" else "block"


def read_measurements(folder: Path) -> Tuple[LatencyTable, Measurements]:
    """The table and the measurements of a finished run of the builder.

    Raises: InputError if the folder holds no such run, or an unfinished one.
    """
    source = folder / CONFIG_FILE
    config = read_json(source)
    if not isinstance(config, dict) or config.get("program") != PROGRAM:
        raise InputError(f"{folder} is not a run of {PROGRAM}")
    check_shape(config, source, BuilderConfig)
    space = described_space(config, str(source))
    networks = {
        part: [space.validate(Architecture(*choices), str(source)) for choices in drawn]
        for part, drawn in config["networks"].items()
    }
    measurements = Measurements.of(
        Plan(space, config["options"]["copies"], config["options"]["passes"], networks),
        read_rows(folder / MEASUREMENTS_FILE, MeasurementRow),
    )
    return LatencyTable.read(folder / TABLE_FILE), measurements
