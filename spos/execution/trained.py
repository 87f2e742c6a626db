"""Fast training steps of a supernet's paths and of subnets: the same function, natively or by graphs made once.

The native kernels run what they can (`spos.execution.native`); graphs run the layers behind the pooling, and paths for
which there are no kernels.

Each kind of choice block is compiled once, with its parameters as inputs; a path runs stem, choice blocks and head one
after the other, on the selected corners of the parameters, to which the gradients go. On a CPU it is faster than the
network itself by the forms of `spos.engine.forms`, and because middle widths are padded with zeros to a multiple of
CHANNELS_OF_LAYOUTS, which oneDNN's fast kernels need: gamma and beta of the padding are 0 too, so nothing of it reaches
the next layer, and no gradient comes from it. Results and gradients differ from the network's by rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, Hashable, Mapping, Optional, Union

from oneshot_nas_network import Subnet, Supernet
from spos.engine.batch_norm import EPSILON, MOMENTUM
from spos.engine.compat import mx
from spos.engine.forms import CHANNELS_OF_LAYOUTS, as_described, fit_to_training
from spos.engine.parameters import STATISTICS
from spos.engine.slicing import leading_corner
from spos.execution.graphs import Graph, unread_statistic
from spos.execution.native import NativePrograms, NativeTraining, are_float32_on_cpu
from spos.execution.parts import Part, PathParts, Shape, Slot, cut_idle_taps, num_before_pooling
from spos.native.build import are_ready, describe
from spos.space.architecture import Architecture


@dataclass(frozen=True)
class Source:
    """The parameter or statistic of the network that a slot is filled from."""

    parameter: mx.gluon.Parameter
    slot: Slot

    def statistic(self, ctx: mx.Context) -> mx.nd.NDArray:
        """Its selected part, so that writing to it reaches the parameter."""
        return self.parameter.data(ctx)[: self.slot.selected[0]]

    def value(self, ctx: mx.Context) -> mx.nd.NDArray:
        """As the layers take it; gradients go to the selected part."""
        value, selected, executed = self.parameter.data(ctx), self.slot.selected, self.slot.executed
        if selected != self.parameter.shape:
            value = leading_corner(value, selected)
        if selected == executed:
            return value
        if selected[2:] != executed[2:]:
            value = cut_idle_taps(value, executed[2])
        for axis in range(min(2, len(executed))):
            if selected[axis] != executed[axis]:
                padding = (*executed[:axis], executed[axis] - selected[axis], *selected[axis + 1 : 2], *executed[2:])
                value = mx.nd.concat(value, _zeros(padding, ctx), dim=axis)
        return value


class TrainedPart:
    """A part with its graph, and with where its arrays are.

    Args:
        parameters: of the network, by name.
    """

    def __init__(self, part: Part, graph: Graph, parameters: Mapping[str, mx.gluon.Parameter]) -> None:
        sources = {slot.name: Source(parameters[slot.source], slot) for slot in part.slots}
        self._graph = graph
        self._inputs = [None if name is None else sources[name] for name in graph.inputs]
        # BatchNorm layers that give their moments, because they are padded: the graph does not know their statistics
        self._norms = [[sources[norm + name] for name in STATISTICS] for norm in graph.norms] if graph.collects else []

    def __call__(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        ctx = x.context
        outputs = self._graph.run([x if source is None else self._value(source, ctx) for source in self._inputs])
        if not self._norms:
            return outputs
        output, moments = outputs
        with mx.autograd.pause():
            self._move_statistics(moments, ctx)
        return output

    def _value(self, source: Source, ctx: mx.Context) -> mx.nd.NDArray:
        statistic = source.slot.statistic
        if not statistic:
            return source.value(ctx)
        return unread_statistic(statistic, source.slot.executed, ctx) if self._norms else source.statistic(ctx)

    def _move_statistics(self, moments: mx.nd.NDArray, ctx: mx.Context) -> None:
        """As the BatchNorm operator moves them, from the means and then the 1/std of all layers."""
        means, inv_stds = mx.nd.split(moments, num_outputs=2, axis=0)
        batches = means, mx.nd.maximum(inv_stds**-2 - EPSILON, 0)
        start = 0
        for sources in self._norms:
            for source, batch in zip(sources, batches):
                running = source.statistic(ctx)
                running *= MOMENTUM
                running += batch[start : start + running.shape[0]] * (1 - MOMENTUM)
            start += sources[0].slot.executed[0]


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
            fast = are_float32_on_cpu(self._parameters)
        self.fast = fast
        in_supernet = isinstance(net, Supernet)
        stochastic_depth = net.stochastic_depth if isinstance(net, Subnet) else 0.0
        self._graphs: Dict[Hashable, Graph] = {}
        self._ready: Dict[Part, TrainedPart] = {}
        self._parts = PathParts(
            self.space,
            fit_to_training if fast else as_described,
            self._pad,
            in_supernet,
            "stack" if fast else "reshape",
            stochastic_depth,
        )
        self._programs: Optional[NativePrograms] = None
        if fast and are_ready():
            self._programs = NativePrograms(self.space, self._parameters, True, in_supernet, stochastic_depth)
            self._native = NativeTraining()
            self._tail = self._parts.tail_from(num_before_pooling(self.space) + 1)

    @property
    def kernels(self) -> str:
        """What computes, for people."""
        return describe() if self.fast else "MXNet's operators"

    def __call__(self, x: mx.nd.NDArray, architecture: Optional[Architecture] = None) -> mx.nd.NDArray:
        """(N, num_classes) of normalised images (N, 3, H, W), in training mode only.

        Images have the size of the space, or that which the architecture chooses.

        Raises: ValueError in inference, whose statistics padded graphs do not have, and for images of another size.
        """
        if not mx.autograd.is_training():
            raise ValueError("these graphs are for training; call the network itself in inference")
        architecture = self.net.architecture if architecture is None else architecture
        size = architecture.input_size or self.space.input_size
        if x.shape[2:] != (size, size):
            raise ValueError(f"images of {x.shape[2]} x {x.shape[3]}, compiled for {size} x {size}")
        program = self._programs and self._programs.of(architecture)
        if program:
            x = self._native(x, program)
            return self._run(self._tail, x).reshape((0, -1))
        if self._programs:
            self._native.forget_gradients()
        for part in self._parts.of(architecture):
            x = self._run(part, x)
        return x.reshape((0, -1))

    def _run(self, part: Part, x: mx.nd.NDArray) -> mx.nd.NDArray:
        if part not in self._ready:
            self._ready[part] = self._make(part)
        return self._ready[part](x)

    def _pad(self, index: int, block_choice: int, channel_choice: int) -> int:
        return CHANNELS_OF_LAYOUTS if self.fast else 1

    def _make(self, part: Part) -> TrainedPart:
        key = part.key, part.padded
        if key not in self._graphs:
            self._graphs[key] = Graph(part.layers(), collects=part.padded)
        return TrainedPart(part, self._graphs[key], self._parameters)


@lru_cache(maxsize=None)
def _zeros(shape: Shape, ctx: mx.Context) -> mx.nd.NDArray:
    with mx.autograd.pause():
        return mx.nd.zeros(shape, ctx=ctx)
