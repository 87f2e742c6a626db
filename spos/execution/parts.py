"""The parts of a network's paths, as they are executed: stem, choice blocks, head with classifier.

Each part is described once: by what it is known, how its layers are put together, and which arrays they take. Where the
arrays come from is left to who runs it: copies with BatchNorm folded (`spos.execution.scored`), or the network's own
parameters, to which gradients go (`spos.execution.trained`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Callable, Dict, Hashable, Iterator, Optional, Sequence, Tuple

from oneshot_nas_blocks import Block, build_block, build_rows
from spos.engine.compat import mx
from spos.engine.parameters import STATISTICS
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import BlockLayers
from spos.space.layers import GlobalPool, Specs
from spos.space.names import Chain, block_position, block_prefix, num_layers, parameter_shapes
from spos.space.space import SearchSpace

Shape = Tuple[int, ...]
IMAGE_CHANNELS = 3
Fit = Callable[[Specs, int], Specs]  # a form of a chain on maps of a size (`spos.engine.forms`)
Pad = Callable[[int, int, int], int]  # multiple that the middle of a choice is padded to at execution


@dataclass(frozen=True)
class Slot:
    """A parameter or statistic of a part.

    Args:
        name, source: what it is called in the part's layers, and in the network.
        selected: shape of what the path selects, the leading corner of the network's.
        executed: shape of what the layers take: fewer taps, more channels.
    """

    name: str
    source: str
    selected: Shape
    executed: Shape

    @cached_property
    def statistic(self) -> str:
        """`running_mean` or `running_var`, if it is one; empty if not."""
        last = self.name.rpartition(".")[2]
        return last if last in STATISTICS else ""


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a path.

    Args:
        key: parts of one key have the same layers, with other arrays.
        assemble: makes the layers from the chains, or from the same ones without BatchNorm.
        chains: as they are executed; the names in the layers begin with their prefixes.
        in_channels, in_size: of the maps that it reads.
        block: the layers of a choice block; None for stem and tail.
        padded: whether they are wider than what the path selects.
    """

    key: Hashable
    assemble: Callable[[Sequence[Specs]], mx.gluon.HybridBlock]
    chains: Tuple[Chain, ...]
    slots: Tuple[Slot, ...]
    in_channels: int
    in_size: int
    block: Optional[BlockLayers] = None
    padded: bool = False

    def layers(self) -> mx.gluon.HybridBlock:
        return self.assemble([chain.specs for chain in self.chains])


class PathParts:
    """Gives the parts of paths; each is described once, when it is first asked for.

    Args:
        space: where the input size is a choice, parts are described for each size.
        fit: the form of every chain.    pad: of (choice block, block choice, channel choice).
        in_supernet: the network holds every block choice, each under its own name; else it is a subnet.
        shuffle: form of the channel shuffles.
        stochastic_depth: of a subnet in training.
    """

    def __init__(
        self,
        space: SearchSpace,
        fit: Fit,
        pad: Pad,
        in_supernet: bool = True,
        shuffle: str = "reshape",
        stochastic_depth: float = 0.0,
    ) -> None:
        self.space = space
        self._fit = fit
        self._pad = pad
        self._in_supernet = in_supernet
        self._shuffle = shuffle
        self._stochastic_depth = stochastic_depth
        self._stem = self._make_stem()
        self._tail = self.tail_from(0)
        self._blocks: Dict[Tuple[int, int, int], Part] = {}
        self._sizes = {
            size: PathParts(space.at(size), fit, pad, in_supernet, shuffle, stochastic_depth)
            for size in space.input_sizes
        }

    def of(self, architecture: Architecture) -> Iterator[Part]:
        """Stem, choice blocks and tail of a path, in order."""
        if self._sizes:
            yield from self._sizes[architecture.input_size or self.space.input_size].of(architecture)
            return
        yield self._stem
        for index, (block_choice, channel_choice) in enumerate(
            zip(architecture.block_choices, architecture.channel_choices)
        ):
            place = index, block_choice, channel_choice
            if place not in self._blocks:
                self._blocks[place] = self._make_block(*place)
            if self._blocks[place].slots:  # a block without layers passes its input on
                yield self._blocks[place]
        yield self._tail

    def _make_stem(self) -> Part:
        stem = Chain("features.", 0, layer_specs.stem(self.space))
        chain = Chain("", 0, self._fit(stem.specs, self.space.input_size))
        size = self.space.input_size
        return Part(("stem", size), build_rows, (chain,), _slots([stem], [chain]), IMAGE_CHANNELS, size)

    def tail_from(self, first: int) -> Part:
        """Head and classifier without the first layers of the head."""
        space, all_specs = self.space, layer_specs.head(self.space)
        position = block_position(space, space.num_choice_blocks) + num_layers(all_specs[:first])
        sources = Chain("features.", position, all_specs[first:]), Chain("output.", 0, layer_specs.classifier(space))
        size = 1 if first > num_before_pooling(space) else space.out_size
        head, classifier = (self._fit(chain.specs, of) for chain, of in zip(sources, (size, 1)))
        chains = Chain("0.", 0, head), Chain("1.", 0, classifier)
        key = ("tail", size, first) if first else ("tail", size)
        return Part(key, build_rows, chains, _slots(sources, chains), space.out_channels, space.out_size)

    def _make_block(self, index: int, block_choice: int, channel_choice: int) -> Part:
        space = self.space
        block = space.choice_blocks[index]
        place = index, block_choice, channel_choice
        selected = space.block_layers(*place)
        executed = space.block_layers(*place, self._pad(*place))
        executed = executed.with_stochastic_depth(self._stochastic_depth, index, space.num_choice_blocks)
        prefix = f"features.{block_position(space, index)}."
        if self._in_supernet:
            prefix = block_prefix(space, index, block_choice)
        sources = [Chain(f"{prefix}{name}.", 0, specs) for name, specs in selected.branches]
        chains = [Chain(f"{name}.", 0, self._fit(specs, block.in_size)) for name, specs in executed.branches]
        return Part(
            (block.in_channels, block.in_size, executed),
            partial(_block, block.in_channels, executed, self._shuffle),
            tuple(chains),
            _slots(sources, chains),
            block.in_channels,
            block.in_size,
            executed,
            padded=executed.middle != selected.middle,
        )


def num_before_pooling(space: SearchSpace) -> int:
    """Layers of the head in front of its global pooling."""
    return next(i for i, spec in enumerate(layer_specs.head(space)) if isinstance(spec, GlobalPool))


def _block(in_channels: int, described: BlockLayers, shuffle: str, chains: Sequence[Specs]) -> Block:
    main, projection = chains
    return build_block(in_channels, replace(described, main=main, projection=projection), shuffle)


def _slots(sources: Sequence[Chain], chains: Sequence[Chain]) -> Tuple[Slot, ...]:
    """Of the chains of a part, and of the same chains in the network."""
    slots = []
    for source, chain in zip(sources, chains):
        theirs, own = parameter_shapes(source.specs, source.first), parameter_shapes(chain.specs, chain.first)
        for (outer, selected), (inner, executed) in zip(theirs.items(), own.items()):
            slots.append(Slot(chain.prefix + inner, source.prefix + outer, selected, executed))
    return tuple(slots)


def cut_idle_taps(value: mx.nd.NDArray, kernel_size: int) -> mx.nd.NDArray:
    """The middle of kernels (N, C, K, K): the taps that meet pixels, where maps are smaller than kernels."""
    idle = (value.shape[2] - kernel_size) // 2
    for axis in (2, 3) if idle else ():
        value = mx.nd.slice_axis(value, axis=axis, begin=idle, end=idle + kernel_size)
    return value
