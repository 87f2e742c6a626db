"""The same networks in PyTorch, for the benchmark only: from the descriptions of their layers (`space.layer_specs`).

Parameters are tensors by the names in `.params` files. Layouts are channels-last; a narrow width is a view of the
supernet's parameters (`slice`), or a mask behind the full width (`mask`).
"""

from __future__ import annotations

from functools import partial
from typing import Dict, Mapping, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F

from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import WIRINGS, ChoiceBlockGeometry
from spos.space.layers import Conv, Dropout, GlobalPool, Specs, SqueezeExcite, with_bn
from spos.space.names import SQUEEZE_EXCITE, block_position, block_prefix, layer_positions, num_layers
from spos.space.space import SearchSpace

EPSILON = 1e-5  # of BatchNorm, as in `spos.engine.batch_norm`, which needs MXNet
MOMENTUM = 0.1  # PyTorch: share of the NEW value; MXNet writes the same thing as 0.9
STATISTICS = ("running_mean", "running_var")
NO_DECAY = ("gamma", "beta", "bias")
ACTIVATIONS = {  # all of them keep a channels-last layout
    "relu": F.relu_,
    "relu6": partial(F.relu6, inplace=True),
    "hard_swish": F.hardswish,
}


class TorchNetwork:
    """A supernet, of which one path runs at a time, or a subnet.

    Args:
        arrays: by the names in `.params` files.
        is_supernet: whether names hold the attribute of a block choice.
        bn: False if BatchNorm is merged into the convolutions.
        dropout: whether training drops.
    """

    def __init__(
        self,
        space: SearchSpace,
        arrays: Mapping[str, np.ndarray],
        is_supernet: bool,
        bn: bool = True,
        dropout: bool = True,
    ) -> None:
        self.space = space
        self.is_supernet = is_supernet
        self.bn = bn
        self.dropout = dropout
        self.momentum = MOMENTUM
        self._first_block = num_layers(with_bn(layer_specs.stem(space), bn))
        self.tensors: Dict[str, torch.Tensor] = {}
        fixed = _untrained(space) if is_supernet else ()
        for name, array in arrays.items():
            tensor = torch.from_numpy(np.array(array))
            if tensor.dim() == 4:
                tensor = tensor.to(memory_format=torch.channels_last)
            self.tensors[name] = tensor.requires_grad_(not name.endswith(STATISTICS) and name not in fixed)
        self._masks: Dict[Tuple[int, int], torch.Tensor] = {}  # by (selected, all) channels
        self._counts: Dict[str, Tuple[int, int]] = {}  # (channels, values of a channel) in the last training pass

    def unbias(self) -> None:
        """Make the variances of the last training pass what MXNet takes on a CPU: divided by n, not by n - 1."""
        for name, (channels, count) in self._counts.items():
            self.tensors[name + "running_var"][:channels] *= (count - 1) / count

    def trained(self) -> Dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.tensors.items() if tensor.requires_grad}

    def __call__(
        self, x: torch.Tensor, architecture: Architecture, training: bool = False, execution: str = "slice"
    ) -> torch.Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        space = self.space
        x = self._chain(x, "features.", layer_specs.stem(space), 0, training)
        for block, b, c in zip(space.choice_blocks, architecture.block_choices, architecture.channel_choices):
            x = self._block(x, block, b, c, training, execution)
        x = self._chain(x, "features.", layer_specs.head(space), self._first_block + space.num_choice_blocks, training)
        return self._chain(x, "output.", layer_specs.classifier(space), 0, training).flatten(1)

    def _block(
        self, x: torch.Tensor, block: ChoiceBlockGeometry, b: int, c: int, training: bool, execution: str
    ) -> torch.Tensor:
        space, mask = self.space, None
        layers = space.block_layers(block.index, b, c)
        if self.is_supernet:
            prefix = block_prefix(space, block.index, b)
            if execution == "mask" and layers.middle:
                widest = space.block_layers(block.index, b, len(space.choices[block.index].channel_scales) - 1)
                layers, mask = widest, self._mask(layers.middle, widest.middle)
        else:
            prefix = f"features.{self._first_block + block.index}."
        wiring, kept = WIRINGS[layers.wiring], x
        if layers.projection:
            kept = self._chain(x, prefix + "proj_branch.", layers.projection, 0, training)
        elif layers.shuffles:
            kept, x = shuffle(x).chunk(2, dim=1)
        main = self._chain(x, prefix + "main_branch.", layers.main, 0, training, mask)
        if wiring.splits:
            return torch.cat([kept, main], dim=1)
        if wiring.adds:
            total = kept + main
            return ACTIVATIONS[layers.act](total) if layers.act else total
        return main

    def _chain(
        self,
        x: torch.Tensor,
        prefix: str,
        specs: Specs,
        first: int,
        training: bool,
        mask: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        for position, spec in layer_positions(with_bn(specs, self.bn), first):
            name = f"{prefix}{position}."
            if isinstance(spec, Conv):
                x = self._conv(x, name, spec)
                if spec.bn:
                    x = self._normalise(x, f"{prefix}{position + 1}.", spec.out_channels, training)
                if spec.act:
                    x = ACTIVATIONS[spec.act](x)
                if mask is not None and spec.selects:  # an activation of 0 is 0, so it may come first
                    x = x * mask
            elif isinstance(spec, SqueezeExcite):
                squeeze, excite = spec.convs
                gate = F.relu_(self._conv(pool(x), f"{name}{SQUEEZE_EXCITE}.1.", squeeze))
                x = x * F.hardsigmoid(self._conv(gate, f"{name}{SQUEEZE_EXCITE}.3.", excite))
            elif isinstance(spec, GlobalPool):
                x = pool(x)
            elif isinstance(spec, Dropout):
                x = F.dropout(x, spec.rate, training and self.dropout)
            else:
                raise TypeError(f"no layer is known for {spec!r}")
        return x

    def _conv(self, x: torch.Tensor, name: str, spec: Conv) -> torch.Tensor:
        weight = self.tensors[name + "weight"]
        rows, columns = spec.weight_shape[:2]
        if weight.shape[:2] != (rows, columns):
            weight = weight[:rows, :columns]
        bias = self.tensors[name + "bias"] if spec.bias else None
        if bias is not None and bias.shape[0] != rows:
            bias = bias[:rows]
        return F.conv2d(x, weight, bias, spec.stride, spec.kernel_size // 2, groups=spec.groups)

    def _normalise(self, x: torch.Tensor, name: str, channels: int, training: bool) -> torch.Tensor:
        tensors = self.tensors
        if training:
            self._counts[name] = channels, x.numel() // channels
        mean, variance, gamma, beta = (
            tensors[name + part] if tensors[name + part].shape[0] == channels else tensors[name + part][:channels]
            for part in (*STATISTICS, "gamma", "beta")
        )
        return F.batch_norm(x, mean, variance, gamma, beta, training, self.momentum, EPSILON)

    def _mask(self, selected: int, width: int) -> torch.Tensor:
        key = selected, width
        if key not in self._masks:
            self._masks[key] = (torch.arange(width) < selected).float().reshape(1, width, 1, 1)
        return self._masks[key]


def shuffle(x: torch.Tensor) -> torch.Tensor:
    """Interleave the two halves of the channels."""
    return F.channel_shuffle(x, 2)


def pool(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, C, 1, 1)."""
    return F.adaptive_avg_pool2d(x, 1)


def _untrained(space: SearchSpace) -> Tuple[str, ...]:
    """Gamma and beta outside the choice blocks, which a supernet does not train."""
    chains = (layer_specs.stem(space), 0), (layer_specs.head(space), block_position(space, space.num_choice_blocks))
    return tuple(
        f"features.{position + 1}.{name}"
        for specs, first in chains
        for position, spec in layer_positions(specs, first)
        if isinstance(spec, Conv) and spec.bn
        for name in ("gamma", "beta")
    )


class TorchTraining:
    """Steps of NAG with smoothed labels, as `spos.training.path_trainer` makes them."""

    def __init__(self, network: TorchNetwork, lr: float, momentum: float, wd: float, smoothing: float) -> None:
        self.network = network
        self.smoothing = smoothing
        trained = network.trained()
        groups = [
            {"params": [t for n, t in trained.items() if n.endswith(NO_DECAY) == plain], "weight_decay": decay}
            for plain, decay in ((False, wd), (True, 0.0))
        ]
        self.optimizer = torch.optim.SGD(groups, lr, momentum, nesterov=True)

    def step(
        self, images: torch.Tensor, labels: torch.Tensor, architecture: Architecture, execution: str
    ) -> torch.Tensor:
        """Update what one path uses. Returns the mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.network(images, architecture, training=True, execution=execution)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        loss.backward()
        self.optimizer.step()
        return loss.detach()
