"""What layers compute, in NumPy and float64, from their descriptions: with the statistics of the batch or known ones.

Values are taken in the order in which `parameter_shapes` names them.
"""

from dataclasses import dataclass, field

import numpy as np

from spos.engine.batch_norm import EPSILON
from spos.space.blocks import WIRINGS
from spos.space.layers import Conv, GlobalPool, SqueezeExcite
from spos.space.names import parameter_shapes

ACTS = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}


def shapes_of_block(layers):
    """(name, shape) of the parameters and statistics of a block: the main branch's first."""
    return [
        (f"{branch}.{name}", shape)
        for branch, specs in layers.branches
        for name, shape in parameter_shapes(specs).items()
    ]


@dataclass
class Layers:
    """Computes layers from a list of values; the moments of what BatchNorm normalised are in `moments`, in order.

    Args:
        known: normalise by the given statistics, not by those of the batch.
    """

    values: list
    known: bool = False
    moments: list = field(default_factory=list)

    def __post_init__(self):
        self._next = 0

    def take(self, count=1):
        self._next += count
        return [np.asarray(value, np.float64) for value in self.values[self._next - count : self._next]]

    def chain(self, specs, x):
        for spec in specs:
            if isinstance(spec, Conv):
                x = self.conv(spec, x)
            elif isinstance(spec, SqueezeExcite):
                x = self.squeeze_and_excite(x)
            elif isinstance(spec, GlobalPool):
                x = x.mean((2, 3), keepdims=True)
        return x

    def conv(self, spec, x):
        (weight,) = self.take()
        x = convolution(x, weight, spec.stride, spec.groups)
        if spec.bias:
            x = x + column(*self.take())
        if spec.bn:
            gamma, beta, mean, variance = self.take(4)
            if not self.known:
                mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
                self.moments.append((mean, variance))
            x = (x - column(mean)) * column(gamma / np.sqrt(variance + EPSILON)) + column(beta)
        return ACTS[spec.act](x)

    def squeeze_and_excite(self, x):
        first, first_bias, second, second_bias = self.take(4)
        squeezed = np.maximum(x.mean((2, 3)) @ first[:, :, 0, 0].T + first_bias, 0)
        gate = np.clip((squeezed @ second[:, :, 0, 0].T + second_bias) / 6 + 0.5, 0, 1)
        return x * gate[:, :, None, None]

    def block(self, layers, x):
        wiring = WIRINGS[layers.wiring]
        if layers.shuffles:
            half = x.shape[1] // 2
            x = np.stack([x[:, :half], x[:, half:]], axis=2).reshape(x.shape)
            return np.concatenate([x[:, :half], self.chain(layers.main, x[:, half:])], axis=1)
        main = self.chain(layers.main, x)
        beside = self.chain(layers.projection, x) if layers.projection else x
        if wiring.splits:
            return np.concatenate([beside, main], axis=1)
        return ACTS[layers.act](main + beside) if wiring.adds else ACTS[layers.act](main)


def column(values):
    return values[:, None, None]


def convolution(x, weight, stride, groups):
    """Padded by half of the kernel."""
    pad, size = weight.shape[2] // 2, -(-x.shape[2] // stride)
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    total = 0
    for ky in range(weight.shape[2]):
        for kx in range(weight.shape[3]):
            seen = x[:, :, ky : ky + size * stride : stride, kx : kx + size * stride : stride][:, :, :size, :size]
            if groups == 1:
                total = total + np.einsum("nchw,oc->nohw", seen, weight[:, :, ky, kx])
            else:  # depthwise
                total = total + seen * column(weight[:, 0, ky, kx])
    return total
