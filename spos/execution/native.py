"""Paths by the native kernels of `spos.native`, in training: the maps between images and pooled features.

Weights are read where they are, in the network's parameters, and gradients written where they belong: nothing is cut
out, padded or copied. What comes behind the pooling is left to MXNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from spos.engine.batch_norm import EPSILON, MOMENTUM
from spos.engine.compat import mx, num_threads
from spos.engine.function import ADD, address, place, record_function
from spos.execution.parts import Part, PathParts, Slot, num_before_pooling
from spos.native.library import Mode, borrow_session, return_session
from spos.native.steps import (
    PARAMETER,
    Fragment,
    Program,
    assemble,
    block_fragment,
    head_fragment,
    stem_fragment,
)
from spos.space.architecture import Architecture

KEPT_PROGRAMS = 1000
_P = {name: column for column, name in enumerate(PARAMETER)}


@dataclass(frozen=True)
class Corner:
    """A parameter of the network, and the part of it that a path uses."""

    parameter: mx.gluon.Parameter
    slot: Slot

    @property
    def trains(self) -> bool:
        return not self.slot.statistic and self.parameter.grad_req != "null"


class NativePath:
    """Runs programs in training; gradients go to the parameters.

    Args:
        parameters: of the network, by name.
    """

    def __init__(self, parameters: Mapping[str, mx.gluon.Parameter]) -> None:
        self._parameters = parameters
        self._dirty: Dict[Tuple[str, Any], Tuple[int, int]] = {}  # corners of gradients that are not zero

    def __call__(self, x: mx.nd.NDArray, program: Program, slots: Sequence[Slot]) -> mx.nd.NDArray:
        """(N, F, 1, 1) pooled features of images (N, 3, H, W)."""
        ctx = x.context
        corners = [Corner(self._parameters[slot.source], slot) for slot in slots]
        values = [corner.parameter.data(ctx) for corner in corners]
        records = np.zeros((len(corners), len(PARAMETER)), np.int64)
        records[:, _P["data"]] = [
            address(value, writes=bool(corner.slot.statistic)) for value, corner in zip(values, corners)
        ]
        strides = [strides_of(corner.parameter.shape) for corner in corners]
        records[:, _P["row"]] = [row for row, _ in strides]
        records[:, _P["column"]] = [column for _, column in strides]
        session = borrow_session(num_threads())
        session.prepare(Mode.TRAIN, program, records, x.shape[0], EPSILON, MOMENTUM)
        with mx.autograd.pause():
            output = mx.nd.empty((x.shape[0], program.num_features, 1, 1), ctx=ctx)
        session.forward(address(x), address(output, writes=True))
        if not mx.autograd.is_recording():
            return_session(session)
            return output
        trained = [position for position, corner in enumerate(corners) if corner.trains]

        def backward(gradients: List[Any], places: List[Any], wanted: List[int]) -> None:
            for position, gradient, how in zip(trained, places, wanted):
                if how:
                    self._want(records[position], corners[position], gradient, how == ADD, ctx)
            session.backward(place(gradients[0]), records)
            return_session(session)

        record_function([values[position] for position in trained], output, backward)
        return output

    def _want(self, record: np.ndarray, corner: Corner, gradient: Any, adds: bool, ctx: mx.Context) -> None:
        key = corner.parameter.name, ctx
        shape = (*corner.slot.selected[:2], 1)[:2]
        before = self._dirty.get(key, (0, 0))
        record[_P["gradient"]] = place(gradient)
        record[_P["adds"]] = adds
        record[_P["dirty_rows"]], record[_P["dirty_columns"]] = before
        self._dirty[key] = tuple(map(max, before, shape)) if adds else shape


class NativeProgram:
    """Programs of the paths of a network, each with the parameters that it reads.

    Raises: Unsupported, when a path is asked for that has layers without native kernels.
    """

    def __init__(self, parts: PathParts, trains: bool) -> None:
        self._parts = parts
        self._trains = trains
        self._fragments: Dict[int, Fragment] = {}  # by identity of the part, which `parts` keeps
        self._programs: Dict[Architecture, Tuple[Program, Tuple[Slot, ...]]] = {}

    def of(self, architecture: Architecture) -> Tuple[Program, Tuple[Slot, ...]]:
        """Up to the pooling."""
        if architecture not in self._programs:
            if len(self._programs) >= KEPT_PROGRAMS:
                self._programs.clear()
            self._programs[architecture] = self._make(architecture)
        return self._programs[architecture]

    def _make(self, architecture: Architecture) -> Tuple[Program, Tuple[Slot, ...]]:
        parts = list(self._parts.of(architecture))
        fragments = [self._fragment(part, part is parts[0], part is parts[-1]) for part in parts]
        program = assemble(fragments, parts[0].in_channels, parts[0].in_size, self._trains)
        slots = [slot for part, one in zip(parts, fragments) for slot in part.slots[: one.num_parameters]]
        return program, tuple(slots)

    def _fragment(self, part: Part, is_first: bool, is_last: bool) -> Fragment:
        if id(part) not in self._fragments:
            place = part.in_channels, part.in_size
            if is_first:
                made = stem_fragment(part.chains[0].specs, *place)
            elif is_last:
                before = num_before_pooling(self._parts.space)
                made = head_fragment(part.chains[0].specs[: before + 1], *place)
            else:
                assert part.block is not None
                made = block_fragment(part.block, *place)
            self._fragments[id(part)] = made
        return self._fragments[id(part)]


@lru_cache(maxsize=None)
def strides_of(shape: Tuple[int, ...]) -> Tuple[int, int]:
    """Floats from one output channel to the next, and from one input channel, in the plain layout."""
    taps = int(np.prod(shape[2:])) if len(shape) > 2 else 1
    return (shape[1] * taps if len(shape) > 1 else 1), taps
