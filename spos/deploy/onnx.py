"""ONNX: a network as one checked file with its metadata, and the INT8 version by ONNX Runtime's own quantizer.

`onnx` and `onnxruntime` are needed here only: `sh scripts/setup.sh --deploy`.
"""

from __future__ import annotations

import importlib
import io
import logging
import tempfile
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from spos.core.errors import InputError
from spos.core.installation import install_command
from spos.core.progress import progress_bar
from spos.deploy.calibration import NAIVE, Calibration
from spos.deploy.model_info import ModelInfo
from spos.engine.compat import mx, num_threads
from spos.engine.parameters import CLASSIFIER, INPUT, structural_names
from spos.space.names import readers_of

OUTPUT = "logits"

OPSET, IR_VERSION = 13, 8  # what MXNet's exporter speaks; runtimes since 2021 read it


def to_onnx(net: mx.gluon.HybridBlock, info: ModelInfo) -> Any:
    """The network as an `onnx.ModelProto`: `data` (N, 3, S, S) float32 -> `logits` (N, classes), N free.

    Parameters keep the names of `.params` files. The model has passed ONNX's checker and its strict shape inference.

    Raises: InputError if onnx is missing, or if its checker finds an error.
    """
    onnx = import_library("onnx")
    size = info.preprocessing.input_size
    own_names = structural_names(net)
    arrays = {parameter.name: parameter.data() for parameter in net.collect_params().values()}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        shapes = {"in_shapes": [(1, 3, size, size)], "dynamic_input_shapes": [("N", 3, size, size)]}
        try:
            mx.onnx.export_model(net(mx.sym.var(INPUT)), arrays, onnx_file_path=path, dynamic=True, **shapes)
        except ImportError:  # since 1.19 onnx lacks a module, and the exporter says that onnx is missing
            raise InputError(
                f"MXNet's exporter cannot use onnx {onnx.__version__}; run {install_command('deploy')}"
            ) from None
        model = onnx.load(path)
    _tidy(onnx, model, own_names, net.name + "_")
    _write_metadata(onnx, model, info)
    try:
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"ONNX's checker refuses the exported model: {error}") from None
    return model


def _write_metadata(onnx: Any, model: Any, info: ModelInfo) -> None:
    """Write the metadata into a model, in the place of any that it has."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, info.to_strings())
    model.producer_name = "single-path-one-shot-nas-mxnet"


def _tidy(onnx: Any, model: Any, own_names: Mapping[str, str], prefix: str) -> None:
    """Names of this project, parameters that are constants, and the versions that the operators are of."""
    graph = model.graph
    (output,) = graph.output
    names = {**own_names, output.name: OUTPUT}

    def renamed(name: str) -> str:
        return names.get(name, name[len(prefix) :] if name.startswith(prefix) else name)

    for node in graph.node:
        node.name = renamed(node.name or node.output[0])  # the quantizer leaves nodes out by name
        node.input[:], node.output[:] = map(renamed, node.input), map(renamed, node.output)
    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    # MXNet lists all parameters as inputs too, which keeps ONNX Runtime from preparing them ahead
    inputs = [value for value in graph.input if value.name == INPUT]
    del graph.input[:]
    graph.input.extend(inputs)
    classes = next(tensor.dims[0] for tensor in graph.initializer if tensor.name == CLASSIFIER)
    output.CopyFrom(onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["N", classes]))
    graph.name = "subnet"
    model.opset_import[0].version = OPSET
    model.ir_version = IR_VERSION


def quantize_onnx(
    model: Any,
    info: ModelInfo,
    batches: Sequence[np.ndarray],
    calibration: Calibration = NAIVE,
    exclude: Sequence[str] = (),
) -> Any:
    """The INT8 version of a model, by the static quantizer of ONNX Runtime; `model` is not changed.

    Weights are rounded for each output channel to 7 bits: without VNNI, sums of two products are kept in 16 bits, which
    8 would overflow. Activations are uint8 for each tensor.

    Args:
        batches: calibration images, (N, 3, S, S) float32 each.
        exclude: convolutions that stay in float32, by the beginning of their parameters' names: `output.0`.
    Raises: InputError if onnxruntime is missing, or `exclude` names nothing.
    """
    onnx, library = import_library("onnx"), import_library("onnxruntime.quantization")
    method = {
        "naive": library.CalibrationMethod.MinMax,
        "entropy": library.CalibrationMethod.Entropy,
        "percentile": library.CalibrationMethod.Percentile,
    }[calibration.method]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        library.quantize_static(
            str(source),
            str(target),
            _Reader(batches),
            quant_format=library.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=library.QuantType.QUInt8,
            weight_type=library.QuantType.QInt8,
            calibrate_method=method,
            nodes_to_exclude=_reading(model, exclude),
            # batch by batch: all at once would keep every tensor of every image
            extra_options={"CalibStridedMinMax": 1, "CalibPercentile": calibration.percentile},
        )
        quantized = onnx.load(str(target))
    _write_metadata(onnx, quantized, info)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


class _Reader:
    """What the quantizer reads images from."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = batches
        self._pending: Iterator[np.ndarray] = iter(())
        self._bar = progress_bar(total=len(batches), desc="calibrating", unit="batch", leave=True)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._pending = iter(self._batches[start_index:end_index])

    def get_next(self) -> Any:
        images = next(self._pending, None)
        self._bar.update(images is not None)
        return None if images is None else {INPUT: images}


def _reading(model: Any, exclude: Sequence[str]) -> List[str]:
    """Names of the nodes that read a parameter of an excluded layer."""
    return readers_of([(node.name, node.input) for node in model.graph.node], exclude, "network")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's advice, which it gives by warnings of the root logger and on standard output."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)


def import_library(name: str) -> Any:
    """`onnx`, `onnxruntime` or a part of them. Raises: InputError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"ONNX needs {name.split('.')[0]} ({error}); run {install_command('deploy')}") from None


class OnnxSession:
    """A model in ONNX Runtime on the CPU.

    Args:
        model: an `onnx.ModelProto`, its bytes, or a file.    threads: as many as MXNet has if None.
        optimize: False runs the graph as it is written.
    Raises: InputError if onnxruntime is missing or cannot load the model.
    """

    def __init__(self, model: Any, threads: Optional[int] = None, optimize: bool = True) -> None:
        ort = import_library("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or num_threads()
        options.log_severity_level = 3
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        content = model.SerializeToString() if hasattr(model, "SerializeToString") else model
        try:
            self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own classes, which have no common base of their own
            raise InputError(f"ONNX Runtime cannot load the model: {error}") from None

    @property
    def metadata(self) -> Dict[str, str]:
        """The metadata properties of the file."""
        return self.session.get_modelmeta().custom_metadata_map

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of normalised images (N, 3, S, S) float32."""
        return self.session.run(None, {INPUT: images})[0]
