"""Operators of an architecture by the rules of the MicroNet challenge: multiplies and adds apart, and their scores.

The convention is the one that gives the published totals of oneshot-s+ (`spos.space.published.PROJECT`); it is not that
of `spos.space.cost`, where a multiply-add is 1. BatchNorm is merged into the convolution before it and costs nothing,
although a merged convolution has a bias: so did the published profile count.

The rules of the scores: https://micronet-challenge.github.io/scoring_and_submission (NeurIPS 2019, ImageNet). Networks
without quantization may count params and multiplies at 16 bits, adds stay at 32; quantized ones count what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Iterable, List, Mapping, NamedTuple, Optional, Tuple

from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import WIRINGS, BlockLayers, ChoiceBlockGeometry
from spos.space.cost import count
from spos.space.layers import (
    Conv,
    Dropout,
    GlobalPool,
    LayerSpec,
    Specs,
    SqueezeExcite,
    conv_size,
    out_size,
    round_up,
    with_sizes,
)
from spos.space.space import SearchSpace

BASE_OPERATIONS, BASE_PARAMS = 1_170_000_000, 6_900_000  # MobileNetV2-1.4, what the challenge normalises by
WORD_BITS = 32  # a number of so many bits counts 1
MASK_WORD_BITS = 16  # the bit masks of channel shuffles are counted in words of this size


class Operations(NamedTuple):
    """What an operator or a group of them costs."""

    params: int
    mults: int
    adds: int

    @property
    def operations(self) -> int:
        """Multiplies and adds."""
        return self.mults + self.adds


def sum_of(parts: Iterable[Operations]) -> Operations:
    params, mults, adds = zip((0, 0, 0), *parts)
    return Operations(sum(params), sum(mults), sum(adds))


@dataclass(frozen=True)
class Operator:
    """One operator. `in_size` is the height and width of its input; `kernel_size` is None without a kernel."""

    name: str
    quantizable: bool
    in_size: int
    kernel_size: Optional[int]
    in_channels: int
    out_channels: int
    cost: Operations


@dataclass(frozen=True)
class Row:
    """A row of the block level: a choice block with all of its operators, or one operator of stem or head.

    A choice block that passes its input on has none.
    """

    name: str
    in_size: int
    kernel_size: Optional[int]
    in_channels: int
    out_channels: int
    operators: Tuple[Operator, ...]

    @property
    def cost(self) -> Operations:
        return sum_of(op.cost for op in self.operators)

    @property
    def quantizable(self) -> Optional[bool]:
        """None for a mixture, or for nothing."""
        kinds = {op.quantizable for op in self.operators}
        return kinds.pop() if len(kinds) == 1 else None


@dataclass(frozen=True)
class Profile:
    """The rows of an architecture in the order of execution."""

    rows: Tuple[Row, ...]

    @property
    def operators(self) -> Tuple[Operator, ...]:
        return tuple(op for row in self.rows for op in row.operators)

    def total(self, quantizable: Optional[bool] = None) -> Operations:
        """The sum of all operators, or of the quantizable or the other ones only."""
        return sum_of(op.cost for op in self.operators if quantizable in (None, op.quantizable))


# kind -> (quantizable, multiplies, adds) of an element
ELEMENTWISE: Mapping[str, Tuple[bool, int, int]] = {
    "relu": (True, 1, 0),
    "relu6": (True, 2, 0),
    "hard_swish": (False, 3, 1),
    "sum": (True, 0, 1),
    "hard_sigmoid": (False, 2, 1),
}


def profile(space: SearchSpace, architecture: Architecture) -> Profile:
    """The operators of an architecture. Raises InputError if it is not of this space."""
    architecture = space.validate(architecture)
    rows = _outer_rows(layer_specs.stem(space), space.input_size, "stem ")
    for block, b, c in zip(space.choice_blocks, architecture.block_choices, architecture.channel_choices):
        layers, kind = space.block_layers(block.index, b, c), space.choices[block.index].blocks[b]
        operators = _chain(layers.projection, block.in_size, "projection ")
        if layers.shuffles:
            operators.append(_channel_shuffle(block.in_channels, block.in_size))
        operators += _chain(layers.main, block.in_size)
        operators += _joining(layers, block)
        channels = block.in_channels, block.out_channels
        rows.append(Row(kind.name, block.in_size, kind.kernel_size, *channels, tuple(operators)))
    head = layer_specs.head(space)
    rows += _outer_rows(head, space.out_size, "head ")
    rows += _outer_rows(layer_specs.classifier(space), count(head, space.out_size)[1], "classifier ")
    return Profile(tuple(rows))


def _outer_rows(specs: Specs, size: int, prefix: str) -> List[Row]:
    """Stem or head: each operator is a row of its own, squeeze-and-excite one together."""
    rows = []
    for spec, in_size, _ in with_sizes(specs, size):
        operators = _operators(spec, in_size)
        groups = [operators] if isinstance(spec, SqueezeExcite) else [[op] for op in operators]
        for group in groups:
            name = prefix + ("squeeze-and-excite" if len(group) > 1 else group[0].name)
            channels = group[0].in_channels, group[-1].out_channels
            rows.append(Row(name, group[0].in_size, group[0].kernel_size, *channels, tuple(group)))
    return rows


def _chain(specs: Specs, size: int, prefix: str = "") -> List[Operator]:
    sized = with_sizes(specs, size)
    return [replace(op, name=prefix + op.name) for spec, in_size, _ in sized for op in _operators(spec, in_size)]


def _operators(spec: LayerSpec, size: int) -> List[Operator]:
    """The operators of one entry of a description. Dropout is none, for it does nothing in inference."""
    if isinstance(spec, Conv):
        activation = [_elementwise(spec.act, spec.out_channels, out_size(spec, size))] if spec.act else []
        return [_convolution(spec, size), *activation]
    if isinstance(spec, SqueezeExcite):
        gate = _chain(spec.gate, size, "SE ")
        return [*gate, replace(_elementwise("hard_sigmoid", spec.channels, 1), name="SE hard_sigmoid")]
    if isinstance(spec, GlobalPool):
        cost = Operations(0, spec.channels, spec.channels * (size * size - 1))
        return [Operator("global pool", False, size, None, spec.channels, spec.channels, cost)]
    if isinstance(spec, Dropout):
        return []
    raise TypeError(f"no operations are known for layer {spec!r}")


def _convolution(conv: Conv, size: int) -> Operator:
    """Every output is a sum of n products: n multiplies and n - 1 adds, one more with a bias."""
    outputs = conv.out_channels * out_size(conv, size) ** 2
    length = prod(conv.weight_shape[1:])
    cost = Operations(conv.out_channels * (length + conv.bias), outputs * length, outputs * (length - 1 + conv.bias))
    name = "depthwise conv" if conv.is_depthwise else "conv"
    return Operator(name, True, size, conv.kernel_size, conv.in_channels, conv.out_channels, cost)


def _elementwise(kind: str, channels: int, size: int) -> Operator:
    quantizable, mults, adds = ELEMENTWISE[kind]
    elements = channels * size * size
    return Operator(kind, quantizable, size, None, channels, channels, Operations(0, mults * elements, adds * elements))


def _joining(layers: BlockLayers, block: ChoiceBlockGeometry) -> List[Operator]:
    """A sum of branches, and the activation behind it. A concatenation costs nothing."""
    names = ["sum"] * WIRINGS[layers.wiring].adds + ([layers.act] if layers.act else [])
    return [_elementwise(name, block.out_channels, conv_size(block.in_size, block.stride)) for name in names]


def _channel_shuffle(channels: int, size: int) -> Operator:
    """A 1x1 convolution by a sparse permutation: its ones, and a mask with one bit for each entry of the matrix."""
    mask = round_up(channels * channels, MASK_WORD_BITS) // MASK_WORD_BITS
    cost = Operations(channels + mask, channels * size * size, 0)
    return Operator("channel shuffle", False, size, 1, channels, channels, cost)


@dataclass(frozen=True)
class Precision:
    """Bits of what a score counts: a parameter or operation of b bits counts b / 32.

    Args:
        quantized: (params, multiplies, adds) of quantizable operators.
        rest: those of the other operators.
        meaning: for the note below the scores.
    """

    name: str
    quantized: Tuple[int, int, int]
    rest: Tuple[int, int, int]
    meaning: str


# A multiply has the bits of its larger input, an add those of the accumulator.
PRECISIONS: Tuple[Precision, ...] = (
    Precision("float32", (32, 32, 32), (32, 32, 32), "nothing reduced"),
    Precision(
        "float16",
        (16, 16, 32),
        (16, 16, 32),
        "what the rules grant to networks that are not quantized: 16 bits for params and multiplies, adds stay at 32",
    ),
    Precision(
        "int8",
        (8, 8, 32),
        (32, 32, 32),
        "quantizable operators at 8 bits, sums and the others at 32: a quantized network is granted nothing",
    ),
    Precision(
        "int8, 8-bit sums",
        (8, 8, 8),
        (32, 32, 32),
        "quantizable operators and their sums at 8 bits, the others at 32",
    ),
)


@dataclass(frozen=True)
class MicroNetScore:
    """Operations and params of a precision, in units of 32 bits (so not always whole), and their score."""

    precision: Precision
    operations: Fraction
    params: Fraction

    @property
    def score(self) -> float:
        """Params and operations, each relative to MobileNetV2-1.4."""
        return float(self.params / BASE_PARAMS + self.operations / BASE_OPERATIONS)


def micronet_score(counted: Profile, precision: Precision) -> MicroNetScore:
    parts = zip((counted.total(True), counted.total(False)), (precision.quantized, precision.rest))
    words = [[Fraction(count * bits, WORD_BITS) for count, bits in zip(total, all_bits)] for total, all_bits in parts]
    params, mults, adds = (sum(pair) for pair in zip(*words))
    return MicroNetScore(precision, mults + adds, params)
