"""FLOPs and parameters layer by layer, by the names that `.params` files have."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, List, NamedTuple, Tuple

from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import WIRINGS, BlockLayers, ChoiceBlockGeometry
from spos.space.cost import ZERO, Cost, count, count_choice_block, count_conv, count_layer
from spos.space.layers import Conv, GlobalPool, Specs, SqueezeExcite, conv_size, with_sizes
from spos.space.names import SQUEEZE_EXCITE, block_position, block_prefix, layer_positions, num_layers
from spos.space.space import SearchSpace

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
    architecture = space.validate(architecture)
    layers = stem_layers(space)
    for block, b, c in zip(space.choice_blocks, architecture.block_choices, architecture.channel_choices):
        layers += _block(space, block, space.block_layers(block.index, b, c))
    return layers + head_layers(space)


def _block(space: SearchSpace, block: ChoiceBlockGeometry, described: BlockLayers) -> List[LayerCost]:
    prefix, additions = f"features.{block_position(space, block.index)}.", space.count_additions
    layers = list(_chain(f"{prefix}proj_branch.", described.projection, block.in_size, additions))
    if described.shuffles:
        shape = (block.in_channels, block.in_size, block.in_size)
        layers.append(LayerCost(f"{prefix}shuffle", "channel shuffle", shape, ZERO))
    layers += _chain(f"{prefix}main_branch.", described.main, block.in_size, additions)
    size = conv_size(block.in_size, block.stride)
    for kind in ["sum"] * WIRINGS[described.wiring].adds + ([described.act] if described.act else []):
        layers.append(LayerCost(prefix + kind, kind, (block.out_channels, size, size), ZERO))
    return layers


def stem_layers(space: SearchSpace) -> List[LayerCost]:
    return list(_chain("features.", layer_specs.stem(space), space.input_size, space.count_additions))


def head_layers(space: SearchSpace) -> List[LayerCost]:
    """The layers behind the last choice block."""
    first = block_position(space, space.num_choice_blocks)
    additions, size = space.count_additions, count(layer_specs.head(space), space.out_size)[1]
    head = _chain("features.", layer_specs.head(space), space.out_size, additions, first)
    return [*head, *_chain("output.", layer_specs.classifier(space), size, additions)]


def supernet_branches(space: SearchSpace) -> List[BranchCost]:
    """Every block choice of every choice block, at its narrowest searchable width and at its widest."""
    return [
        _branch(space, block.index, b)
        for block, choices in zip(space.choice_blocks, space.choices)
        for b in range(len(choices.blocks))
    ]


def _branch(space: SearchSpace, index: int, block_choice: int) -> BranchCost:
    block = space.choice_blocks[index]
    widths, size = space.channel_choices(index), conv_size(block.in_size, block.stride)
    costs = [count_choice_block(space, index, block_choice, choice) for choice in (widths[0], widths[-1])]
    name = block_prefix(space, index, block_choice).rstrip(".")
    return BranchCost(name, space.choices[index].blocks[block_choice].name, (block.out_channels, size, size), *costs)


def _chain(prefix: str, specs: Specs, size: int, additions: bool, first: int = 0) -> Iterator[LayerCost]:
    """Layers of a chain that begins at position `first` and is fed with `size` x `size` maps."""
    channels = 0
    places = (position for position, _ in layer_positions(specs, first))
    for position, (spec, in_size, out_size) in zip(places, with_sizes(specs, size)):
        name = f"{prefix}{position}"
        if isinstance(spec, Conv):
            channels = spec.out_channels
            yield from _convolution(prefix, position, spec, out_size, additions)
        elif isinstance(spec, SqueezeExcite):
            yield from _chain(f"{name}.{SQUEEZE_EXCITE}.", spec.gate, in_size, additions)
            gate = f"{name}.{SQUEEZE_EXCITE}.{num_layers(spec.gate)}"
            yield LayerCost(gate, "hard_sigmoid", (spec.channels, 1, 1), ZERO)
        else:
            kind = "global pool" if isinstance(spec, GlobalPool) else "dropout"
            channels = spec.channels if isinstance(spec, GlobalPool) else channels
            yield LayerCost(name, kind, (channels, out_size, out_size), count_layer(spec, in_size, out_size, additions))


def _convolution(prefix: str, position: int, conv: Conv, out_size: int, additions: bool) -> Iterator[LayerCost]:
    """The convolution, then its BatchNorm and its activation, at positions of their own."""
    shape = (conv.out_channels, out_size, out_size)
    kind = f"conv {conv.kernel_size}x{conv.kernel_size}{', depthwise' if conv.is_depthwise else ''}"
    yield LayerCost(f"{prefix}{position}", kind, shape, count_conv(replace(conv, bn=False), out_size, additions))
    if conv.bn:
        yield LayerCost(f"{prefix}{position + 1}", "BatchNorm", shape, Cost(0, 2 * conv.out_channels))
    if conv.act:
        yield LayerCost(f"{prefix}{position + 1 + conv.bn}", conv.act, shape, ZERO)
