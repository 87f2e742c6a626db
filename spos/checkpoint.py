"""Parameter files and checkpoints. Written whole or not at all; read without executing anything."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.compat import mx
from spos.errors import InputError, engine_reason
from spos.records import MODEL_FILE, PathLike, read_json, sync_directory, write_json

STATES_FILE = "optimizer.states"
STATISTICS_FILE = "device_statistics.params"
STATE_FILE = "state.json"
CHECKPOINTS = "checkpoints"
PICKLE = b"\x80"  # first byte of every pickle since protocol 2; MXNet's own files start with 0x12
CLASSIFIER = "output.0.weight"  # of a network of ours
STATISTICS = ("running_mean", "running_var")  # ends of parameter names
Shapes = Mapping[str, Tuple[int, ...]]  # by name

_CHECKPOINT_FOLDER = re.compile(r"^epoch-(\d+)(?:-step-(\d+))?$")


def save_arrays(path: PathLike, arrays: Mapping[str, Any]) -> None:
    """Write named NDArrays in MXNet's own format, atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        mx.nd.save(str(temporary), dict(arrays))
        _sync_file(temporary)
        mx.nd.load(str(temporary))  # MXNet does not see that the last bytes found no room on a full disk
        os.replace(temporary, path)
    except mx.base.MXNetError as error:
        raise OSError(f"cannot write {path}: {engine_reason(error)}") from None
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
    with open(path, "rb") as file:
        if file.read(1) == PICKLE:
            raise InputError(f"{path} is a pickle (Gluon's Trainer.save_states writes them), which could run any code")
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError as error:
        raise InputError(f"{path} is damaged or no MXNet parameter file: {engine_reason(error)}") from None
    if not isinstance(arrays, dict):
        raise InputError(f"{path} holds arrays without names, so it is no parameter file")
    return {re.sub(r"^(arg|aux):", "", name): value for name, value in arrays.items()}


def parameters_of(net: mx.gluon.Block) -> Dict[str, Any]:
    """Every parameter and statistic by structural name; those on several devices averaged."""
    return {name: parameter._reduce() for name, parameter in net._collect_params_with_prefix().items()}


def save_parameters(path: PathLike, net: mx.gluon.Block) -> None:
    """Write a network's parameters atomically. The file is one that Gluon's `load_parameters` reads."""
    save_arrays(path, parameters_of(net))


def load_parameters(path: PathLike, net: mx.gluon.Block, ctx: Sequence[mx.Context] = ()) -> None:
    """Set a network's parameters from a file, after checking all names and shapes.

    Args:
        ctx: where to put the parameters of a network without values, which is faster than initializing it first.
    Raises: InputError that says what kind of other network the file belongs to; `net` is unchanged then.
    """
    set_parameters(net, read_parameters(path, net), ctx)


def set_parameters(net: mx.gluon.Block, arrays: Mapping[str, Any], ctx: Sequence[mx.Context] = ()) -> None:
    """Set a network's parameters to arrays that fit, in its own precision.

    Args:
        ctx: as for `load_parameters`.
    """
    for name, parameter in net._collect_params_with_prefix().items():
        value = arrays[name].astype(parameter.dtype, copy=False)
        if ctx:
            parameter._load_init(value, list(ctx))  # as Gluon's own load_parameters does
        else:
            parameter.set_data(value)


def read_parameters(path: PathLike, net: mx.gluon.Block) -> Dict[str, Any]:
    """The arrays of a network's file. `net` needs no values.

    Raises: InputError that says what kind of other network the file belongs to.
    """
    arrays = load_arrays(path)
    check_parameters(arrays, net, path)
    return arrays


def check_parameters(arrays: Mapping[str, Any], net: mx.gluon.Block, path: PathLike) -> None:
    """Raise InputError if the arrays of a file are not the network's, saying what kind of other it belongs to."""
    own = {name: parameter.shape for name, parameter in net._collect_params_with_prefix().items()}
    check_shapes(path, {name: array.shape for name, array in arrays.items()}, own)


def check_shapes(path: PathLike, given: Shapes, own: Shapes) -> None:
    """Raise InputError unless a file's shapes are a network's `own`, saying what kind of other network it is of."""
    if CLASSIFIER in own and CLASSIFIER in given and given[CLASSIFIER][0] != own[CLASSIFIER][0]:
        raise InputError(f"{path} has {given[CLASSIFIER][0]} classes, the network has {own[CLASSIFIER][0]} (--classes)")
    differing = sorted(set(own) ^ set(given)) + [name for name in own if name in given and own[name] != given[name]]
    if differing:
        name = differing[0]
        here = f"shape {own[name]}" if name in own else "no such parameter"
        there = f"shape {given[name]}" if name in given else "no such parameter"
        raise InputError(
            f"{path} belongs to another network: {len(differing)} parameters differ, the first is {name} "
            f"(file: {there}; network: {here}). Was it trained in another space?"
        )


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk: `epoch` finished epochs and `step` steps of the next one."""

    folder: Path
    epoch: int
    step: int
    state: Dict[str, Any]

    @property
    def model_file(self) -> Path:
        return self.folder / MODEL_FILE

    @property
    def states_file(self) -> Path:
        return self.folder / STATES_FILE

    @property
    def statistics_file(self) -> Path:
        return self.folder / STATISTICS_FILE


def save_checkpoint(
    run: PathLike,
    epoch: int,
    step: int,
    net: mx.gluon.Block,
    states: Mapping[str, Any],
    state: Mapping[str, Any],
    keep: int,
) -> Checkpoint:
    """Write `checkpoints/epoch-NNNN[-step-NNNNNN]` as one unit: it is there whole, or not at all.

    One that is there already is kept: a run comes to the same moment with the same bits. Older ones beyond `keep` go.

    Args:
        states: optimizer state by name, NDArrays.    state: anything else needed to go on, plain JSON.
    Raises: OSError if the disk is full or fails, InputError if a parameter is not finite; what was there before is
        untouched.
    """
    folder = Path(run) / CHECKPOINTS / (f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else ""))
    if folder in _folders(run):
        return Checkpoint(folder, epoch, step, dict(state))
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    for stale in folder.parent.glob(".epoch-*"):
        shutil.rmtree(stale)
    parameters = parameters_of(net)
    _check_finite(parameters)
    try:
        save_arrays(temporary / MODEL_FILE, parameters)
        save_arrays(temporary / STATES_FILE, states)
        statistics = _device_statistics(net)
        if statistics:
            save_arrays(temporary / STATISTICS_FILE, statistics)
        write_json(temporary / STATE_FILE, {**state, "epoch": epoch, "step": step})
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    os.replace(temporary, folder)
    sync_directory(folder.parent)
    for old in _folders(run)[:-keep]:
        shutil.rmtree(old)
    return Checkpoint(folder, epoch, step, dict(state))


def _check_finite(parameters: Mapping[str, Any]) -> None:
    broken = [name for name, array in parameters.items() if not np.isfinite(array.asnumpy()).all()]
    if broken:
        raise InputError(
            f"{broken[0]} and {len(broken) - 1} more parameters are not finite; no checkpoint is written. "
            "Lower --lr or lengthen --warmup-epochs, in another --save-dir"
        )


def newest_checkpoint(run: PathLike) -> Optional[Checkpoint]:
    """The checkpoint that got farthest, or None."""
    folders = _folders(run)
    if not folders:
        return None
    state = read_json(folders[-1] / STATE_FILE)
    return Checkpoint(folders[-1], state["epoch"], state.get("step", 0), state)


def _folders(run: PathLike) -> List[Path]:
    """Folders of whole checkpoints, the one that got farthest last."""
    found = [(_CHECKPOINT_FOLDER.match(path.name), path) for path in (Path(run) / CHECKPOINTS).glob("epoch-*")]
    known = [((int(m[1]), int(m[2] or 0)), path) for m, path in found if m and (path / STATE_FILE).is_file()]
    return [path for _, path in sorted(known)]


def _device_statistics(net: mx.gluon.Block) -> Dict[str, Any]:
    """Running statistics of every device, `NAME@DEVICE`, when there are several: each follows its own images.

    The parameter file holds their average; going on from the average would not be the same run.
    """
    arrays = {}
    for name, parameter in net._collect_params_with_prefix().items():
        if name.endswith(STATISTICS) and len(parameter.list_ctx()) > 1:
            arrays.update({f"{name}@{device}": data for device, data in enumerate(parameter.list_data())})
    return arrays


def load_device_statistics(checkpoint: Checkpoint, net: mx.gluon.Block) -> None:
    """Restore the running statistics of every device.

    Raises: InputError if they are of another network or number of devices.
    """
    own = _device_statistics(net)
    if not own and not checkpoint.statistics_file.exists():
        return
    saved = load_arrays(checkpoint.statistics_file)
    if set(saved) != set(own):
        raise InputError(f"{checkpoint.statistics_file} is of another network or number of devices")
    for key, array in own.items():
        saved[key].copyto(array)


def _sync_file(path: Path) -> None:
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
