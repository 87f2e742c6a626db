"""Graphs of `NAME-symbol.json`, checked before MXNet reads them: it follows any index, and divides by any number."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Tuple, Union

from msgspec import UNSET, Meta, Struct, UnsetType
from typing_extensions import Annotated

from spos.core.errors import InputError, engine_reason
from spos.engine.compat import mx
from spos.runs.files import PathLike, check_shape, read_json, shortened

VARIABLE = "null"  # operator of an input
MOST_NODES = 100_000
MOST_LEVELS = 2  # of graphs inside of nodes, which fused operators have
FORBIDDEN = ("_Native", "_NDArray", "Custom", "_CustomFunction")  # they call addresses, or code, that attributes name
LARGEST = 1 << 31  # of an integer in an attribute
UNSAID = ("()", "[]", "None")
_INTEGER = re.compile(r"-?\d{1,20}")
_INTEGERS = re.compile(r"^[(\[]?\s*-?\d{1,20}L?(\s*,\s*-?\d{1,20}L?){0,99}\s*,?\s*[)\]]?$")
# The least and the most of the integers in an attribute.
RANGES: Mapping[str, Tuple[int, int]] = {
    "num_group": (1, 1 << 16),
    "num_filter": (1, 1 << 16),
    "num_hidden": (1, 1 << 24),
    "kernel": (1, 4096),
    "stride": (1, 4096),
    "dilate": (1, 4096),
    "pad": (0, 4096),
    "num_outputs": (1, 10_000),
    "num_args": (1, 10_000),
}
SPATIAL, MOST_SPATIAL = ("kernel", "stride", "dilate", "pad"), 3
JOINING = ("Concat", "add_n", "ElementWiseSum", "stack")  # read as many inputs as `num_args` says
# Operators with several outputs: how many. `num_outputs` of the node, where it says that.
OUTPUTS: Mapping[str, int] = {"BatchNorm": 3, "LayerNorm": 3, "Dropout": 2, "Pooling": 2, "topk": 2}
BIASED = ("Convolution", "Deconvolution", "FullyConnected")  # read data, weight, and a bias unless `no_bias`
NUM_INPUTS: Mapping[str, int] = {
    "BatchNorm": 5,
    "SwapAxis": 1,
    "Activation": 1,
    "Pooling": 1,
    "Dropout": 1,
    "Flatten": 1,
}
TRUE = ("True", "true", "1")  # how attributes write it
QUANTIZED = re.compile(r"quantize|^_sg_mkldnn_")
QUANTIZED_OUTPUTS = 3  # the array, and the two ends of its range

Index = Annotated[int, Meta(ge=0, le=MOST_NODES)]
Entry = Annotated[List[Index], Meta(min_length=2, max_length=3)]  # node, output, version
Attributes = Dict[str, str]


class NodeShape(Struct):
    op: Annotated[str, Meta(max_length=200)]
    name: Annotated[str, Meta(max_length=1000)]
    inputs: Annotated[List[Entry], Meta(max_length=10_000)]
    attrs: Union[Attributes, UnsetType] = UNSET
    attr: Union[Attributes, UnsetType] = UNSET
    param: Union[Attributes, UnsetType] = UNSET
    subgraphs: Union[List[Dict[str, Any]], UnsetType] = UNSET


class GraphShape(Struct):
    nodes: Annotated[List[NodeShape], Meta(min_length=1, max_length=MOST_NODES)]
    arg_nodes: List[Index]
    heads: Annotated[List[Entry], Meta(min_length=1, max_length=1000)]
    node_row_ptr: Union[Annotated[List[Index], Meta(max_length=MOST_NODES + 1)], UnsetType] = UNSET
    attrs: Union[Dict[str, Any], UnsetType] = UNSET


def read_graph(path: PathLike) -> Dict[str, Any]:
    """The graph of a `NAME-symbol.json`. Raises: InputError if it is missing or damaged."""
    graph = read_json(path)
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list):
        raise InputError(f"{path} is no exported network: it has no list of nodes")
    check_graph(graph, f"{path} is damaged, or not of this MXNet")
    return graph


def check_graph(graph: Mapping[str, Any], source: object, levels: int = MOST_LEVELS) -> None:
    """Raise InputError unless every node reads outputs that nodes in front of it have, and no attribute is absurd."""
    check_shape(graph, source, GraphShape)
    nodes = graph["nodes"]
    for number, node in enumerate(nodes):
        where = f"{source}: node {number} ({node['op']}) "
        if node["op"] in FORBIDDEN:
            raise InputError(f"{where}runs what its attributes name, which could be any code")
        if node["op"] == VARIABLE and node["inputs"]:
            raise InputError(f"{where}is a variable with inputs")
        for entry in node["inputs"]:
            _check_entry(entry, nodes[:number] if entry[0] >= number else nodes, where)
        attributes = attributes_of(node)
        for key, text in attributes.items():
            _check_attribute(node, key, text, where)
        wanted = NUM_INPUTS.get(node["op"], len(node["inputs"]))
        if node["op"] in BIASED:
            wanted = 2 if attributes.get("no_bias") in TRUE else 3
        if len(node["inputs"]) != wanted:
            raise InputError(f"{where}reads {len(node['inputs'])} inputs, not {wanted}")
        for inner in node.get("subgraphs", ()):
            if not levels:
                raise InputError(f"{where}holds graphs in graphs, too deep")
            check_graph(inner, f"{where}its graph", levels - 1)
    for entry in graph["heads"]:
        _check_entry(entry, nodes, f"{source}: an output ")
    variables = [number for number, node in enumerate(nodes) if node["op"] == VARIABLE]
    if graph["arg_nodes"] != variables:
        raise InputError(f"{source}: arg_nodes are not the variables")


def attributes_of(node: Mapping[str, Any]) -> Dict[str, str]:
    """The attributes of a node, under whatever key its version of MXNet wrote them."""
    return {**node.get("param", {}), **node.get("attr", {}), **node.get("attrs", {})}


def _check_entry(entry: List[int], nodes: List[Mapping[str, Any]], where: str) -> None:
    number, output = entry[:2]  # the third is a version, which tells writes to a statistic apart
    if number >= len(nodes):
        raise InputError(f"{where}reads node {number}, which does not stand in front of it")
    count = _num_outputs(nodes[number])
    if output >= count:
        raise InputError(f"{where}reads output {output} of node {number} ({nodes[number]['op']}), which has {count}")


def _num_outputs(node: Mapping[str, Any]) -> int:
    operator, attributes = node["op"], attributes_of(node)
    if operator in OUTPUTS:
        return OUTPUTS[operator]
    if "num_outputs" in attributes and attributes["num_outputs"].isdigit():
        return int(attributes["num_outputs"][:9])
    if operator != VARIABLE and QUANTIZED.search(operator):
        return QUANTIZED_OUTPUTS
    return 1


def _check_attribute(node: Mapping[str, Any], key: str, text: str, where: str) -> None:
    if key.startswith("__") or text in UNSAID:  # no operator reads the first
        return
    whole = _INTEGERS.match(text) is not None
    values = [int(value) for value in _INTEGER.findall(text)] if whole else []
    least, most = RANGES.get(key, (-LARGEST, LARGEST))
    wrong = any(not least <= value <= most for value in values) or (key in RANGES and not whole)
    if key in SPATIAL:
        wrong = wrong or len(values) > MOST_SPATIAL
    if key == "num_args" and node["op"] in JOINING:
        wrong = wrong or values != [len(node["inputs"])]
    if wrong:
        raise InputError(f"{where}has {key} {text[:60]!r}")


def load_symbol(path: PathLike) -> mx.sym.Symbol:
    """Read a `NAME-symbol.json`.

    Raises: InputError if it is missing or damaged, or names an operator that this MXNet does not have.
    """
    return as_symbol(read_graph(path), path)


def as_symbol(graph: Mapping[str, Any], path: PathLike) -> mx.sym.Symbol:
    """The symbol of a graph that has been checked. Raises: InputError as `load_symbol`."""
    try:
        return mx.sym.load_json(json.dumps(graph))
    except mx.base.MXNetError as error:
        raise InputError(f"{path} is damaged, or not of this MXNet: {shortened(engine_reason(error))}") from None
