"""Rewrites of a graph and its arrays: the same function by operators that MXNet runs faster in inference on a CPU.

- Hard-swish of what a convolution or its BatchNorm gives. `hard_sigmoid` takes five times as long as a product. With
  a = 3/sqrt(6) and r = relu(y/sqrt(6) + a), whose scale and shift go into the convolution or BatchNorm and whose ReLU
  runs inside the convolution's kernel, y * relu6(y + 3) / 6 = (r - a) * min(r, 2a). In INT8, r is unsigned besides: no
  step is spent on values that become 0.
- A channel shuffle of two tensors that were just concatenated, and are of the same shape, is one `stack`.
- Other concatenated maps get a fifth dimension before. With four, oneDNN copies single images value by value, at a
  fifth of the speed; with five, MXNet copies them itself.
- A sum never has one term or a result that only INT8 would keep unsigned. A convolution that takes a sum in writes it
  over the other term, in that one's type: behind a ReLU, what is negative in the sum became 0; in front of a ReLU, what
  is above half of the range became that half. So a ReLU behind a sum is a maximum, and one in front is reshaped to the
  same shape, neither of which MXNet takes in or quantizes.

The first gives the same up to rounding, the others the same bits. What fits no pattern stays as it is.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from spos.engine.compat import mx
from spos.engine.symbols import infer_shapes

Arrays = Dict[str, Any]
Node = Dict[str, Any]  # of MXNet's JSON: op, name, inputs, attrs
Entry = List[int]  # what a node reads: position of another node, number of its output, version
Shapes = Mapping[str, Tuple[int, ...]]

SCALE = 6**-0.5
SHIFT = 3 * SCALE
GATE = {"alpha": 1 / 6, "beta": 0.5}  # of the hard_sigmoid in hard-swish
UNSIGNED = ("Activation", "clip")  # what their kernels give in INT8
SCALED_BY = ("BatchNorm", "Convolution")  # their inputs 1 and 2: gamma and beta, weight and bias


def rewrite(symbol: mx.sym.Symbol, arrays: Mapping[str, Any], shapes: Shapes) -> Tuple[mx.sym.Symbol, Arrays]:
    """A faster graph and the arrays that it needs.

    Args:
        symbol: a float32 graph.
        arrays: its parameters and statistics by name. They are not changed.
        shapes: of everything in the graph, see `output_shapes`. Only how they compare with each other is used, so the
            result fits other images too.
    """
    graph = json.loads(symbol.tojson())
    rewriter = _Rewriter(graph["nodes"], graph["heads"], shapes, arrays)
    return mx.sym.load_json(json.dumps({**graph, **rewriter.run()})), rewriter.arrays


def output_shapes(symbol: mx.sym.Symbol, arrays: Mapping[str, Any], **inputs: Tuple[int, ...]) -> Shapes:
    """The shape of every output of every node, by MXNet's name for it.    Raises: MXNetError if shapes do not fit."""
    internals = symbol.get_internals()
    known = set(internals.list_inputs())
    given = {name: value.shape for name, value in arrays.items() if name in known}
    return dict(zip(internals.list_outputs(), infer_shapes(internals, **given, **inputs) or ()))


def shape_of(nodes: List[Node], entry: Entry, shapes: Shapes) -> Tuple[int, ...]:
    """The shape of what an entry reads, from `output_shapes`."""
    position, output, *_ = entry
    name = nodes[position]["name"]
    names = (name, f"{name}_output", f"{name}_output{output}")  # a variable; one output; one of several
    return next(shapes[known] for known in names if known in shapes)


class _Rewriter:
    """Copies a graph node by node, in its order, with other nodes in the place of some."""

    def __init__(self, nodes: List[Node], heads: List[Entry], shapes: Shapes, arrays: Mapping[str, Any]) -> None:
        self._nodes = nodes
        self._heads = heads
        self._shapes = shapes
        self.arrays: Arrays = dict(arrays)
        read = itertools.chain(heads, *(node["inputs"] for node in nodes))
        self._readers = Counter(position for position, *_ in read)
        self._new: List[Node] = []
        self._entry: Dict[int, Entry] = {}  # in the new graph, of the first output of each node
        everywhere = range(len(nodes))
        self._swishes = {position: source for position in everywhere for source in self._swished(position)}
        self._shuffles = {position: pair for position in everywhere for pair in self._shuffled(position)}

    def run(self) -> Dict[str, List]:
        """The new nodes, and what else MXNet's JSON says about them; `arrays` become theirs."""
        sources = set(self._swishes.values())
        for position, node in enumerate(self._nodes):
            if position in self._swishes:
                self._entry[position] = self._hard_swish(node["name"], self._entry[self._swishes[position]])
            elif position in self._shuffles:
                pair = self._moved(self._shuffles[position])
                self._entry[position] = self._add("stack", node["name"], pair, axis=2, num_args=2)
            elif node["op"] == "Concat" and self._joins_maps(node):
                self._entry[position] = self._concat(node)
            elif node["op"] == "elemwise_add":
                self._entry[position] = self._add(node["op"], node["name"], self._signed_terms(node))
            elif self._is_relu_of_sum(node):
                term = self._moved(node["inputs"])
                self._entry[position] = self._add("_maximum_scalar", node["name"], term, scalar=0.0)
            else:
                self._new.append({**node, "inputs": self._moved(node["inputs"])})
                self._entry[position] = [len(self._new) - 1, 0, 0]
            if position in sources:
                self._fold(position)
                name = f"{node['name']}_relu"
                self._entry[position] = self._add("Activation", name, [self._entry[position]], act_type="relu")
        return {
            "nodes": self._new,
            "arg_nodes": [i for i, node in enumerate(self._new) if node["op"] == "null"],
            "node_row_ptr": list(range(len(self._new) + 1)),
            "heads": self._moved(self._heads),
        }

    def _swished(self, position: int) -> Iterable[int]:
        """The one node whose hard-swish this node computes, if its scale and shift can be changed; or none."""
        product = self._nodes[position]
        if product["op"] != "elemwise_mul":
            return
        (source, output, *_), (gate, *_) = product["inputs"]
        own, gated = self._nodes[source], self._nodes[gate]
        if gated["op"] != "hard_sigmoid" or gated["inputs"][0][:2] != [source, output] or output != 0:
            return
        attrs = gated.get("attrs", {})
        is_gate = all(abs(float(attrs.get(name, "nan")) - value) < 1e-6 for name, value in GATE.items())
        pays = self._shape([source, 0])[2:] != (1, 1)  # not where a value is an image's mean: nothing is gained there
        if is_gate and self._readers[source] == 2 and self._readers[gate] == 1 and pays and self._foldable(own):
            yield source

    def _foldable(self, node: Node) -> bool:
        if node["op"] not in SCALED_BY or len(node["inputs"]) < 3:  # a convolution without bias
            return False
        if node["op"] == "BatchNorm" and node.get("attrs", {}).get("fix_gamma", "True") not in ("False", "0"):
            return False
        arrays = [position for position, *_ in node["inputs"][1:3]]
        return all(self._nodes[i]["name"] in self.arrays and self._readers[i] == 1 for i in arrays)

    def _fold(self, position: int) -> None:
        """Let a convolution or BatchNorm give y / sqrt(6) + a instead of y."""
        factor, shift = (self._nodes[i]["name"] for i, *_ in self._nodes[position]["inputs"][1:3])
        self.arrays[factor] = self.arrays[factor] * SCALE
        self.arrays[shift] = self.arrays[shift] * SCALE + SHIFT

    def _hard_swish(self, name: str, r: Entry) -> Entry:
        factors = (
            self._add("_minus_scalar", f"{name}_shifted", [r], scalar=SHIFT),
            self._add("_minimum_scalar", f"{name}_gate", [r], scalar=2 * SHIFT),
        )
        return self._add("elemwise_mul", name, factors)

    def _shuffled(self, position: int) -> Iterable[List[Entry]]:
        """The two equal tensors whose channels this node interleaves, if they were concatenated for it; or none."""
        swap = self._nodes[position]
        if swap["op"] != "SwapAxis":
            return
        apart = self._nodes[swap["inputs"][0][0]]
        concat = self._nodes[apart["inputs"][0][0]] if apart["op"] == "Reshape" else apart
        if concat["op"] != "Concat" or len(concat["inputs"]) != 2 or concat["attrs"].get("dim", "1") != "1":
            return
        first, second = map(self._shape, concat["inputs"])
        axes = {swap["attrs"].get("dim1", "0"), swap["attrs"].get("dim2", "0")}
        if first == second and axes == {"1", "2"} and self._shape(swap["inputs"][0]) == (first[0], 2, *first[1:]):
            yield concat["inputs"]

    def _joins_maps(self, node: Node) -> bool:
        is_counted_from_the_end = node["attrs"].get("dim", "1").startswith("-")
        return len(self._shape(node["inputs"][0])) == 4 and not is_counted_from_the_end

    def _concat(self, node: Node) -> Entry:
        name = node["name"]
        parts = [
            self._add("Reshape", f"{name}_part{i}", [entry], shape="(0, 0, 0, 0, 1)")
            for i, entry in enumerate(self._moved(node["inputs"]))
        ]
        whole = self._add("Concat", f"{name}_parts", parts, **node["attrs"])
        return self._add("Reshape", name, [whole], shape="(0, 0, 0, -3)")  # the last two become one again

    def _is_relu_of_sum(self, node: Node) -> bool:
        is_relu = node["op"] == "Activation" and node["attrs"].get("act_type") == "relu"
        return is_relu and self._nodes[node["inputs"][0][0]]["op"] == "elemwise_add"

    def _signed_terms(self, node: Node) -> List[Entry]:
        terms = self._moved(node["inputs"])
        for i, (position, *_) in enumerate(node["inputs"]):
            while self._nodes[position]["op"] == "_copy":  # a block that does nothing
                ((position, *_),) = self._nodes[position]["inputs"]
            if self._nodes[position]["op"] in UNSIGNED:
                terms[i] = self._add("Reshape", f"{node['name']}_term{i}", [terms[i]], shape="(-2,)")
        return terms

    def _add(self, op: str, name: str, inputs: Iterable[Entry], **attrs: Any) -> Entry:
        self._new.append(
            {"op": op, "name": name, "attrs": {k: str(v) for k, v in attrs.items()}, "inputs": list(inputs)}
        )
        return [len(self._new) - 1, 0, 0]

    def _moved(self, entries: Iterable[Entry]) -> List[Entry]:
        """The same outputs of the same nodes in the new graph."""
        return [[self._entry[position][0], *rest] for position, *rest in entries]

    def _shape(self, entry: Entry) -> Tuple[int, ...]:
        return shape_of(self._nodes, entry, self._shapes)
