"""Files that programs write and read: JSON records, architecture files, run directories. Nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Match, Optional, Sequence, Union

from spos.cost import count_architecture
from spos.errors import InputError
from spos.search_space import Architecture, SearchSpace

PathLike = Union[str, Path]

SCHEMA = 1
ARCHITECTURES = Path(__file__).resolve().parent.parent / "architectures"  # published ones, by name
CONFIG_FILE = "config.json"
LOG_FILE = "log.jsonl"
HISTORY_FILE = "history.jsonl"
ARRIVED_FILE = "arrived.jsonl"  # scores that wait for their turn in the history
BEST_FILE = "best.json"
MODEL_FILE = "model.params"
LISTS_FOLDER = "lists"
PIXELS_FOLDER = "pixels"  # decoded images, where they take too much memory; may be deleted
PREPROCESSING = "preprocessing"  # key of `config.json`: what inference has to know of the images
_STRING_OR_FLAT_LIST = re.compile(r'"(?:\\.|[^"\\])*"|\[[^\[\]{}"]*\]')


def write_atomic(path: PathLike, content: Union[str, bytes]) -> None:
    """Write a whole file or none: to a temporary name beside it, flushed to disk, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=str(path.parent))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def file_digest(path: PathLike) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_output(path: PathLike) -> None:
    """Raise InputError if no file can be written there; before work that takes long. Makes the folder."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(path.parent)):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}: {error.filename})") from None


def sync_directory(path: PathLike) -> None:
    """Make renames inside a directory survive a power cut."""
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_text(record: Any) -> str:
    """Readable JSON: one key a line, but lists of numbers on one line."""
    return _STRING_OR_FLAT_LIST.sub(_on_one_line, json.dumps(record, indent=2))


def _on_one_line(match: Match[str]) -> str:
    text = match[0]
    return text if text.startswith('"') else re.sub(r"\s+", " ", text).replace("[ ", "[").replace(" ]", "]")


def write_json(path: PathLike, record: Any) -> None:
    """Write a record atomically as readable JSON."""
    write_atomic(path, to_text(record) + "\n")


def read_json(path: PathLike) -> Any:
    """Raises InputError if the file is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path} is not a JSON file: {error}") from None


def read_rows(path: PathLike) -> List[Dict[str, Any]]:
    """The rows of a journal that another program may be writing: the file is left as it is, and may be missing.

    Raises: InputError if a line other than a last one that was cut short is damaged.
    """
    path = Path(path)
    if not path.exists():
        return []
    *complete, rest = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(complete, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number} is damaged; remove the line to go on")
        rows.append(row)
    if rest:
        print(
            f"warning: {path}: the last line was cut short when the program was killed; it is left out",
            file=sys.stderr,
            flush=True,
        )
    return rows


class Journal:
    """An append-only file of JSON rows. A row is on disk when `append` returns.

    A last line cut short by a kill is dropped on opening, with a warning; any other damaged line is an InputError.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.rows: List[Dict[str, Any]] = read_rows(path)
        content = self.path.read_bytes() if self.path.exists() else b""
        if not content.endswith(b"\n") and content:
            write_atomic(self.path, content[: content.rfind(b"\n") + 1])

    def append(self, row: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(dict(row))

    def clear(self) -> None:
        """Drop all rows, and the file."""
        if self.path.exists():
            self.path.unlink()
        self.rows = []

    def keep(self, condition) -> None:
        """Drop the rows for which `condition(row)` is false, from the file too."""
        kept = [row for row in self.rows if condition(row)]
        if len(kept) < len(self.rows):
            write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))
            self.rows = kept


@dataclass(frozen=True)
class ArchitectureRecord:
    """An architecture with the space that gives it meaning, and whatever else its file says."""

    space: SearchSpace
    architecture: Architecture
    more: Mapping[str, Any]

    def to_json(self) -> Dict[str, Any]:
        cost = count_architecture(self.space, self.architecture)
        return {
            "schema": SCHEMA,
            "space": self.space.to_json(),
            "fingerprint": self.space.fingerprint,
            "block_choices": list(self.architecture.block_choices),
            "channel_choices": list(self.architecture.channel_choices),
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
    own = ("schema", "space", "fingerprint", "block_choices", "channel_choices", "flops", "params")
    missing = [key for key in own if not isinstance(record, dict) or key not in record]
    if missing:
        raise InputError(f"{source} is not an architecture file: it lacks {', '.join(missing)}")
    if record["schema"] != SCHEMA:
        raise InputError(f"{source} has schema {record['schema']}, this version reads {SCHEMA}")
    space = SearchSpace.from_json(record["space"], source=source)
    if space.fingerprint != record["fingerprint"]:
        raise InputError(f"{source}: fingerprint {record['fingerprint']} does not fit its space ({space.fingerprint})")
    for key in ("block_choices", "channel_choices"):
        if not isinstance(record[key], list) or not all(type(choice) is int for choice in record[key]):
            raise InputError(f"{source}: {key} must be a list of integers")
    architecture = Architecture(tuple(record["block_choices"]), tuple(record["channel_choices"]))
    cost = count_architecture(space, space.validate(architecture, source=source))
    if (record["flops"], record["params"]) != tuple(cost):
        raise InputError(
            f"{source} states {record['flops']} FLOPs and {record['params']} params, its choices give "
            f"{cost.macs} and {cost.params}"
        )
    return ArchitectureRecord(space, architecture, {key: value for key, value in record.items() if key not in own})


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
    "json",
)


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
        may_change: flags with which this run may go on at another value; the config is then written anew.
    Raises: InputError if the directory holds another run, or nothing that could be resumed.
    """
    path = Path(directory) / CONFIG_FILE
    config = json.loads(json.dumps(config))
    old = check_run(directory, config, must_resume, may_change)
    if old is None or any(old["options"].get(name) != config["options"].get(name) for name in may_change):
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
    if directory.is_dir() and not all(_is_left_by_a_start(entry.name) for entry in directory.iterdir()):
        raise InputError(f"{directory} is not empty and holds no run; give another --save-dir")
    return None


def _is_left_by_a_start(name: str) -> bool:
    """Whether a run that was killed before its config was written may have left this."""
    return name == LISTS_FOLDER or name.startswith(f".{CONFIG_FILE}.")


def _check_same_run(directory: Path, old: Mapping[str, Any], new: Mapping[str, Any], may_change: Sequence[str]) -> None:
    if not isinstance(old, dict) or old.get("program") != new["program"]:
        raise InputError(f"{directory} holds a run of another program; give another --save-dir")
    if old.get("space") != new.get("space"):
        raise InputError(f"{directory} holds a run in another search space; give another --save-dir")
    before, now = old.get("options", {}), new["options"]
    if not isinstance(before, dict):
        raise InputError(f"{directory} holds a run whose {CONFIG_FILE} is damaged; give another --save-dir")
    free = (*NOT_PART_OF_A_RUN, *may_change)
    differing = [n for n in {**before, **now} if n not in free and before.get(n) != now.get(n)]
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


def run_folder(file: PathLike) -> Optional[Path]:
    """The run that a parameter file lies in, directly or in one of its checkpoints, or None."""
    folder = Path(file).resolve().parent
    return next((run for run in (folder, folder.parent.parent) if (run / CONFIG_FILE).is_file()), None)


def find_config(file: PathLike) -> Optional[Dict[str, Any]]:
    """The `config.json` beside a file of a run, or None if the file does not lie in a run directory."""
    path = Path(file).resolve().parent / CONFIG_FILE
    return read_json(path) if path.is_file() else None
