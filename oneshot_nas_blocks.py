"""Choice blocks: what `spos.space.blocks` describes, as Gluon layers.

Attribute names and positions are a file format: `features.N.main_branch.M.weight` stands in `.params` files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Sequence, Tuple

from spos.engine.batch_norm import EPSILON, MOMENTUM, BatchNorm
from spos.engine.compat import mx
from spos.engine.depthwise import DepthwiseConv2D
from spos.engine.forms import CHANNELS_OF_LAYOUTS
from spos.engine.slicing import leading_corner
from spos.space import layers
from spos.space.blocks import BlockKind, BlockLayers, ChoiceBlockGeometry
from spos.space.layers import Conv, Dropout, Form, GlobalPool, LayerSpec, Specs
from spos.space.names import layer_positions

nn = mx.gluon.nn
PLAIN = Form()


class HardSwish(mx.gluon.HybridBlock):
    """x * relu6(x + 3) / 6 (MobileNetV3, arXiv:1905.02244)."""

    def hybrid_forward(self, F, x):
        return x * F.hard_sigmoid(x, alpha=1 / 6, beta=0.5)


class ShiftedHardSwish(mx.gluon.HybridBlock):
    """Hard-swish of x, given x + 3: with r its ReLU and m the smaller of r and 6, it is r + m * m / 6 - 1.5 m.

    That is without a product of two arrays, whose gradient reads three and writes two.
    """

    def hybrid_forward(self, F, x):
        # oneDNN's ReLU and sum keep the layout that convolutions give and want; the rest needs the plain one
        x = F.Activation(x, act_type="relu")
        smaller = F.minimum(F.reshape(x, shape=(0, 0, 0, 0)), 6.0)
        return F.add_n(x, F.contrib.quadratic(smaller, a=1 / 6, b=-1.5))


class ShiftingBatchNorm(BatchNorm):
    """BatchNorm that gives a `ShiftedHardSwish` what it wants."""

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        return super().hybrid_forward(F, x, gamma, beta + 3, running_mean, running_var)


class HardSigmoid(mx.gluon.HybridBlock):
    """relu6(x + 3) / 6."""

    def hybrid_forward(self, F, x):
        return F.hard_sigmoid(x, alpha=1 / 6, beta=0.5)


class SqueezeExcite(mx.gluon.HybridBlock):
    """Scale every channel by a gate computed from the means of all channels (arXiv:1709.01507)."""

    def __init__(self, spec: layers.SqueezeExcite) -> None:
        super().__init__()
        with self.name_scope():
            self.channel_attention = build((GlobalPool(spec.channels), *spec.convs))
            self.channel_attention.add(HardSigmoid())
        self._num_pixels = spec.form.map_size**2 if spec.form and spec.form.map_size else None

    def hybrid_forward(self, F, x):
        return self.multiply(F, x, self.channel_attention(x))

    def multiply(self, F, x, gate):
        """Every channel by its gate, (N, C, 1, 1)."""
        if self._num_pixels is None:
            return F.broadcast_mul(x, gate)
        rows = F.reshape(gate, shape=(-1, 1))  # (N * C, 1)
        spread = F.FullyConnected(rows, F.ones((self._num_pixels, 1)), num_hidden=self._num_pixels, no_bias=True)
        return x * F.reshape_like(spread, x)


def shuffled_channels(channels: int) -> List[int]:
    """Where each channel of a shuffle comes from: 0, C/2, 1, C/2 + 1, ..."""
    return [half * (channels // 2) + i for i in range(channels // 2) for half in (0, 1)]


class ChannelShuffle(mx.gluon.HybridBlock):
    """Interleave the two halves of the channels: 0, C/2, 1, C/2 + 1, ...

    Args:
        by_conv: as a frozen 1x1 convolution, for back ends that cannot reshape. The function is the same bit by bit.
    """

    def __init__(self, channels: int, by_conv: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.by_conv = by_conv
        if by_conv:
            with self.name_scope():
                permutation = mx.nd.one_hot(mx.nd.array(shuffled_channels(channels)), channels)
                self.weight = self.params.get_constant("weight", permutation.reshape((channels, channels, 1, 1)))

    def hybrid_forward(self, F, x, weight=None):
        if self.by_conv:
            return F.Convolution(x, weight, kernel=(1, 1), num_filter=self.channels, no_bias=True)
        half = self.channels // 2
        x = F.reshape(x, shape=(-1, 2, half, 0, 0), reverse=True)  # (N, 2, C/2, H, W); no codes ONNX lacks
        return F.reshape(F.swapaxes(x, 1, 2), shape=(-1, self.channels, 0, 0), reverse=True)  # (N, C, H, W)


class ChannelGather(mx.gluon.HybridBlock):
    """The named channels, in this order: one operator of ONNX, where a reshape of unknown sizes becomes dozens."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        with self.name_scope():
            self.channels = self.params.get_constant("channels", mx.nd.array(channels, dtype="int64"))

    def hybrid_forward(self, F, x, channels):
        return F.take(x, channels, axis=1, mode="raise")


class ChannelSelector(mx.gluon.HybridBlock):
    """Zero the channels that an architecture does not have. `mask` is (1, C, 1, 1) of ones and zeros."""

    def hybrid_forward(self, F, x, mask):
        return F.broadcast_mul(x, mask)


class PixelConv2D(mx.gluon.nn.Conv2D):
    """Pointwise convolution of (N, C, 1, 1), as a product of matrices: twice as fast in oneDNN."""

    def hybrid_forward(self, F, x, weight, bias=None):
        arguments = [F.reshape(weight, shape=(0, -1))] + ([] if bias is None else [bias])
        y = F.FullyConnected(x, *arguments, num_hidden=self._channels, no_bias=bias is None)
        return F.reshape(y, shape=(0, 0, 1, 1))  # (N, out_channels, 1, 1)


class ReLU6(mx.gluon.HybridBlock):
    """min(max(x, 0), 6)."""

    def hybrid_forward(self, F, x):
        return F.clip(x, 0, 6)


ACTIVATIONS: Dict[str, Callable[[], mx.gluon.HybridBlock]] = {
    "relu": lambda: nn.Activation("relu"),
    "relu6": ReLU6,
    "hard_swish": HardSwish,
}


def build(specs: Specs) -> mx.gluon.nn.HybridSequential:
    """Gluon layers of a description, in a chain whose positions are those of `layer_positions`."""
    chain = nn.HybridSequential(prefix="")
    for spec in specs:
        chain.add(*build_layers(spec))
    return chain


def build_rows(chains: Sequence[Specs]) -> mx.gluon.HybridBlock:
    """Chains one behind the other; a single one as it is."""
    if len(chains) == 1:
        return build(chains[0])
    row = nn.HybridSequential(prefix="")
    row.add(*(build(chain) for chain in chains))
    return row


def build_layers(spec: LayerSpec) -> List[mx.gluon.HybridBlock]:
    """The layers of one entry: a Conv gives up to three (convolution, BatchNorm, activation)."""
    if isinstance(spec, Conv):
        form = spec.form or PLAIN
        conv = _build_conv(spec, form)
        bn = [(ShiftingBatchNorm if form.shifted else BatchNorm)(spec.out_channels)] if spec.bn else []
        act = [ShiftedHardSwish() if form.shifted else ACTIVATIONS[spec.act]()] if spec.act else []
        return [conv, *bn, *act]
    if isinstance(spec, layers.SqueezeExcite):
        return [SqueezeExcite(spec)]
    if isinstance(spec, GlobalPool):
        return [nn.GlobalAvgPool2D()]
    if isinstance(spec, Dropout):
        return [nn.Dropout(spec.rate)]
    raise TypeError(f"no layer is known for {spec!r}")


def _build_conv(spec: Conv, form: Form) -> mx.gluon.nn.Conv2D:
    kind: Callable[..., mx.gluon.nn.Conv2D] = PixelConv2D if form.on_pixel else mx.gluon.nn.Conv2D
    if form.map_size is not None:
        kind = partial(DepthwiseConv2D, map_size=form.map_size)
    return kind(
        spec.out_channels,
        spec.kernel_size,
        spec.stride,
        padding=spec.kernel_size // 2,
        groups=spec.groups,
        use_bias=spec.bias,
        in_channels=spec.in_channels,
        weight_initializer=mx.init.Normal(spec.init_std or 1.0 / spec.weight_shape[1]),
    )


class MainBranch(mx.gluon.nn.HybridSequential):
    """The chain of a main branch, which can also run at a narrower middle width: by mask or by slice."""

    def __init__(self, specs: Specs) -> None:
        super().__init__(prefix="")
        for spec in specs:
            self.add(*build_layers(spec))
        # positions of the BatchNorm layers whose output has the middle width
        self._selects = {p + 1 for p, spec in layer_positions(specs) if isinstance(spec, Conv) and spec.selects}
        self._layers = list(self._children.values())
        self.selector = ChannelSelector()  # has no parameters, so it is not seen in files

    def hybrid_forward(self, F, x, mask=None):
        for position, layer in enumerate(self._layers):
            x = layer(x)
            if mask is not None and position in self._selects:
                x = self.selector(x, mask)  # after BatchNorm: its beta must not leak from unselected channels
        return x

    def run_sliced(self, x, specs: Specs):
        """Run imperatively with the leading corner of every parameter that has the shapes of `specs`.

        `specs` describes the same branch at a narrower middle width. Gradients reach the selected weights; running
        statistics change where they are selected.
        """
        return _run_sliced(x, self._layers, specs)


def _run_sliced(x, chain: Sequence[mx.gluon.HybridBlock], specs: Specs):
    for position, spec in layer_positions(specs):
        layer = chain[position]
        if isinstance(spec, layers.SqueezeExcite):
            x = layer.multiply(mx.nd, x, _gate_sliced(x, layer, spec))
        elif isinstance(spec, Conv):
            x = _convolve_sliced(x, layer, spec)
            if spec.bn:
                x = _normalise_sliced(x, chain[position + 1], spec.out_channels)
            if spec.act:
                x = chain[position + 1 + spec.bn](x)
        else:
            x = layer(x)
    return x


def _gate_sliced(x, layer: SqueezeExcite, spec: layers.SqueezeExcite):
    """The gates of the leading channels, (N, C, 1, 1)."""
    chain = list(layer.channel_attention._children.values())
    return chain[-1](_run_sliced(x, chain, spec.gate))


def _convolve_sliced(x, conv: mx.gluon.nn.Conv2D, spec: Conv):
    arrays = [leading_corner(conv.weight.data(x.context), spec.weight_shape)]
    if spec.bias:
        arrays.append(leading_corner(conv.bias.data(x.context), (spec.out_channels,)))
    return mx.nd.Convolution(
        x,
        *arrays,
        kernel=(spec.kernel_size,) * 2,
        stride=(spec.stride,) * 2,
        pad=(spec.kernel_size // 2,) * 2,
        num_filter=spec.out_channels,
        num_group=spec.groups,
        no_bias=not spec.bias,
    )


def _normalise_sliced(x, bn: BatchNorm, channels: int):
    learned = [parameter.data(x.context) for parameter in (bn.gamma, bn.beta)]
    running = [parameter.data(x.context) for parameter in (bn.running_mean, bn.running_var)]
    if learned[0].shape[0] != channels:
        learned = [leading_corner(value, (channels,)) for value in learned]
        with mx.autograd.pause():
            running = [value[:channels] for value in running]  # views: updates reach the parameter
    return mx.nd.BatchNorm(x, *learned, *running, **bn.op_kwargs)


def _gathers(channels: int) -> Dict[str, mx.gluon.HybridBlock]:
    sources = shuffled_channels(channels)
    return {"keep": ChannelGather(sources[: channels // 2]), "read": ChannelGather(sources[channels // 2 :])}


def _shuffle_and_cut(block: ShuffleBlock, F, x):
    x = block.shuffle(x)
    kept = F.slice_axis(x, axis=1, begin=0, end=block.half)  # (N, C/2, H, W)
    return kept, F.slice_axis(x, axis=1, begin=block.half, end=None)


def _stack(block: ShuffleBlock, F, x):
    if block.half % 2:
        return _shuffle_and_cut(block, F, x)
    quarters = F.split(x, num_outputs=4, axis=1)
    return tuple(_interleave(F, quarters[i], quarters[i + 2], block.half) for i in (0, 1))


def _interleave(F, first, second, channels: int):
    pairs = F.stack(first, second, axis=2)  # (N, C/4, 2, H, W)
    return F.reshape(pairs, shape=(-1, channels, 0, 0), reverse=True)  # (N, C/2, H, W)


@dataclass(frozen=True)
class Shuffle:
    """A form of the channel shuffle and split in halves. The function is the same bit by bit.

    Args:
        layers: of so many channels, by their attributes in the block.
        split: (block, F, images) -> (what passes by, what the main branch reads).
    """

    layers: Callable[[int], Dict[str, mx.gluon.HybridBlock]]
    split: Callable[[ShuffleBlock, Any, Any], Tuple[Any, Any]]


SHUFFLES = {
    "reshape": Shuffle(lambda channels: {"shuffle": ChannelShuffle(channels)}, _shuffle_and_cut),
    # for deployment: a constant 1x1 convolution, for what cannot reshape; two operators of ONNX
    "conv": Shuffle(lambda channels: {"shuffle": ChannelShuffle(channels, by_conv=True)}, _shuffle_and_cut),
    "gather": Shuffle(_gathers, lambda block, F, x: (block.keep(x), block.read(x))),
    # for execution: shuffled and split at once, with a gradient that is a copy; where four divides the channels
    "stack": Shuffle(lambda channels: {"shuffle": ChannelShuffle(channels)}, _stack),
}


class Block(mx.gluon.HybridBlock):
    """One choice of one choice block: a main branch, and beside it a projection if there is one.

    Without more it is a plain chain. Other wirings are in WIRED_BLOCKS.

    Args:
        in_channels: that come into the block.
        described: `mask` and `run_sliced` narrow the middle width of its main branch.
        shuffle: form of a channel shuffle, one of SHUFFLES.
    """

    def __init__(self, in_channels: int, described: BlockLayers, shuffle: str = "reshape") -> None:
        super().__init__()
        if shuffle not in SHUFFLES:
            raise ValueError(f"unknown channel shuffle '{shuffle}'; known: {', '.join(SHUFFLES)}")
        self.projects = bool(described.projection)
        self._is_empty = not described.main
        with self.name_scope():
            self.main_branch = MainBranch(described.main)
            if described.projection:
                self.proj_branch = build(described.projection)

    def split(self, F, x):
        """(what passes by, what the main branch reads)."""
        return None, x

    def join(self, F, kept, main):
        """The block's output, (N, out_channels, H/stride, W/stride). MXNet compiles nothing that is its own input."""
        return F.identity(main) if self._is_empty else main

    def hybrid_forward(self, F, x, mask=None):
        kept, x = self.split(F, x)
        main = self.main_branch(x) if mask is None else self.main_branch(x, mask)
        return self.join(F, kept, main)

    def run_sliced(self, x, main: Specs):
        """Forward at the middle width that `main` describes, on NDArrays only."""
        kept, x = self.split(mx.nd, x)
        return self.join(mx.nd, kept, self.main_branch.run_sliced(x, main))


class ResidualBlock(Block):
    """The input, or its projection, plus the main branch; then an activation, if there is one.

    In training with a drop rate, the main branch is left out for some images, each drawn by itself.
    """

    def __init__(self, in_channels: int, described: BlockLayers, shuffle: str = "reshape") -> None:
        super().__init__(in_channels, described, shuffle)
        self._act = ACTIVATIONS[described.act]() if described.act else None
        self._drop_rate = described.drop_rate

    def split(self, F, x):
        return self.proj_branch(x) if self.projects else x, x

    def join(self, F, kept, main):
        if self._drop_rate:
            main = F.Dropout(main, p=self._drop_rate, axes=(1, 2, 3))
        total = F.elemwise_add(kept, main)
        return total if self._act is None else self._act(total)


class ShuffleBlock(Block):
    """Channel shuffle and split, or projection beside the main branch; both are concatenated."""

    def __init__(self, in_channels: int, described: BlockLayers, shuffle: str = "reshape") -> None:
        super().__init__(in_channels, described, shuffle)
        self.half = in_channels // 2
        self.copies = (in_channels if self.projects else self.half) % CHANNELS_OF_LAYOUTS != 0
        self._split = SHUFFLES[shuffle].split
        if not self.projects:
            with self.name_scope():
                for name, layer in SHUFFLES[shuffle].layers(in_channels).items():
                    setattr(self, name, layer)

    def split(self, F, x):
        if self.projects:
            return self.proj_branch(x), x
        return self._split(self, F, x)

    def join(self, F, kept, main):
        """Both halves.

        The gradient of a concatenation is cut, and oneDNN cannot cut its layouts inside a group of channels. The copy
        gives it a gradient in the plain layout: by another concatenation, for compiled graphs run an identity in place.
        """
        joined = F.concat(kept, main, dim=1)
        return F.concat(joined, dim=1) if self.copies else joined


WIRED_BLOCKS = {"shuffle": ShuffleBlock, "residual": ResidualBlock, "chain": Block}  # by the keys of WIRINGS


def build_block(in_channels: int, described: BlockLayers, shuffle: str = "reshape") -> Block:
    """The Gluon block of a description."""
    return WIRED_BLOCKS[described.wiring](in_channels, described, shuffle)


# --- By the names and arguments of the original project (docs/from-the-original.md) ---

BLOCK_MODES = {"ShuffleNetV2": "shuffle", "ShuffleXception": "xception"}  # families of branches


def original_blocks() -> Tuple[BlockKind, ...]:
    from spos.space.space_file import search_space  # files, which nothing else here needs

    return search_space().blocks


class SE(SqueezeExcite):
    """Squeeze-and-excite of `num_in` channels."""

    def __init__(self, num_in: int) -> None:
        super().__init__(layers.SqueezeExcite(num_in))


class NasBatchNorm(BatchNorm):
    """BatchNorm that can follow its batches in inference: the update of statistics that the original project has.

    With `inference_update_stat` every batch is normalised by its own moments, and running statistics become `momentum`
    of the old value plus the rest of the batch's. A search here averages over all batches instead
    (`spos.engine.batch_norm.recalibrate_batch_norm`).
    """

    def __init__(
        self,
        momentum: float = MOMENTUM,
        epsilon: float = EPSILON,
        in_channels: int = 0,
        inference_update_stat: bool = False,
    ) -> None:
        super().__init__(in_channels)
        self._kwargs.update(momentum=momentum, eps=epsilon)
        self.inference_update_stat = inference_update_stat

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if not self.inference_update_stat:
            return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)
        mean = F.mean(x, axis=1, exclude=True)  # (C,)
        centred = F.broadcast_sub(x, F.reshape(mean, shape=(1, -1, 1, 1)))
        var = F.mean(F.square(centred), axis=1, exclude=True)
        old = self._kwargs["momentum"]
        self.running_mean.set_data(old * running_mean + (1 - old) * mean)
        self.running_var.set_data(old * running_var + (1 - old) * var)
        return F.BatchNorm(x, gamma, beta, mean, var, name="fwd", **{**self._kwargs, "use_global_stats": True})


class ShuffleNetBlock(ShuffleBlock):
    """One choice of one choice block, by its channels. `block(x)`, or `block(x, mask)` with a (1, mid, 1, 1) mask.

    Args:
        stride: 2 projects, 1 shuffles.    block_mode: a key of BLOCK_MODES.
    """

    def __init__(
        self,
        input_channel: int,
        output_channel: int,
        mid_channel: int,
        ksize: int,
        stride: int,
        block_mode: str = "ShuffleNetV2",
        act_name: str = "relu",
        use_se: bool = False,
    ) -> None:
        block = ChoiceBlockGeometry(
            *(0, 0, input_channel, output_channel, stride, stride == 2, use_se, act_name, 0),
            scale=mid_channel / (output_channel // 2),
            width_multiple=mid_channel,  # whatever the division loses
        )
        kind = BlockKind("", "", BLOCK_MODES[block_mode], (("kernel_size", ksize),))
        super().__init__(input_channel, kind.describe(block))


class ShuffleNasBlock(mx.gluon.Block):
    """All choices of a choice block at full width; `block(x, block_choice, channel_mask)` runs one, masked."""

    def __init__(
        self,
        input_channel: int,
        output_channel: int,
        stride: int,
        max_channel_scale: float = 2.0,
        use_all_blocks: bool = False,
        act_name: str = "relu",
        use_se: bool = False,
    ) -> None:
        super().__init__()
        self.use_all_blocks = use_all_blocks
        self.width = int(output_channel // 2 * max_channel_scale)
        modes, self._attributes = {family: mode for mode, family in BLOCK_MODES.items()}, []
        with self.name_scope():
            for kind in original_blocks():
                sizes = (input_channel, output_channel, self.width, dict(kind.options)["kernel_size"], stride)
                self._attributes.append(kind.attribute)
                setattr(self, kind.attribute, ShuffleNetBlock(*sizes, modes[kind.family], act_name, use_se))

    def forward(self, x, block_choice, block_channel_mask):
        """One choice, or the mean of all with `use_all_blocks`.

        Args:
            block_choice: number of the choice, or an array of it.    block_channel_mask: (1, width or more).
        """
        mask = block_channel_mask.slice_axis(axis=1, begin=0, end=self.width).reshape((1, self.width, 1, 1))
        mask = mask.as_in_context(x.context).astype(x.dtype)
        choices = [getattr(self, attribute) for attribute in self._attributes]
        if self.use_all_blocks:
            return mx.nd.add_n(*(choice(x, mask) for choice in choices)) / len(choices)
        chosen = block_choice.asscalar() if isinstance(block_choice, mx.nd.NDArray) else block_choice
        return choices[int(chosen)](x, mask)


if __name__ == "__main__":
    print("oneshot_nas_blocks.py is a module: `python calculate_flops.py --architecture oneshot --layers` lists layers")
