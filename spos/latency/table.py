"""Latency of an architecture from a table of measured choice blocks, summed in microseconds of time.

A table is a JSON file:

    {"schema": 1, "kind": "latency_table",
     "space": {...},             the search space (SearchSpace.to_json) that it was measured in, and
     "fingerprint": "...",       its fingerprint
     "device": "text",           what computed; not compared with anything
     "dtype": "float32", "batch_size": 1, "input_size": 224,
     "fixed_ms": 1.5,            stem, head and classifier together
     "blocks_ms": [[[...]]],     for every choice block, for every block choice, for every channel choice; null where
                                 nothing was measured, which is refused only if a search may visit it
     "scale": 1.0,               correction fitted on whole networks
     "offset_ms": 0.0,
     "held_out_error": 0.03,     median relative error on whole networks that were held out of the fit, or null
     "details": {...},           how it was measured and how well it predicts; not compared with anything
     "versions": {...}}          software by name

    latency = offset_ms + scale * (fixed_ms + sum of the chosen blocks_ms)

Every corrected time is rounded to nanoseconds once. So sums are exact in any order, and a limit is checked against the
very number that is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.runs.files import PathLike, read_json, shortened
from spos.space.architecture import Architecture
from spos.space.architecture_file import SCHEMA
from spos.space.cost import NANOSECONDS_PER_MS
from spos.space.space import SearchSpace

KIND = "latency_table"
DTYPES = ("float32", "float16", "int8")
LONGEST_MS = 1e6  # of one entry; what is above is a mistake, and sums of nanoseconds must fit 64 bits
LARGEST_SCALE = 1e3

BlockTimes = Tuple[Tuple[Tuple[Optional[float], ...], ...], ...]


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of every choice in every choice block of a space; see the top of this file.

    Raises: InputError if a number is not finite or negative, or the shape is not that of the space.
    """

    space: SearchSpace
    fixed_ms: float
    blocks_ms: BlockTimes
    device: str
    dtype: str = "float32"
    batch_size: int = 1
    scale: float = 1.0
    offset_ms: float = 0.0
    held_out_error: Optional[float] = None
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        space = self.space
        if space.input_sizes:
            raise InputError("a latency table is of one input size; its space has several")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype must be {', '.join(DTYPES)}, not {self.dtype!r}")
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise InputError(f"batch_size must be an integer of at least 1, not {self.batch_size!r}")
        _check_number("fixed_ms", self.fixed_ms)
        _check_number("scale", self.scale, 1 / LARGEST_SCALE, LARGEST_SCALE)
        _check_number("offset_ms", self.offset_ms, -LONGEST_MS)
        if self.held_out_error is not None:
            _check_number("held_out_error", self.held_out_error)
        _check_length("blocks_ms", self.blocks_ms, space.num_choice_blocks, "choice blocks")
        for i, block in enumerate(self.blocks_ms):
            choices = space.choices[i]
            _check_length(f"blocks_ms[{i}]", block, len(choices.blocks), "block choices")
            for b, choice in enumerate(block):
                _check_length(f"blocks_ms[{i}][{b}]", choice, len(choices.channel_scales), "channel choices")
                for c, time in enumerate(choice):
                    if time is not None:
                        _check_number(f"blocks_ms[{i}][{b}][{c}]", time)

    @classmethod
    def read(cls, path: PathLike) -> LatencyTable:
        """Raises InputError, which names the file, if it is no sound latency table."""
        values = read_json(path)
        try:
            return cls.from_json(values)
        except InputError as error:
            raise InputError(f"{path}: {shortened(error)}") from None

    @classmethod
    def from_json(cls, values: Any) -> LatencyTable:
        """Raises InputError if a key is missing or unknown, or a value is malformed."""
        if not isinstance(values, dict) or values.get("kind") != KIND:
            raise InputError(f'not a latency table (which says "kind": "{KIND}")')
        if values.get("schema") != SCHEMA:
            raise InputError(f"schema is {values.get('schema')}, this version reads {SCHEMA}")
        wrong = sorted(set(KEYS) ^ set(values))
        if wrong:
            raise InputError(f"not the keys of a latency table; missing or unknown: {', '.join(wrong)}")
        for key in ("device", "fingerprint"):
            if not isinstance(values[key], str):
                raise InputError(f"{key} must be text, not {values[key]!r}")
        for key in ("details", "versions"):
            if not isinstance(values[key], dict):
                raise InputError(f"{key} must be an object, not {values[key]!r}")
        space = SearchSpace.from_json(values["space"])
        if values["fingerprint"] != space.fingerprint:
            raise InputError(f"fingerprint {values['fingerprint']} does not fit its space ({space.fingerprint})")
        if values["input_size"] != space.input_size:
            raise InputError(f"input_size {values['input_size']} does not fit its space ({space.input_size})")
        own = {key: values[key] for key in KEYS if key not in ("schema", "kind", "fingerprint", "input_size")}
        return cls(**{**own, "space": space, "blocks_ms": _as_tuples(values["blocks_ms"])})

    def to_json(self) -> Dict[str, Any]:
        """The content of the file."""
        blocks = [[list(choice) for choice in block] for block in self.blocks_ms]
        computed = {
            "schema": SCHEMA,
            "kind": KIND,
            "space": self.space.to_json(),
            "fingerprint": self.space.fingerprint,
            "input_size": self.space.input_size,
            "blocks_ms": blocks,
            "details": dict(self.details),
            "versions": dict(self.versions),
        }
        return {key: computed[key] if key in computed else getattr(self, key) for key in KEYS}

    def check(self, space: SearchSpace, visited: Sequence[Sequence[Tuple[int, int]]]) -> None:
        """Raise InputError if the table is of another space, or lacks a choice that is visited.

        Args:
            visited: for every choice block its (block choice, channel choice) pairs.
        """
        if self.space.fingerprint != space.fingerprint:
            raise InputError(
                f"the latency table is of another search space (fingerprint {self.space.fingerprint}, here "
                f"{space.fingerprint}); measure one for this space"
            )
        for name, what in (("strides", "as strides"), ("input_size", "px"), ("num_classes", "classes")):
            own, here = getattr(self.space, name), getattr(space, name)
            if own != here:
                raise InputError(f"the latency table was measured with {own} {what}, here it is {here}")
        for i, pairs in enumerate(visited):
            for b, c in pairs:
                if self.blocks_ms[i][b][c] is None:
                    raise InputError(
                        f"the latency table has no time for choice block {i} with block choice {b} and channel choice "
                        f"{c}, which is asked for"
                    )
        smallest = self.fixed_nanoseconds + sum(
            min(self.nanoseconds[i][b][c] for b, c in pairs) for i, pairs in enumerate(visited)
        )
        if smallest <= 0:
            raise InputError(
                f"the latency table gives {smallest / NANOSECONDS_PER_MS:.6g} ms to some architecture; its offset_ms "
                f"{self.offset_ms:g} is too low"
            )

    def check_error(self, largest: Optional[float]) -> None:
        """Raise InputError if the median error on held-out networks is larger, or not known; None admits everything."""
        if largest is None:
            return
        tell = "--latency-error-max -1 takes it all the same"
        if self.held_out_error is None:
            raise InputError(f"the latency table does not say how far it is off on whole networks; {tell}")
        if self.held_out_error > largest:
            raise InputError(
                f"the latency table is off by {self.held_out_error:.1%} on half of the networks that it was tried on, "
                f"allowed are {largest:.1%}; {tell}"
            )

    @cached_property
    def fixed_nanoseconds(self) -> int:
        return round((self.offset_ms + self.scale * self.fixed_ms) * NANOSECONDS_PER_MS)

    @cached_property
    def nanoseconds(self) -> List[List[List[int]]]:
        """`nanoseconds[i][b][c]`, corrected; -1 where nothing was measured."""
        factor = self.scale * NANOSECONDS_PER_MS
        return [
            [[-1 if time is None else round(factor * time) for time in choice] for choice in block]
            for block in self.blocks_ms
        ]

    def of(self, architecture: Architecture) -> int:
        """Nanoseconds of an architecture of choices that the table has (not checked; see `check`)."""
        total = self.fixed_nanoseconds
        for block, b, c in zip(self.nanoseconds, architecture.block_choices, architecture.channel_choices):
            total += block[b][c]
        return total

    def latency_ms(self, architecture: Architecture) -> float:
        return self.of(architecture) / NANOSECONDS_PER_MS

    def predict(self, space: SearchSpace, architecture: Architecture) -> Dict[str, Any]:
        """The latency of an architecture and what it holds for. Raises InputError if the table does not fit it."""
        choices = zip(architecture.block_choices, architecture.channel_choices)
        self.check(space, [[pair] for pair in choices])
        holds_for = {name: getattr(self, name) for name in ("device", "dtype", "batch_size", "held_out_error")}
        return {"ms": self.latency_ms(architecture), **holds_for}


KEYS = (
    "schema",
    "kind",
    "space",
    "fingerprint",
    "device",
    "dtype",
    "batch_size",
    "input_size",
    "fixed_ms",
    "blocks_ms",
    "scale",
    "offset_ms",
    "held_out_error",
    "details",
    "versions",
)


def _check_number(name: str, value: Any, lowest: float = 0, highest: float = LONGEST_MS) -> None:
    if type(value) not in (int, float) or not lowest <= value <= highest:  # NaN is not
        raise InputError(f"{name} must be a number from {lowest:g} to {highest:g}, not {value!r}")


def _check_length(name: str, value: Any, length: int, what: str) -> None:
    if not isinstance(value, tuple) or len(value) != length:
        found = f"{len(value)} entries" if isinstance(value, tuple) else repr(value)
        raise InputError(f"{name} has {found}, the space has {length} {what}")


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
