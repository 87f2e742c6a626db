"""A trained network's logits, by the native kernels where they can run it, and by the network itself where not."""

from __future__ import annotations

from typing import Dict, Optional

import numpy as np

from oneshot_nas_network import Subnet
from spos.engine.compat import mx
from spos.engine.forms import fit_to_size
from spos.execution.graphs import Graph
from spos.execution.native import NativeFeatures, NativePrograms, are_float32_on_cpu
from spos.execution.parts import PathParts, num_before_pooling
from spos.native.build import are_ready


class Inference:
    """`Inference(net)(images)`: logits with the running statistics and the weights as they are now.

    Make a new one when they have changed.

    Args:
        net: a subnet with BatchNorm, in float32 on CPUs, runs natively; anything else is called as it is.
    """

    def __init__(self, net: mx.gluon.Block) -> None:
        self.net = net
        self._features: Optional[NativeFeatures] = None
        if isinstance(net, Subnet) and net.bn and are_ready():
            self._start(net)

    def __call__(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        """(N, num_classes) of images (N, 3, H, W)."""
        if self._features is None or images.shape[2:] != self._size or images.dtype != np.float32:
            return self.net(images)
        x = self._features(images)
        return self._tail(x, self._arrays(x.context)).reshape((0, -1))

    def _start(self, net: Subnet) -> None:
        parameters = net._collect_params_with_prefix()
        if not are_float32_on_cpu(parameters):
            return
        space = net.space
        path = NativePrograms(space, parameters, trains=False, in_supernet=False).of(net.architecture)
        if path is None:
            return
        tail = PathParts(space, fit_to_size, lambda *_: 1, in_supernet=False).tail_from(num_before_pooling(space) + 1)
        self._size = space.input_size, space.input_size
        self._tail = Graph(tail.layers())
        self._sources = {slot.name: parameters[slot.source] for slot in tail.slots}
        self._features = NativeFeatures(path, running=True)

    def _arrays(self, ctx: mx.Context) -> Dict[str, mx.nd.NDArray]:
        return {name: parameter.data(ctx) for name, parameter in self._sources.items()}
