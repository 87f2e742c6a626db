"""Optimizer steps of one path among many: of the parameters that were used, and of each the part that was used."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.engine.cluster import LOCAL, Cluster
from spos.engine.compat import mx, num_threads
from spos.engine.function import address
from spos.engine.parameters import FLOAT32
from spos.engine.slicing import assign_leading_corner, is_leading_rows, leading_corner
from spos.native.build import are_ready
from spos.native.library import CORNER, borrow_session, return_session
from spos.training.optimizers import BETAS, AdamW

Selected = Iterable[Tuple[mx.gluon.Parameter, Tuple[int, ...]]]
COUNT = "count"  # behind the name of a parameter among the states
NO_DECAY = ("gamma", "beta", "bias")


class PathTrainer(mx.gluon.Trainer):
    """A Gluon trainer that can update a part of the parameters, and of each the leading corner only.

    Everything else keeps its value, its momentum and its decay: nothing that was not sampled moves. Gradients are
    summed over devices (and over workers, if there are several) and applied on each (`update_on_kvstore=False`):
    updating on the KVStore would apply stale gradients to branches that were not sampled, and decay and momentum to
    the parts of a branch that were not.

    With `dist_async` nothing is summed over workers. Each updates its own copy, momentum included, and sends the
    change; the servers add it to what they hold, so a change of nothing moves nothing. `fetch` reads them.

    Args:
        net: parameters are known by their structural names, so states survive a change of the code around them.
        no_wd: no weight decay on biases and BatchNorm.
        cluster: the workers that train together.
    """

    def __init__(
        self, net: mx.gluon.Block, optimizer: mx.optimizer.Optimizer, no_wd: bool = False, cluster: Cluster = LOCAL
    ) -> None:
        self._all = list(net._collect_params_with_prefix().values())
        named = {n: p for n, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}
        self.names = list(named)
        for name, parameter in named.items():
            parameter.wd_mult = 0.0 if no_wd and name.endswith(NO_DECAY) else 1.0
        self.cluster = cluster
        self._servers = cluster.kvstore if cluster.is_async else None
        kvstore = "device" if cluster.is_async or not cluster.is_distributed else cluster.kvstore
        super().__init__(list(named.values()), optimizer, kvstore=kvstore, update_on_kvstore=False)
        self._everything = [(i, p.shape) for i, p in enumerate(self._params)]
        self._selected = self._everything
        self._rows: Dict[Tuple[int, Tuple[int, ...]], Tuple[int, int, int]] = {}  # of corners, for the native step

    def start(self) -> None:
        """Let all workers begin with the chief's parameters and optimizer state, before the first forward pass.

        Once only; `step` does it if it was not done. MXNet would exchange the parameters in the first step, without
        waiting: gradients then meet parameters that are still on their way (docs/mxnet.md).
        """
        if self._kv_initialized:
            return
        if self.cluster.is_distributed:
            self._share_parameters()
            self._share_states()
        self._init_kvstore()
        self._init_params()
        if self._servers:
            for index, parameter in enumerate(self._params):
                self._servers.init(index, parameter.list_data()[0])
        self.cluster.barrier()

    def fetch(self, selected: Optional[Selected] = None) -> None:
        """With `dist_async`: read the newest parameters from the servers, those of a path or all; else nothing.

        Reading all of them is done together: every change made before, by any worker, has arrived.
        """
        self.start()
        if not self._servers:
            return
        if selected is None:
            self.cluster.barrier()
        for index, _ in self._indices(selected):
            self._servers.pull(index, out=self._params[index].list_data(), priority=-index)
        if selected is None:
            self.cluster.barrier()

    def step(self, batch_size: int, selected: Optional[Selected] = None) -> None:
        """Sum gradients over devices and workers, divide by `batch_size` and update.

        Args:
            batch_size: of all devices of this worker together, the same on every worker.
            selected: (parameter, shape of its leading corner) of what to update, the same on every worker unless
                they are asynchronous; everything if None.
        """
        self.start()
        self._selected = self._indices(selected)
        num_summed = 1 if self._servers else self.cluster.num_workers
        super().step(batch_size * num_summed, ignore_stale_grad=True)

    def _indices(self, selected: Optional[Selected]) -> List[Tuple[int, Tuple[int, ...]]]:
        return self._everything if selected is None else [(self._param2idx[p.name], shape) for p, shape in selected]

    def _allreduce_grads(self) -> None:
        if self._kvstore:
            for index, _ in self._selected:
                self._kvstore.pushpull(index, self._params[index].list_grad(), priority=-index)

    def _update(self, ignore_stale_grad: bool = False) -> None:
        servers = self._servers
        if isinstance(self._optimizer, AdamW):
            self._optimizer.count(index for index, _ in self._selected)
        before = {i: self._params[i].list_data()[0].copy() for i, _ in self._selected} if servers else {}
        for device, updater in enumerate(self._updaters):
            if not device and self._is_fused:
                self._update_fused()
                continue
            for index, shape in self._selected:
                parameter = self._params[index]
                weights = parameter.list_data()
                if device and self._shares_memory:
                    weights[0][: shape[0]].copyto(weights[device][: shape[0]])
                    continue
                self._make_state(device, index)
                grad, state = parameter.list_grad()[device], updater.states[index]
                _update_corner(self._optimizer, index, weights[device], grad, state, shape)
        if servers:
            for index, old in before.items():
                servers.push(index, [self._params[index].list_data()[0] - old], priority=-index)

    @property
    def _is_fused(self) -> bool:
        """Whether the native step does what the optimizer would do to the first device's parameters."""
        optimizer = self._optimizer
        return (
            are_ready()
            and (type(optimizer) is AdamW or (type(optimizer) is mx.optimizer.NAG and optimizer.momentum > 0))
            and not optimizer.clip_gradient
            and self._contexts[0].device_type == "cpu"
            and all(self._params[index].dtype in FLOAT32 for index, _ in self._selected)
        )

    def _update_fused(self) -> None:
        """All selected corners in one call: 250 parameters cost as many microseconds, not milliseconds."""
        optimizer, states = self._optimizer, self._updaters[0].states
        indices = [index for index, _ in self._selected]
        is_adamw = isinstance(optimizer, AdamW)
        if not is_adamw:
            optimizer._update_count(indices)
        corners = np.zeros(len(indices), CORNER)
        corners["rate"], corners["decay"] = optimizer._get_lrs(indices), optimizer._get_wds(indices)
        rows: List[Tuple[int, int, int]] = []
        for index, shape in self._selected:
            self._make_state(0, index)
            if (index, shape) not in self._rows:
                self._rows[index, shape] = _rows_of(shape, self._params[index].shape)
            rows.append(self._rows[index, shape])
        corners["rows"], corners["length"], corners["stride"] = np.array(rows).T
        if is_adamw:
            corners["correction"], corners["epsilon"] = np.array([optimizer.corrected(index) for index in indices]).T
        mx.nd.waitall()  # as late as may be: until here backward goes on
        for part, name in enumerate(("momentum", "square") if is_adamw else ("momentum",)):
            corners[name] = [address(_flat(states[index])[part]) for index in indices]
        corners["weight"] = [address(self._params[index].list_data()[0]) for index in indices]
        corners["gradient"] = [address(self._params[index].list_grad()[0]) for index in indices]
        session = borrow_session(num_threads())
        if is_adamw:
            session.adamw(corners, BETAS, optimizer.rescale_grad)
        else:
            session.nesterov(corners, optimizer.momentum, optimizer.rescale_grad)
        return_session(session)

    @property
    def _shares_memory(self) -> bool:
        """Whether all devices are of one CPU, where copying the first one's update is cheaper than repeating it."""
        return all(ctx.device_type == "cpu" for ctx in self._contexts)

    def _make_state(self, device: int, index: int) -> None:
        updater = self._updaters[device]
        if index not in updater.states:
            weight = self._params[index].list_data()[device]
            updater.states[index] = self._optimizer.create_state_multi_precision(index, weight)
            updater.states_synced[index] = True

    def _share_parameters(self) -> None:
        values = self.cluster.share([parameter.list_data()[0].asnumpy() for parameter in self._all])
        for parameter, value in zip(self._all, values):
            parameter.set_data(mx.nd.array(value, dtype=parameter.dtype))

    def _share_states(self) -> None:
        own = self._updaters[0].states
        has_state = self.cluster.share([np.array([i in own for i in range(len(self._params))])])[0] > 0
        for updater in self._updaters:
            for index in [i for i in updater.states if not has_state[i]]:
                del updater.states[index]
        indices = np.flatnonzero(has_state).tolist()
        for index in indices:
            for device in range(len(self._updaters)):
                self._make_state(device, index)
        if self._counts is not None:
            shared = self.cluster.share([np.array([self._counts.get(index, 0) for index in indices])])[0]
            self._counts.update(zip(indices, shared.astype(int).tolist()))
        values = self.cluster.share([array.asnumpy() for index in indices for _, array in _arrays(own[index])])
        for updater in self._updaters:
            arrays = [array for index in indices for _, array in _arrays(updater.states[index])]
            for array, value in zip(arrays, values):
                array[:] = mx.nd.array(value, dtype=array.dtype)

    def states(self) -> Dict[str, Any]:
        """Optimizer state by name and position, without pickle. Devices hold the same, so one is given."""
        named = {}
        for index, state in self._updaters[0].states.items():
            for part, array in _arrays(state):
                named[f"{self.names[index]}:{part}"] = array
        for index, count in (self._counts or {}).items():
            named[f"{self.names[index]}:{COUNT}"] = mx.nd.array([count])
        return named

    @property
    def _counts(self) -> Optional[Dict[int, int]]:
        """Updates of each parameter; None if the optimizer does not depend on their number."""
        return self._optimizer.counts if isinstance(self._optimizer, AdamW) else None

    def set_states(self, arrays: Mapping[str, Any]) -> None:
        """Restore what `states` gave. Raises InputError if it belongs to another network."""
        indices = {name: index for index, name in enumerate(self.names)}
        by_name: Dict[str, Dict[str, Any]] = {}
        for key, value in arrays.items():
            name, _, part = key.rpartition(":")
            if name not in indices:
                raise InputError(f"optimizer state of unknown parameter {key}: is it of another network?")
            by_name.setdefault(name, {})[part] = value
        for name, saved in by_name.items():  # as `states` gives them again
            index = indices[name]
            for device, updater in enumerate(self._updaters):
                weight = self._params[index].list_data()[device]
                state = self._optimizer.create_state_multi_precision(index, weight)
                parts = {str(part): array for part, array in _arrays(state)}
                shapes = {part: array.shape for part, array in parts.items()}
                if self._counts is not None:
                    shapes[COUNT] = (1,)
                if {part: value.shape for part, value in saved.items()} != shapes:
                    raise InputError(f"optimizer state of {name} has another form: of another network or optimizer?")
                for part, array in parts.items():
                    saved[part].copyto(array)
                updater.states[index] = state
                updater.states_synced[index] = True
            if self._counts is not None:
                self._counts[index] = int(saved[COUNT].asscalar())


def _rows_of(shape: Tuple[int, ...], full: Tuple[int, ...]) -> Tuple[int, int, int]:
    """A corner as rows: how many, the length of each, and how far they are apart, in values."""
    if is_leading_rows(shape, full):
        return 1, math.prod(shape), 0
    if shape[2:] != full[2:]:
        raise ValueError(f"{shape} of {full} is no corner of rows and columns")
    return shape[0], math.prod(shape[1:]), math.prod(full[1:])


def _flat(state: Any) -> List[Any]:
    if state is None:
        return []
    return list(state) if isinstance(state, (list, tuple)) else [state]


def _arrays(state: Any) -> List[Tuple[int, Any]]:
    """The parts of a state that are there, numbered: without momentum a float16 weight has the second only."""
    return [(part, array) for part, array in enumerate(_flat(state)) if array is not None]


def _update_corner(optimizer, index: int, weight, grad, state, shape: Tuple[int, ...]) -> None:
    """Update the leading corner of a weight and of its state, and nothing else."""
    if weight.shape == shape:
        optimizer.update_multi_precision(index, weight, grad, state)
        return
    cut = (lambda a: a[: shape[0]]) if is_leading_rows(shape, weight.shape) else (lambda a: leading_corner(a, shape))
    arrays = (weight, *_flat(state))
    parts = [None if array is None else cut(array) for array in arrays]  # views of rows, else copies
    new_state = parts[1:] if isinstance(state, (list, tuple)) else (parts[1] if state is not None else None)
    optimizer.update_multi_precision(index, parts[0], cut(grad), new_state)
    if not is_leading_rows(shape, weight.shape):
        for array, part in zip(arrays, parts):
            if array is not None:
                assign_leading_corner(array, part)
