"""Graphs that latency tables are measured on: repeated choice blocks, stem and head, and whole networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Tuple

import numpy as np

from oneshot_nas_blocks import build, build_block
from oneshot_nas_network import Subnet
from spos.core.timing import Run
from spos.deploy.quantization import quantize
from spos.engine.compat import mx
from spos.space import layer_specs
from spos.space.architecture import Architecture
from spos.space.blocks import BlockLayers, ChoiceBlockGeometry
from spos.space.space import SearchSpace

nn = mx.gluon.nn


class RepeatedBlock(mx.gluon.HybridBlock):
    """Several copies of one choice of a choice block, each with weights of its own.

    One behind the other where the shape of the map stays. Where it changes, all copies read the same input, and every
    output is an output.
    """

    def __init__(self, block: ChoiceBlockGeometry, described: BlockLayers, copies: int) -> None:
        super().__init__()
        self.in_series = block.keeps_shape
        with self.name_scope():
            self.copies = nn.HybridSequential(prefix="")
            for _ in range(copies):
                self.copies.add(build_block(block.in_channels, described))

    def hybrid_forward(self, F, x):
        return self.copies(x) if self.in_series else [copy(x) for copy in self.copies]


def repeated_block(
    space: SearchSpace, index: int, block_choice: int, channel_choice: int, copies: int
) -> RepeatedBlock:
    """Copies of choice block `index` under a block and a channel choice; (N, in_channels, in_size, in_size) goes in."""
    described = space.block_layers(index, block_choice, channel_choice)
    return RepeatedBlock(space.choice_blocks[index], described, copies)


@dataclass(frozen=True)
class GraphMaker:
    """Makes graphs that run on random numbers.

    Args:
        dtype: float32, or float16 on a GPU, or int8 on a CPU.
    """

    space: SearchSpace
    ctx: mx.Context
    dtype: str = "float32"
    batch_size: int = 1

    def block(self, index: int, block_choice: int, channel_choice: int, copies: int) -> Run:
        block = self.space.choice_blocks[index]
        return self._run(
            repeated_block(self.space, index, block_choice, channel_choice, copies),
            (block.in_channels, block.in_size, block.in_size),
        )

    def stem(self) -> Run:
        return self._run(build(layer_specs.stem(self.space)), (3, self.space.input_size, self.space.input_size))

    def tail(self) -> Run:
        """Head and classifier."""
        space = self.space
        net = build(layer_specs.head(space) + layer_specs.classifier(space))
        return self._run(net, (space.out_channels, space.out_size, space.out_size))

    def network(self, architecture: Architecture) -> Run:
        size = self.space.input_size
        return self._run(Subnet(self.space, architecture), (3, size, size))

    def _run(self, net: mx.gluon.HybridBlock, shape: Tuple[int, ...]) -> Run:
        fill(net, self.ctx)
        x = mx.nd.random.normal(shape=(self.batch_size, *shape), ctx=self.ctx)
        call = self._compile(net, x)
        if self.dtype == "float16":
            x = x.astype("float16")

        def run() -> None:
            call(x)
            mx.nd.waitall()

        run()
        return run

    def _compile(self, net: mx.gluon.HybridBlock, x) -> Callable:
        if self.dtype == "int8":
            return quantize(net, [x])
        net.cast(self.dtype)
        net.hybridize(static_alloc=True, static_shape=True)
        return net


def fill(net: mx.gluon.HybridBlock, ctx: mx.Context) -> None:
    """Give a network weights under which activations neither vanish nor explode: denormal numbers would slow it."""
    net.initialize(ctx=ctx)
    for parameter in net.collect_params().values():
        if parameter.name.endswith("weight") and not isinstance(parameter, mx.gluon.Constant):
            scale = float(np.sqrt(2 / np.prod(parameter.shape[1:])))
            parameter.set_data(mx.nd.random.normal(0, scale, parameter.shape, ctx=ctx))
