"""Architecture files, and the published architectures by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping

from spos.core.errors import InputError
from spos.runs.files import PathLike, read_json, shortened
from spos.space.architecture import Architecture, architecture_of, choices_of
from spos.space.cost import count_architecture
from spos.space.space import SearchSpace
from spos.space.space_file import described_space

SCHEMA = 1
# Published ones, by name; in a checkout a link to architectures/.
ARCHITECTURES = Path(__file__).resolve().parents[1] / "architectures"


@dataclass(frozen=True)
class ArchitectureRecord:
    """An architecture with the space that gives it meaning, and whatever else its file says."""

    space: SearchSpace
    architecture: Architecture
    more: Mapping[str, Any]

    @property
    def at_its_size(self) -> ArchitectureRecord:
        """The same network in the space of its input size alone, where that was a choice."""
        if self.architecture.input_size is None:
            return self
        space = self.space.at(self.architecture.input_size)
        return ArchitectureRecord(space, space.canonical(self.architecture), self.more)

    def to_json(self) -> Dict[str, Any]:
        cost = count_architecture(self.space, self.architecture)
        return {
            "schema": SCHEMA,
            "space": self.space.to_json(),
            "fingerprint": self.space.fingerprint,
            **choices_of(self.architecture),
            "flops": cost.macs,
            "params": cost.params,
            **self.more,
        }


def published_architectures() -> List[str]:
    """Names that `load_architecture` knows without a file."""
    return sorted(path.stem for path in ARCHITECTURES.glob("*.json"))


def load_architecture(name_or_file: PathLike) -> ArchitectureRecord:
    """Read an architecture file, or a published one by its name.

    Raises: InputError if there is no such file or name, or if its parts contradict each other.
    """
    path = Path(name_or_file)
    published = ARCHITECTURES / f"{name_or_file}.json"
    if path.suffix != ".json" and published.is_file():
        path = published
    elif not path.is_file():
        raise InputError(
            f"no architecture '{name_or_file}': not a file, and the published ones are "
            f"{', '.join(published_architectures())}"
        )
    return parse_architecture(read_json(path), str(path))


def parse_architecture(record: Any, source: str) -> ArchitectureRecord:
    """An architecture from the JSON that `ArchitectureRecord.to_json` gives.

    Args:
        source: where it stands, for errors.
    Raises: InputError if its parts contradict each other.
    """
    own = ["schema", "space", "fingerprint", "block_choices", "channel_choices", "flops", "params"]
    if isinstance(record, list):
        raise InputError(f"{source} is a list of {len(record)}; a front has a file front-N.json for each of its own")
    missing = [key for key in own if not isinstance(record, dict) or key not in record]
    if missing:
        raise InputError(f"{source} is not an architecture file: it lacks {', '.join(missing)}")
    if record["schema"] != SCHEMA:
        raise InputError(f"{source} has schema {shortened(record['schema'])}, this version reads {SCHEMA}")
    space = described_space(record, source)
    for key in ("block_choices", "channel_choices"):
        if not isinstance(record[key], list) or not all(type(choice) is int for choice in record[key]):
            raise InputError(f"{source}: {key} must be a list of integers")
    architecture = Architecture(tuple(record["block_choices"]), tuple(record["channel_choices"]))
    if space.input_sizes:
        own.append("input_size")
        if type(record.get("input_size", space.input_size)) is not int:
            raise InputError(f"{source}: input_size must be an integer, not {shortened(repr(record['input_size']))}")
        architecture = space.validate(architecture_of(record), source=source)
    cost = count_architecture(space, space.validate(architecture, source=source))
    if (record["flops"], record["params"]) != tuple(cost):
        raise InputError(
            f"{source} states {shortened(record['flops'])} FLOPs and {shortened(record['params'])} params, its choices "
            f"give {cost.macs} and {cost.params}"
        )
    return ArchitectureRecord(space, architecture, {key: value for key, value in record.items() if key not in own})
