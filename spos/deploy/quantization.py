"""INT8 on a CPU: any float32 block as a graph of oneDNN's 8-bit kernels, by the quantization of MXNet.

A convolution, the BatchNorm behind it and a ReLU, or the sum behind it, become one 8-bit operator. The rest of
hard-swish, the activation behind a sum, the scaling of squeeze-and-excite, the channel shuffle, and most pooling and
concatenation stay in float32, between a dequantize and a quantize, by the fastest operators (`spos.deploy.rewrites`).
Weights are rounded for each output channel, activations for each tensor, by the range that calibration images gave
(`spos.deploy.calibration`); MXNet leaves no choice there.
What was measured and read about all this stands in `docs/mxnet.md`.
"""

from __future__ import annotations

import ctypes
import itertools
import json
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Callable, Container, Dict, Iterable, List, Mapping, Sequence

import numpy as np

from spos.core.errors import InputError, engine_reason
from spos.core.progress import progress_bar
from spos.deploy.calibration import NAIVE, Calibration, Collector
from spos.deploy.rewrites import Arrays, Shapes, output_shapes, rewrite, shape_of
from spos.engine.compat import mx
from spos.engine.parameters import INPUT, structural_names
from spos.engine.symbols import compile_symbol
from spos.space.names import readers_of

# Hard-swish in 8 bits doubles the time of a block and adds half of its error again; with unsigned inputs it fails.
# Matrix products saturate without VNNI, signed or not: weights between 0.5 and 1 gave a relative error of 1.
FLOAT_OPERATORS = ("elemwise_mul", "_sg_mkldnn_fully_connected", "FullyConnected")
# Signed, although that leaves a bit unused where nothing is negative: without VNNI, two products of unsigned inputs are
# added in 16 bits, which saturate (an error of 15% in a convolution of positive numbers).
DTYPE = "int8"
BACKEND = "MKLDNN_QUANTIZE"  # fuses before quantization and after it


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
        self.arrays = {name: arrays[name] for name in symbol.list_inputs() if name != INPUT}
        self._run = compile_symbol(symbol, arrays)

    def __call__(self, x):
        if len(x.shape) != 4 or x.shape[1] != self.channels or x.dtype != np.float32:
            raise InputError(
                f"INT8 was made for float32 images of {self.channels} channels, (N, {self.channels}, H, W); "
                f"this is {np.dtype(x.dtype).name} {x.shape}"
            )
        return self._run(x)

    @property
    def operators(self) -> Dict[str, int]:
        """How often every operator stands in the graph."""
        return dict(Counter(node["op"] for node in json.loads(self.symbol.tojson())["nodes"] if node["op"] != "null"))


def quantize(
    block: mx.gluon.HybridBlock,
    batches: Iterable,
    calibration: Calibration = NAIVE,
    exclude: Sequence[str] = (),
) -> QuantizedBlock:
    """The INT8 version of a block. `block` is not changed, and later changes of its parameters are not followed.

    Args:
        batches: calibration images (N, C, H, W), normalised, float32, on the CPU; at least one batch. One after the
            other: memory does not grow with their number.
        exclude: convolutions that stay in float32, by the beginning of their parameters' names: `output.0`.
    Raises: InputError if parameters or images are not float32 on the CPU, if there are no batches, if their shape does
        not fit the block, if a value is not finite, or if `exclude` names nothing.
    """
    arrays = _float_arrays(block)
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise InputError("INT8 needs at least one batch of calibration images")
    graph = FloatGraph.of(block, arrays, first)
    library = mx.contrib.quantization
    quantized, _, _, layers = library.quantize_graph(
        graph.symbol,
        graph.arguments,
        graph.statistics,
        excluded_sym_names=_excluded_nodes(graph.symbol, block, exclude),
        excluded_op_names=list(FLOAT_OPERATORS),
        calib_mode="naive",
        quantized_dtype=DTYPE,
        quantize_mode="smart",
        logger=None,
    )
    collector = calibration.collector()
    graph.observe(itertools.chain([first], batches), collector, layers.include_layer)
    found = SimpleNamespace(min_max_dict=collector.ranges())
    quantized, arguments, statistics = library.calib_graph(
        quantized, graph.arguments, graph.statistics, found, calib_mode="customize", logger=None
    )
    symbol = quantized.get_backend_symbol(BACKEND)
    return QuantizedBlock(symbol, {**arguments, **statistics}, first.shape[1])


@dataclass(frozen=True)
class FloatGraph:
    """A block's graph in float32, as it will be quantized: fused, with its arrays."""

    symbol: mx.sym.Symbol
    arguments: Arrays
    statistics: Arrays

    @classmethod
    def of(cls, block: mx.gluon.HybridBlock, arrays: Arrays, images) -> FloatGraph:
        """Args: images: one batch, to know which tensors are of the same shape."""
        # A reshape to the same shape, because it gives MXNet's own layout: the quantize operator would keep the layout
        # of its first input (a convolution gives a blocked one), and silently misread every later one that has another.
        output = block(mx.sym.reshape(mx.sym.var(INPUT), shape=(-2,)))
        symbol = mx.sym.Group(output) if isinstance(output, list) else output
        symbol, arrays = rewrite(symbol, arrays, _fitting_shapes(symbol, arrays, images))
        symbol = symbol.get_backend_symbol(BACKEND)
        arguments = {name: arrays[name] for name in symbol.list_arguments() if name != INPUT}
        return cls(symbol, arguments, {name: arrays[name] for name in symbol.list_auxiliary_states()})

    def observe(self, batches: Iterable, collector: Collector, names: Iterable[str]) -> None:
        """Run all batches and show the collector the tensors of these names."""
        observer = _observer(collector, frozenset(names))
        executor: Any = None
        shape = None
        for images in progress_bar(batches, desc="calibrating", unit="batch"):
            if images.shape != shape:
                _fitting_shapes(self.symbol, {**self.arguments, **self.statistics}, images)
                arguments = {**self.arguments, INPUT: mx.nd.zeros(images.shape)}
                executor = self.symbol.bind(mx.cpu(), arguments, aux_states=self.statistics, grad_req="null")
                executor.set_monitor_callback(observer, monitor_all=True)
                shape = images.shape
            _check_images(images)
            executor.forward(is_train=False, **{INPUT: images})
            mx.nd.waitall()


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
    own_names = structural_names(block)
    nodes = json.loads(symbol.tojson())["nodes"]
    read = [(node["name"], [own_names.get(nodes[i]["name"], "") for i, *_ in node["inputs"]]) for node in nodes]
    return readers_of(read, exclude, "block")


def _observer(collector: Collector, names: Container[str]) -> Callable[[bytes, int], None]:
    """A callback that keeps nothing alive: MXNet leaves freeing the arrays to it."""

    def observe(name: bytes, handle: int) -> None:
        array = mx.nd.NDArray(ctypes.cast(handle, mx.base.NDArrayHandle), writable=False)  # frees itself
        if mx.base.py_str(name) in names:
            collector.observe(mx.base.py_str(name), array.asnumpy())

    return observe


def _fitting_shapes(symbol: mx.sym.Symbol, arrays: Arrays, images) -> Shapes:
    """The shapes of a graph for these images.    Raises: InputError if they do not fit.

    A Reshape has to keep the number of values: MXNet would read and write foreign memory.
    """
    _check_images(images)
    try:
        shapes = output_shapes(symbol, arrays, **{INPUT: images.shape})
    except mx.base.MXNetError as error:
        reason = engine_reason(error)
        raise InputError(f"calibration images of shape {images.shape} do not fit the block: {reason}") from None
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] == "Reshape":
            given, made = (
                int(np.prod(shape))
                for shape in (shape_of(nodes, node["inputs"][0], shapes), shapes[f"{node['name']}_output"])
            )
            if given != made:
                raise InputError(
                    f"calibration images of shape {images.shape} do not fit the block: {given} values cannot be "
                    f"reshaped into {made} by {node['name']}"
                )
    return shapes


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
