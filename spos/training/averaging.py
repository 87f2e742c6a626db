"""Exponential moving average of a network's weights over the steps of its training.

Every parameter's average moves in every step, but a step of a supernet changes the values of one path only. While a
value stands still for k steps, its average moves towards it by the share 1 - decay^k, whatever the steps between: so a
parameter takes part when it is about to change, and all that stand still are brought up to date when it is read. In
exact arithmetic this is the average that moves all parameters in every step; in float32 it differs by rounding, and
rounds less often.

The average begins with zeros and is divided by 1 - decay^steps, as that of Adam (arXiv:1412.6980): it is a weighted
mean of the values after each step so far, and the initial values have no part in it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np

from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.data.pixels import Pixels
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.compat import mx, num_threads
from spos.engine.function import address
from spos.engine.parameters import FLOAT32, parameters_of, save_parameters, set_parameters
from spos.native.build import are_ready
from spos.native.library import AVERAGED, borrow_session, return_session
from spos.training.path_trainer import Selected


class WeightAverage:
    """The average of a network's trained parameters, float32, on their first device.

    What several passes of a step or several devices do to the parameters is done before the next step begins, so one
    call a step sees everything. BatchNorm statistics are not averaged: the update of a candidate replaces them.

    Args:
        net: has its values.    decay: share of the old average that a step keeps, above 0 and below 1.
    """

    def __init__(self, net: mx.gluon.Block, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"expected 0 < decay < 1, got {decay}")
        self.decay = decay
        self.num_steps = 0
        named = net._collect_params_with_prefix().items()
        self._parameters = {name: parameter for name, parameter in named if parameter.grad_req != "null"}
        self._names = {parameter.name: name for name, parameter in self._parameters.items()}
        self._sums = {
            name: mx.nd.zeros(parameter.shape, ctx=parameter.list_ctx()[0])
            for name, parameter in self._parameters.items()
        }
        self._num_seen = dict.fromkeys(self._parameters, 0)  # steps that are in the sum
        # whether one native call moves all averages, with the bits that MXNet's operators would give them
        self._is_fused = are_ready() and all(
            own.context.device_type == "cpu" and self._parameters[name].dtype in FLOAT32
            for name, own in self._sums.items()
        )

    def before_update(self, selected: Optional[Selected] = None) -> None:
        """Take in the values of what the update of a step is about to change: a path, or everything if None."""
        names = self._parameters if selected is None else [self._names[p.name] for p, _ in selected]
        behind = [name for name in names if self._num_seen[name] < self.num_steps]
        if behind and self._is_fused:
            self._move_together(behind)
        else:
            for name in behind:
                self._sums[name] = self._up_to_date(name, out=self._sums[name])
        self._num_seen.update(dict.fromkeys(behind, self.num_steps))
        self.num_steps += 1

    def _move_together(self, names: Sequence[str]) -> None:
        moved = np.zeros(len(names), AVERAGED)
        values = [self._parameters[name].list_data()[0] for name in names]
        mx.nd.waitall()
        moved["average"] = [address(self._sums[name]) for name in names]
        moved["value"] = [address(value) for value in values]
        moved["length"] = [value.size for value in values]
        moved["share"] = [self._share(self.num_steps - self._num_seen[name]) for name in names]
        session = borrow_session(num_threads())
        session.average(moved)
        return_session(session)

    def values(self) -> Dict[str, Any]:
        """The averages after the last step by structural name, NDArrays; before the first step the values themselves.

        Nothing is changed: reading the average as often as one likes changes no bit of it.
        """
        if not self.num_steps:
            return {name: self._value(name).copy() for name in self._parameters}
        weight = self._share(self.num_steps)
        return {name: self._up_to_date(name) / weight for name in self._parameters}

    def arrays(self) -> Mapping[str, Any]:
        """What a checkpoint keeps beside `state`: sums that are not up to date, so that a resumed run rounds alike."""
        return self._sums

    def state(self) -> Dict[str, Any]:
        """The numbers that `arrays` need, plain JSON."""
        return {"num_steps": self.num_steps, "num_seen": dict(self._num_seen)}

    def restore(self, arrays: Mapping[str, Any], state: Mapping[str, Any], source: Any) -> None:
        """Go on from what `arrays` and `state` gave. Raises InputError if they are of another network."""
        num_steps, num_seen = state["num_steps"], state["num_seen"]
        wrong: List[str] = sorted(set(self._sums) ^ set(arrays)) or sorted(set(self._sums) ^ set(num_seen))
        wrong += [name for name in self._sums if not wrong and arrays[name].shape != self._sums[name].shape]
        if wrong:
            raise InputError(f"{source} holds the average of another network: {wrong[0]} differs")
        if any(seen > num_steps for seen in num_seen.values()):
            raise InputError(f"{source}: an average that has seen more steps than the {num_steps} of its training")
        for name, own in self._sums.items():
            arrays[name].copyto(own)
        self.num_steps, self._num_seen = num_steps, dict(num_seen)

    def _value(self, name: str) -> mx.nd.NDArray:
        return self._parameters[name].list_data()[0].astype("float32", copy=False)

    def _share(self, num_steps: int) -> float:
        """1 - decay^num_steps, to the last digit also where decay is close to 1."""
        return -math.expm1(num_steps * math.log(self.decay))

    def _up_to_date(self, name: str, out: Optional[mx.nd.NDArray] = None) -> mx.nd.NDArray:
        """The sum after all steps: of the steps since it was last moved, all had the value of now."""
        share = self._share(self.num_steps - self._num_seen[name])
        own = self._sums[name]
        # one operator for own - share x (own - value): the difference keeps an average that has arrived where it is
        return mx.nd.sgd_update(own, own - self._value(name), lr=share, wd=0.0, out=out)


def with_averages(net: mx.gluon.Block, average: WeightAverage) -> Dict[str, Any]:
    """Parameters of a network by structural name, NDArrays: averages, and BatchNorm statistics as they are."""
    return {**parameters_of(net), **average.values()}


def save_averaged_subnet(
    file: Path, net: Subnet, average: WeightAverage, load_bn: Callable[[], Pixels], batch_size: int, ctx: mx.Context
) -> None:
    """Write the parameters of `averaged_subnet`.

    Args:
        load_bn: gives the images of the BatchNorm update.
    """
    save_parameters(file, averaged_subnet(net, average, load_bn().batches(batch_size, (ctx,)), ctx))


def averaged_subnet(net: Subnet, average: WeightAverage, batches: Iterable, ctx: mx.Context) -> Subnet:
    """A network of the averaged weights, float32, whose BatchNorm statistics are exactly those of these images.

    Args:
        batches: as `Pixels.batches` gives them for one device.
    """
    own = Subnet(net.space, net.architecture)
    own.initialize(ctx=ctx)
    set_parameters(own, {name: value.astype("float32") for name, value in with_averages(net, average).items()})
    recalibrate_batch_norm(own, (pair for batch in batches for pair in batch), ctx=(ctx,))
    return own
