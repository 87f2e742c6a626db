"""FLOPs and parameters layer by layer, by the names that `.params` files have."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, List, NamedTuple, Tuple

from spos.space import layer_specs
from spos.space.cost import ZERO, Cost, count, count_conv, count_layer
from spos.space.layer_specs import Conv, GlobalPool, Specs, SqueezeExcite, with_sizes
from spos.space.names import SQUEEZE_EXCITE, block_position, block_prefix, layer_positions, num_layers
from spos.space.space import Architecture, SearchSpace

Shape = Tuple[int, ...]


class LayerCost(NamedTuple):
    """One layer with what it costs; `out_shape` is (channels, height, width)."""

    name: str
    kind: str
    out_shape: Shape
    cost: Cost


class BranchCost(NamedTuple):
    """A choice of a choice block in a supernet: its main branch with its projection, at the ends of its widths."""

    name: str
    kind: str
    out_shape: Shape
    narrowest: Cost
    widest: Cost


def subnet_layers(space: SearchSpace, architecture: Architecture) -> List[LayerCost]:
    """The layers of a subnet in the order of execution; their costs add up to `spos.space.cost.count_architecture`."""
    space.validate(architecture)
    layers = stem_layers(space)
    for block, b, c in zip(space.choice_blocks, architecture.block_choices, architecture.channel_choices):
        main, projection = layer_specs.choice_block(space, block.index, b, c)
        prefix = f"features.{block_position(space, block.index)}."
        layers += _chain(f"{prefix}proj_branch.", projection, block.in_size)
        if not block.projects:
            shape = (block.in_channels, block.in_size, block.in_size)
            layers.append(LayerCost(f"{prefix}shuffle", "channel shuffle", shape, ZERO))
        layers += _chain(f"{prefix}main_branch.", main, block.in_size)
    return layers + head_layers(space)


def stem_layers(space: SearchSpace) -> List[LayerCost]:
    return list(_chain("features.", layer_specs.stem(space), space.input_size))


def head_layers(space: SearchSpace) -> List[LayerCost]:
    """The layers behind the last choice block."""
    first = block_position(space, space.num_choice_blocks)
    size = count(layer_specs.head(space), space.out_size)[1]
    head = _chain("features.", layer_specs.head(space), space.out_size, first)
    return [*head, *_chain("output.", layer_specs.classifier(space), size)]


def supernet_branches(space: SearchSpace) -> List[BranchCost]:
    """Every block choice of every choice block, at its narrowest searchable width and at its widest."""
    return [_branch(space, block.index, b) for block in space.choice_blocks for b in range(space.num_block_choices)]


def _branch(space: SearchSpace, index: int, block_choice: int) -> BranchCost:
    block = space.choice_blocks[index]
    costs = []
    for channel_choice in (space.min_channel_choice, space.max_channel_choice):
        main, projection = layer_specs.choice_block(space, index, block_choice, channel_choice)
        cost, size = count(main, block.in_size)
        costs.append(cost + count(projection, block.in_size)[0])
    name = block_prefix(space, index, block_choice).rstrip(".")
    return BranchCost(name, space.blocks[block_choice].name, (block.out_channels, size, size), *costs)


def _chain(prefix: str, specs: Specs, size: int, first: int = 0) -> Iterator[LayerCost]:
    """Layers of a chain that begins at position `first` and is fed with `size` x `size` maps."""
    channels = 0
    places = (position for position, _ in layer_positions(specs, first))
    for position, (spec, in_size, out_size) in zip(places, with_sizes(specs, size)):
        name = f"{prefix}{position}"
        if isinstance(spec, Conv):
            channels = spec.out_channels
            yield from _convolution(prefix, position, spec, out_size)
        elif isinstance(spec, SqueezeExcite):
            yield from _chain(f"{name}.{SQUEEZE_EXCITE}.", spec.gate, in_size)
            gate = f"{name}.{SQUEEZE_EXCITE}.{num_layers(spec.gate)}"
            yield LayerCost(gate, "hard_sigmoid", (spec.channels, 1, 1), ZERO)
        else:
            kind = "global pool" if isinstance(spec, GlobalPool) else "dropout"
            channels = spec.channels if isinstance(spec, GlobalPool) else channels
            yield LayerCost(name, kind, (channels, out_size, out_size), count_layer(spec, in_size, out_size))


def _convolution(prefix: str, position: int, conv: Conv, out_size: int) -> Iterator[LayerCost]:
    """The convolution, then its BatchNorm and its activation, at positions of their own."""
    shape = (conv.out_channels, out_size, out_size)
    kind = f"conv {conv.kernel_size}x{conv.kernel_size}{', depthwise' if conv.is_depthwise else ''}"
    yield LayerCost(f"{prefix}{position}", kind, shape, count_conv(replace(conv, bn=False), out_size))
    if conv.bn:
        yield LayerCost(f"{prefix}{position + 1}", "BatchNorm", shape, Cost(0, 2 * conv.out_channels))
    if conv.act:
        yield LayerCost(f"{prefix}{position + 1 + conv.bn}", conv.act, shape, ZERO)
