"""The shortest time that a machine could take for a training step: FLOPs at its peak, bytes at its bandwidth.

A layer computes at the measured peak, or reads what it needs and writes what it gives at the bandwidth measured for
arrays of that size in all, whichever takes longer: a convolution reads x and writes y forward, and reads x and dy and
writes dx backward; BatchNorm with its activation reads y and writes z forward, and reads dz and y and writes dy
backward, a few channels at a time, so that it finds them in the cache when it has their sums; a gate reads its map
twice and writes it forward, and reads three maps and writes one backward. Sums, shuffles, concatenations, reorders and
calls count 0, because a neighbour could do them while it reads or writes.

Times are processor times by the number of threads, so that other programs do not count.
"""

from __future__ import annotations

import mmap
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

import numpy as np

from spos.engine.compat import mx
from spos.engine.forms import fit_to_size
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import WIRINGS
from spos.space.cost import count_architecture
from spos.space.layers import Conv, GlobalPool, Specs, SqueezeExcite, conv_size, with_sizes
from spos.space.space import SearchSpace

POINTWISE_FORWARD, POINTWISE_BACKWARD = (
    "pointwise convolutions, stem: forward",
    "pointwise convolutions, stem: backward",
)
DEPTHWISE_FORWARD, DEPTHWISE_BACKWARD = "depthwise convolutions: forward", "depthwise convolutions: backward"
NORM_FORWARD, NORM_BACKWARD = "BatchNorm: forward", "BatchNorm: backward"
GATES = "gates, pooling, matrix products"
SUMS = "sums of maps and of gradients"
OPTIMIZER = "optimizer"

FLOAT = 4  # bytes
PRODUCT_SIZE = 2048  # rows and columns of the matrices whose product tells the peak
COPIED_BYTES = tuple(2**power for power in range(19, 30, 2))  # of source and copy together: 512 KiB to 512 MiB
TOUCHED_BYTES = 2**26
REPEATS = 9  # of each; the fastest counts, because it was disturbed least


@dataclass(frozen=True)
class Machine:
    """What this machine does at best with so many threads.

    Args:
        peak: FLOP/s, a multiply-add being 2, of a product of large float32 matrices.
        bandwidths: (bytes of all arrays, bytes read and written in a second) of copies, by rising size.
        fault: seconds of a page fault of new memory.
    """

    peak: float
    bandwidths: Tuple[Tuple[int, float], ...]
    fault: float

    def bandwidth(self, arrays: float) -> float:
        """Bytes a second for arrays of so many bytes in all: that of the next larger copy, or of the largest."""
        return next((rate for size, rate in self.bandwidths if size >= arrays), self.bandwidths[-1][1])


@dataclass(frozen=True)
class Work:
    """What a layer has to do in one direction.

    Args:
        kind: the part of a step that it belongs to.    flops: a multiply-add is 2.
        traffic: bytes that are read and written.    arrays: bytes of what they are read from and written to.
    """

    kind: str
    flops: float
    traffic: float
    arrays: float

    def seconds(self, machine: Machine) -> float:
        return max(self.flops / machine.peak, self.traffic / machine.bandwidth(self.arrays))


def shortest_times(works: Iterable[Work], machine: Machine) -> Dict[str, float]:
    """Seconds by kind."""
    times: Dict[str, float] = {}
    for work in works:
        times[work.kind] = times.get(work.kind, 0.0) + work.seconds(machine)
    return times


def path_works(space: SearchSpace, architecture: Architecture, batch_size: int) -> Iterator[Work]:
    """All of a training step of a path, at the widths that it selects."""
    chains: List[Tuple[Specs, int]] = [(layer_specs.stem(space), space.input_size)]
    for index, choices in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
        layers, block = space.block_layers(index, *choices), space.choice_blocks[index]
        chains += [(specs, block.in_size) for _, specs in layers.branches]
        if WIRINGS[layers.wiring].adds:
            out = FLOAT * batch_size * block.out_channels * conv_size(block.in_size, block.stride) ** 2
            yield Work(SUMS, 0, 3 * out, 3 * out)
    chains += [(layer_specs.head(space), space.out_size), (layer_specs.classifier(space), 1)]
    for number, (specs, size) in enumerate(chains):
        yield from _chain_works(specs, size, batch_size, needs_input_gradient=number > 0)
    weights = FLOAT * count_architecture(space, architecture)[1]
    yield Work(OPTIMIZER, 0, 5 * weights, 3 * weights)  # weight and momentum are read and written, the gradient read


def _chain_works(specs: Specs, size: int, batch_size: int, needs_input_gradient: bool) -> Iterator[Work]:
    for spec, in_size, out_size in with_sizes(fit_to_size(specs, size), size):
        if isinstance(spec, Conv):
            yield from conv_works(spec, in_size, batch_size, needs_input_gradient)
            if spec.bn:
                out = FLOAT * batch_size * spec.out_channels * out_size**2
                yield Work(NORM_FORWARD, 0, 2 * out, 2 * out)
                yield Work(NORM_BACKWARD, 0, 3 * out, 3 * out)
        elif isinstance(spec, (SqueezeExcite, GlobalPool)):
            whole = FLOAT * batch_size * spec.channels * in_size**2
            if isinstance(spec, SqueezeExcite):
                yield Work(GATES, 0, 3 * whole, 2 * whole)
                yield Work(GATES, 0, 4 * whole, 3 * whole)
                for conv in spec.convs:
                    yield from conv_works(conv, 1, batch_size)
            else:
                yield Work(GATES, 0, 2 * whole, whole)


def conv_works(spec: Conv, size: int, batch_size: int, needs_input_gradient: bool = True) -> Iterator[Work]:
    """Forward and backward of a convolution on `size` x `size` maps; taps that meet padding are no work."""
    taps = met_taps(size, spec.kernel_size, spec.stride)
    flops = 2 * batch_size * spec.out_channels * (spec.in_channels // spec.groups) * taps**2
    x = FLOAT * batch_size * spec.in_channels * size**2
    y = FLOAT * batch_size * spec.out_channels * conv_size(size, spec.stride) ** 2
    weight = FLOAT * prod(spec.weight_shape)
    if size == spec.kernel_size == spec.groups == 1:
        forward = backward = GATES
    elif spec.is_depthwise:
        forward, backward = DEPTHWISE_FORWARD, DEPTHWISE_BACKWARD
    else:
        forward, backward = POINTWISE_FORWARD, POINTWISE_BACKWARD
    yield Work(forward, flops, x + y + weight, x + y + weight)
    gradients, moved = (2, 2 * x + y + 2 * weight) if needs_input_gradient else (1, x + y + weight)
    yield Work(backward, gradients * flops, moved, moved)


def met_taps(size: int, kernel_size: int, stride: int) -> int:
    """Pairs of an output pixel and a tap that meets the image, along one axis, padded by half the kernel."""
    half = kernel_size // 2
    centres = range(0, size, stride)
    return sum(min(size, centre + half + 1) - max(0, centre - half) for centre in centres)


def measure_machine(num_threads: int) -> Machine:
    return Machine(
        _measured_peak(num_threads),
        falling([(size, _copied_per_second(size, num_threads)) for size in COPIED_BYTES]),
        _seconds_of_a_fault(),
    )


def falling(rates: List[Tuple[int, float]]) -> Tuple[Tuple[int, float], ...]:
    """Rates by rising size, none of them below that of a larger size: a disturbed measurement is no limit."""
    best, kept = 0.0, []
    for size, rate in reversed(rates):
        best = max(best, rate)
        kept.append((size, best))
    return tuple(reversed(kept))


def _measured_peak(num_threads: int) -> float:
    """FLOP/s of the faster of NumPy's and oneDNN's product."""
    one = np.ones((PRODUCT_SIZE, PRODUCT_SIZE), np.float32)
    array = mx.nd.array(one)
    products: Sequence[Callable[[], object]] = (
        lambda: one @ one,
        lambda: mx.nd.FullyConnected(array, array, num_hidden=PRODUCT_SIZE, no_bias=True).wait_to_read(),
    )
    return 2 * PRODUCT_SIZE**3 * num_threads / min(map(_fastest, products))


def _copied_per_second(size: int, num_threads: int) -> float:
    """Bytes read and written in a second by threads that each copy their part of `size` bytes, again and again."""
    parts = [np.ones((2, size // FLOAT // 2 // num_threads), np.float32) for _ in range(num_threads)]
    times = max(1, 2**27 // size)

    def copy(part: np.ndarray) -> None:
        for _ in range(times):
            np.copyto(part[1], part[0])

    with ThreadPoolExecutor(num_threads) as threads:
        return times * size * num_threads / _fastest(lambda: list(threads.map(copy, parts)))


def _seconds_of_a_fault() -> float:
    costs = []
    for _ in range(REPEATS):
        memory = mmap.mmap(-1, TOUCHED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        before = page_faults()
        seconds = _seconds(partial(_touch, memory))
        costs.append(seconds / max(1, page_faults() - before))
    return float(np.median(costs))


def _touch(memory: mmap.mmap) -> None:
    np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE] = 1


def page_faults() -> int:
    """Minor ones of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _fastest(run: Callable[[], object]) -> float:
    return min(_seconds(run) for _ in range(REPEATS))


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
