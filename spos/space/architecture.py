"""Architectures: the choices of one path through a supernet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from spos.core.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """A block choice and a channel choice for every choice block: one path through the supernet.

    Args:
        input_size: height and width of its images, in a space that leaves a choice of it; else None.
    """

    block_choices: Tuple[int, ...]
    channel_choices: Tuple[int, ...]
    input_size: Optional[int] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_choices", tuple(int(c) for c in self.block_choices))
        object.__setattr__(self, "channel_choices", tuple(int(c) for c in self.channel_choices))

    @classmethod
    def parse(cls, block_choices: str, channel_choices: str) -> Architecture:
        """From two texts of the form `'0, 0, 3, 1'`. Raises InputError if an entry is no integer."""
        return cls(parse_choices(block_choices, "block choices"), parse_choices(channel_choices, "channel choices"))

    @property
    def genes(self) -> Tuple[int, ...]:
        """The chromosome of a search: block choices, channel choices, and the input size if it is a choice."""
        genes = self.block_choices + self.channel_choices
        return genes if self.input_size is None else (*genes, self.input_size)

    def __str__(self) -> str:
        text = f"blocks {format_choices(self.block_choices)} | channels {format_choices(self.channel_choices)}"
        return text if self.input_size is None else f"{text} | {self.input_size} px"


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
    return Architecture(tuple(row["block_choices"]), tuple(row["channel_choices"]), row.get("input_size"))


def choices_of(architecture: Architecture) -> Dict[str, Any]:
    """The architecture in a row: the inverse of `architecture_of`."""
    row: Dict[str, Any] = {
        "block_choices": list(architecture.block_choices),
        "channel_choices": list(architecture.channel_choices),
    }
    return row if architecture.input_size is None else {**row, "input_size": architecture.input_size}
