"""Latency where the input size is a choice: a table of each size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from spos.core.errors import InputError
from spos.latency.table import LatencyTable
from spos.runs.files import PathLike
from spos.space.architecture import Architecture
from spos.space.space import SearchSpace


@dataclass(frozen=True)
class LatencyTables:
    """Latency tables of one space at its input sizes; each was measured in `SearchSpace.at(size)`.

    Raises: InputError if two are of one size.
    """

    tables: Tuple[LatencyTable, ...]

    def __post_init__(self) -> None:
        sizes = [table.space.input_size for table in self.tables]
        twice = {size for size in sizes if sizes.count(size) > 1}
        if twice:
            raise InputError(f"two latency tables are for {twice.pop()} px; give one for each input size")

    @cached_property
    def by_size(self) -> Mapping[int, LatencyTable]:
        return {table.space.input_size: table for table in self.tables}

    def of(self, architecture: Architecture) -> int:
        """Nanoseconds of an architecture at its input size (not checked; see `check`)."""
        return self.by_size[architecture.input_size or max(self.by_size)].of(architecture)

    def check(self, space: SearchSpace, visited: Sequence[Sequence[Tuple[int, int]]]) -> None:
        """Raise InputError unless there is a fitting table for every size of the space, and for no other."""
        sizes = space.input_sizes or (space.input_size,)
        if sorted(self.by_size) != list(sizes):
            raise InputError(
                f"the latency tables are for {_listed(sorted(self.by_size))} px, the space has {_listed(sizes)}; give "
                "a table for each size"
            )
        for size, table in self.by_size.items():
            table.check(space.at(size), visited)

    def to_json(self) -> Dict[str, Any]:
        """By input size."""
        return {str(size): table.to_json() for size, table in sorted(self.by_size.items())}


Latency = Union[LatencyTable, LatencyTables]


def read_latency(paths: PathLike, space: SearchSpace, error_max: Optional[float] = None) -> Latency:
    """The table in a file; where the input size is a choice, those in several files, separated by commas.

    Args:
        error_max: the largest error on held-out networks that is taken; None takes every table.
    Raises: InputError if one is malformed, or predicts too badly.
    """
    tables = [LatencyTable.read(path) for path in files_of(paths, space)]
    for table in tables:
        table.check_error(error_max)
    return LatencyTables(tuple(tables)) if space.input_sizes else tables[0]


def files_of(paths: PathLike, space: SearchSpace) -> Tuple[str, ...]:
    """The files that --latency-table names."""
    text = str(paths)
    return tuple(part.strip() for part in text.split(",") if part.strip()) if space.input_sizes else (text,)


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
