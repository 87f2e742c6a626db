"""Names of layers: where they stand in a network, and so what their parameters are called in `.params` files.

Attribute names and positions are a file format: `features.N.main_branch.M.weight`. `oneshot_nas_blocks.build` and
`oneshot_nas_network` put layers where this module says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, Iterable, List, Sequence, Tuple

from spos.core.errors import InputError
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.layers import Conv, LayerSpec, Specs, SqueezeExcite, with_bn
from spos.space.space import SearchSpace

SQUEEZE_EXCITE = "channel_attention"  # the attribute that holds the layers of squeeze-and-excite


def num_layers(specs: Specs) -> int:
    """How many positions of a chain `build(specs)` takes."""
    return sum(1 + spec.bn + (spec.act is not None) if isinstance(spec, Conv) else 1 for spec in specs)


@lru_cache(maxsize=None)
def layer_positions(specs: Specs, first: int = 0) -> Tuple[Tuple[int, LayerSpec], ...]:
    """(position of its first layer in the chain, entry) for every entry; the chain starts at `first`."""
    return tuple((first + num_layers(specs[:i]), spec) for i, spec in enumerate(specs))


def parameter_shapes(specs: Specs, first: int = 0) -> Dict[str, Tuple[int, ...]]:
    """Shape of every parameter and statistic of `build(specs)`, by its name in the chain: `'1.gamma'`."""
    shapes: Dict[str, Tuple[int, ...]] = {}
    for position, spec in layer_positions(specs, first):
        if isinstance(spec, Conv):
            shapes[f"{position}.weight"] = spec.weight_shape
            if spec.bias:
                shapes[f"{position}.bias"] = (spec.out_channels,)
            if spec.bn:
                for name in ("gamma", "beta", "running_mean", "running_var"):
                    shapes[f"{position + 1}.{name}"] = (spec.out_channels,)
        elif isinstance(spec, SqueezeExcite):
            inner = parameter_shapes(spec.gate)
            shapes.update({f"{position}.{SQUEEZE_EXCITE}.{name}": shape for name, shape in inner.items()})
    return shapes


def block_position(space: SearchSpace, index: int) -> int:
    """Position of a choice block in `features`; that of the head for the index behind the last choice block."""
    return num_layers(layer_specs.stem(space)) + index


def block_prefix(space: SearchSpace, index: int, block_choice: int) -> str:
    """What stands before the names of a choice's parameters in a supernet."""
    return f"features.{block_position(space, index)}.{space.choices[index].blocks[block_choice].attribute}."


def is_of_supernet(name: str) -> bool:
    """Whether a parameter of this name belongs to one of several choices."""
    return re.match(r"features\.\d+\.block_", name) is not None


@dataclass(frozen=True)
class Chain:
    """Layers one behind the other, what their names begin with, and the position of the first."""

    prefix: str
    first: int
    specs: Specs


def subnet_chains(space: SearchSpace, architecture: Architecture, bn: bool = True) -> Tuple[Chain, ...]:
    """Every chain of a subnet in the order of execution; without `bn`, of the subnet whose BatchNorm is merged."""
    stem, head = (with_bn(specs, bn) for specs in (layer_specs.stem(space), layer_specs.head(space)))
    chains = [Chain("features.", 0, stem)]
    for index, choices in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
        for branch, specs in space.block_layers(index, *choices).branches:
            chains.append(Chain(f"features.{num_layers(stem) + index}.{branch}.", 0, with_bn(specs, bn)))
    chains += [
        Chain("features.", num_layers(stem) + space.num_choice_blocks, head),
        Chain("output.", 0, layer_specs.classifier(space)),  # has none
    ]
    return tuple(chain for chain in chains if chain.specs)


@dataclass(frozen=True)
class Fold:
    """A convolution with BatchNorm: what their names begin with, and the name of the convolution that replaces both."""

    conv: str
    norm: str
    folded: str
    channels: int


def fold_names(chain: Chain, folded: Chain) -> Tuple[List[Fold], List[Tuple[str, str]]]:
    """What becomes of the parameters of a chain in the same one without BatchNorm.

    Returns: convolutions with BatchNorm; (name, name there) of everything else, whose values stay.
    """
    folds, kept = [], []
    pairs = zip(layer_positions(chain.specs, chain.first), layer_positions(folded.specs, folded.first))
    for (position, spec), (place, twin) in pairs:
        if isinstance(spec, Conv) and spec.bn:
            names = (f"{chain.prefix}{position}.", f"{chain.prefix}{position + 1}.", f"{folded.prefix}{place}.")
            folds.append(Fold(*names, spec.out_channels))
        else:
            own_names = zip(parameter_shapes((spec,), position), parameter_shapes((twin,), place))
            kept += [(chain.prefix + own, folded.prefix + theirs) for own, theirs in own_names]
    return folds, kept


def readers_of(nodes: Sequence[Tuple[str, Sequence[str]]], layers: Sequence[str], what: str) -> List[str]:
    """Nodes of a graph that read a parameter of one of the layers, by name.

    Args:
        nodes: (name, names of what it reads, parameters as in `.params` files).
        layers: by what their parameters' names begin with.    what: holds them, for the message.
    Raises: InputError if a layer is read by none.
    """
    readers: List[str] = []
    for layer in layers:
        prefix = layer.rstrip(".") + "."
        found = [name for name, read in nodes if any(one.startswith(prefix) for one in read)]
        if not found:
            raise InputError(f"no layer of the {what} is called {layer!r}; layers are named as in .params files")
        readers += found
    return readers


def float_layers(names: Iterable[str], first_conv: bool = True, se: bool = True) -> List[str]:
    """Layers of a subnet that INT8 may leave in float32, by what their parameters' names begin with.

    Args:
        names: of all parameters, as in `.params` files; with BatchNorm or merged.
        first_conv: the convolution that reads the image.    se: every squeeze-and-excite, if there are any.
    """
    first = ["features.0"] if first_conv else []
    gates = {name.partition(f".{SQUEEZE_EXCITE}.")[0] for name in names if f".{SQUEEZE_EXCITE}." in name}
    return first + [f"{gate}.{SQUEEZE_EXCITE}" for gate in sorted(gates)] if se else first
