"""Where the time of a step was, from MXNet's trace of operators and oneDNN's lines about the kernels inside them.

`DNNL_VERBOSE=1 DNNL_VERBOSE_TIMESTAMP=1` makes oneDNN print a line for each kernel: when it began, what it was, and how
long it took. The trace says when each operator began and ended. So what a kernel took is told apart from what its
operator did beside it: new memory for the output, with its page faults, and the search for the kernel.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Any, DefaultDict, Dict, List, Mapping, Sequence, Tuple
from typing import Counter as Counts

import numpy as np

from benchmarks.limits import (
    DEPTHWISE_BACKWARD,
    DEPTHWISE_FORWARD,
    GATES,
    NORM_BACKWARD,
    NORM_FORWARD,
    OPTIMIZER,
    POINTWISE_BACKWARD,
    POINTWISE_FORWARD,
    SUMS,
)
from spos.core.errors import InputError

ACTIVATIONS = "activations"
SHUFFLES = "shuffles, concatenations, copies"
REORDERS = "layout reorders"
AROUND = "around kernels: calls, new memory"
WEIGHTS = "cutting weights, moving statistics"
LOSS = "dropout, loss, hits"
ENGINE = "operators of the engine"
OTHER = "other operators"
IDLE = "rest: Python, engine, new memory"
KINDS = (
    POINTWISE_FORWARD,
    POINTWISE_BACKWARD,
    DEPTHWISE_FORWARD,
    DEPTHWISE_BACKWARD,
    NORM_FORWARD,
    NORM_BACKWARD,
    ACTIVATIONS,
    SUMS,
    SHUFFLES,
    GATES,
    REORDERS,
    AROUND,
    WEIGHTS,
    OPTIMIZER,
    LOSS,
    ENGINE,
    OTHER,
    IDLE,
)
# Operators by the name that is left without `_backward_` and the like. What they do outside of oneDNN's convolutions,
# BatchNorm, products and reorders is of this kind.
OPERATORS: Mapping[str, Tuple[str, ...]] = {
    ACTIVATIONS: ("Activation", "quadratic", "minimum_scalar", "maximum_scalar", "clip", "LeakyReLU"),
    SUMS: ("add_n", "elemwise_add", "grad_add", "add"),
    SHUFFLES: (
        *("Reshape", "reshape", "reshape_like", "stack", "SliceChannel", "Concat", "copy", "BlockGrad", "SwapAxis"),
        *("transpose", "slice"),
    ),
    GATES: ("Pooling", "elemwise_mul", "mul", "hard_sigmoid", "contrib_AdaptiveAvgPooling2D", "AdaptiveAvgPooling2D"),
    AROUND: ("Convolution", "BatchNorm", "FullyConnected"),
    WEIGHTS: (
        *("slice_axis", "slice_assign", "zeros", "ones", "elemwise_sub", "sub"),
        *("plus_scalar", "minus_scalar", "mul_scalar", "power_scalar"),
    ),
    OPTIMIZER: ("nag_mom_update",),
    LOSS: (
        *("Dropout", "log_softmax", "pick", "one_hot", "sum", "mean", "argmax", "topk", "arange", "lesser_scalar"),
        *("broadcast_equal", "broadcast_lesser", "broadcast_greater", "broadcast_mul", "broadcast_add"),
    ),
    ENGINE: ("DeleteVariable", "CopyCPU2CPU", "SetValueOp", "ResourceNativeRandomSetSeed", "ResourceRandomSetSeed"),
}
KIND_OF_OPERATOR = {name: kind for kind, names in OPERATORS.items() for name in names}
PREFIX = re.compile(r"^_?(backward_|contrib_backward_|contrib_)?")
FORMATS = re.compile(r"(?:src|dst)_\w+::blocked:(\w+)")
CONVOLVED = re.compile(r"(?:g(\d+))?mb(\d+)_ic(\d+)oc(\d+)_ih\d+oh(\d+)kh(\d+)\w+_iw\d+ow(\d+)kw(\d+)")


@dataclass(frozen=True)
class Kernel:
    """A line of oneDNN about a kernel that it ran.

    Args:
        start: seconds since 1970, as `time.time`.
        name: `convolution`, `reorder`, ...    direction: `forward_training`, `backward_data`, ... or `undef`.
        formats: of its arrays.    problem: sizes.
    """

    start: float
    seconds: float
    name: str
    implementation: str
    direction: str
    formats: str
    problem: str

    @property
    def kind(self) -> str:
        """The part of a step that it is by itself; empty if it is what its operator is."""
        forward = self.direction.startswith("forward")
        if self.name == "convolution":
            if self.problem.startswith("g"):
                return DEPTHWISE_FORWARD if forward else DEPTHWISE_BACKWARD
            return POINTWISE_FORWARD if forward else POINTWISE_BACKWARD
        if self.name == "batch_normalization":
            return NORM_FORWARD if forward else NORM_BACKWARD
        if self.name in ("inner_product", "matmul"):
            return GATES
        return REORDERS if self.name == "reorder" and len(set(FORMATS.findall(self.formats))) > 1 else ""

    @property
    def flops(self) -> int:
        """Of a convolution, a multiply-add being 2 and taps that meet padding counted; 0 of anything else."""
        found = CONVOLVED.match(self.problem) if self.name == "convolution" else None
        if not found:
            return 0
        groups, batch, inputs, outputs, height, rows, width, columns = (int(text or 1) for text in found.groups())
        return 2 * batch * inputs * outputs // groups * height * width * rows * columns


@dataclass(frozen=True)
class Operator:
    """An operator of MXNet as it ran. Times are seconds since 1970."""

    name: str
    start: float
    end: float

    @property
    def kind(self) -> str:
        return KIND_OF_OPERATOR.get(PREFIX.sub("", self.name), OTHER)


@dataclass(frozen=True)
class Piece:
    """A kernel, or what an operator did beside its kernels.

    Args:
        name: of the operator, or of the kernel with its implementation.
        flops: of a convolution.
    """

    kind: str
    name: str
    seconds: float
    flops: float = 0.0


Key = Tuple[str, ...]  # the same for the same piece of another step of the same path


@dataclass(frozen=True)
class StepTrace:
    """What ran between two times.

    Args:
        wall: seconds between them, the profiler's own included.
        pieces: all that ran.
        stray: seconds of kernels outside of any operator.
    """

    wall: float
    pieces: Mapping[Key, Piece]
    stray: float


def read_kernels(output: str) -> List[Kernel]:
    """The lines of oneDNN among others, in order. Raises InputError if there are none."""
    kernels = []
    for line in output.splitlines():
        parts = line.split(",")
        if parts[0] == "dnnl_verbose" and parts[2:3] == ["exec"]:
            _, start, _, _, name, implementation, direction, formats, _, _, problem, taken = parts
            kernels.append(
                Kernel(float(start) / 1e3, float(taken) / 1e3, name, implementation, direction, formats, problem)
            )
    if not kernels:
        raise InputError("oneDNN has told nothing about its kernels: this MXNet may be built without it")
    return kernels


def read_operators(trace: Mapping[str, Any]) -> List[Operator]:
    """Operators of MXNet's trace, by rising start."""
    begun: DefaultDict[Tuple[int, int, str], List[float]] = defaultdict(list)
    operators = []
    for event in trace["traceEvents"]:
        if event.get("cat") == "operator" and event["ph"] in "BE":
            thread = event["pid"], event["tid"], event["name"]
            if event["ph"] == "B":
                begun[thread].append(event["ts"] / 1e6)
            else:
                operators.append(Operator(event["name"], begun[thread].pop(), event["ts"] / 1e6))
    return sorted(operators, key=lambda operator: operator.start)


def trace_of(start: float, end: float, operators: Sequence[Operator], kernels: Sequence[Kernel]) -> StepTrace:
    """Of the step between two times; `operators` by rising start."""
    own = [operator for operator in operators if start <= operator.start < end]
    hosts = [operator for operator in own if operator.kind != ENGINE]
    starts, rest = [operator.start for operator in hosts], [operator.end - operator.start for operator in hosts]
    pieces: Dict[Key, Piece] = {}
    counts: Counts[Key] = Counter()
    stray = 0.0

    def add(piece: Piece, *key: str) -> None:
        counts[key] += 1
        pieces[(*key, str(counts[key]))] = piece

    for kernel in kernels:
        if not start <= kernel.start < end:
            continue
        place = bisect_right(starts, kernel.start) - 1
        inside = place >= 0 and kernel.start <= hosts[place].end
        stray += 0.0 if inside else kernel.seconds
        if inside:
            rest[place] -= kernel.seconds
        kind = kernel.kind or (hosts[place].kind if inside else OTHER)
        name = f"{kernel.name} {kernel.implementation}"
        add(Piece(kind, name, kernel.seconds, kernel.flops), name, kernel.direction, kernel.formats, kernel.problem)
    for operator, left in zip(hosts, rest):
        add(Piece(operator.kind, operator.name, max(0.0, left)), operator.name)
    for operator in own:
        if operator.kind == ENGINE:
            add(Piece(ENGINE, operator.name, operator.end - operator.start), operator.name)
    return StepTrace(end - start, pieces, stray)


def typical_pieces(traces: Sequence[StepTrace]) -> List[Piece]:
    """Pieces with the lower quartiles of their seconds in several steps of the same path.

    Other programs take the processor from a few operators of each step, often after the same time: the sum of the
    quartiles is nearly without that, the median of the sums is not. What most of the steps do not have is left out.
    """
    found: Dict[Key, List[Piece]] = defaultdict(list)
    for trace in traces:
        for key, piece in trace.pieces.items():
            found[key].append(piece)
    return [
        replace(pieces[0], seconds=float(np.percentile([piece.seconds for piece in pieces], 25)))
        for pieces in found.values()
        if 2 * len(pieces) >= len(traces)
    ]
