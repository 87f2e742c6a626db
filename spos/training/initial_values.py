"""Initial values of a training: random ones, those of a file, or those of a path of a trained supernet.

A file may have another number of classes than the network. The classifier is then the one layer whose parameters
differ from the file's in their first dimension only, which is that of the classes; the rule needs no names, so it
holds for the networks of GluonCV's zoo too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from oneshot_nas_network import Subnet, Supernet
from spos.core.errors import InputError
from spos.core.seeds import derive_seed
from spos.engine.compat import mx
from spos.engine.parameters import (
    CLASSIFIER,
    STATISTICS,
    check_parameters,
    load_arrays,
    load_parameters,
    parameters_of,
    set_parameters,
)
from spos.runs.files import file_digest
from spos.runs.run import find_config
from spos.scoring.supernet import load_supernet
from spos.space.names import is_of_supernet
from spos.space.space import SearchSpace
from spos.space.space_file import described_space
from spos.training.checkpoint import newest_checkpoint
from spos.training.flags import TrainOptions
from spos.training.progress import Progress, Run
from spos.training.trainer import Trainer
from spos.training.zoo import complete_shapes


def initialize(
    net: mx.gluon.Block, input_size: int, has_values: bool, seed: int, ctx: Sequence[mx.Context], dtype: str
) -> None:
    """Give a network random values on all devices, unless it `has_values`, and its precision."""
    is_ours = isinstance(net, (Subnet, Supernet))
    mx.random.seed(derive_seed(seed, "initial values"))
    if has_values:
        net.collect_params().reset_ctx(list(ctx))
    else:
        net.initialize(mx.init.Uniform() if is_ours else mx.init.MSRAPrelu(), ctx=list(ctx))
    if not is_ours:
        complete_shapes(net, input_size, tuple(ctx))
    if dtype != "float32" or not is_ours:  # ours has float32; a cast of the zoo's undoes layouts of oneDNN
        net.cast(dtype)


def check_files(options: TrainOptions) -> None:
    """Raise InputError if a file that a new training begins with is not there."""
    for flag, path in _files(options).items():
        if not Path(path).is_file():
            raise InputError(
                f"--{flag.replace('_', '-')} {path} does not exist; a run that began with it needs it to go on, too"
            )


def files_digest(options: TrainOptions) -> Dict[str, str]:
    """What `config.json` says of the file that a new training begins with, if there is one."""
    return {f"{flag}_sha256": file_digest(path) for flag, path in _files(options).items()}


def _files(options: TrainOptions) -> Dict[str, str]:
    files = {"init_params": options.init_params, "init_from_supernet": options.init_from_supernet}
    return {flag: path for flag, path in files.items() if path}


def load_first_values(net: mx.gluon.Block, options: TrainOptions) -> str:
    """Set the parameters of an initialized network to those that the flags name, if they name any.

    Returns: what a new training should say of that, in one line.
    Raises: InputError that says which other network a file belongs to, and which flag would take it.
    """
    if options.resume_params:
        load_parameters(options.resume_params, net)
        return ""
    if options.init_params:
        return f"parameters of {options.init_params}" + set_from_file(net, options.init_params)
    if options.init_from_supernet:
        return f"path of {options.init_from_supernet}" + set_from_supernet(net, options.init_from_supernet)
    return ""


def set_from_file(net: mx.gluon.Block, path: str) -> str:
    """Set all parameters and statistics to those of a file, but the classifier if the class counts differ.

    Raises: InputError if anything else differs; `net` is unchanged then.
    """
    arrays = load_arrays(path)
    holds_supernet, own = _holds_supernet(arrays), net._collect_params_with_prefix()
    if holds_supernet and isinstance(net, Subnet):
        raise InputError(f"{path} is a supernet's; a subnet begins with its path in it by --init-from-supernet {path}")
    if not holds_supernet and isinstance(net, Supernet):
        raise InputError(f"{path} is no supernet's; a supernet cannot begin with the parameters of another network")
    if _has_statistics(own) and not _has_statistics(arrays):
        raise InputError(
            f"{path} has no BatchNorm: it may have been merged into the convolutions. Give the file of the training "
            "itself"
        )
    return _set_fitting(net, arrays, path)


def set_from_supernet(net: Subnet, path: str) -> str:
    """Set all parameters and statistics to those that the subnet's path has in a trained supernet.

    The classifier stays if the class counts differ. The statistics are of many paths, so the accuracy means nothing
    before the first epochs have replaced them. Updating them beforehand would not change training, which normalises by
    batches.

    Raises: InputError if the file is no supernet of the architecture's space; `net` is unchanged then.
    """
    arrays = load_arrays(path)
    if not _holds_supernet(arrays):
        raise InputError(f"{path} is no supernet's; --init-params takes the parameters of one network")
    _check_space(path, net.space)
    num_classes = arrays[CLASSIFIER].shape[0] if CLASSIFIER in arrays else net.space.num_classes
    supernet = load_supernet(path, replace(net.space, num_classes=num_classes), (mx.cpu(),))
    return _set_fitting(net, parameters_of(supernet.extract(net.architecture)), path)


def _holds_supernet(arrays: Mapping[str, Any]) -> bool:
    return any(map(is_of_supernet, arrays))


def _has_statistics(names: Mapping[str, Any]) -> bool:
    return any(name.endswith(STATISTICS) for name in names)


def _check_space(path: str, space: SearchSpace) -> None:
    """Raise InputError if the supernet's run, where there is one, says that it has other layers than `space`."""
    config = find_config(path)
    if not isinstance(config, dict) or not config.get("space"):
        return
    trained = described_space(config, f"the run of {path}")
    differing = trained.structural_differences(space)
    if differing:
        name = "layout" if trained.layout != space.layout else differing[0]
        there, here = getattr(trained, name), getattr(space, name)
        what = f"{name} differ" if isinstance(here, tuple) else f"its {name} is {there}, not {here}"
        raise InputError(f"{path} was trained in another space than the architecture's: {what}")


def _set_fitting(net: mx.gluon.Block, arrays: Mapping[str, Any], path: str) -> str:
    own = net._collect_params_with_prefix()
    kept = _other_classifier({name: parameter.shape for name, parameter in own.items()}, arrays)
    fitting = {**arrays, **{name: own[name].list_data()[0] for name in kept}}
    check_parameters(fitting, net, path)
    set_parameters(net, fitting)
    if not kept:
        return ""
    return f"; classifier of {arrays[kept[0]].shape[0]} classes replaced by one of {own[kept[0]].shape[0]}: new values"


def _other_classifier(shapes: Mapping[str, tuple], arrays: Mapping[str, Any]) -> List[str]:
    """Names of the parameters of the last layer that differs in its first dimension only.

    If anything else differs too, the file is of another network.
    """
    differing = [name for name in shapes if name in arrays and arrays[name].shape != shapes[name]]
    rows = [name for name in differing if arrays[name].shape[1:] == shapes[name][1:]]
    layer = rows[-1].rpartition(".")[0] if rows else ""
    return [name for name in rows if name.rpartition(".")[0] == layer]


def start(trainer: Trainer, run: Run, options: TrainOptions, begins_with: str) -> Progress:
    """Load the newest checkpoint of a run, or the optimizer state that a new one begins with. Called by all workers.

    The chief alone does it; the others get parameters and optimizer state from there.

    Args:
        begins_with: what `load_first_values` said.
    Returns: where the run stands.
    """
    progress, cluster = Progress(), trainer.cluster
    checkpoint = newest_checkpoint(run.folder) if cluster.is_chief else None
    if checkpoint:
        where = f"epoch {checkpoint.epoch}" + (f" and step {checkpoint.step}" if checkpoint.step else "")
        print(f"continuing {run.folder} after {where}", flush=True)
        progress = trainer.resume(checkpoint)
    elif cluster.is_chief:
        if begins_with:
            print(f"begins with {begins_with}", flush=True)
        if options.resume_states:
            trainer.optimizer.set_states(load_arrays(options.resume_states))
        progress = Progress(max(options.resume_epoch, 0))
    epoch, step = cluster.share_json([progress.epoch, progress.step])
    return progress if cluster.is_chief else Progress(epoch, step)
