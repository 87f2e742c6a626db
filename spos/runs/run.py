"""Run directories: the names of their files, their `config.json`, and what a run may go on with."""

from __future__ import annotations

import contextlib
import json
import os
from argparse import ArgumentTypeError
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, Union

from msgspec import UNSET, Meta, Struct, UnsetType
from typing_extensions import Annotated

from spos.core.errors import InputError, warn_once
from spos.runs.files import PathLike, check_shape, parse_json, read_bytes, read_json, shortened, write_json
from spos.runs.journal import read_rows
from spos.runs.schema import Scored, Text

SUPERNET, SUBNET = "ShuffleNas", "ShuffleNas_fixArch"  # values of --model; others name a network of GluonCV's zoo
Group = TypeVar("Group")
Rows = List[Dict[str, Any]]
SUPERNET_RUN, SEARCH_RUN, SUBNET_RUN = "supernet", "search", "subnet"
NETWORK_RUN = "network"  # of GluonCV's zoo
KINDS = (SUPERNET_RUN, SEARCH_RUN, SUBNET_RUN, NETWORK_RUN)  # in the order of a pipeline
TRAINING, SEARCHING = "train_imagenet.py", "search_supernet.py"
BN_UPDATE_FILE = "bn_update.jsonl"  # what `utils.bn_update_effect` measures


CONFIG_FILE = "config.json"
SPACE_FILE = "space.json"  # a search space of a script's own
LOCK_FILE = ".lock"  # there as long as a program is in a directory
LOG_FILE = "log.jsonl"
HISTORY_FILE = "history.jsonl"
ARRIVED_FILE = "arrived.jsonl"  # scores that wait for their turn in the history
BEST_FILE = "best.json"
CONTROL_FILE = "control.json"
MODEL_FILE = "model.params"
AVERAGE_MODEL_FILE = "model-ema.params"  # with --ema-decay: averaged weights
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
NAMES_OF_FLAGS = ("recipe",)  # of a training, whose values are a part of it; what a study calls so is not free


# Flags that say where the images are: a run may go on with others if the images are the same.
RECORD_PATHS = ("rec_train", "rec_train_idx", "rec_val", "rec_val_idx")
DATA_PATHS = ("data_dir", *RECORD_PATHS)
# Flags that name a file whose content is compared, by its key in `config.json`, and those whose place is. How a name is
# spelled does not matter.
FILES_OF_A_RUN = {
    "supernet_params": "supernet_sha256",
    "latency_table": "latency_table_sha256",
    "init_params": "init_params_sha256",
    "init_from_supernet": "init_from_supernet_sha256",
    "teacher": "teacher_sha256",
    "teacher_params": "teacher_sha256",
    "architecture": "architecture",
    "space": "space",
    "blocks": "fingerprint",
}
PLACES_OF_A_RUN = (*DATA_PATHS, "resume_params", "resume_states", "teacher_params", "seed_history")

# What flags name but files hold, by its key in `config.json`.
INPUTS_OF_A_RUN = {
    "supernet_sha256": "the content of --supernet-params",
    "architecture": "the architecture",
    "latency_table_sha256": "the content of --latency-table",
    "init_params_sha256": "the content of --init-params",
    "init_from_supernet_sha256": "the content of --init-from-supernet",
    "teacher_sha256": "the content of --teacher",
    "data": "the data set",
    "workers": "the number of workers",
    "images": "the images that score candidates",
    "device": "the device, or its number of threads,",
    "networks": "the way networks are drawn",
}


class OptionsShape(Struct):
    """What every `config.json` says."""

    options: Dict[Text, Union[bool, int, float, Text, None]]
    program: Union[Text, UnsetType] = UNSET


class ConfigShape(OptionsShape):
    """What the `config.json` of a run of training or searching says."""

    space: Union[Dict[str, Any], None, UnsetType] = UNSET
    architecture: Union[Dict[str, Any], None, UnsetType] = UNSET
    preprocessing: Union[Dict[str, Any], None, UnsetType] = UNSET
    versions: Union[Dict[str, Optional[Text]], None, UnsetType] = UNSET
    data: Union[Text, UnsetType] = UNSET


class BnUpdateRow(Scored, kw_only=True):
    """A row of `bn_update.jsonl`."""

    num_bn_images: Annotated[int, Meta(ge=0, le=2**53)]


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
    if old is not None:
        _warn_of_other_kernels(directory, old, config)
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
        return check_shape(old, path, OptionsShape)
    if must_resume:
        raise InputError(f"--resume: there is no run in {directory}")
    if directory.is_dir() and not all(_may_be_there(entry) for entry in directory.iterdir()):
        raise InputError(f"{directory} is not empty and holds no run; give another --save-dir")
    return None


def _warn_of_other_kernels(directory: PathLike, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Both are allowed, but they do not round alike."""
    before, now = (config.get("versions") or {} for config in (old, new))
    if before and now and before.get("native") != now.get("native"):
        names = [
            f"native kernels ({one})" if one else "MXNet's operators"
            for one in (before.get("native"), now.get("native"))
        ]
        warn_once(
            f"{directory} began with {names[0]} and goes on with {names[1]}, which round differently: "
            "it ends with other bits than if it had not been stopped"
        )


def _may_be_there(entry: Path) -> bool:
    """Whether a new run may find this: what one that was killed before its config was written has left, logs that a
    shell writes, and what a new disk holds."""
    if entry.name in (LISTS_FOLDER, LOCK_FILE, SPACE_FILE, "lost+found") or entry.name.startswith(f".{CONFIG_FILE}."):
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
    if old.get("fingerprint", new.get("fingerprint")) != new.get("fingerprint"):
        raise InputError(
            f"{directory} holds another run: the blocks of its search space have other layers now than when it began "
            "(--blocks). Give another --save-dir, or the file as it was"
        )
    before, now = old.get("options", {}), new["options"]
    if not isinstance(before, dict):
        raise InputError(f"{directory} holds a run whose {CONFIG_FILE} is damaged; give another --save-dir")
    free = (*NOT_PART_OF_A_RUN, *may_change, *(NAMES_OF_FLAGS if new["program"] == TRAINING else ()))
    if CONTENTS in old and old[CONTENTS] == new.get(CONTENTS):
        free = (*free, *DATA_PATHS)
    differing = [n for n in {**before, **now} if n not in free and not _is_same(n, old, new)]
    names = [n for n in differing if n in before or now[n]]  # one that is newer than the run, and not set, is none
    if names:
        name = names[0]
        raise InputError(
            f"{directory} holds another run: --{name.replace('_', '-')} was {shortened(before.get(name))}, now it is "
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
    return next((run for run in (folder, folder.parent.parent) if _config_in(run) is not None), None)


def find_config(file: PathLike) -> Optional[Dict[str, Any]]:
    """The `config.json` beside a file of a run, or None if the file does not lie in a run directory."""
    return _config_in(Path(file).resolve().parent)


def _config_in(folder: Path) -> Optional[Dict[str, Any]]:
    """The config of a run, or None: many programs have a `config.json`, and theirs is none of ours.

    Raises: InputError if it is of a training, but damaged.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return None
    content = read_bytes(path)
    try:
        config = parse_json(content, path)
    except InputError:
        if TRAINING.encode() in content:
            raise
        return None
    if not isinstance(config, dict):
        return None
    is_ours = config.get("program") == TRAINING or {"options", "space"} <= set(config)
    return check_shape(config, path, ConfigShape) if is_ours else None


def options_as(group: Type[Group], options: Mapping[str, Any], source: PathLike) -> Group:
    """A group of flags as a run recorded it; flags that are newer than the run have their defaults.

    Raises: InputError if a value is none that the flag could have been given.
    """
    known = [item for item in fields(group) if item.name in options]  # type: ignore[arg-type]  # a dataclass
    for item in known:
        if not _may_have(item, options[item.name]):
            raise InputError(f"{source}: {item.name} cannot be {shortened(repr(options[item.name]))}")
    return group(**{item.name: options[item.name] for item in known})


def _may_have(item: Field, value: Any) -> bool:
    """Whether a value is one that a flag's type and choices allow."""
    kind, choices, default = item.metadata.get("type"), item.metadata.get("choices"), item.default
    if value is None:
        return default is None
    if choices is not None:
        return value in choices
    if default is None:
        return isinstance(value, (str, int, float))
    if isinstance(default, (bool, str)) or isinstance(value, (bool, str)):
        alike = type(value) is type(default)
    else:
        alike = isinstance(value, type(default)) or isinstance(default, float)
    try:
        if alike and kind is not None:
            kind(str(value))
    except (ValueError, TypeError, ArgumentTypeError):
        return False
    return alike


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

    def rows(self, file_name: str, schema: Any = Dict[str, Any], with_check: bool = False) -> Rows:
        """The rows of one of its journals; none if it is not there yet. Raises InputError if a line is damaged."""
        return read_rows(self.path / file_name, schema, with_check)

    def flags(self, group: Type[Group]) -> Group:
        """A group of flags as the run recorded it; flags that are newer than the run have their defaults."""
        return options_as(group, self.options, self.path / CONFIG_FILE)


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
    check_shape(config, path / CONFIG_FILE, ConfigShape)
    if config["program"] == SEARCHING:
        return RunDirectory(path, SEARCH_RUN, config)
    kinds = {SUPERNET: SUPERNET_RUN, SUBNET: SUBNET_RUN}
    return RunDirectory(path, kinds.get(str(options.get("model")), NETWORK_RUN), config)
