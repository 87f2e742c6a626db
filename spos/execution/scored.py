"""Fast evaluation of the paths of a supernet: what the extracted subnet computes, natively or by graphs made once.

The native kernels run what they can (`spos.execution.native`). Where there are none, graphs do.

A search evaluates a thousand architectures, but their choice blocks are of a few hundred kinds. Each kind is compiled
once, with its parameters as inputs; a path runs stem, choice blocks and head one after the other, on corners of the
supernet's parameters, which are never changed. Beyond that, five things make graphs faster than the subnet:

- Middle widths are padded to a multiple of CHANNELS_OF_LAYOUTS, which oneDNN's fast kernels need. The padding is the
  supernet's next channels with gamma and beta 0: they are 0 behind their BatchNorm, so nothing of them reaches the
  next layer.
- Taps of a kernel that meet no pixel of a small map, only its padding, are cut off: oneDNN has no fast kernel then.
- Pointwise convolutions of single pixels run as products of matrices.
- Once the statistics are known, BatchNorm is folded into the convolution before it.
- Large batches are scored in parts that stay in a CPU's caches. The update keeps them: its statistics depend on them.

Results differ from the subnet's by rounding only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Deque, Dict, Hashable, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from oneshot_nas_network import Supernet
from spos.engine.batch_norm import EPSILON, Moments, batch_moments, scale_and_shift
from spos.engine.compat import mx
from spos.engine.forms import CHANNELS_OF_LAYOUTS, fit_to_size
from spos.engine.resizing import resized
from spos.execution.graphs import Arrays, Graph, unread_statistic
from spos.execution.native import NativeFeatures, NativePrograms
from spos.execution.parts import Part, PathParts, Slot, cut_idle_taps, num_before_pooling
from spos.native.build import are_ready
from spos.space.architecture import Architecture
from spos.space.layers import fold_batch_norm, round_up
from spos.space.names import Fold, fold_names
from spos.space.space import SearchSpace

BATCHES_IN_FLIGHT = 2
SCORED_TOGETHER = 16 * 224 * 224  # pixels on a CPU: with more, maps leave the caches from one operator to the next


def padding(space: SearchSpace, index: int, block_choice: int, channel_choice: int, multiple: int) -> int:
    """What a middle width is rounded up to at execution: `multiple`, if the supernet has as many channels; else 1."""
    width, widest = (space.mid_channels(index, c, block_choice) for c in (channel_choice, -1))
    return multiple if round_up(width, multiple) <= widest else 1


def num_scored_together(shape: Tuple[int, int, int, int]) -> int:
    """How many images of a batch (N, 3, H, W) run through the network together where caches are small: equal parts."""
    num_images, _, height, width = shape
    num_parts = -(-num_images * height * width // SCORED_TOGETHER)
    return -(-num_images // num_parts)


class ScoredPart:
    """A part compiled for the BatchNorm update and for scoring, and what folding does to its arrays."""

    def __init__(self, part: Part) -> None:
        folded = [replace(chain, specs=fold_batch_norm(chain.specs)) for chain in part.chains]
        self.collect = Graph(part.layers(), collects=True)
        self.score = Graph(part.assemble([chain.specs for chain in folded]))
        self._folds: List[Fold] = []
        self._kept: List[Tuple[str, str]] = []
        for chain, without in zip(part.chains, folded):
            folds, kept = fold_names(chain, without)
            self._folds += folds
            self._kept += kept
        widths = {fold.norm: fold.channels for fold in self._folds}
        self._norms = self.collect.norms
        ends = np.cumsum([0, *(widths[norm] for norm in self._norms)]).tolist()
        self._slices = {norm: slice(*ends[i : i + 2]) for i, norm in enumerate(self._norms)}
        self.num_channels: int = ends[-1]

    def fold(self, arrays: Arrays, mean: np.ndarray, variance: np.ndarray, dtype: str) -> Arrays:
        """Arrays for scoring from those for the update and the statistics of its `num_channels` normalised channels."""
        result = {theirs: arrays[own] for own, theirs in self._kept}
        if self._folds:
            ctx = arrays[self._folds[0].conv + "weight"].context
            gamma, beta = (mx.nd.concat(*(arrays[n + name] for n in self._norms), dim=0) for name in ("gamma", "beta"))
            inv_std, centre = mx.nd.array(np.stack([(variance + EPSILON) ** -0.5, mean]), ctx=ctx)
            scale, shift = scale_and_shift(gamma, beta, centre, inv_std)
            scale = scale.reshape((-1, 1, 1, 1))
            for fold in self._folds:
                own = self._slices[fold.norm]
                result[fold.folded + "weight"] = mx.nd.broadcast_mul(arrays[fold.conv + "weight"], scale[own])
                result[fold.folded + "bias"] = shift[own]
        return {name: value.astype(dtype, copy=False) for name, value in result.items()}


class PathExecutor:
    """Makes the paths of a supernet ready to run.

    Args:
        ctx: devices that hold the supernet's parameters; a batch is shared among them.
        dtype: precision of scoring; statistics are always collected in float32.
    """

    def __init__(self, supernet: Supernet, ctx: Sequence[mx.Context], dtype: str = "float32") -> None:
        self.supernet = supernet
        self.ctx = tuple(ctx)
        self.dtype = dtype
        space = supernet.space
        multiple = CHANNELS_OF_LAYOUTS if ctx[0].device_type == "cpu" else 1
        self._parts = PathParts(space, fit_to_size, partial(padding, space, multiple=multiple))
        self._compiled: Dict[Hashable, ScoredPart] = {}  # by the key of the part
        self._programs: Optional[NativePrograms] = None
        if dtype == "float32" and are_ready() and all(one.device_type == "cpu" for one in ctx):
            parameters = supernet._collect_params_with_prefix()
            self._programs = NativePrograms(space, parameters, trains=False)
            self._tail = self._parts.tail_from(num_before_pooling(space) + 1)

    @property
    def num_parts(self) -> int:
        """How many parts were compiled so far: they are kept."""
        return len(self._compiled)

    def path(self, architecture: Architecture) -> Union[WeightedPath, NativeWeightedPath]:
        """The path of an architecture, with the supernet's weights as they are now."""
        size = self.supernet.space.validate(architecture).input_size
        program = self._programs and self._programs.of(architecture)
        if program:
            features = NativeFeatures(program)
            return NativeWeightedPath(features, self._step(self._tail), size)
        return WeightedPath([self._step(part) for part in self._parts.of(architecture)], self.dtype, size)

    def _step(self, part: Part) -> Step:
        if part.key not in self._compiled:
            self._compiled[part.key] = ScoredPart(part)
        arrays = {ctx: {slot.name: self._array(slot, ctx) for slot in part.slots} for ctx in self.ctx}
        return Step(self._compiled[part.key], arrays)

    def _array(self, slot: Slot, ctx: mx.Context) -> mx.nd.NDArray:
        """As it is executed: the corner of the supernet's, without idle taps, the padding silenced."""
        selected, executed = slot.selected, slot.executed
        if slot.statistic:
            return unread_statistic(slot.statistic, executed, ctx)
        value = self.supernet.corner(slot.source, executed[:2] + selected[2:], ctx)
        if selected[2:] != executed[2:]:
            value = cut_idle_taps(value, executed[2])
        if selected[0] != executed[0] and slot.name.endswith(("gamma", "beta")):
            value = value * _first_ones(selected[0], executed[0], ctx)
        return value


@dataclass(frozen=True)
class Step:
    """A part of a path with its arrays on every device."""

    part: ScoredPart
    arrays: Dict[mx.Context, Arrays]


Batch = Sequence[Tuple[mx.nd.NDArray, mx.nd.NDArray]]  # (images, labels) for every device


class WeightedPath:
    """One architecture with its weights: first `update_batch_norm`, then `logits`.

    Args:
        input_size: that images are resized to, where it is a choice of the architecture.
    """

    def __init__(self, steps: Sequence[Step], dtype: str, input_size: Optional[int] = None) -> None:
        self._steps = list(steps)
        with_norms = [position for position, step in enumerate(steps) if step.part.num_channels]
        self._updating = self._steps[: with_norms[-1] + 1]  # a head without BatchNorm has nothing to tell
        self._dtype = dtype
        self._input_size = input_size
        self._ready: List[Dict[mx.Context, Arrays]] = []

    def update_batch_norm(self, batches: Iterable[Batch]) -> None:
        """Set the statistics to those of these images, pooled as in `recalibrate_batch_norm`.

        Args:
            batches: each a list with one (images (N, 3, H, W), labels) for every device; at least one.
        """
        pooled: Optional[Moments] = None
        pending: Deque[Tuple[int, mx.nd.NDArray]] = deque()
        for batch in batches:
            pending.extend((images.shape[0], self._collect(images)) for images, _ in batch)
            while len(pending) > BATCHES_IN_FLIGHT * len(batch):
                pooled = _merge(pooled, *pending.popleft())
        for one in pending:
            pooled = _merge(pooled, *one)
        if pooled is None:
            raise ValueError("the BatchNorm update needs at least one image")
        start, self._ready = 0, []
        for step in self._steps:
            own = slice(start, start + step.part.num_channels)
            start = own.stop
            self._ready.append(
                {
                    ctx: step.part.fold(arrays, pooled.mean[own], pooled.variance[own], self._dtype)
                    for ctx, arrays in step.arrays.items()
                }
            )

    def logits(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        """(N, num_classes) float32 of normalised images (N, 3, H, W) on one of the devices."""
        images = _at_size(images, self._input_size)
        num_images = images.shape[0]
        together = num_scored_together(images.shape) if images.context.device_type == "cpu" else num_images
        parts = [self._score(images[i : i + together]) for i in range(0, num_images, together)]
        return parts[0] if len(parts) == 1 else mx.nd.concat(*parts, dim=0)

    def _score(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        x = images.astype(self._dtype, copy=False)
        for step, arrays in zip(self._steps, self._ready):
            x = step.part.score(x, arrays[x.context])
        return x.reshape((0, -1)).astype("float32", copy=False)

    def _collect(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        """Means of all normalised channels and then their 1/std, in order."""
        means, inv_stds = [], []
        x = _at_size(x, self._input_size)
        with mx.autograd.train_mode():
            for step in self._updating:
                count, outputs = step.part.num_channels, step.part.collect(x, step.arrays[x.context])
                if not count:  # a block without BatchNorm
                    x = outputs
                    continue
                x, moments = outputs
                means.append(moments[:count])
                inv_stds.append(moments[count:])
        return mx.nd.concat(*means, *inv_stds, dim=0)


class NativeWeightedPath:
    """As `WeightedPath`, by the native kernels. The weights are the supernet's own, so they must not change meanwhile.

    Args:
        tail: what comes behind the pooling.
    """

    def __init__(self, features: NativeFeatures, tail: Step, input_size: Optional[int] = None) -> None:
        self._features = features
        self._tail = tail
        self._input_size = input_size

    def update_batch_norm(self, batches: Iterable[Batch]) -> None:
        """Set the statistics to those of these images, pooled as in `recalibrate_batch_norm`."""
        pooled: Optional[Moments] = None
        for batch in batches:
            for images, _ in batch:
                moments = self._features.moments(_at_size(images, self._input_size))
                pooled = moments if pooled is None else pooled.merge(moments)
        if pooled is None:
            raise ValueError("the BatchNorm update needs at least one image")
        self._features.set_moments(pooled)

    def features(self, images: mx.nd.NDArray) -> np.ndarray:
        """(N, F) float32, pooled, in front of what follows the pooling."""
        return self._features(_at_size(images, self._input_size)).asnumpy().reshape(len(images), -1)

    def logits(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        """(N, num_classes) float32 of normalised images (N, 3, H, W) on one of the devices."""
        x = self._features(_at_size(images, self._input_size))
        return self._tail.part.score(x, self._tail.arrays[x.context]).reshape((0, -1))


def _at_size(images: mx.nd.NDArray, size: Optional[int]) -> mx.nd.NDArray:
    return images if size is None else resized(images, size)


def _merge(pooled: Optional[Moments], num_images: int, vector: mx.nd.NDArray) -> Moments:
    mean, inv_std = np.split(vector.asnumpy(), 2)
    moments = batch_moments(num_images, mean, inv_std)
    return moments if pooled is None else pooled.merge(moments)


@lru_cache(maxsize=None)
def _first_ones(count: int, length: int, ctx: mx.Context) -> mx.nd.NDArray:
    return (mx.nd.arange(length, ctx=ctx) < count).astype("float32")
