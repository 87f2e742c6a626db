"""Paths by the native kernels of `spos.native`: the maps between images and pooled features.

Weights are read where they are, in the network's parameters, and gradients written where they belong: no corner is cut
out, and nothing is padded. What comes behind the pooling is left to MXNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from spos.core.errors import warn
from spos.engine.batch_norm import EPSILON, MOMENTUM, Moments
from spos.engine.compat import mx, num_threads
from spos.engine.forms import as_described
from spos.engine.function import ADD, address, record_function
from spos.engine.parameters import FLOAT32
from spos.execution.parts import Part, PathParts, Slot, num_before_pooling
from spos.native.library import Mode, Session, borrow_session, return_session
from spos.native.steps import (
    PARAMETER,
    Fragment,
    Program,
    Unsupported,
    assemble,
    block_fragment,
    head_fragment,
    stem_fragment,
)
from spos.space.architecture import Architecture
from spos.space.space import SearchSpace

KEPT_PROGRAMS = 1000
CACHED_FLOATS = 1 << 19  # maps of the images that run together: they stay in the second cache, or close to it
Corner = Tuple[int, int]
_P = {name: column for column, name in enumerate(PARAMETER)}


@dataclass(frozen=True)
class NativeProgram:
    """A program with the parameters that it reads.

    Args:
        slots, parameters: in the order in which the program numbers them.
        records: of the parameters, by the columns PARAMETER, without addresses.
        learned: positions of those that are no statistics.
    """

    program: Program
    slots: Tuple[Slot, ...]
    parameters: Tuple[mx.gluon.Parameter, ...]
    records: np.ndarray
    learned: Tuple[int, ...]

    def addressed(self, ctx: mx.Context) -> np.ndarray:
        """Records with the addresses of the values on a device; call `mx.nd.waitall()` before."""
        records = self.records.copy()
        records[:, _P["data"]] = [address(parameter.data(ctx)) for parameter in self.parameters]
        return records


class NativePrograms:
    """Programs of the paths of a network up to the pooling.

    Args:
        parameters: of the network, by name.    trains: see `assemble`.
        in_supernet, stochastic_depth: see `PathParts`.
    """

    def __init__(
        self,
        space: SearchSpace,
        parameters: Mapping[str, mx.gluon.Parameter],
        trains: bool,
        in_supernet: bool = True,
        stochastic_depth: float = 0.0,
    ) -> None:
        self._parts = PathParts(space, as_described, lambda *_: 1, in_supernet, stochastic_depth=stochastic_depth)
        self._parameters = parameters
        self._trains = trains
        self._programs: Dict[Architecture, Optional[NativeProgram]] = {}
        self._unsupported: Set[str] = set()

    def of(self, architecture: Architecture) -> Optional[NativeProgram]:
        """None if there are no native kernels for one of its layers, which is said once."""
        if architecture not in self._programs:
            if len(self._programs) >= KEPT_PROGRAMS:
                self._programs.clear()
            try:
                self._programs[architecture] = self._make(architecture)
            except Unsupported as error:
                self._programs[architecture] = None
                if str(error) not in self._unsupported:
                    self._unsupported.add(str(error))
                    warn(f"{error}; paths that have it run by MXNet's operators, which takes longer")
        return self._programs[architecture]

    def _make(self, architecture: Architecture) -> NativeProgram:
        parts = list(self._parts.of(architecture))
        fragments = [self._fragment(part, part is parts[0]) for part in parts]
        program = assemble(fragments, parts[0].in_channels, parts[0].in_size, self._trains)
        slots = tuple(slot for part, one in zip(parts, fragments) for slot in part.slots[: one.num_parameters])
        parameters = tuple(self._parameters[slot.source] for slot in slots)
        records = np.zeros((len(slots), len(PARAMETER)), np.int64)
        records[:, [_P["row"], _P["column"]]] = [strides_of(parameter.shape) for parameter in parameters]
        learned = tuple(position for position, slot in enumerate(slots) if not slot.statistic)
        return NativeProgram(program, slots, parameters, records, learned)

    def _fragment(self, part: Part, is_first: bool) -> Fragment:
        place = part.in_channels, part.in_size
        if is_first:
            return stem_fragment(part.chains[0].specs, *place)
        if part.block is not None:
            return block_fragment(part.block, *place)
        return head_fragment(part.chains[0].specs[: num_before_pooling(self._parts.space) + 1], *place)


class NativeTraining:
    """Runs programs in training; gradients go to the parameters."""

    def __init__(self) -> None:
        self._dirty: Dict[Tuple[str, Any], Corner] = {}  # corners of gradients that are not zero
        self._all_begin_dirty = False

    def forget_gradients(self) -> None:
        """Others have written gradients: nothing is known of where they are zero."""
        self._dirty.clear()
        self._all_begin_dirty = True

    def __call__(self, x: mx.nd.NDArray, path: NativeProgram) -> mx.nd.NDArray:
        """(N, F, 1, 1) pooled features of images (N, 3, H, W). Their gradient can be followed back once."""
        ctx = x.context
        branch_scales = _draw_branch_scales(path.program.drop_rates, x.shape[0], ctx)
        output = _features_of(x, path)
        records = path.addressed(ctx)
        session = borrow_session(num_threads())
        session.prepare(Mode.TRAIN, path.program, records, EPSILON, MOMENTUM)
        session.forward(address(x), x.shape[0], address(output), branch_scales)
        if not mx.autograd.is_recording():
            return_session(session)
            return output
        held = [session]
        trained = [position for position in path.learned if path.parameters[position].grad_req != "null"]

        def backward(gradients: List[Any], places: List[Any], wanted: List[int]) -> None:
            if not held:
                raise RuntimeError("the maps of a native path are kept for one backward pass")
            for position, gradient, how in zip(trained, places, wanted):
                if how:
                    corner, parameter = _corner(path.slots[position].selected), path.parameters[position]
                    self._want(records[position], parameter, corner, gradient, how == ADD)
            held[0].backward(address(gradients[0]), records)
            return_session(held.pop())

        record_function([path.parameters[position].data(ctx) for position in trained], output, backward)
        return output

    def _want(self, record: np.ndarray, parameter: Any, corner: Corner, gradient: Any, adds: bool) -> None:
        key = parameter.name, gradient.context
        before = self._dirty.get(key, _corner(parameter.shape) if self._all_begin_dirty else (0, 0))
        record[_P["gradient"]] = address(gradient)
        record[_P["adds"]] = adds
        record[_P["dirty_rows"]], record[_P["dirty_columns"]] = before
        self._dirty[key] = (max(before[0], corner[0]), max(before[1], corner[1])) if adds else corner


def _corner(shape: Tuple[int, ...]) -> Corner:
    """Its output and input channels."""
    rows, columns, *_ = *shape, 1
    return rows, columns


class NativeFeatures:
    """Pooled features of one path, for scoring: first `moments`, as often as there are batches, then `__call__`.

    Args:
        running: normalise by the network's running statistics; there are no `moments` then.
    """

    def __init__(self, path: NativeProgram, running: bool = False) -> None:
        self._path = path
        self._num_updates = 0
        slots = path.slots
        ends = np.cumsum([slot.selected[0] * (slot.statistic == "running_mean") for slot in slots]).tolist()
        self._means = np.zeros(ends[-1], np.float32)
        self._variances = np.zeros(ends[-1], np.float32)
        # a mean stands in front of the variance of its layer, and they begin at the same place
        self._statistics = {
            position: (self._means if slot.statistic == "running_mean" else self._variances)[
                ends[position] - slot.selected[0] :
            ]
            for position, slot in enumerate(slots)
            if slot.statistic and not running
        }

    def moments(self, images: mx.nd.NDArray) -> Moments:
        """Of all BatchNorm layers in order, each normalised by this batch."""
        session, output = self._ready(Mode.COLLECT, images)
        session.forward(address(images), images.shape[0], address(output))
        mean, variance = (values.astype(np.float64) for values in (self._means, self._variances))
        return_session(session)
        return Moments(images.shape[0], mean, variance * images.shape[0])

    def set_moments(self, moments: Moments) -> None:
        """Normalise by these from now on."""
        self._means[:], self._variances[:] = moments.mean, moments.variance
        self._num_updates += 1

    def __call__(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        """(N, F, 1, 1) of images (N, 3, H, W)."""
        session, output = self._ready(Mode.INFER, images)
        num_images, threads = images.shape[0], num_threads()
        fits = CACHED_FLOATS // self._path.program.floats_per_image
        together = max(1, min(fits, -(-num_images // threads)))
        session.infer(address(images), num_images, together, address(output))
        return_session(session)
        return output

    def _ready(self, mode: Mode, images: mx.nd.NDArray) -> Tuple[Session, mx.nd.NDArray]:
        ctx = images.context
        owner = self, mode, ctx, self._num_updates
        output = _features_of(images, self._path)
        session = borrow_session(num_threads(), owner)
        if session.owner != owner:
            records = self._path.addressed(ctx)
            for position, statistic in self._statistics.items():
                records[position, _P["data"]] = statistic.ctypes.data
            session.prepare(mode, self._path.program, records, EPSILON, MOMENTUM, owner)
        return session, output


def _draw_branch_scales(drop_rates: Sequence[float], num_images: int, ctx: mx.Context) -> np.ndarray:
    """(blocks that drop, images) float32: 0 where the main branch is left out, else 1 / (1 - rate).

    As the network itself draws them, one block after the other.
    """
    scales = np.empty((len(drop_rates), num_images), np.float32)
    with mx.autograd.pause(train_mode=True):
        for row, rate in zip(scales, drop_rates):
            ones = mx.nd.ones((num_images, 1, 1, 1), ctx=ctx)
            row[:] = mx.nd.Dropout(ones, p=rate, axes=(1, 2, 3)).reshape(-1).asnumpy()
    return scales


def _features_of(images: mx.nd.NDArray, path: NativeProgram) -> mx.nd.NDArray:
    """A place for the features of images, when everything that was to be done with any array is done.

    Raises: ValueError for other images or parameters than the kernels read: they are given addresses alone.
    """
    if images.shape[1:] != path.program.image_shape or any(
        one.dtype not in FLOAT32 for one in (images, path.parameters[0])
    ):
        raise ValueError(
            f"native kernels read float32 images {path.program.image_shape}, not {np.dtype(images.dtype)} "
            f"{images.shape[1:]}, and float32 parameters, not {np.dtype(path.parameters[0].dtype)}"
        )
    with mx.autograd.pause():
        output = mx.nd.empty((images.shape[0], path.program.num_features, 1, 1), ctx=images.context)
    mx.nd.waitall()
    return output


def are_float32_on_cpu(parameters: Mapping[str, mx.gluon.Parameter]) -> bool:
    """Whether the kernels can read all parameters, on all of their devices."""
    return all(
        parameter.dtype in FLOAT32 and all(ctx.device_type == "cpu" for ctx in parameter.list_ctx())
        for parameter in parameters.values()
    )


@lru_cache(maxsize=None)
def strides_of(shape: Tuple[int, ...]) -> Tuple[int, int]:
    """Floats from one output channel to the next, and from one input channel, in the plain layout."""
    taps = int(np.prod(shape[2:])) if len(shape) > 2 else 1
    return (shape[1] * taps if len(shape) > 1 else 1), taps
