"""Aligned initial values: all choices of a choice block begin as the same function, as far as their layers allow.

A choice whose layers are those of another and more begins with the other's values: wider kernels hold them in their
middle and zeros around it, wider layers in their leading channels, and layers that the other lacks begin as identities.
What is aligned follows from the descriptions of the blocks alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from oneshot_nas_network import Supernet
from spos.engine.compat import mx
from spos.space.blocks import BlockLayers
from spos.space.layers import Conv, LayerSpec, Specs, SqueezeExcite
from spos.space.names import SQUEEZE_EXCITE, block_prefix, layer_positions

Matching = Tuple[Optional[int], ...]  # for every layer the number of the reference's that it begins as; None: identity


@dataclass(frozen=True)
class _Place:
    """A layer of a chain, and whether the middle width enters and leaves it."""

    spec: LayerSpec
    reads_middle: bool
    gives_middle: bool


def _places(specs: Specs) -> List[_Place]:
    places, middle = [], False
    for spec in specs:
        before = middle
        middle = spec.selects if isinstance(spec, Conv) else middle
        places.append(_Place(spec, before, middle))
    return places


def _can_pass(spec: LayerSpec) -> bool:
    """Whether a layer can begin as an identity; one with a stride then leaves out pixels."""
    return isinstance(spec, Conv) and spec.in_channels == spec.out_channels and (spec.groups == 1 or spec.is_depthwise)


def _can_be(own: _Place, reference: _Place) -> bool:
    """Whether a layer can begin as one of the reference."""
    if (own.reads_middle, own.gives_middle) != (reference.reads_middle, reference.gives_middle):
        return False
    spec, other = own.spec, reference.spec
    if isinstance(spec, SqueezeExcite) and isinstance(other, SqueezeExcite):
        return spec.channels >= other.channels
    if not (isinstance(spec, Conv) and isinstance(other, Conv)):
        return False
    return spec.kernel_size >= other.kernel_size and _can_hold_channels(spec, other)


def _can_hold_channels(spec: Conv, other: Conv) -> bool:
    """Whether the leading channels of a convolution can be those of another: each group reads channels of its own."""
    channels, others = (spec.in_channels, spec.out_channels), (other.in_channels, other.out_channels)
    if spec.is_depthwise != other.is_depthwise or (not spec.is_depthwise and spec.groups != other.groups):
        return False
    if spec.groups > 1 and not spec.is_depthwise:
        return channels == others
    return channels[0] >= others[0] and channels[1] >= others[1]


def match(reference: Specs, specs: Specs) -> Optional[Matching]:
    """Which layers of a chain begin as which of the reference's, in order; None if it cannot begin as that.

    Of several ways, one in which most strides agree, and of those the first. A later place, behind an identity, may be
    nearer to the same function (a ReLU behind a ReLU changes nothing), and yet trains worse: on the digits, by the
    flags of the quickstart with seed 0, a supernet ended at 35% so, and with the first place at 66%.
    """
    theirs, own = _places(reference), _places(specs)
    best: Optional[Tuple[int, Matching]] = None
    for positions in combinations(range(len(own)), len(theirs)):
        number_of = {position: number for number, position in enumerate(positions)}
        matching = tuple(number_of.get(position) for position in range(len(own)))
        pairs = [(place, None if number is None else theirs[number]) for place, number in zip(own, matching)]
        if not all(_can_pass(place.spec) if other is None else _can_be(place, other) for place, other in pairs):
            continue
        strides = sum(other is not None and _stride(place.spec) == _stride(other.spec) for place, other in pairs)
        if best is None or strides > best[0]:
            best = strides, matching
    return None if best is None else best[1]


def _stride(spec: LayerSpec) -> int:
    return spec.stride if isinstance(spec, Conv) else 1


def reference_choice(layers: Sequence[BlockLayers]) -> Tuple[int, Dict[int, Tuple[Matching, ...]]]:
    """The choice that most others can begin as, the first of them, and for these the matchings of both branches."""
    found: List[Dict[int, Tuple[Matching, ...]]] = []
    for one in layers:
        fitting = {}
        for number, other in enumerate(layers):
            matchings = [match(theirs, own) for (_, theirs), (_, own) in zip(one.branches, other.branches)]
            wired_alike = (one.wiring, one.act) == (other.wiring, other.act)
            if wired_alike and one.main and all(matching is not None for matching in matchings):
                fitting[number] = tuple(matching for matching in matchings if matching is not None)
        found.append(fitting)
    chosen = max(range(len(layers)), key=lambda number: len(found[number]))
    return chosen, found[chosen]


def align(net: Supernet) -> List[str]:
    """Set the values of an initialized supernet so that choices begin as one function.

    Returns: names of the choices that cannot, with their choice blocks.
    """
    space, parameters = net.space, net._collect_params_with_prefix()
    left: List[str] = []
    for index, choices in enumerate(space.choices):
        layers = [space.block_layers(index, b, len(choices.channel_scales) - 1) for b in range(len(choices.blocks))]
        chosen, fitting = reference_choice(layers)
        left += [f"{kind.name} of choice block {index}" for b, kind in enumerate(choices.blocks) if b not in fitting]
        for b, matchings in fitting.items():
            if b == chosen:
                continue
            for (branch, theirs), (_, own), matching in zip(layers[chosen].branches, layers[b].branches, matchings):
                prefixes = [f"{block_prefix(space, index, choice)}{branch}." for choice in (b, chosen)]
                _set_chain(parameters, prefixes, own, theirs, matching)
    return left


def _set_chain(
    parameters: Mapping[str, mx.gluon.Parameter],
    prefixes: Sequence[str],
    own: Specs,
    theirs: Specs,
    matching: Matching,
) -> None:
    """Args: prefixes: of the names of the chain's parameters and of the reference's."""
    sources = layer_positions(theirs)
    for (position, spec), number in zip(layer_positions(own), matching):
        if number is None:
            parameter = parameters[f"{prefixes[0]}{position}.weight"]
            _set(parameter, identity(parameter.shape))
            continue
        names = ["weight"] if isinstance(spec, Conv) else [f"{SQUEEZE_EXCITE}.{layer}.weight" for layer in (1, 3)]
        for name in names:
            parameter = parameters[f"{prefixes[0]}{position}.{name}"]
            source = parameters[f"{prefixes[1]}{sources[number][0]}.{name}"]
            _set(parameter, nested(_value(parameter), _value(source)))


def _value(parameter: mx.gluon.Parameter) -> np.ndarray:
    return parameter.list_data()[0].astype("float32").asnumpy()


def _set(parameter: mx.gluon.Parameter, value: np.ndarray) -> None:
    parameter.set_data(mx.nd.array(value, dtype=parameter.dtype))


def identity(shape: Tuple[int, ...]) -> np.ndarray:
    """The weight (out, in / groups, K, K) of a convolution that gives back what it reads."""
    value = np.zeros(shape, dtype=np.float32)
    for channel in range(shape[0]):
        value[channel, channel % shape[1], shape[2] // 2, shape[3] // 2] = 1
    return value


def nested(own: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """A weight that does to the leading channels what `inner` does, and reads no others for them.

    Further channels keep their own values.
    """
    value = own.copy()
    rows, columns, height, width = inner.shape
    top, left = (own.shape[2] - height) // 2, (own.shape[3] - width) // 2
    value[:rows] = 0
    value[:rows, :columns, top : top + height, left : left + width] = inner
    return value
