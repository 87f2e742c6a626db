"""Where layers stand in a network, and so what their parameters are called in `.params` files.

Attribute names and positions are a file format: `features.N.main_branch.M.weight`. `oneshot_nas_blocks.build` and
`oneshot_nas_network` put layers where this module says.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Dict, Iterable, List, Tuple

from spos import layer_specs
from spos.layer_specs import Conv, GlobalPool, LayerSpec, Specs, SqueezeExcite
from spos.search_space import SearchSpace

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
            inner = parameter_shapes((GlobalPool(spec.channels), *spec.convs))
            shapes.update({f"{position}.{SQUEEZE_EXCITE}.{name}": shape for name, shape in inner.items()})
    return shapes


def block_position(space: SearchSpace, index: int) -> int:
    """Position of a choice block in `features`; that of the head for the index behind the last choice block."""
    return num_layers(layer_specs.stem(space)) + index


def block_prefix(space: SearchSpace, index: int, block_choice: int) -> str:
    """What stands before the names of a choice's parameters in a supernet."""
    return f"features.{block_position(space, index)}.{space.blocks[block_choice].attribute}."


def float_layers(names: Iterable[str], first_conv: bool = True, se: bool = True) -> List[str]:
    """Layers of a subnet that INT8 may leave in float32, by what their parameters' names begin with.

    Args:
        names: of all parameters, as in `.params` files; with BatchNorm or merged.
        first_conv: the convolution that reads the image.    se: every squeeze-and-excite, if there are any.
    """
    first = ["features.0"] if first_conv else []
    gates = {name.partition(f".{SQUEEZE_EXCITE}.")[0] for name in names if f".{SQUEEZE_EXCITE}." in name}
    return first + [f"{gate}.{SQUEEZE_EXCITE}" for gate in sorted(gates)] if se else first
