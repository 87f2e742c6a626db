"""Run directories as readers find them: of which program they are, and the flags they were made with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar

from spos.errors import InputError
from spos.options import SUBNET, SUPERNET
from spos.records import CONFIG_FILE, PathLike, read_json, read_rows
from spos.search_space import SearchSpace

Group = TypeVar("Group")
Rows = List[Dict[str, Any]]

SUPERNET_RUN, SEARCH_RUN, SUBNET_RUN = "supernet", "search", "subnet"
NETWORK_RUN = "network"  # of GluonCV's zoo
KINDS = (SUPERNET_RUN, SEARCH_RUN, SUBNET_RUN, NETWORK_RUN)  # in the order of a pipeline
TRAINING, SEARCHING = "train_imagenet.py", "search_supernet.py"
BN_UPDATE_FILE = "bn_update.jsonl"  # what `utils.bn_update_effect` measures


@dataclass(frozen=True)
class RunDirectory:
    """A run: where it lies, what it is of (one of KINDS), and its `config.json`."""

    path: Path
    kind: str
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def options(self) -> Mapping[str, Any]:
        """Flags by name."""
        return self.config["options"]

    @property
    def space(self) -> Optional[SearchSpace]:
        """None for a network of the zoo. Raises InputError if it is malformed."""
        described = self.config.get("space")
        return SearchSpace.from_json(described, source=str(self.path / CONFIG_FILE)) if described else None

    def rows(self, file_name: str) -> Rows:
        """The rows of one of its journals; none if it is not there yet. Raises InputError if a line is damaged."""
        return read_rows(self.path / file_name)

    def flags(self, group: Type[Group]) -> Group:
        """A group of flags as the run recorded it; flags that are newer than the run have their defaults."""
        known = {item.name for item in fields(group)} & set(self.options)  # type: ignore[arg-type]
        return group(**{name: self.options[name] for name in known})


def open_run_directory(path: PathLike) -> RunDirectory:
    """Raises InputError if the folder is no run of `train_imagenet.py` or `search_supernet.py`."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} is no folder; give run directories")
    if not (path / CONFIG_FILE).is_file():
        raise InputError(f"{path} is no run directory: it has no {CONFIG_FILE}")
    config = read_json(path / CONFIG_FILE)
    options = config.get("options") if isinstance(config, dict) else None
    if not isinstance(options, dict) or config.get("program") not in (TRAINING, SEARCHING):
        raise InputError(f"{path / CONFIG_FILE} is not of a run of {TRAINING} or {SEARCHING}")
    if config["program"] == SEARCHING:
        return RunDirectory(path, SEARCH_RUN, config)
    kinds = {SUPERNET: SUPERNET_RUN, SUBNET: SUBNET_RUN}
    return RunDirectory(path, kinds.get(options.get("model"), NETWORK_RUN), config)
