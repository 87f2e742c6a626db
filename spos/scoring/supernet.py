"""Supernets from their files: which space they are of, and whether they are whole."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.core.flags import changed_flags
from spos.data.dataset import DataSet
from spos.data.space import fit_to_data, make_space
from spos.engine.compat import mx
from spos.engine.parameters import not_finite, read_parameters, set_parameters
from spos.runs.run import SUPERNET
from spos.space.flags import SpaceOptions, space_of, use_blocks
from spos.space.space import SearchSpace
from spos.space.space_file import described_space

FLAG_OF_FIELD = {
    "layout": "channels_layout",
    "use_se": "use_se",
    "last_conv_after_pooling": "last_conv_after_pooling",
    "min_channel_choice": "ignore_first_two_cs",
    "width_multiple": "width_multiple",
}


def supernet_space(
    options: SpaceOptions, data: DataSet, trained: Optional[Dict[str, Any]], supernet_params: str
) -> SearchSpace:
    """The space the supernet was trained in; that of the flags if its run is not known.

    Raises: InputError if the flags or the data contradict the supernet's run.
    """
    if trained is None:
        return make_space(options, data)
    model = trained["options"].get("model")
    if model != SUPERNET:
        raise InputError(f"{supernet_params} was trained by --model {model}; a search needs a supernet ({SUPERNET})")
    use_blocks(options)
    space = described_space(trained, supernet_params)
    _check_flags(options, space, supernet_params)
    asked = fit_to_data(space, options, data)
    for field, what in (("num_classes", "classes"), ("input_size", "px"), ("strides", "as strides")):
        trained_for, now = getattr(space, field), getattr(asked, field)
        if trained_for != now:
            raise InputError(f"{supernet_params} was trained for {trained_for} {what}, the data has {now}")
    return space


def _check_flags(options: SpaceOptions, space: SearchSpace, supernet_params: str) -> None:
    """Raise InputError for a flag of the space that contradicts the supernet's."""
    changed = changed_flags(options, (*FLAG_OF_FIELD.values(), "space"))
    asked = space_of(options) if changed else space
    differing = [flag for field, flag in FLAG_OF_FIELD.items() if getattr(asked, field) != getattr(space, field)]
    wrong = [flag for flag in (f"--{name.replace('_', '-')}" for name in differing) if flag in changed]
    if options.space and asked.fingerprint != space.fingerprint:
        wrong.append("--space")
    if wrong:
        own = "leave the flag out to use the supernet's own"
        raise InputError(f"{wrong[0]}: {supernet_params} was trained in another space; {own}")


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
