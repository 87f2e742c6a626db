"""From descriptions of layers to the list of steps that `session.cpp` runs: which layer reads and writes which map.

A part of a path (stem, choice block, head up to its pooling) becomes a `Fragment` once; the fragments of a path are put
one behind the other to a `Program`. What a convolution gives is a *lazy* map: BatchNorm and activation are applied
where the next layer reads it. A branch ends with a join, which writes what is read by others.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from spos.space.blocks import WIRINGS, BlockLayers
from spos.space.layers import Conv, GlobalPool, LayerSpec, Specs, SqueezeExcite, conv_size, round_up

LANES = 16  # channels are padded to a multiple of this, with zeros
AFFINE_ROWS = 6  # of a lazy map: scale, shift, mean, 1/std, and two of its gradient
ACTS = {None: 0, "relu": 1, "relu6": 2, "hard_swish": 3}


class Kind(IntEnum):
    """What a step does; the numbers are those of `session.cpp`."""

    POINTWISE = 0
    DEPTHWISE = 1
    DENSE = 2
    JOIN = 3
    SPLIT = 4
    POOL = 5


STEP = ["kind", "source", "target", "weight", "gamma", "beta", "mean", "variance", "kernel", "idle", "stride", "column"]
STEP += ["beside", "act", "adds", "adds_beside", "squeeze", "squeezed", "kept", "goes_on", "drops"]
TENSOR = ["height", "width", "channels", "row", "place", "gradient", "affine", "act"]
PARAMETER = ["data", "gradient", "row", "column", "adds", "dirty_rows", "dirty_columns"]
_S = {name: column for column, name in enumerate(STEP)}
_T = {name: column for column, name in enumerate(TENSOR)}
_MAPS = [_S[name] for name in ("source", "target", "beside")]  # columns that hold numbers of maps
_PARAMETERS = [_S[name] for name in ("weight", "gamma", "beta", "mean", "variance", "squeeze")]


class Unsupported(ValueError):
    """Layers that there are no native kernels for."""


@dataclass(frozen=True)
class Fragment:
    """Steps of a part, with numbers of its own: map 0 is its input, the others follow in the order of `tensors`.

    Args:
        steps, tensors: records by the columns STEP and TENSOR; places of maps and gradients begin at 0.
        output: number of the map that the next part reads.
        num_parameters: that the steps name, in the order of the part's parameters.
        inner, inner_gradients, outer: floats an image of the maps inside, of their gradients, and of the output.
        affine: floats of scales and shifts.
        drop_rate: see `BlockLayers`.
    """

    steps: np.ndarray
    tensors: np.ndarray
    output: int
    num_parameters: int
    inner: int
    inner_gradients: int
    outer: int
    affine: int
    drop_rate: float = 0.0


@dataclass(frozen=True)
class Program:
    """Steps of a path.

    Args:
        steps, tensors: records by the columns STEP and TENSOR.    num_parameters: that they name.
        floats_per_image: of all maps, and in training of what backward needs.    affine: floats of scales and shifts.
        drop_rates: of the blocks that leave out main branches in training, in order (`BlockLayers.drop_rate`).
    """

    steps: np.ndarray
    tensors: np.ndarray
    num_parameters: int
    floats_per_image: int
    affine: int
    drop_rates: Tuple[float, ...] = ()

    @property
    def num_features(self) -> int:
        """Channels of the pooled map, which is the result."""
        return int(self.tensors[-1, _T["channels"]])

    @property
    def image_shape(self) -> Tuple[int, ...]:
        """(C, H, W) of the images."""
        return tuple(self.tensors[0, [_T[name] for name in ("channels", "height", "width")]].tolist())


def row_of(channels: int) -> int:
    """Floats from one pixel of a map to the next; not a multiple of 1,024 bytes (`stride_of` in `matrix.h`)."""
    width = round_up(channels, LANES)
    return width if width % 256 else width + LANES


class _Writer:
    """Collects the steps and maps of a part."""

    def __init__(self, channels: int, size: int, is_image: bool = False) -> None:
        self._steps: List[Dict[str, int]] = []
        self._tensors: List[Dict[str, int]] = []
        self._sizes = {0: (channels, size)}
        self._num_parameters = self._next_parameter = 0
        self._inner = self._inner_gradients = self._affine = 0
        self._is_image = is_image

    def size_of(self, number: int) -> int:
        return self._sizes[number][1]

    def channels_of(self, number: int) -> int:
        return self._sizes[number][0]

    def _tensor(self, channels: int, size: int, act: Optional[int] = None, is_output: bool = False) -> int:
        """A new map; lazy if it has an activation (0 for none)."""
        record = dict(height=size, width=size, channels=channels, row=row_of(channels), affine=-1, act=act or 0)
        floats = size * size * record["row"]
        record["place"] = record["gradient"] = -1
        if not is_output:
            record["place"], record["gradient"] = self._inner, self._inner_gradients
            self._inner += floats
            self._inner_gradients += floats
        if act is not None:
            record["affine"] = self._affine
            self._affine += AFFINE_ROWS * round_up(channels, LANES)
        self._tensors.append(record)
        number = len(self._tensors)
        self._sizes[number] = channels, size
        return number

    def output(self, channels: int, size: int) -> int:
        """The map that the next part reads."""
        return self._tensor(channels, size, is_output=True)

    def _step(self, kind: Kind, source: int, target: int, **values: int) -> None:
        record = dict.fromkeys(STEP, 0)
        record.update(dict.fromkeys(["weight", "gamma", "beta", "mean", "variance", "beside", "squeeze", "drops"], -1))
        record.update(kind=int(kind), source=source, target=target, goes_on=int(source > 0 or not self._is_image))
        record.update(values)
        self._steps.append(record)

    def _take(self, count: int) -> int:
        first = self._next_parameter
        self._next_parameter += count
        self._num_parameters += count
        return first

    def chain(self, specs: Specs, source: int) -> int:
        """The map behind a chain of layers, none of which is squeeze-and-excite at the end."""
        for spec in specs:
            source = self._layer(spec, source)
        return source

    def _layer(self, spec: LayerSpec, source: int) -> int:
        if isinstance(spec, Conv):
            return self._conv(spec, source)
        if isinstance(spec, SqueezeExcite):
            target = self._tensor(spec.channels, self.size_of(source))
            self.join(source, target, squeeze=spec)
            return target
        raise Unsupported(f"no native kernel for {spec!r} inside a chain")

    def _conv(self, spec: Conv, source: int) -> int:
        size = self.size_of(source)
        is_depthwise = spec.groups == spec.in_channels == spec.out_channels and spec.groups > 1
        if spec.groups > 1 and not is_depthwise:
            raise Unsupported(f"no native kernel for a convolution in {spec.groups} groups of channels")
        if spec.act not in ACTS:
            raise Unsupported(f"no native kernel for the activation {spec.act!r}")
        target = self._tensor(spec.out_channels, conv_size(size, spec.stride), ACTS[spec.act])
        values = {"weight": self._take(1), "kernel": spec.kernel_size, "stride": spec.stride}
        values["idle"] = max(0, (spec.kernel_size - (2 * size - 1)) // 2)
        if spec.bias:
            if spec.bn:
                raise Unsupported("no native kernel for a bias in front of BatchNorm")
            values["beta"] = self._take(1)
        if spec.bn:
            first = self._take(4)
            values.update(gamma=first, beta=first + 1, mean=first + 2, variance=first + 3)
        kind = Kind.DENSE
        if is_depthwise:
            kind = Kind.DEPTHWISE
        elif spec.kernel_size == spec.stride == 1 and not (self._is_image and source == 0):
            kind = Kind.POINTWISE
        self._step(kind, source, target, **values)
        return target

    def join(
        self,
        source: int,
        target: int,
        column: int = 0,
        beside: int = -1,
        act: Optional[str] = None,
        squeeze: Optional[SqueezeExcite] = None,
        drops: bool = False,
    ) -> None:
        """The end of a branch: gates, sum with `beside`, activation; written from a channel of the target on."""
        values = {"column": column, "beside": beside, "act": ACTS[act], "drops": drops - 1}
        if squeeze is not None:
            squeezed = squeeze.convs[0].out_channels
            values.update(squeeze=self._take(4), squeezed=squeezed, kept=self._inner)
            self._inner += 2 * round_up(squeeze.channels, LANES) + round_up(squeezed, LANES)
        self._step(Kind.JOIN, source, target, **values)

    def branch(
        self,
        specs: Specs,
        source: int,
        target: int,
        column: int = 0,
        beside: int = -1,
        act: Optional[str] = None,
        first_parameter: int = 0,
        drops: bool = False,
    ) -> None:
        """A chain and its join."""
        self._next_parameter = first_parameter
        gate = specs[-1] if specs and isinstance(specs[-1], SqueezeExcite) else None
        last = self.chain(specs[:-1] if gate else specs, source)
        self.join(last, target, column, beside, act, gate, drops)

    def split(self, source: int, passes: int) -> int:
        """Shuffles channels; half of them are written into the map `passes`, the others are the map returned."""
        target = self._tensor(self.channels_of(source) // 2, self.size_of(source))
        self._step(Kind.SPLIT, source, target, beside=passes)
        return target

    def pool(self, source: int) -> int:
        target = self._tensor(self.channels_of(source), 1, is_output=True)
        self._step(Kind.POOL, source, target)
        return target

    def fragment(self, output: int, drop_rate: float = 0.0) -> Fragment:
        written: Set[int] = set()
        for step in reversed(self._steps):  # in the order of backward, gradients of a map after the first are added
            if step["kind"] == Kind.JOIN and step["beside"] >= 0:
                step["adds_beside"] = int(step["beside"] in written)
                written.add(step["beside"])
            step["adds"] = int(step["source"] in written)
            written.add(step["source"])
        steps = np.array([[step[name] for name in STEP] for step in self._steps], np.int64)
        tensors = np.array([[tensor[name] for name in TENSOR] for tensor in self._tensors], np.int64)
        last = self._tensors[output - 1]
        outer = last["height"] * last["width"] * last["row"]
        sizes = self._num_parameters, self._inner, self._inner_gradients, outer, self._affine
        return Fragment(steps, tensors, output, *sizes, drop_rate)


@lru_cache(maxsize=None)
def stem_fragment(specs: Specs, in_channels: int, size: int) -> Fragment:
    """Of the layers that read the image."""
    writer = _Writer(in_channels, size, is_image=True)
    last = writer.chain(specs, 0)
    output = writer.output(writer.channels_of(last), writer.size_of(last))
    writer.join(last, output)
    return writer.fragment(output)


@lru_cache(maxsize=None)
def block_fragment(layers: BlockLayers, in_channels: int, size: int) -> Fragment:
    """Of a choice block that reads maps of `in_channels` x `size` x `size`."""
    wiring = WIRINGS[layers.wiring]
    writer = _Writer(in_channels, size)
    num_main = num_parameters(layers.main)  # the projection's come behind them, though it runs first
    if not layers.main:
        raise Unsupported("no native kernel for a block without a main branch")
    if layers.act not in ACTS:
        raise Unsupported(f"no native kernel for the activation {layers.act!r}")
    stride = int(np.prod([spec.stride for spec in layers.main if isinstance(spec, Conv)]))
    main_channels = _last_channels(layers.main)
    out_size = conv_size(size, stride)
    if wiring.splits:
        passing = _last_channels(layers.projection) if layers.projection else in_channels // 2
        output = writer.output(passing + main_channels, out_size)
        if layers.projection:
            writer.branch(layers.projection, 0, output, first_parameter=num_main)
        source = 0 if layers.projection else writer.split(0, output)
        writer.branch(layers.main, source, output, column=passing)
        return writer.fragment(output)
    beside = -1
    if wiring.adds:
        beside = 0
        if layers.projection:
            beside = writer._tensor(main_channels, out_size)
            writer.branch(layers.projection, 0, beside, first_parameter=num_main)
    output = writer.output(main_channels, out_size)
    writer.branch(layers.main, 0, output, beside=beside, act=layers.act, drops=layers.drop_rate > 0)
    return writer.fragment(output, layers.drop_rate)


@lru_cache(maxsize=None)
def head_fragment(specs: Specs, in_channels: int, size: int) -> Fragment:
    """Of the layers up to global pooling, which is the last of them."""
    *before, last = specs
    if not isinstance(last, GlobalPool):
        raise Unsupported("the head does not pool")
    writer = _Writer(in_channels, size)
    output = writer.pool(writer.chain(tuple(before), 0))
    return writer.fragment(output)


def num_parameters(specs: Specs) -> int:
    """Parameters and statistics of a chain."""
    counts = {Conv: lambda spec: 1 + spec.bias + 4 * spec.bn, SqueezeExcite: lambda spec: 4}
    return sum(counts[type(spec)](spec) for spec in specs if type(spec) in counts)


def _last_channels(specs: Specs) -> int:
    last = specs[-1]
    return last.channels if isinstance(last, SqueezeExcite) else last.out_channels  # type: ignore[union-attr]


def assemble(fragments: Sequence[Fragment], in_channels: int, size: int, trains: bool) -> Program:
    """One behind the other, for images of `in_channels` x `size` x `size`.

    Args:
        trains: every map is kept until backward has read it; else maps of a part take the place of those before.
    """
    image = size * size * in_channels
    inner = sum(one.inner for one in fragments) if trains else max(one.inner for one in fragments)
    outer = max(one.outer for one in fragments)
    kept = sum(one.outer for one in fragments) if trains else 2 * outer
    gradients = image + inner + kept  # where they begin
    images = dict.fromkeys(TENSOR, -1)
    images.update(height=size, width=size, channels=in_channels, row=in_channels, place=0, act=0)
    tensors, steps = [np.array([[images[name] for name in TENSOR]], np.int64)], []
    source = num_tensors = num_parameters = affine = 0
    drop_rates: List[float] = []
    place_inner, place_outer = image, image + inner
    most_gradients = max(one.inner_gradients for one in fragments)
    for number, one in enumerate(fragments):
        own = one.tensors.copy()
        own[:, _T["place"]] += place_inner
        own[:, _T["gradient"]] += gradients
        own[:, _T["affine"]] += np.where(own[:, _T["affine"]] >= 0, affine, 0)
        own[one.output - 1, _T["place"]] = place_outer
        own[one.output - 1, _T["gradient"]] = gradients + most_gradients + number % 2 * outer
        rows = one.steps.copy()
        maps = rows[:, _MAPS]
        rows[:, _MAPS] = np.where(maps > 0, maps + num_tensors, np.where(maps == 0, source, -1))
        parameters = rows[:, _PARAMETERS]
        rows[:, _PARAMETERS] = np.where(parameters >= 0, parameters + num_parameters, -1)
        rows[:, _S["kept"]] += place_inner
        rows[:, _S["drops"]] += np.where(rows[:, _S["drops"]] >= 0, len(drop_rates), 0)
        drop_rates += [one.drop_rate] if one.drop_rate else []
        tensors.append(own)
        steps.append(rows)
        source = num_tensors + one.output
        num_tensors += len(own)
        num_parameters += one.num_parameters
        affine += one.affine
        if trains:
            place_inner += one.inner
            place_outer += one.outer
        else:
            place_outer = image + inner + (number + 1) % 2 * outer
    floats = gradients + (most_gradients + 2 * outer if trains else 0)
    return Program(np.concatenate(steps), np.concatenate(tensors), num_parameters, floats, affine, tuple(drop_rates))
