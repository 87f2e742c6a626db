"""INT8 on a CPU: any float32 block as a graph of oneDNN's 8-bit kernels, by the quantization of MXNet.

A convolution, the BatchNorm behind it and a ReLU become one 8-bit operator. Hard-swish, the scaling of
squeeze-and-excite, the channel shuffle, and most pooling and concatenation stay in float32, between a dequantize and a
quantize. Weights are rounded for each output channel, activations for each tensor, by the range that calibration images
gave. What was measured about it stands in `docs/mxnet.md`.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence, Tuple

import numpy as np

from spos.checkpoint import save_arrays
from spos.compat import mx
from spos.errors import InputError, engine_reason
from spos.records import PathLike, write_atomic

CALIBRATIONS = ("naive", "entropy")
# Hard-swish in 8 bits doubles the time of a block and adds half of its error again; with unsigned inputs it fails.
# Matrix products saturate without VNNI, signed or not: weights between 0.5 and 1 gave a relative error of 1.
FLOAT_OPERATORS = ("elemwise_mul", "_sg_mkldnn_fully_connected", "FullyConnected")
# Signed, although that leaves a bit unused where nothing is negative: without VNNI, two products of unsigned inputs are
# added in 16 bits, which saturate (an error of 15% in a convolution of positive numbers).
DTYPE = "int8"
RANGES = "auto"  # entropy: from 0 where nothing is negative, which a fused ReLU needs, as it gives unsigned values
BACKEND = "MKLDNN_QUANTIZE"  # fuses before quantization and after it
DATA = "data"

Arrays = Dict[str, Any]


class QuantizedBlock:
    """An INT8 graph with its weights: called with float32 (N, C, H, W) on the CPU, returns float32.

    The first call at a new shape prepares kernels and takes longer than the next ones.

    Args:
        symbol: a calibrated graph whose only input beside `arrays` is `data`.
        channels: of the images. MXNet does not notice others at a Reshape, and reads and writes foreign memory.
        arrays: every parameter and statistic, by its name in the graph. Float32: MXNet rounds them at the first call.
    """

    def __init__(self, symbol: mx.sym.Symbol, arrays: Mapping[str, Any], channels: int) -> None:
        self.symbol = symbol
        self.channels = channels
        names = symbol.list_inputs()
        self.arrays = {name: arrays[name] for name in names if name != DATA}
        self._inputs = [None if name == DATA else arrays[name] for name in names]
        self._op = mx.nd.CachedOp(symbol, [("static_alloc", True), ("static_shape", True)])

    def __call__(self, x):
        if len(x.shape) != 4 or x.shape[1] != self.channels or x.dtype != np.float32:
            raise InputError(
                f"INT8 was made for float32 images of {self.channels} channels, (N, {self.channels}, H, W); "
                f"this is {np.dtype(x.dtype).name} {x.shape}"
            )
        return self._op(*(x if value is None else value for value in self._inputs))

    @property
    def operators(self) -> Dict[str, int]:
        """How often every operator stands in the graph."""
        return dict(Counter(node["op"] for node in json.loads(self.symbol.tojson())["nodes"] if node["op"] != "null"))

    def export(self, path: PathLike) -> Tuple[Path, Path]:
        """Write `path-symbol.json` and `path-0000.params`, which `gluon.SymbolBlock.imports` reads.

        The parameters are stored as float32, so the file is as large as that of the float32 network.
        """
        statistics = set(self.symbol.list_auxiliary_states())
        files = Path(f"{path}-symbol.json"), Path(f"{path}-0000.params")
        write_atomic(files[0], self.symbol.tojson())
        named = {f"{'aux' if name in statistics else 'arg'}:{name}": value for name, value in self.arrays.items()}
        save_arrays(files[1], named)
        return files


def quantize(
    block: mx.gluon.HybridBlock, batches: Iterable, calibration: str = "naive", exclude: Sequence[str] = ()
) -> QuantizedBlock:
    """The INT8 version of a block. `block` is not changed, and later changes of its parameters are not followed.

    Args:
        batches: calibration images (N, C, H, W), normalised, float32, on the CPU; at least one batch.
        calibration: 'naive' takes the smallest and largest value of every tensor, 'entropy' the range that loses the
            least information (about a second for every tensor).
        exclude: convolutions that stay in float32, by the beginning of their parameters' names: `output.0`.
    Raises: InputError if parameters or images are not float32 on the CPU, if there are no batches, if their shape does
        not fit the block, if a value is not finite, or if `exclude` names nothing.
    """
    if calibration not in CALIBRATIONS:
        raise InputError(f"calibration {calibration!r} is not known: {', '.join(CALIBRATIONS)}")
    arrays = _float_arrays(block)
    # A reshape to the same shape, because it gives MXNet's own layout: the quantize operator would keep the layout of
    # its first input (a convolution gives a blocked one), and silently misread every later one that has another.
    output = block(mx.sym.reshape(mx.sym.var(DATA), shape=(-2,)))
    symbol = (mx.sym.Group(output) if isinstance(output, list) else output).get_backend_symbol(BACKEND)
    arguments = {name: arrays[name] for name in symbol.list_arguments() if name != DATA}
    statistics = {name: arrays[name] for name in symbol.list_auxiliary_states()}
    library = mx.contrib.quantization
    graph, _, _, collector = library.quantize_graph(
        symbol,
        arguments,
        statistics,
        excluded_sym_names=_excluded_nodes(symbol, block, exclude),
        excluded_op_names=list(FLOAT_OPERATORS),
        calib_mode=calibration,
        quantized_dtype=DTYPE,
        quantize_mode="smart",
        logger=None,
    )
    channels = _collect_ranges(symbol, arguments, statistics, batches, collector)
    try:
        graph, arguments, statistics = library.calib_graph(
            graph, arguments, statistics, collector, calib_mode=calibration, quantized_dtype=RANGES, logger=None
        )
    except mx.base.MXNetError as error:
        raise InputError(f"the block cannot be quantized by these images: {engine_reason(error)}") from None
    return QuantizedBlock(graph.get_backend_symbol(BACKEND), {**arguments, **statistics}, channels)


def _float_arrays(block: mx.gluon.HybridBlock) -> Arrays:
    """A copy of every parameter and statistic by its name in graphs."""
    arrays = {}
    for own, parameter in block._collect_params_with_prefix().items():
        value = parameter.data(parameter.list_ctx()[0])
        if value.context.device_type != "cpu" or value.dtype != np.float32:
            raise InputError(
                f"{own} is {value.dtype.__name__} on {value.context}: INT8 is made from float32 parameters on the CPU "
                "(cast('float32') and collect_params().reset_ctx(mx.cpu()))"
            )
        if not _is_finite(value):
            raise InputError(f"{own} holds values that are not finite")
        arrays[parameter.name] = value.copy()
    return arrays


def _excluded_nodes(symbol: mx.sym.Symbol, block: mx.gluon.HybridBlock, exclude: Sequence[str]) -> List[str]:
    """Names of the fused nodes that read a parameter of an excluded layer."""
    own_names = {parameter.name: own for own, parameter in block._collect_params_with_prefix().items()}
    nodes = json.loads(symbol.tojson())["nodes"]
    excluded: List[str] = []
    for prefix in exclude:
        layer = prefix.rstrip(".") + "."
        found = [
            node["name"]
            for node in nodes
            if any(own_names.get(nodes[i]["name"], "").startswith(layer) for i, *_ in node["inputs"])
        ]
        if not found:
            raise InputError(f"no layer of the block is called {prefix!r}; layers are named as in .params files")
        excluded += found
    return excluded


def _collect_ranges(symbol: mx.sym.Symbol, arguments: Arrays, statistics: Arrays, batches: Iterable, collector) -> int:
    """Run the float32 graph on all batches and let the collector see every tensor.

    Returns: the number of channels of the images.
    """
    channels = None
    for images in batches:
        _check_images(images)
        try:
            _check_reshapes(symbol, {DATA: images, **arguments, **statistics})
            executor = symbol.bind(mx.cpu(), {**arguments, DATA: images}, aux_states=statistics, grad_req="null")
            executor.set_monitor_callback(_observer(collector), monitor_all=True)
            executor.forward(is_train=False)
            executor.outputs[0].wait_to_read()
        except mx.base.MXNetError as error:
            raise InputError(
                f"calibration images of shape {images.shape} do not fit the block: {engine_reason(error)}"
            ) from None
        channels = images.shape[1]
    if channels is None:
        raise InputError("INT8 needs at least one batch of calibration images")
    return channels


def _observer(collector) -> Callable[[bytes, int], None]:
    """A callback that keeps nothing alive: MXNet leaves freeing to it, and the collector frees only what it reads."""

    def observe(name: bytes, handle: int) -> None:
        if mx.base.py_str(name) in collector.include_layer:
            collector.collect(name, handle)
        else:
            mx.nd.NDArray(ctypes.cast(handle, mx.base.NDArrayHandle), writable=False)  # frees itself

    return observe


def _check_reshapes(symbol: mx.sym.Symbol, arrays: Arrays) -> None:
    """Raise MXNetError if a Reshape does not keep the number of values: MXNet would read and write foreign memory."""
    internals = symbol.get_internals()
    with contextlib.redirect_stdout(io.StringIO()):  # MXNet prints its arguments when they do not fit
        _, shapes, _ = internals.infer_shape(**{name: value.shape for name, value in arrays.items()})
    sizes = {name: int(np.prod(shape)) for name, shape in zip(internals.list_outputs(), shapes)}
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] == "Reshape":
            position, output, *_ = node["inputs"][0]
            source = nodes[position]["name"]
            names = (source, f"{source}_output", f"{source}_output{output}")  # a variable; one output; one of several
            given, made = next(sizes[name] for name in names if name in sizes), sizes[f"{node['name']}_output"]
            if given != made:
                raise mx.base.MXNetError(f"{given} values cannot be reshaped into {made} by {node['name']}")


def _check_images(images) -> None:
    if images.context.device_type != "cpu" or images.dtype != np.float32:
        raise InputError(
            f"calibration images are {images.dtype.__name__} on {images.context}, INT8 needs float32 on the CPU"
        )
    if len(images.shape) != 4:
        raise InputError(f"calibration images have shape {images.shape}, INT8 needs (N, C, H, W)")
    if not _is_finite(images):
        raise InputError("calibration images hold values that are not finite")


def _is_finite(value) -> bool:
    return bool(mx.nd.contrib.isfinite(value).min().asscalar())
