"""A deployed subnet in the form of a runtime, float32 or INT8, and as files that were checked before they are kept."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, Type, Union

import numpy as np

from spos.deploy.calibration import Calibration
from spos.deploy.exported import ONNX, compiled, open_model, write_mxnet
from spos.deploy.model_info import ModelInfo
from spos.deploy.onnx import OnnxSession, quantize_onnx, to_onnx
from spos.deploy.parity import Logits
from spos.deploy.quantization import quantize
from spos.deploy.subnet import DeployedSubnet
from spos.engine.compat import mx
from spos.engine.parameters import INPUT
from spos.runs.files import write_atomic


@dataclass(frozen=True)
class Converted:
    """A network in the form of a runtime, in memory.

    Args:
        logits: (N, 3, S, S) float32 -> (N, classes).
        write: writes its files under a name without suffix, and returns them.
    """

    logits: Logits
    write: Callable[[Path], Sequence[Path]]


class OnnxFormat:
    """Makes ONNX models of a subnet."""

    def __init__(self, subnet: DeployedSubnet, info: ModelInfo, shuffle_by_conv: bool = False) -> None:
        self._info = info
        net = subnet.network("conv" if shuffle_by_conv else "gather")
        self._model = to_onnx(net, info)

    def float32(self) -> Converted:
        return self._converted(self._model)

    def int8(self, batches: Sequence[np.ndarray], calibration: Calibration, exclude: Sequence[str]) -> Converted:
        return self._converted(
            quantize_onnx(self._model, replace(self._info, precision="int8"), batches, calibration, exclude)
        )

    @staticmethod
    def _converted(model) -> Converted:
        return Converted(OnnxSession(model), lambda name: (_write_onnx(model, name),))


class MxnetFormat:
    """Makes MXNet symbols of a subnet."""

    def __init__(self, subnet: DeployedSubnet, info: ModelInfo, shuffle_by_conv: bool = False) -> None:
        self._info = info
        self._net = subnet.network("conv" if shuffle_by_conv else "reshape")

    def float32(self) -> Converted:
        arrays = {parameter.name: parameter.data() for parameter in self._net.collect_params().values()}
        return self._converted(self._net(mx.sym.var(INPUT)), arrays, self._info)

    def int8(self, batches: Sequence[np.ndarray], calibration: Calibration, exclude: Sequence[str]) -> Converted:
        block = quantize(self._net, map(mx.nd.array, batches), calibration, exclude)
        return self._converted(block.symbol, block.arrays, replace(self._info, precision="int8"))

    @staticmethod
    def _converted(symbol: mx.sym.Symbol, arrays: Mapping[str, Any], info: ModelInfo) -> Converted:
        return Converted(compiled(symbol, arrays), lambda name: write_mxnet(name, symbol, arrays, info))


Format = Union[OnnxFormat, MxnetFormat]
FORMAT_CLASSES: Dict[str, Type[Format]] = {"onnx": OnnxFormat, "mxnet": MxnetFormat}


def _write_onnx(model, name: Path) -> Path:
    path = name.with_name(f"{name.name}{ONNX}")
    write_atomic(path, model.SerializeToString())
    return path


def publish(network: Converted, name: Path, check: Callable[[Logits], float]) -> Tuple[float, List[Path]]:
    """Write the files of a network under `name`, if they pass: what is checked is what was read from the disk.

    Args:
        check: raises InputError if these logits are not right. Files that were there before are then untouched.
    Returns: what `check` measured, and the files.
    """
    with tempfile.TemporaryDirectory(dir=str(name.parent), prefix=f".{name.name}.") as folder:
        files = network.write(Path(folder) / name.name)
        measured = check(open_model(files[0]))
        for file in reversed(files):  # a symbol, which knows the checksum of its parameters, comes last
            os.replace(file, name.parent / file.name)
    return measured, [name.parent / file.name for file in files]
