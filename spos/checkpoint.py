"""Parameter files and checkpoints. Written whole or not at all; read without executing anything."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from spos.compat import mx
from spos.errors import InputError
from spos.records import MODEL_FILE, PathLike, read_json, sync_directory, write_json

STATES_FILE = "optimizer.states"
STATE_FILE = "state.json"
CHECKPOINTS = "checkpoints"
_EPOCH_FOLDER = re.compile(r"^epoch-(\d+)$")


def save_arrays(path: PathLike, arrays: Mapping[str, Any]) -> None:
    """Write named NDArrays in MXNet's own format, atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        mx.nd.save(str(temporary), dict(arrays))
        _sync_file(temporary)
        os.replace(temporary, path)
    except mx.base.MXNetError as error:
        raise OSError(f"cannot write {path}: {_first_line(error)}") from None
    finally:
        if temporary.exists():
            temporary.unlink()
    sync_directory(path.parent)


def load_arrays(path: PathLike) -> Dict[str, Any]:
    """Read named NDArrays; the prefixes `arg:` and `aux:` of exported files are dropped.

    Raises: InputError if the file is missing, truncated or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError as error:
        raise InputError(f"{path} is damaged or no MXNet parameter file: {_first_line(error)}") from None
    if not isinstance(arrays, dict):
        raise InputError(f"{path} holds arrays without names, so it is no parameter file")
    return {re.sub(r"^(arg|aux):", "", name): value for name, value in arrays.items()}


def parameters_of(net: mx.gluon.Block) -> Dict[str, Any]:
    """Every parameter and statistic by structural name; those on several devices averaged."""
    return {name: parameter._reduce() for name, parameter in net._collect_params_with_prefix().items()}


def save_parameters(path: PathLike, net: mx.gluon.Block) -> None:
    """Write a network's parameters atomically. The file is one that Gluon's `load_parameters` reads."""
    save_arrays(path, parameters_of(net))


def load_parameters(path: PathLike, net: mx.gluon.Block, classifier: str = "output.0.weight") -> None:
    """Set a network's parameters from a file, after checking all names and shapes.

    Raises: InputError that says what kind of other network the file belongs to; `net` is unchanged then.
    """
    arrays, own = load_arrays(path), net._collect_params_with_prefix()
    if classifier in own and classifier in arrays and arrays[classifier].shape[0] != own[classifier].shape[0]:
        raise InputError(
            f"{path} has {arrays[classifier].shape[0]} classes, the network has {own[classifier].shape[0]} (--classes)"
        )
    differing = sorted(set(own) ^ set(arrays)) + [
        name for name in own if name in arrays and own[name].shape != arrays[name].shape
    ]
    if differing:
        name = differing[0]
        here = f"shape {own[name].shape}" if name in own else "no such parameter"
        there = f"shape {arrays[name].shape}" if name in arrays else "no such parameter"
        raise InputError(
            f"{path} belongs to another network: {len(differing)} parameters differ, the first is {name} "
            f"(file: {there}; network: {here}). Was it trained in another space?"
        )
    for name, parameter in own.items():
        parameter.set_data(arrays[name].astype(parameter.dtype))


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk. `epoch` is the number of finished epochs."""

    folder: Path
    epoch: int
    state: Dict[str, Any]

    @property
    def model_file(self) -> Path:
        return self.folder / MODEL_FILE

    @property
    def states_file(self) -> Path:
        return self.folder / STATES_FILE


def save_checkpoint(
    run: PathLike, epoch: int, net: mx.gluon.Block, states: Mapping[str, Any], state: Mapping[str, Any], keep: int
) -> Checkpoint:
    """Write `checkpoints/epoch-NNNN` as one unit: it is there whole, or not at all. Older ones beyond `keep` go.

    Args:
        states: optimizer state by name, NDArrays.    state: anything else needed to go on, plain JSON.
    """
    folder = Path(run) / CHECKPOINTS / f"epoch-{epoch:04d}"
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    for stale in folder.parent.glob(".epoch-*"):
        shutil.rmtree(stale)
    save_parameters(temporary / MODEL_FILE, net)
    save_arrays(temporary / STATES_FILE, states)
    write_json(temporary / STATE_FILE, {**state, "epoch": epoch})
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)
    sync_directory(folder.parent)
    for old in sorted(folder.parent.glob("epoch-*"))[:-keep]:
        shutil.rmtree(old)
    return Checkpoint(folder, epoch, dict(state))


def newest_checkpoint(run: PathLike) -> Optional[Checkpoint]:
    """The checkpoint with the most finished epochs, or None."""
    folders: List[Path] = sorted((Path(run) / CHECKPOINTS).glob("epoch-*"))
    folders = [folder for folder in folders if _EPOCH_FOLDER.match(folder.name) and (folder / STATE_FILE).is_file()]
    if not folders:
        return None
    state = read_json(folders[-1] / STATE_FILE)
    return Checkpoint(folders[-1], state["epoch"], state)


def _sync_file(path: Path) -> None:
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: Exception) -> str:
    """MXNet's errors carry a stack trace; the sentence stands in the first line that says something."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip() and "Stack trace" not in line]
    return lines[-1] if lines else type(error).__name__
