"""Architectures: the choices of one path through a supernet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from spos.core.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """A block choice and a channel choice for every choice block: one path through the supernet."""

    block_choices: Tuple[int, ...]
    channel_choices: Tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_choices", tuple(int(c) for c in self.block_choices))
        object.__setattr__(self, "channel_choices", tuple(int(c) for c in self.channel_choices))

    @classmethod
    def parse(cls, block_choices: str, channel_choices: str) -> Architecture:
        """From two texts of the form `'0, 0, 3, 1'`. Raises InputError if an entry is no integer."""
        return cls(parse_choices(block_choices, "block choices"), parse_choices(channel_choices, "channel choices"))

    @property
    def genes(self) -> Tuple[int, ...]:
        """Block choices followed by channel choices, the chromosome of the genetic search."""
        return self.block_choices + self.channel_choices

    def __str__(self) -> str:
        return f"blocks {format_choices(self.block_choices)} | channels {format_choices(self.channel_choices)}"


def parse_choices(text: str, what: str) -> Tuple[int, ...]:
    """`'0, 0, 3'` (commas or blanks, brackets allowed) as a tuple of ints."""
    items = text.strip().strip("[]()").replace(",", " ").split()
    try:
        return tuple(int(item) for item in items)
    except ValueError:
        raise InputError(f"{what} '{text}' must be integers separated by commas, like '0, 0, 3, 1'") from None


def format_choices(choices: Sequence[int]) -> str:
    """The inverse of `parse_choices`: `'0, 0, 3'`."""
    return ", ".join(str(c) for c in choices)


def architecture_of(row: Mapping[str, Any]) -> Architecture:
    return Architecture(tuple(row["block_choices"]), tuple(row["channel_choices"]))


def choices_of(architecture: Architecture) -> Dict[str, List[int]]:
    """The architecture in a row: the inverse of `architecture_of`."""
    return {
        "block_choices": list(architecture.block_choices),
        "channel_choices": list(architecture.channel_choices),
    }
