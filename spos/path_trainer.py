"""The optimizer step of one path among many: of the parameters that were used, and of each the part that was used."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from spos.compat import mx
from spos.errors import InputError
from spos.slicing import is_leading_rows, leading_corner

Selected = Iterable[Tuple[mx.gluon.Parameter, Tuple[int, ...]]]
NO_DECAY = ("gamma", "beta", "bias")


class PathTrainer(mx.gluon.Trainer):
    """A Gluon trainer that can update a part of the parameters, and of each the leading corner only.

    Everything else keeps its value, its momentum and its decay: nothing that was not sampled moves. Gradients are
    summed over devices and applied on each (`update_on_kvstore=False`): updating on the KVStore would apply stale
    gradients to branches that were not sampled.

    Args:
        net: parameters are known by their structural names, so states survive a change of the code around them.
        no_wd: no weight decay on biases and BatchNorm.
    """

    def __init__(self, net: mx.gluon.Block, optimizer: mx.optimizer.Optimizer, no_wd: bool = False) -> None:
        named = {n: p for n, p in net._collect_params_with_prefix().items() if p.grad_req != "null"}
        self.names = list(named)
        for name, parameter in named.items():
            parameter.wd_mult = 0.0 if no_wd and name.endswith(NO_DECAY) else 1.0
        super().__init__(list(named.values()), optimizer, kvstore="device", update_on_kvstore=False)
        self._everything = [(i, p.shape) for i, p in enumerate(self._params)]
        self._selected = self._everything

    def step(self, batch_size: int, selected: Optional[Selected] = None) -> None:
        """Sum gradients over devices, divide by `batch_size` (of all devices together) and update.

        Args:
            selected: (parameter, shape of its leading corner) of what to update; everything if None.
        """
        self._selected = self._everything
        if selected is not None:
            self._selected = [(self._param2idx[p.name], shape) for p, shape in selected]
        super().step(batch_size, ignore_stale_grad=True)

    def _allreduce_grads(self) -> None:
        if self._kvstore:
            for index, _ in self._selected:
                self._kvstore.pushpull(index, self._params[index].list_grad(), priority=-index)

    def _update(self, ignore_stale_grad: bool = False) -> None:
        for device, updater in enumerate(self._updaters):
            for index, shape in self._selected:
                parameter = self._params[index]
                weight, grad = parameter.list_data()[device], parameter.list_grad()[device]
                if index not in updater.states:
                    updater.states[index] = self._optimizer.create_state_multi_precision(index, weight)
                    updater.states_synced[index] = True
                _update_corner(self._optimizer, index, weight, grad, updater.states[index], shape)

    def states(self) -> Dict[str, Any]:
        """Optimizer state by name and position, without pickle. Devices hold the same, so one is given."""
        named = {}
        for index, state in self._updaters[0].states.items():
            for part, array in enumerate(_flat(state)):
                if array is not None:
                    named[f"{self.names[index]}:{part}"] = array
        return named

    def set_states(self, arrays: Mapping[str, Any]) -> None:
        """Restore what `states` gave. Raises InputError if it belongs to another network."""
        indices = {name: index for index, name in enumerate(self.names)}
        for key in arrays:
            if key.rpartition(":")[0] not in indices:
                raise InputError(f"optimizer state of unknown parameter {key}: is it of another network?")
        for name, index in indices.items():
            if not any(f"{name}:{part}" in arrays for part in (0, 1)):
                continue
            for device, updater in enumerate(self._updaters):
                weight = self._params[index].list_data()[device]
                state = self._optimizer.create_state_multi_precision(index, weight)
                for part, array in enumerate(_flat(state)):
                    if array is None:
                        continue
                    saved = arrays.get(f"{name}:{part}")
                    if saved is None or saved.shape != array.shape:
                        raise InputError(f"optimizer state of {name} has another form: is it of another network?")
                    saved.copyto(array)
                updater.states[index] = state
                updater.states_synced[index] = True


def _flat(state: Any) -> List[Any]:
    if state is None:
        return []
    return list(state) if isinstance(state, (list, tuple)) else [state]


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
        corner = tuple(slice(0, length) for length in shape)
        for array, part in zip(arrays, parts):
            if array is not None:
                array[corner] = part


def make_optimizer(lr: float, momentum: float, wd: float, dtype: str) -> mx.optimizer.Optimizer:
    """NAG, with float32 master weights for float16 networks."""
    return mx.optimizer.NAG(learning_rate=lr, momentum=momentum, wd=wd, multi_precision=dtype != "float32")
