"""Network of a training, as the flags ask for it: supernet, subnet or a classifier of the zoo, and what runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Optional, Sequence, Tuple

from oneshot_nas_network import Subnet, Supernet
from spos.core.errors import InputError, warn
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.space import fit_to_data, make_space, sized_for, sized_like
from spos.engine.compat import mx
from spos.execution.trained import TrainingGraphs
from spos.runs.run import SUBNET, SUPERNET
from spos.space.architecture_file import ArchitectureRecord
from spos.space.flags import named_architecture, strides_for, trained_architecture
from spos.space.space import SearchSpace
from spos.training.aligned import align
from spos.training.flags import ALIGNED, HYBRID, SYMBOLIC, TrainingFlags
from spos.training.initial_values import initialize
from spos.training.strategies import UNIFORM
from spos.training.trainer import Forward
from spos.training.zoo import zoo_model


def sized_data(flags: TrainingFlags) -> DataOptions:
    """The flags of the data, at the size of the space that a file or the architecture says, unless they say one."""
    data = sized_for(flags.data, flags.space)
    if flags.train.model != SUBNET or data.input_size:
        return data
    record = _architecture(flags)
    return sized_like(data, record.space) if record else data


def space_and_architecture(
    flags: TrainingFlags, data: DataSet
) -> Tuple[Optional[SearchSpace], Optional[ArchitectureRecord]]:
    """The search space for these images and the architecture in it, as far as the model has them.

    An architecture for images of this size keeps its stride plan, which is a part of what it costs, unless the flags
    say another. That the file of one is of another size is said, unless the flags ask for the size.
    """
    if flags.train.model not in (SUPERNET, SUBNET):
        return None, None
    record = _architecture(flags)
    if record is None:
        return make_space(flags.space, data), None
    size = record.space.input_size
    file = flags.named.architecture or ("" if flags.named.block_choices else flags.train.init_params)
    if Path(file).is_file() and not flags.data.input_size and size != data.input_size:
        warn(f"{file} is for images of {size} px, and these are {data.input_size} px; --input-size {size} keeps it")
    strides = flags.space.strides or strides_for(record.space, data.input_size)
    space = fit_to_data(record.space, replace(flags.space, strides=strides), data)
    return space, replace(record, space=space)


def _architecture(flags: TrainingFlags) -> Optional[ArchitectureRecord]:
    """What a subnet is of; None for a supernet."""
    record = named_architecture(flags.named, flags.space)
    if record is None and flags.train.model == SUBNET:
        return trained_architecture(flags.train.init_params, flags.space)
    return record


def make_network(
    flags: TrainingFlags,
    data: DataSet,
    space: Optional[SearchSpace],
    record: Optional[ArchitectureRecord],
    ctx: Sequence[mx.Context],
) -> mx.gluon.Block:
    """A subnet if there is a record, a supernet if there is a space, else of the zoo; with random values, on `ctx`."""
    train = flags.train
    if record:
        net: mx.gluon.Block = make_subnet(record, train.stochastic_depth)
    elif space:
        net = Supernet(space, train.execution, train.use_all_blocks)
    else:
        net = zoo_model(train.model, data.num_classes, flags.zoo, flags.space.use_se)
    initialize(net, data.input_size, flags.zoo.use_pretrained, flags.run.seed, ctx, flags.device.dtype)
    if isinstance(net, Supernet):
        if train.initial_values == ALIGNED:
            align(net)
        if train.sampling != UNIFORM:
            add_gradients(net)
    elif train.mode == HYBRID:
        net.hybridize(static_alloc=True, static_shape=True)
    return net


def make_subnet(record: ArchitectureRecord, stochastic_depth: float) -> Subnet:
    """A subnet for training. Raises InputError if it is to leave out what none of its choice blocks has."""
    space, architecture = record.space, record.architecture
    pairs = enumerate(zip(architecture.block_choices, architecture.channel_choices))
    if stochastic_depth and not any(space.block_layers(index, *choices).adds for index, choices in pairs):
        raise InputError("--stochastic-depth: no choice block of this network adds what it computes to its input")
    return Subnet(space, architecture, stochastic_depth=stochastic_depth)


def add_gradients(net: mx.gluon.Block) -> None:
    """Let the gradients of several passes add up."""
    for parameter in net.collect_params().values():
        parameter.grad_req = "add" if parameter.grad_req == "write" else parameter.grad_req


def make_forward(mode: str, net: mx.gluon.Block, ctx: Sequence[mx.Context], dtype: str) -> Optional[Forward]:
    """What runs the network in training, if not itself."""
    if mode == SYMBOLIC:
        return as_symbol(net, dtype)
    if mode == HYBRID and isinstance(net, Supernet) and net.execution == "slice" and not net.use_all_blocks:
        return TrainingGraphs(net)
    if mode == HYBRID and isinstance(net, Subnet) and ctx[0].device_type == "cpu":
        return TrainingGraphs(net)
    return None


def as_symbol(net: mx.gluon.HybridBlock, dtype: str) -> mx.gluon.SymbolBlock:
    """The exported graph of a network as a block that shares its parameters, for `--mode symbolic`."""
    data = mx.sym.var("data", dtype=dtype)
    block = mx.gluon.SymbolBlock(net(data), data, params=net.collect_params())
    block.hybridize(static_alloc=True, static_shape=True)
    return block
