"""Multiply-adds and parameters of any exported Gluon network, by walking its `NAME-symbol.json`.

The convention is that of `spos.space.cost`: convolutions and fully connected layers count, plus one add per output
element of a layer with bias, plus the input elements of each global pooling. Everything in `FREE` counts 0, and an
operator that stands in neither table is an error. Without `additions` those of biases and global poolings count 0 too.
Parameters are what training changes: running statistics, constants and a fixed gamma are left out; one that several
layers share is counted once.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from math import prod
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, NoReturn, Set, Tuple

from spos.core.errors import InputError, engine_reason
from spos.engine.compat import mx
from spos.engine.graph_file import TRUE
from spos.engine.parameters import INPUT
from spos.engine.symbols import infer_shapes
from spos.space.cost import ZERO, Cost

Shape = Tuple[int, ...]


def _names(text: str) -> FrozenSet[str]:
    return frozenset(text.split())


# Operators that count 0: activations, normalisation, element-wise arithmetic, resizing, and moving data about.
FREE = _names(
    """
    Activation LeakyReLU SoftmaxActivation SoftmaxOutput clip erf exp hard_sigmoid log_softmax relu sigmoid softmax
    softsign sqrt square tanh
    BatchNorm BatchNorm_v1 GroupNorm InstanceNorm L2Normalization LRN LayerNorm _contrib_BatchNormWithReLU
    _contrib_SyncBatchNorm
    add_n broadcast_add broadcast_div broadcast_maximum broadcast_minimum broadcast_mul broadcast_sub elemwise_add
    elemwise_div elemwise_mul elemwise_sub negative
    _div_scalar _maximum_scalar _minimum_scalar _minus_scalar _mul_scalar _plus_scalar _power_scalar _rdiv_scalar
    _rminus_scalar
    BlockGrad Cast Concat Dropout Flatten Pad Reshape SliceChannel SwapAxis UpSampling _contrib_BilinearResize2D _copy
    _zeros _ones amp_cast amp_multicast broadcast_axis broadcast_like broadcast_to depth_to_space expand_dims ones_like
    repeat reshape_like reverse slice slice_axis slice_like space_to_depth squeeze stack tile transpose zeros_like
    """
)
# Operators that read parameters after their first input.
_LAYERS = _names(
    """
    BatchNorm BatchNorm_v1 Convolution Deconvolution FullyConnected GroupNorm InstanceNorm LayerNorm LeakyReLU
    _contrib_BatchNormWithReLU _contrib_SyncBatchNorm
    """
)
_FIXES_GAMMA_BY_DEFAULT = ("BatchNorm", "BatchNorm_v1", "_contrib_BatchNormWithReLU", "_contrib_SyncBatchNorm")


@dataclass(frozen=True)
class NodeCost:
    """One operator of a graph with what it costs. `params` are those that no earlier node has read."""

    name: str
    op: str
    out_shape: Shape
    cost: Cost


@dataclass(frozen=True)
class _Node:
    """An operator with everything that counting needs to know."""

    name: str
    op: str
    attrs: Mapping[str, str]
    in_shapes: Tuple[Shape, ...]
    out_shape: Shape
    additions: bool  # whether those of biases and global poolings count

    def flag(self, name: str) -> bool:
        return self.attrs.get(name) in TRUE


def _biases(node: _Node) -> int:
    return prod(node.out_shape) if node.additions and len(node.in_shapes) > 2 else 0


def _convolution(node: _Node) -> int:
    return prod(node.out_shape) * prod(node.in_shapes[1][1:]) + _biases(node)  # weight (out, in / groups, kernel ...)


def _deconvolution(node: _Node) -> int:
    return prod(node.in_shapes[0]) * prod(node.in_shapes[1][1:]) + _biases(
        node
    )  # weight (in, out / groups, kernel ...)


def _fully_connected(node: _Node) -> int:
    return prod(node.out_shape) * node.in_shapes[1][1] + _biases(node)  # weight (out, in)


def _pooling(node: _Node) -> int:
    """The input elements if the window is the whole map, by flag or by size; 0 for a local pooling."""
    in_shape = node.in_shapes[0]
    spatial = in_shape[1:-1] if node.attrs.get("layout", "None").endswith("C") else in_shape[2:]
    whole = node.flag("global_pool") or _integers(node.attrs.get("kernel", "()")) == spatial
    return prod(in_shape) if whole and node.additions else 0


def _adaptive_pooling(node: _Node) -> int:
    return prod(node.in_shapes[0]) if node.additions and node.out_shape[2:] == (1, 1) else 0


def _reduction(node: _Node) -> int:
    """Over height and width it is a global pooling; over anything else an element-wise operation, which is free."""
    in_shape = node.in_shapes[0]
    axes = {axis % len(in_shape) for axis in _integers(node.attrs.get("axis", "()"))}
    if node.flag("exclude") or not axes:
        axes = set(range(len(in_shape))) - axes
    whole = len(in_shape) == 4 and ({2, 3} <= axes or {1, 2} <= axes)
    return prod(in_shape) if whole and node.additions else 0


COUNTED: Mapping[str, Callable[[_Node], int]] = {
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "FullyConnected": _fully_connected,
    "Pooling": _pooling,
    "_contrib_AdaptiveAvgPooling2D": _adaptive_pooling,
    "max": _reduction,
    "mean": _reduction,
    "sum": _reduction,
}


def count_nodes(symbol: mx.sym.Symbol, data_shape: Shape, additions: bool = True) -> List[NodeCost]:
    """Every operator of a network with its cost, in the order of execution.

    Args:
        data_shape: shape of the input `data` for one image, (1, 3, H, W).
        additions: count those of biases and global poolings, as spaces with `count_additions` do.
    Raises: InputError for an unknown operator, a graph without the input `data`, or a shape that does not fit.
    """
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] != "null" and node["op"] not in FREE and node["op"] not in COUNTED:
            _refuse(node)
    _check_inputs(nodes)
    shapes = _infer_shapes(symbol, nodes, data_shape)
    uncounted = _parameters(symbol, nodes)
    result = []
    for i, node in enumerate(nodes):
        if node["op"] == "null":
            continue
        in_shapes = tuple(shapes[source][output] for source, output, *_ in node["inputs"])
        known = _Node(node["name"], node["op"], node.get("attrs", {}), in_shapes, shapes[i][0], additions)
        macs = COUNTED[known.op](known) if known.op in COUNTED else 0
        own = {source for source, *_ in node["inputs"]} & uncounted
        uncounted -= own
        cost = Cost(macs, sum(prod(shapes[source][0]) for source in own))
        result.append(NodeCost(known.name, known.op, known.out_shape, cost))
    return result


def count_symbol(symbol: mx.sym.Symbol, data_shape: Shape, additions: bool = True) -> Cost:
    """Cost of a whole network; see `count_nodes`."""
    return sum((node.cost for node in count_nodes(symbol, data_shape, additions)), ZERO)


def _refuse(node: Mapping[str, Any]) -> NoReturn:
    raise InputError(
        f"operator '{node['op']}' of node '{node['name']}' is not known to the counter. Counted are "
        f"{', '.join(sorted(COUNTED))}; free are {', '.join(sorted(FREE))}"
    )


def _check_inputs(nodes: List[Dict[str, Any]]) -> None:
    """Raise InputError unless `data` is a free input."""
    read_as_parameter = {source for node in nodes if node["op"] in _LAYERS for source, *_ in node["inputs"][1:]}
    free = [
        node["name"]
        for i, node in enumerate(nodes)
        if node["op"] == "null" and i not in read_as_parameter and "__shape__" not in node.get("attrs", {})
    ]
    if INPUT not in free and not any(node["op"] == "null" and node["name"] == INPUT for node in nodes):
        raise InputError(f"the network has no input '{INPUT}'; its inputs are: {', '.join(free) or 'none'}")


def _infer_shapes(symbol: mx.sym.Symbol, nodes: List[Dict[str, Any]], data_shape: Shape) -> List[List[Shape]]:
    """Shape of every output of every node."""
    internals = symbol.get_internals()
    try:
        shapes = infer_shapes(internals, **{INPUT: data_shape})
    except mx.base.MXNetError as error:
        raise InputError(f"the network does not fit an input of shape {data_shape}: {engine_reason(error)}") from None
    if shapes is None:
        raise InputError(f"the shapes inside the network do not follow from its input '{INPUT}'; has it other inputs?")
    ends = _output_ends(nodes, internals.list_outputs())
    return [[tuple(shape) for shape in shapes[start:end]] for start, end in zip([0, *ends], ends)]


def _output_ends(nodes: List[Dict[str, Any]], outputs: List[str]) -> List[int]:
    """Where the outputs of every node end in the list of all, which has the order of the nodes.

    An operator's outputs are its name with one of several endings; a layer used twice gives two nodes of one name,
    and the endings begin anew.
    """
    variables = {node["name"] for node in nodes if node["op"] == "null"}
    ends, end = [], 0
    for node in nodes:
        name: str = node["name"]
        seen: Set[str] = set()
        while end < len(outputs) and outputs[end] not in seen:
            is_own = outputs[end] == name if node["op"] == "null" else outputs[end].rpartition("_")[0] == name
            if not is_own or (seen and outputs[end] in variables):
                break
            seen.add(outputs[end])
            end += 1
        if not seen:
            raise RuntimeError(f"node '{name}' has no output in MXNet's list of them")
        ends.append(end)
    if end < len(outputs):
        raise RuntimeError(f"output '{outputs[end]}' belongs to no node")
    return ends


def _parameters(symbol: mx.sym.Symbol, nodes: List[Dict[str, Any]]) -> Set[int]:
    """Positions of the variables that training changes: those of layers, and those that Gluon declared."""
    statistics = set(symbol.list_auxiliary_states())
    read_by_layers = {source for node in nodes if node["op"] in _LAYERS for source, *_ in node["inputs"][1:]}
    fixed = {
        node["inputs"][1][0]
        for node in nodes
        if node["op"] in _FIXES_GAMMA_BY_DEFAULT and node.get("attrs", {}).get("fix_gamma", "True") in TRUE
    }
    result = set()
    for i, node in enumerate(nodes):
        attrs = node.get("attrs", {})
        is_variable = node["op"] == "null" and node["name"] != INPUT and node["name"] not in statistics
        is_constant = attrs.get("__init__", "").startswith("Constant_")  # how Gluon names the values of a Constant
        if is_variable and not is_constant and i not in fixed and (i in read_by_layers or "__shape__" in attrs):
            result.add(i)
    return result


def _integers(text: str) -> Shape:
    """`'(2, 3)'`, `'[2, 3]'`, `'2'` and `'None'` as a tuple."""
    value = ast.literal_eval(text)
    return tuple(value) if isinstance(value, (tuple, list)) else () if value is None else (value,)
