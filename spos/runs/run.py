"""Run directories: the names of their files, their `config.json`, and what a run may go on with."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, TypeVar

from spos.core.errors import InputError, warn_once
from spos.runs.files import PathLike, read_json, write_json
from spos.runs.journal import read_rows

SUPERNET, SUBNET = "ShuffleNas", "ShuffleNas_fixArch"  # values of --model; others name a network of GluonCV's zoo
Group = TypeVar("Group")
Rows = List[Dict[str, Any]]
SUPERNET_RUN, SEARCH_RUN, SUBNET_RUN = "supernet", "search", "subnet"
NETWORK_RUN = "network"  # of GluonCV's zoo
KINDS = (SUPERNET_RUN, SEARCH_RUN, SUBNET_RUN, NETWORK_RUN)  # in the order of a pipeline
TRAINING, SEARCHING = "train_imagenet.py", "search_supernet.py"
BN_UPDATE_FILE = "bn_update.jsonl"  # what `utils.bn_update_effect` measures


CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"  # there as long as a program is in a directory
LOG_FILE = "log.jsonl"
HISTORY_FILE = "history.jsonl"
ARRIVED_FILE = "arrived.jsonl"  # scores that wait for their turn in the history
BEST_FILE = "best.json"
MODEL_FILE = "model.params"
BEST_MODEL_FILE = "best.params"  # of the epoch with the best validation, if there were several
LISTS_FOLDER = "lists"
PIXELS_FOLDER = "pixels"  # decoded images, where they take too much memory; may be deleted
CONTENTS = "contents"  # key of `config.json`: checksums of the images; older runs have none
LOG_SUFFIXES = (".log", ".out", ".err")  # of what a shell writes
PREPROCESSING = "preprocessing"  # key of `config.json`: what inference has to know of the images


# A run may go on with other values of these flags; every other flag is part of what the run is.
NOT_PART_OF_A_RUN = (
    "save_dir",
    "low_memory",
    "resume",
    "num_workers",
    "max_bad_images",
    "log_interval",
    "logging_file",
    "save_frequency",
    "save_steps",
    "keep_checkpoints",
    "tensorboard",
    "val_frequency",
    "json",
)


# Flags that say where the images are: a run may go on with others if the images are the same.
DATA_PATHS = ("data_dir", "rec_train", "rec_train_idx", "rec_val", "rec_val_idx")
# Flags that name a file whose content is compared, by its key in `config.json`, and those whose place is. How a name is
# spelled does not matter.
FILES_OF_A_RUN = {
    "supernet_params": "supernet_sha256",
    "latency_table": "latency_table_sha256",
    "init_params": "init_params_sha256",
    "init_from_supernet": "init_from_supernet_sha256",
    "architecture": "architecture",
}
PLACES_OF_A_RUN = (*DATA_PATHS, "resume_params", "resume_states", "teacher_params", "seed_history")

# What flags name but files hold, by its key in `config.json`.
INPUTS_OF_A_RUN = {
    "supernet_sha256": "the content of --supernet-params",
    "architecture": "the architecture",
    "latency_table_sha256": "the content of --latency-table",
    "init_params_sha256": "the content of --init-params",
    "init_from_supernet_sha256": "the content of --init-from-supernet",
    "data": "the data set",
    "workers": "the number of workers",
    "images": "the images that score candidates",
    "device": "the device, or its number of threads,",
    "networks": "the way networks are drawn",
}


def open_run(
    directory: PathLike, config: Mapping[str, Any], must_resume: bool = False, may_change: Sequence[str] = ()
) -> Path:
    """Make a run directory with its `config.json`, or enter the one of the same run.

    Args:
        config: `options` (flags by name) and whatever else describes the run; plain JSON values.
        must_resume: the user asked to continue, so the run has to be there.
        may_change: flags with which this run may go on at another value; the config is then written anew, as it is
            when the images have moved.
    Raises: InputError if the directory holds another run, or nothing that could be resumed.
    """
    path = Path(directory) / CONFIG_FILE
    config = json.loads(json.dumps(config))
    old = check_run(directory, config, must_resume, may_change)
    changed = (*may_change, *DATA_PATHS) if CONTENTS in config else may_change
    if (
        old is None
        or old.get(CONTENTS) != config.get(CONTENTS)
        or any(old["options"].get(name) != config["options"].get(name) for name in changed)
    ):
        write_json(path, config)
    return Path(directory)


def check_run(
    directory: PathLike, config: Mapping[str, Any], must_resume: bool = False, may_change: Sequence[str] = ()
) -> Optional[Dict[str, Any]]:
    """What `open_run` refuses, without writing anything. Returns the config of the run that is there, or None."""
    directory = Path(directory)
    path = directory / CONFIG_FILE
    if path.is_file():
        old = read_json(path)
        _check_same_run(directory, old, json.loads(json.dumps(config)), may_change)
        return old
    if must_resume:
        raise InputError(f"--resume: there is no run in {directory}")
    if directory.is_dir() and not all(_may_be_there(entry) for entry in directory.iterdir()):
        raise InputError(f"{directory} is not empty and holds no run; give another --save-dir")
    return None


def _may_be_there(entry: Path) -> bool:
    """Whether a new run may find this: what one that was killed before its config was written has left, logs that a
    shell writes, and what a new disk holds."""
    if entry.name in (LISTS_FOLDER, LOCK_FILE, "lost+found") or entry.name.startswith(f".{CONFIG_FILE}."):
        return True
    return entry.is_file() and (entry.suffix in LOG_SUFFIXES or _is_written_by_us(entry))


def _is_written_by_us(entry: Path) -> bool:
    """Whether standard output or error goes to this file."""
    found = entry.stat()
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # closed
            own = os.fstat(descriptor)
            if (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino):
                return True
    return False


def _check_same_run(directory: Path, old: Mapping[str, Any], new: Mapping[str, Any], may_change: Sequence[str]) -> None:
    if not isinstance(old, dict) or old.get("program") != new["program"]:
        raise InputError(f"{directory} holds a run of another program; give another --save-dir")
    if old.get("space") != new.get("space"):
        raise InputError(f"{directory} holds a run in another search space; give another --save-dir")
    before, now = old.get("options", {}), new["options"]
    if not isinstance(before, dict):
        raise InputError(f"{directory} holds a run whose {CONFIG_FILE} is damaged; give another --save-dir")
    free = (*NOT_PART_OF_A_RUN, *may_change)
    if CONTENTS in old and old[CONTENTS] == new.get(CONTENTS):
        free = (*free, *DATA_PATHS)
    differing = [n for n in {**before, **now} if n not in free and not _is_same(n, old, new)]
    names = [n for n in differing if n in before or now[n]]  # one that is newer than the run, and not set, is none
    if names:
        name = names[0]
        raise InputError(
            f"{directory} holds another run: --{name.replace('_', '-')} was {before.get(name)}, now it is "
            f"{now.get(name)}. Give another --save-dir, or the same flags to go on with it"
        )
    for key, what in INPUTS_OF_A_RUN.items():
        if key in new and old.get(key) != new.get(key):
            raise InputError(f"{directory} holds another run: {what} has changed since. Give another --save-dir")
    if CONTENTS in new and CONTENTS not in old:
        warn_once(f"{directory}: the run does not say which images it began with, so those of now are recorded")
    elif CONTENTS in new and old[CONTENTS] != new[CONTENTS]:
        raise InputError(
            f"{directory} holds another run: its images have changed since (their labels, names or content). Give "
            "another --save-dir, or the images that it began with"
        )


def _is_same(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a flag is what it was, as far as it says where a file is, and not what is in it."""
    before, now = old.get("options", {}).get(name), new["options"].get(name)
    if before == now:
        return True
    if not (before and now and isinstance(before, str) and isinstance(now, str)):
        return False
    key = FILES_OF_A_RUN.get(name)
    if key and old.get(key) and new.get(key):
        return True  # contents are compared below
    return name in PLACES_OF_A_RUN and Path(before).resolve() == Path(now).resolve()


def run_folder(file: PathLike) -> Optional[Path]:
    """The run that a parameter file lies in, directly or in one of its checkpoints, or None."""
    folder = Path(file).resolve().parent
    return next((run for run in (folder, folder.parent.parent) if (run / CONFIG_FILE).is_file()), None)


def find_config(file: PathLike) -> Optional[Dict[str, Any]]:
    """The `config.json` beside a file of a run, or None if the file does not lie in a run directory."""
    path = Path(file).resolve().parent / CONFIG_FILE
    return read_json(path) if path.is_file() else None


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

    def rows(self, file_name: str) -> Rows:
        """The rows of one of its journals; none if it is not there yet. Raises InputError if a line is damaged."""
        return read_rows(self.path / file_name)

    def flags(self, group: Type[Group]) -> Group:
        """A group of flags as the run recorded it; flags that are newer than the run have their defaults."""
        known = {item.name for item in fields(group)} & set(self.options)  # type: ignore[arg-type]  # a dataclass
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
    return RunDirectory(path, kinds.get(str(options.get("model")), NETWORK_RUN), config)
