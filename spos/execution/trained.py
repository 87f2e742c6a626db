"""Fast training steps of a supernet's paths and of subnets: the same function, by graphs that are made once.

Each kind of choice block is compiled once, with its parameters as inputs; a path runs stem, choice blocks and head one
after the other, on the selected corners of the parameters, to which the gradients go. On a CPU it is faster than the
network itself by the forms of `spos.engine.forms`, and because middle widths are padded with zeros to a multiple of
PAD_TO, which oneDNN's fast kernels need: gamma and beta of the padding are 0 too, so nothing of it reaches the next
layer, and no gradient comes from it. Results and gradients differ from the network's by rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Callable, Dict, Optional, Sequence, Tuple, Union

import numpy as np

from oneshot_nas_blocks import ShuffleBlock, build_rows
from oneshot_nas_network import Subnet, Supernet
from spos.engine.batch_norm import EPSILON, MOMENTUM
from spos.engine.compat import mx
from spos.engine.forms import fit_to_training
from spos.engine.parameters import STATISTICS
from spos.engine.slicing import leading_corner
from spos.execution.graphs import Graph, unread_statistic
from spos.execution.scored import PAD_TO
from spos.space import layer_specs
from spos.space.layer_specs import Specs
from spos.space.names import block_position, block_prefix, parameter_shapes
from spos.space.space import Architecture, round_up

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """Where an input of a graph comes from.

    Args:
        corner: the part of the parameter that is selected.    shape: what the graph takes: fewer taps, more channels.
    """

    parameter: mx.gluon.Parameter
    corner: Shape
    shape: Shape

    def statistic(self, ctx: mx.Context):
        """Its selected part, so that writing to it reaches the parameter."""
        return self.parameter.data(ctx)[: self.corner[0]]

    def value(self, ctx: mx.Context):
        """As the graph takes it; gradients go to the selected part."""
        value, corner, shape = self.parameter.data(ctx), self.corner, self.shape
        if corner != self.parameter.shape:
            value = leading_corner(value, corner)
        if corner == shape:
            return value
        for axis in range(2, len(shape)):
            idle = (corner[axis] - shape[axis]) // 2
            if idle:
                value = mx.nd.slice_axis(value, axis=axis, begin=idle, end=idle + shape[axis])
        for axis in range(min(2, len(shape))):
            if corner[axis] != shape[axis]:
                padding = (*shape[:axis], shape[axis] - corner[axis], *corner[axis + 1 : 2], *shape[2:])
                value = mx.nd.concat(value, _zeros(padding, ctx), dim=axis)
        return value


class Part:
    """Stem, a choice block, or head with classifier, and where its parameters are.

    Args:
        sources: by the names of the graph's inputs.
    """

    def __init__(self, graph: Graph, sources: Dict[str, Source]) -> None:
        self._graph = graph
        self._inputs = [(name, name and sources[name]) for name in graph.inputs]
        # BatchNorm layers that give their moments, because they are padded: the graph does not know their statistics
        self._norms = [[sources[norm + name] for name in STATISTICS] for norm in graph.norms] if graph.collects else []

    def __call__(self, x):
        ctx = x.context
        outputs = self._graph.run(
            [x if source is None else self._value(name, source, ctx) for name, source in self._inputs]
        )
        if not self._norms:
            return outputs
        output, moments = outputs
        with mx.autograd.pause():
            self._move_statistics(moments, ctx)
        return output

    def _value(self, name: str, source: Source, ctx: mx.Context):
        if not name.endswith(STATISTICS):
            return source.value(ctx)
        return unread_statistic(name.rpartition(".")[2], source.shape, ctx) if self._norms else source.statistic(ctx)

    def _move_statistics(self, moments, ctx: mx.Context) -> None:
        """As the BatchNorm operator moves them, from the means and then the 1/std of all layers."""
        means, inv_stds = mx.nd.split(moments, num_outputs=2, axis=0)
        batches = means, mx.nd.maximum(inv_stds**-2 - EPSILON, 0)
        start = 0
        for sources in self._norms:
            for source, batch in zip(sources, batches):
                running = source.statistic(ctx)
                running *= MOMENTUM
                running += batch[start : start + running.shape[0]] * (1 - MOMENTUM)
            start += sources[0].shape[0]


class TrainingGraphs:
    """`graphs(images, architecture)` gives the logits of a path, `graphs(images)` those of a subnet.

    Args:
        net: its parameters are trained. They may be loaded, cast and changed at any time.
        fast: use the forms and widths that are faster on a CPU in float32; by default, if the parameters are that.
    """

    def __init__(self, net: Union[Supernet, Subnet], fast: Optional[bool] = None) -> None:
        self.net = net
        self.space = net.space
        self._parameters = net._collect_params_with_prefix()
        if fast is None:
            fast = all(
                np.dtype(parameter.dtype) == np.float32 and parameter.list_ctx()[0].device_type == "cpu"
                for parameter in self._parameters.values()
            )
        self._fit: Callable[[Specs, int], Specs] = fit_to_training if fast else lambda specs, size: specs
        self._pad_to = PAD_TO if fast else 1
        self._fast = fast
        self._graphs: Dict[Tuple, Graph] = {}
        self._parts: Dict[Tuple, Part] = {}

    def __call__(self, x, architecture: Optional[Architecture] = None):
        """(N, num_classes) of normalised images (N, 3, H, W) of the space's size, in training mode only.

        Raises: ValueError in inference, whose statistics padded graphs do not have, and for images of another size.
        """
        if not mx.autograd.is_training():
            raise ValueError("these graphs are for training; call the network itself in inference")
        size = self.space.input_size
        if x.shape[2:] != (size, size):
            raise ValueError(f"images of {x.shape[2]} x {x.shape[3]}, compiled for {size} x {size}")
        if architecture is None:
            architecture = self.net.architecture
        x = self._part("stem", self._make_stem)(x)
        for index, choices in enumerate(zip(architecture.block_choices, architecture.channel_choices)):
            x = self._part((index, *choices), lambda: self._make_block(index, *choices))(x)  # noqa: B023
        return self._part("tail", self._make_tail)(x).reshape((0, -1))

    def _part(self, key, make: Callable[[], Part]) -> Part:
        if key not in self._parts:
            self._parts[key] = make()
        return self._parts[key]

    def _make_stem(self) -> Part:
        stem = layer_specs.stem(self.space)
        return self._make("stem", build_rows, [""], ["features."], [0], [stem], [stem], [self.space.input_size])

    def _make_tail(self) -> Part:
        space = self.space
        chains = [layer_specs.head(space), layer_specs.classifier(space)]
        first = block_position(space, space.num_choice_blocks)
        sizes = [space.out_size, 1]
        return self._make("tail", build_rows, ["0.", "1."], ["features.", "output."], [first, 0], chains, chains, sizes)

    def _make_block(self, index: int, block_choice: int, channel_choice: int) -> Part:
        space = self.space
        block, kind = space.choice_blocks[index], space.blocks[block_choice]
        width = round_up(space.mid_channels(index, channel_choice), self._pad_to)
        executed = layer_specs.main_branch(block, kind, width), layer_specs.projection_branch(block, kind)
        prefix = f"features.{block_position(space, index)}."
        if isinstance(self.net, Supernet):
            prefix = block_prefix(space, index, block_choice)
        return self._make(
            (replace(block, index=0), block_choice, width, width != space.mid_channels(index, channel_choice)),
            lambda chains: ShuffleBlock(block, *chains, shuffle_by_stack=self._fast),
            ["main_branch.", "proj_branch."],
            [f"{prefix}main_branch.", f"{prefix}proj_branch."],
            [0, 0],
            layer_specs.choice_block(space, index, block_choice, channel_choice),
            executed,
            [block.in_size] * 2,
        )

    def _make(
        self,
        key,
        assemble: Callable[[Sequence[Specs]], mx.gluon.HybridBlock],
        names: Sequence[str],
        prefixes: Sequence[str],
        firsts: Sequence[int],
        selected: Sequence[Specs],
        executed: Sequence[Specs],
        sizes: Sequence[int],
    ) -> Part:
        """A part of the network's chains `selected`, which begin with `prefixes` and at positions `firsts` there."""
        chains = [self._fit(chain, size) for chain, size in zip(executed, sizes)]
        sources: Dict[str, Source] = {}
        for name, prefix, first, corners, chain in zip(names, prefixes, firsts, selected, chains):
            own, theirs = parameter_shapes(chain), parameter_shapes(corners, first)
            for (inner, shape), (outer, corner) in zip(own.items(), theirs.items()):
                sources[name + inner] = Source(self._parameters[prefix + outer], corner, shape)
        if key not in self._graphs:
            self._graphs[key] = Graph(assemble(chains), collects=tuple(executed) != tuple(selected))
        return Part(self._graphs[key], sources)


@lru_cache(maxsize=None)
def _zeros(shape: Shape, ctx: mx.Context):
    with mx.autograd.pause():
        return mx.nd.zeros(shape, ctx=ctx)
