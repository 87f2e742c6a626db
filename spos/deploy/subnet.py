"""The subnet that is deployed, made of the trained one: BatchNorm merged, widths padded. The function stays the same.

Both are changes of the description of the network (`spos.space.layer_specs`) and of its arrays; there is no second
network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Dict, Mapping, Tuple

import numpy as np

from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.deploy.parity import Logits
from spos.engine.batch_norm import EPSILON, scale_and_shift
from spos.engine.compat import mx
from spos.engine.parameters import CLASSIFIER, check_shapes, load_arrays
from spos.runs.files import PathLike
from spos.space.architecture import Architecture
from spos.space.names import fold_names, parameter_shapes, subnet_chains
from spos.space.space import SearchSpace

STEM_BIAS = "features.0.bias"  # only a network whose BatchNorm is merged has it
PERMUTATION = "shuffle.weight"  # end of a name: the constant of a shuffle by convolution


@dataclass(frozen=True)
class DeployedSubnet:
    """A subnet as its description and its numbers.

    Args:
        arrays: float32, by the names in `.params` files.
        bn: whether it still has BatchNorm.
    """

    space: SearchSpace
    architecture: Architecture
    arrays: Mapping[str, np.ndarray]
    bn: bool = True

    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """What `arrays` must hold."""
        return {
            chain.prefix + name: shape
            for chain in subnet_chains(self.space, self.architecture, self.bn)
            for name, shape in parameter_shapes(chain.specs, chain.first).items()
        }

    def network(self, shuffle: str = "reshape") -> Subnet:
        """As a Gluon network with these numbers, on the CPU, for inference."""
        net = Subnet(self.space, self.architecture, self.bn, shuffle)
        for name, parameter in net._collect_params_with_prefix().items():
            if isinstance(parameter, mx.gluon.Constant):
                parameter.initialize(ctx=mx.cpu())
                continue
            parameter.grad_req = "null"
            parameter._load_init(mx.nd.array(self.arrays[name]), mx.cpu())
        return net


def read_subnet(path: PathLike, space: SearchSpace, architecture: Architecture) -> DeployedSubnet:
    """A subnet's parameter file, with BatchNorm or merged; the file says how many classes there are.

    Raises: InputError if the file is missing, damaged or of another architecture, or if a value is not finite.
    """
    arrays = {name: value for name, value in load_arrays(path).items() if not name.endswith(PERMUTATION)}
    if CLASSIFIER in arrays:
        space = replace(space, num_classes=arrays[CLASSIFIER].shape[0])
    numbers = {name: value.astype("float32").asnumpy() for name, value in arrays.items()}
    subnet = DeployedSubnet(space, architecture, numbers, bn=STEM_BIAS not in numbers)
    check_shapes(path, {name: value.shape for name, value in numbers.items()}, subnet.shapes())
    for name, value in numbers.items():
        if not np.isfinite(value).all():
            raise InputError(f"{path}: {name} holds values that are not finite")
    return subnet


def merge_batch_norm(subnet: DeployedSubnet) -> DeployedSubnet:
    """The subnet without BatchNorm: each one is taken in by the convolution before it, which gets a bias.

    Computed in float64, so that only the last rounding is to float32.
    """
    if not subnet.bn:
        return subnet
    arrays, merged = subnet.arrays, {}
    both = (subnet_chains(subnet.space, subnet.architecture, bn) for bn in (True, False))
    for chain, folded in zip(*both):
        folds, kept = fold_names(chain, folded)
        merged.update({theirs: arrays[own] for own, theirs in kept})
        for fold in folds:
            gamma, beta, mean, variance = (
                arrays[fold.norm + name].astype(np.float64) for name in ("gamma", "beta", "running_mean", "running_var")
            )
            scale, shift = scale_and_shift(gamma, beta, mean, (variance + EPSILON) ** -0.5)
            weight = arrays[fold.conv + "weight"] * scale[:, None, None, None]
            merged[fold.folded + "weight"] = weight.astype(np.float32)
            merged[fold.folded + "bias"] = shift.astype(np.float32)
    return replace(subnet, arrays=merged, bn=False)


def pad_widths(subnet: DeployedSubnet, multiple: int) -> DeployedSubnet:
    """The subnet with middle widths rounded up to a multiple, by channels that are 0 everywhere.

    It is the network of the same choices in the space whose `width_multiple` is this. Fast kernels work on blocks of
    channels; 57 channels can take ten times as long as 64.
    """
    both = subnet.space.width_multiple
    space = replace(subnet.space, width_multiple=both * multiple // gcd(both, multiple))
    padded = replace(subnet, space=space)
    return replace(padded, arrays={name: _padded(subnet.arrays[name], to) for name, to in padded.shapes().items()})


def as_function(net: mx.gluon.Block) -> Logits:
    """A network on the CPU, from NumPy to NumPy."""
    return lambda images: net(mx.nd.array(images)).asnumpy()


def _padded(value: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    if value.shape == shape:
        return value
    return np.pad(value, [(0, there - own) for own, there in zip(value.shape, shape)])
