"""Checkpoints of a training. Written whole or not at all; read without executing anything."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Union

from msgspec import UNSET, Meta, Struct, UnsetType
from typing_extensions import Annotated

from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.parameters import STATISTICS, load_arrays, not_finite, parameters_of, save_arrays
from spos.runs.files import PathLike, read_json, sync_directory, write_json
from spos.runs.run import MODEL_FILE
from spos.runs.schema import Count, Text

if TYPE_CHECKING:
    from spos.training.averaging import WeightAverage

STATES_FILE = "optimizer.states"
STATISTICS_FILE = "device_statistics.params"
AVERAGE_FILE = "average.params"  # sums of --ema-decay, which need the numbers of `state.json`
STATE_FILE = "state.json"
CHECKPOINTS = "checkpoints"

_CHECKPOINT_FOLDER = re.compile(r"^epoch-(\d+)(?:-step-(\d+))?$")


class MeterShape(Struct, forbid_unknown_fields=True):
    loss: float = 0.0
    top1_hits: Count = 0
    top5_hits: Count = 0
    num_images: Count = 0


class AverageShape(Struct, forbid_unknown_fields=True):
    num_steps: Count
    num_seen: Dict[Text, Count]


class StateShape(Struct):
    """What `state.json` says."""

    epoch: Annotated[int, Meta(ge=0, le=10**9)]
    step: Annotated[int, Meta(ge=0, le=10**12)] = 0
    meter: Union[MeterShape, UnsetType] = UNSET
    average: Union[AverageShape, UnsetType] = UNSET


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

    def restore_average(self, average: WeightAverage) -> None:
        """Go on with an average of weights. Raises InputError if there is none, or one of another network."""
        if "average" not in self.state:
            raise InputError(f"{self.folder} has no average of weights: its training had no --ema-decay")
        file = self.folder / AVERAGE_FILE
        average.restore(load_arrays(file), self.state["average"], file)


def save_checkpoint(
    run: PathLike,
    epoch: int,
    step: int,
    net: mx.gluon.Block,
    states: Mapping[str, Any],
    state: Mapping[str, Any],
    keep: int,
    average: Optional[WeightAverage] = None,
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
        if average:
            save_arrays(temporary / AVERAGE_FILE, average.arrays())
            state = {**state, "average": average.state()}
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
    broken = not_finite(parameters)
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
    state = read_json(folders[-1] / STATE_FILE, StateShape)
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
