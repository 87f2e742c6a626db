"""Train a supernet (--model ShuffleNas), a subnet (--model ShuffleNas_fixArch) or a classifier of GluonCV's zoo.

Results lie in --save-dir: config.json, log.jsonl, checkpoints/ and, at the end, model.params. The same command
continues a run that was stopped.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple

from oneshot_nas_network import Subnet, Supernet
from spos.core.errors import Stopped
from spos.core.flags import OneLineParser, RunOptions, as_json, pick, run_program
from spos.counting.symbol import count_symbol
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.loader import make_loader
from spos.data.order import Order
from spos.data.pixels import load_images, remove_images
from spos.data.registry import check_same_lists, open_data, with_lists
from spos.data.space import fit_to_data, make_space
from spos.engine.cluster import Cluster
from spos.engine.compat import mx
from spos.engine.devices import join_cluster, make_devices, versions
from spos.engine.flags import TrainDeviceOptions
from spos.engine.parameters import save_parameters
from spos.execution.trained import TrainingGraphs
from spos.runs.journal import Journal
from spos.runs.run import LISTS_FOLDER, LOG_FILE, MODEL_FILE, PREPROCESSING, SUBNET, SUPERNET, open_run
from spos.sampling.strips import CheckedPolicy
from spos.scoring.candidate import candidate_evaluator
from spos.space.cost import Cost
from spos.space.flags import ArchitectureOptions, SpaceOptions, named_architecture, trained_architecture
from spos.space.space import Architecture, SearchSpace
from spos.training import trainer
from spos.training.flags import (
    TeacherOptions,
    TrainOptions,
    ZooOptions,
    check_training_flags,
    describe_sampling,
    make_policy,
)
from spos.training.initial_values import check_files, files_digest, initialize, load_first_values, start
from spos.training.log import RunLog
from spos.training.losses import SMOOTHING, Mixup, Objective, Teacher
from spos.training.path_trainer import PathTrainer, make_optimizer
from spos.training.schedule import decay_epochs, make_schedule
from spos.training.strategies import FairStrategy, SandwichStrategy, UniformStrategy
from spos.training.validation import validate_network, validate_supernet, validate_when_due
from spos.training.zoo import load_teacher, zoo_model

GROUPS = (
    RunOptions,
    TrainOptions,
    DataOptions,
    SpaceOptions,
    ArchitectureOptions,
    TrainDeviceOptions,
    TeacherOptions,
    ZooOptions,
)
DEFAULT_SAVE_DIR = {SUPERNET: "runs/supernet", SUBNET: "runs/subnet"}


@dataclass(frozen=True)
class Flags:
    """Everything the user gave, by group."""

    run: RunOptions
    train: TrainOptions
    data: DataOptions
    space: SpaceOptions
    named: ArchitectureOptions
    device: TrainDeviceOptions
    teacher: TeacherOptions
    zoo: ZooOptions


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    flags = Flags(*(pick(group, args) for group in GROUPS))
    check_training_flags(flags.train, flags.zoo, flags.teacher, flags.space, flags.named)
    check_files(flags.train)
    save_dir = Path(flags.run.save_dir or DEFAULT_SAVE_DIR.get(flags.train.model, f"runs/{flags.train.model}"))
    data = open_data(flags.data)
    ctx = make_devices(flags.device)
    space, record = space_and_architecture(flags, data)
    sampling = describe_sampling(flags.train, space) if space else ""
    net = make_net(flags, data, space, record, ctx)
    begins_with = load_first_values(net, flags.train)
    objective = make_objective(flags, data, ctx)
    cluster = join_cluster(flags.device)
    config = {
        "program": "train_imagenet.py",
        "options": as_json(*(getattr(flags, name) for name in vars(flags))),
        "space": space.to_json() if space else None,
        "fingerprint": space.fingerprint if space else None,
        "architecture": record.to_json() if record else None,
        **files_digest(flags.train),
        "data": data.name,
        PREPROCESSING: data.preprocessing.to_json(),
        "workers": cluster.num_workers if cluster.is_distributed else None,
        "versions": versions(),
    }
    if cluster.is_chief:
        open_run(save_dir, config, flags.run.resume)
        if sampling:
            print(sampling, flush=True)
    cluster.barrier()
    folder = save_dir if cluster.is_chief else save_dir / f"worker-{cluster.rank}"
    data = with_lists(data, flags.data, folder / LISTS_FOLDER)
    check_same_lists(data, cluster)

    job = make_job(folder, flags, data, net, objective, ctx, cluster)
    log = RunLog(Journal(folder / LOG_FILE), flags.train.logging_file if cluster.is_chief else "")
    job.log = log.epoch
    progress = start(job, flags.train, begins_with)
    log.keep_epochs_before(progress.epoch)
    if flags.train.tensorboard and cluster.is_chief:
        log.write_tensorboard(save_dir / "tensorboard", progress.epoch)
    try:
        if progress.epoch < job.num_epochs:
            trainer.train(job, progress)
        if cluster.is_chief:
            save_parameters(save_dir / MODEL_FILE, job.net)
            remove_images(save_dir)
            log.line(f"finished; parameters are in {save_dir / MODEL_FILE}")
    except Stopped:
        cluster.finish()
        raise
    cluster.finish()
    log.close()
    return 0


def space_and_architecture(flags: Flags, data: DataSet) -> Tuple[Optional[SearchSpace], Any]:
    """The search space for these images and the architecture in it, as far as the model has them."""
    if flags.train.model not in (SUPERNET, SUBNET):
        return None, None
    record = named_architecture(flags.named, flags.space)
    if record is None and flags.train.model == SUBNET:
        record = trained_architecture(flags.train.init_params, flags.space)
    if record is None:
        return make_space(flags.space, data), None
    space = replace(record.space, **fit_to_data(flags.space, data))
    return space, replace(record, space=space)


def make_net(flags: Flags, data: DataSet, space: Optional[SearchSpace], record: Any, ctx: tuple) -> mx.gluon.Block:
    """Supernet, subnet or zoo network, with initial values, ready to be trained."""
    train = flags.train
    if record:
        net: mx.gluon.Block = Subnet(space, record.architecture)
    elif space:
        net = Supernet(space, train.execution, train.use_all_blocks)
    else:
        net = zoo_model(train.model, data.num_classes, flags.zoo, flags.space.use_se)
    initialize(net, data.input_size, flags.zoo.use_pretrained, flags.run.seed, ctx, flags.device.dtype)
    if isinstance(net, Supernet):
        if train.sampling != "uniform":  # gradients of several passes add up
            for parameter in net.collect_params().values():
                parameter.grad_req = "add" if parameter.grad_req == "write" else parameter.grad_req
    elif train.mode == "hybrid":
        net.hybridize(static_alloc=True, static_shape=True)
    return net


def make_job(
    save_dir: Path,
    flags: Flags,
    data: DataSet,
    net: mx.gluon.Block,
    objective: Objective,
    ctx: tuple,
    cluster: Cluster,
) -> trainer.TrainingJob:
    """Loader, optimizer, sampling and validation of the run."""
    train, dtype, is_supernet = flags.train, flags.device.dtype, isinstance(net, Supernet)
    split = train.train_on or ("train" if is_supernet else "train_full")
    order = Order(
        flags.run.seed,
        every_epoch=True,
        part=cluster.rank,
        num_parts=cluster.num_workers,
        drop_last=True,
        reduced_scale=train.reduced_dataset_scale,
    )
    loader = make_loader(data, split, flags.data, data.preparation(training=True), order, len(ctx))
    optimizer = make_optimizer(train.lr, train.momentum, train.wd, dtype)
    strategy: Optional[Callable[..., Sequence]] = None
    if is_supernet:
        policy = make_policy(train, net.space, loader.num_batches)
        if train.flop_param_method == "symbol":
            policy = CheckedPolicy(policy, net.space, partial(count_by_symbol, net.space))
        strategy = make_strategy(train.sampling, policy)
    job = trainer.TrainingJob(
        net=net,
        trainer=PathTrainer(net, optimizer, train.no_wd, cluster),
        loader=loader,
        objective=objective,
        schedule=make_schedule(
            train.lr_mode,
            train.lr,
            train.num_epochs,
            loader.num_batches,
            train.warmup_lr,
            train.warmup_epochs,
            train.lr_decay,
            decay_epochs(train.lr_decay_epoch, train.lr_decay_period, train.num_epochs),
        ),
        num_epochs=train.num_epochs,
        ctx=ctx,
        run=str(save_dir),
        seed=flags.run.seed,
        dtype=dtype,
        strategy=strategy,
        forward=make_forward(train, net, ctx, dtype),
        save_frequency=train.save_frequency,
        save_steps=train.save_steps,
        keep_checkpoints=train.keep_checkpoints,
        log_interval=train.log_interval,
        cluster=cluster,
    )
    if cluster.is_chief:
        if is_supernet:
            load = once(partial(candidate_evaluator, net, data, flags.data, save_dir, ctx))
            count = train.val_architectures
            measure = partial(validate_supernet, load, policy, count, loader.num_batches, flags.run.seed)
        else:
            load = once(partial(load_images, data, "test", flags.data, save_dir))
            block = job.forward if train.mode == "symbolic" else net
            measure = partial(validate_network, block, load, flags.data.batch_size * len(ctx), ctx, dtype)
        job.validate = partial(validate_when_due, measure, train.val_frequency, train.num_epochs)
    return job


def make_forward(train: TrainOptions, net: mx.gluon.Block, ctx: tuple, dtype: str) -> Optional[Callable]:
    """What runs the network in training, if not itself."""
    if train.mode == "symbolic":
        return trainer.as_symbol(net, dtype)
    if train.mode == "hybrid" and isinstance(net, Supernet) and net.execution == "slice" and not net.use_all_blocks:
        return TrainingGraphs(net)
    if train.mode == "hybrid" and isinstance(net, Subnet) and ctx[0].device_type == "cpu":
        return TrainingGraphs(net)
    return None


def once(load: Callable[[], Any]) -> Callable[[], Any]:
    """`load`, called at most once, when it is first needed."""
    return lru_cache(maxsize=1)(load)


def count_by_symbol(space: SearchSpace, architecture: Architecture) -> Cost:
    """Cost by a walk over the symbol graph of the subnet."""
    return count_symbol(Subnet(space, architecture)(mx.sym.var("data")), (1, 3, space.input_size, space.input_size))


def make_strategy(sampling: str, policy: Any) -> Callable[..., Sequence]:
    """Which paths a step of a supernet runs."""
    if sampling == "uniform":
        return UniformStrategy(policy)
    strategy = {"fair": FairStrategy, "sandwich": SandwichStrategy}[sampling]
    return strategy(policy.space, policy.lowest_channel_choice)


def make_objective(flags: Flags, data: DataSet, ctx: tuple) -> Objective:
    """What is minimised: smoothed labels, mixup, a teacher, as asked."""
    train, taught = flags.train, flags.teacher
    mixup = Mixup(train.mixup_alpha, train.num_epochs - train.mixup_off_epoch) if train.mixup else None
    teacher = None
    if taught.teacher:
        net = load_teacher(
            taught.teacher, taught.teacher_params, data.num_classes, data.input_size, ctx, flags.device.dtype
        )
        teacher = Teacher(net, taught.temperature, taught.hard_weight)
    return Objective(data.num_classes, SMOOTHING if train.label_smoothing else 0.0, mixup, teacher)


def run() -> int:
    """The installed command."""
    return run_program(main)


if __name__ == "__main__":
    sys.exit(run())
