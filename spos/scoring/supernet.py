"""Supernets from their files: which space they are of, and whether they are whole."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.space import at_input_size, fit_to_data
from spos.engine.compat import mx
from spos.engine.parameters import not_finite, read_parameters, set_parameters
from spos.runs.run import SUPERNET
from spos.space.flags import SpaceOptions, chosen_input_size, space_of, use_blocks
from spos.space.space import SearchSpace

FLAG_OF_FIELD = {
    "layout": "channels_layout",
    "use_se": "use_se",
    "last_conv_after_pooling": "last_conv_after_pooling",
    "min_channel_choice": "ignore_first_two_cs",
    "width_multiple": "width_multiple",
}


def loaded_at(
    data: DataOptions, options: SpaceOptions, trained: Optional[Dict[str, Any]], supernet_params: str
) -> DataOptions:
    """The flags of a supernet's images: at its largest input size, where that is a choice.

    Args:
        trained: the config of its run, if it is known; else the flags say its space.
    """
    if trained is None:
        return at_input_size(data, chosen_input_size(options))
    use_blocks(options)
    space = SearchSpace.from_json(trained["space"], source=supernet_params) if trained.get("space") else None
    return at_input_size(data, space.input_size if space and space.input_sizes else None)


def supernet_space(
    options: SpaceOptions, data: DataSet, trained: Optional[Dict[str, Any]], supernet_params: str
) -> SearchSpace:
    """The space the supernet was trained in; that of the flags if its run is not known.

    Raises: InputError if the flags or the data contradict the supernet's run.
    """
    asked = space_of(options)
    if trained is None:
        return fit_to_data(asked, options, data)
    model = trained["options"].get("model")
    if model != SUPERNET:
        raise InputError(f"{supernet_params} was trained by --model {model}; a search needs a supernet ({SUPERNET})")
    space = SearchSpace.from_json(trained.get("space"), source=supernet_params)
    fitted = fit_to_data(space, options, data)
    own = "leave the flag out to use the supernet's own"
    for field, flag in FLAG_OF_FIELD.items():
        given = getattr(options, flag) != getattr(SpaceOptions(), flag)
        if given and getattr(asked, field) != getattr(space, field):
            raise InputError(f"--{flag.replace('_', '-')}: {supernet_params} was trained in another space; {own}")
    for field, what in (("num_classes", "classes"), ("input_size", "px"), ("strides", "as strides")):
        trained_for, now = getattr(space, field), getattr(fitted, field)
        if trained_for != now:
            raise InputError(f"{supernet_params} was trained for {trained_for} {what}, the data has {now}")
    return space


def load_supernet(supernet_params: str, space: SearchSpace, ctx: Sequence[mx.Context]) -> Supernet:
    """Without gradients. Raises: as `check_supernet`."""
    net = Supernet(space)
    net.collect_params().setattr("grad_req", "null")
    set_parameters(net, _read(supernet_params, net), ctx)
    return net


def check_supernet(supernet_params: str, space: SearchSpace) -> None:
    """Raises: InputError if the file is no supernet of this space, or of one whose training diverged."""
    _read(supernet_params, Supernet(space))


def _read(supernet_params: str, net: Supernet) -> Dict[str, Any]:
    arrays = read_parameters(supernet_params, net)
    broken = not_finite(arrays)
    if broken:
        raise InputError(
            f"{supernet_params}: {len(broken)} of {len(arrays)} parameters are NaN or infinite, the first is "
            f"{broken[0]}; its training diverged. Train it again with a lower --lr or a longer warm-up"
        )
    return arrays
