"""Parameter files: arrays by structural name, checked before they are loaded. No pickle is ever loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Tuple

from spos.core.errors import InputError, engine_reason
from spos.engine.array_file import check_array_file
from spos.engine.compat import mx
from spos.engine.graph_file import read_graph
from spos.runs.files import PathLike, replacing
from spos.space.original import ORIGINAL_PERMUTATION, has_selectors, without_selectors

PICKLE = b"\x80"  # first byte of every pickle since protocol 2; MXNet's own files start with 0x12
CLASSIFIER = "output.0.weight"  # of a network of ours
STATISTICS = ("running_mean", "running_var")  # ends of parameter names
Shapes = Mapping[str, Tuple[int, ...]]  # by name
INPUT = "data"  # what `export` calls the input of a network with one input


def save_arrays(path: PathLike, arrays: Mapping[str, Any]) -> None:
    """Write named NDArrays in MXNet's own format, atomically."""
    try:
        with replacing(path) as temporary:
            mx.nd.save(str(temporary), dict(arrays))
            mx.nd.load(str(temporary))  # MXNet does not see that the last bytes found no room on a full disk
    except mx.base.MXNetError as error:
        raise OSError(f"cannot write {path}: {engine_reason(error)}") from None


def load_arrays(path: PathLike) -> Dict[str, Any]:
    """Read named NDArrays, by the names of this project if the file has those of the original project.

    Raises: as `load_named_arrays`.
    """
    arrays = load_named_arrays(path)
    if has_selectors(arrays):
        return {without_selectors(name): value for name, value in arrays.items()}
    return {name: value for name, value in arrays.items() if not name.endswith(ORIGINAL_PERMUTATION)}


def load_named_arrays(path: PathLike) -> Dict[str, Any]:
    """Read named NDArrays; the prefixes `arg:` and `aux:` of exported files are dropped.

    Raises: InputError if the file is missing, truncated or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    with open(path, "rb") as file:
        if file.read(1) == PICKLE:
            raise InputError(f"{path} is a pickle (Gluon's Trainer.save_states writes them), which could run any code")
    check_array_file(path)
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError as error:
        raise InputError(f"{path} is damaged or no MXNet parameter file: {engine_reason(error)}") from None
    if not isinstance(arrays, dict):
        raise InputError(f"{path} holds arrays without names, so it is no parameter file")
    return {re.sub(r"^(arg|aux):", "", name): value for name, value in arrays.items()}


def structural_names(net: mx.gluon.Block) -> Dict[str, str]:
    """What every parameter is called in files, by its name in graphs."""
    return {parameter.name: own for own, parameter in net._collect_params_with_prefix().items()}


def parameters_of(net: mx.gluon.Block) -> Dict[str, Any]:
    """Every parameter and statistic by structural name; those on several devices averaged."""
    return {name: parameter._reduce() for name, parameter in net._collect_params_with_prefix().items()}


def save_parameters(path: PathLike, net: mx.gluon.Block) -> None:
    """Write a network's parameters atomically. The file is one that Gluon's `load_parameters` reads."""
    save_arrays(path, parameters_of(net))


def load_parameters(path: PathLike, net: mx.gluon.Block, ctx: Sequence[mx.Context] = ()) -> None:
    """Set a network's parameters from a file, after checking all names and shapes.

    Args:
        ctx: where to put the parameters of a network without values, which is faster than initializing it first.
    Raises: InputError that says what kind of other network the file belongs to; `net` is unchanged then.
    """
    set_parameters(net, read_parameters(path, net), ctx)


def set_parameters(net: mx.gluon.Block, arrays: Mapping[str, Any], ctx: Sequence[mx.Context] = ()) -> None:
    """Set a network's parameters to arrays that fit, in its own precision.

    Args:
        ctx: as for `load_parameters`.
    """
    for name, parameter in net._collect_params_with_prefix().items():
        value = arrays[name].astype(parameter.dtype, copy=False)
        if ctx:
            parameter._load_init(value, list(ctx))  # as Gluon's own load_parameters does
        else:
            parameter.set_data(value)


def read_parameters(path: PathLike, net: mx.gluon.Block) -> Dict[str, Any]:
    """The arrays of a network's file. `net` needs no values.

    Raises: InputError that says what kind of other network the file belongs to.
    """
    arrays = load_arrays(path)
    check_parameters(arrays, net, path)
    return arrays


def check_parameters(arrays: Mapping[str, Any], net: mx.gluon.Block, path: PathLike) -> None:
    """Raise InputError if the arrays of a file are not the network's, saying what kind of other it belongs to."""
    own = {name: parameter.shape for name, parameter in net._collect_params_with_prefix().items()}
    check_shapes(path, {name: array.shape for name, array in arrays.items()}, own)


def check_shapes(path: PathLike, given: Shapes, own: Shapes) -> None:
    """Raise InputError unless a file's shapes are a network's `own`, saying what kind of other network it is of."""
    if CLASSIFIER in own and CLASSIFIER in given and given[CLASSIFIER][0] != own[CLASSIFIER][0]:
        raise InputError(f"{path} has {given[CLASSIFIER][0]} classes, the network has {own[CLASSIFIER][0]} (--classes)")
    differing = sorted(set(own) ^ set(given)) + [name for name in own if name in given and own[name] != given[name]]
    if differing:
        name = differing[0]
        here = f"shape {own[name]}" if name in own else "no such parameter"
        there = f"shape {given[name]}" if name in given else "no such parameter"
        raise InputError(
            f"{path} belongs to another network: {len(differing)} parameters differ, the first is {name} "
            f"(file: {there}; network: {here}). Was it trained in another space?"
        )


def load_symbol(path: PathLike) -> mx.sym.Symbol:
    """Read a `NAME-symbol.json`.

    Raises: InputError if it is missing or damaged, or names an operator that this MXNet does not have.
    """
    return as_symbol(read_graph(path), path)


def as_symbol(graph: Mapping[str, Any], path: PathLike) -> mx.sym.Symbol:
    """The symbol of a graph that has been checked. Raises: InputError as `load_symbol`."""
    try:
        return mx.sym.load_json(json.dumps(graph))
    except mx.base.MXNetError as error:
        raise InputError(f"{path} is damaged, or not of this MXNet: {engine_reason(error)}") from None
