"""Assembly of a training from the flags: sampling, objective, recipe, trainer and validation."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

from oneshot_nas_network import Subnet, Supernet
from spos.counting.symbol import count_symbol
from spos.data.dataset import DataSet
from spos.data.flags import SCORING_LISTS
from spos.data.pixels import load_images
from spos.engine.cluster import Cluster
from spos.engine.compat import mx
from spos.engine.parameters import save_parameters
from spos.runs.run import BEST_MODEL_FILE
from spos.sampling.strips import CheckedPolicy
from spos.sampling.warm_up import Policy
from spos.scoring.candidate import candidate_evaluator
from spos.space.architecture import Architecture
from spos.space.cost import Cost
from spos.space.space import SearchSpace
from spos.training.averaging import WeightAverage, save_averaged_subnet
from spos.training.flags import ADAMW, BY_SYMBOL, SYMBOLIC, TrainingFlags, TrainOptions, make_policy
from spos.training.losses import SMOOTHING, CutMix, Mixup, Objective, Teacher
from spos.training.network import make_forward
from spos.training.optimizers import make_adamw, make_nag
from spos.training.path_trainer import PathTrainer
from spos.training.progress import Row
from spos.training.schedule import decay_epochs, make_schedule
from spos.training.strategies import MEAN, make_strategy
from spos.training.teachers import load_teachers
from spos.training.trainer import Recipe, Trainer
from spos.training.validation import (
    affordable_frequency,
    keep_best,
    validate_network,
    validate_supernet,
    validate_when_due,
    validate_with_average,
)


def make_objective(flags: TrainingFlags, data: DataSet, folder: Path, ctx: Sequence[mx.Context]) -> Objective:
    """What is minimised: smoothed labels, mixup and CutMix, teachers, as asked.

    Args:
        folder: of the run, for images of teachers that take too much memory.
    """
    train, taught = flags.train, flags.teacher
    end_epoch = train.num_epochs - train.mixup_off_epoch
    mixup = Mixup(train.mixup_alpha, end_epoch) if train.mixup else None
    cutmix = CutMix(train.cutmix_alpha, end_epoch) if train.cutmix else None
    teacher = None
    if taught.teacher:
        logits = load_teachers(taught, data, folder, ctx, flags.device.dtype)
        teacher = Teacher(logits, taught.temperature, taught.hard_weight)
    return Objective(data.num_classes, SMOOTHING if train.label_smoothing else 0.0, mixup, teacher, cutmix)


def sampling_policy(options: TrainOptions, net: mx.gluon.Block, steps_per_epoch: int) -> Optional[Policy]:
    """What samples the architectures of a supernet; None for a network without paths."""
    if not isinstance(net, Supernet):
        return None
    policy = make_policy(options, net.space, steps_per_epoch)
    if options.flop_param_method == BY_SYMBOL:
        return CheckedPolicy(policy, net.space, partial(count_by_symbol, net.space))
    return policy


def count_by_symbol(space: SearchSpace, architecture: Architecture) -> Cost:
    """Cost by a walk over the symbol graph of the subnet."""
    net = Subnet(space, architecture)
    return count_symbol(net(mx.sym.var("data")), (1, 3, net.space.input_size, net.space.input_size))


def make_recipe(flags: TrainingFlags, objective: Objective, policy: Optional[Policy], steps_per_epoch: int) -> Recipe:
    """The recipe of the flags, on paths that `policy` draws if there is one."""
    train = flags.train
    schedule = make_schedule(
        train.lr_mode,
        train.lr,
        train.num_epochs,
        steps_per_epoch,
        train.warmup_lr,
        train.warmup_epochs,
        train.lr_decay,
        decay_epochs(train.lr_decay_epoch, train.lr_decay_period, train.num_epochs),
        train.lr_restarts,
    )
    strategy = make_strategy(train.sampling, policy) if policy else None
    return Recipe(objective, schedule, train.num_epochs, strategy, flags.run.seed, train.pass_gradients == MEAN)


def make_trainer(
    flags: TrainingFlags, net: mx.gluon.Block, recipe: Recipe, ctx: Sequence[mx.Context], cluster: Cluster
) -> Trainer:
    """The trainer of a network that has its first values."""
    train, dtype = flags.train, flags.device.dtype
    adamw = train.optimizer == ADAMW
    rule = make_adamw(train.lr, train.wd) if adamw else make_nag(train.lr, train.momentum, train.wd, dtype)
    optimizer = PathTrainer(net, rule, train.no_wd, cluster)
    average = WeightAverage(net, train.ema_decay) if train.ema_decay and cluster.is_chief else None
    return Trainer(net, optimizer, recipe, tuple(ctx), dtype, make_forward(train.mode, net, ctx, dtype), average)


def make_validation(
    flags: TrainingFlags,
    data: DataSet,
    trainer: Trainer,
    policy: Optional[Policy],
    steps_per_epoch: int,
    folder: Path,
    best: Callable[[], float],
) -> Callable[[int], Row]:
    """Metrics of an epoch, as often as the flags say. Images are loaded when they are first needed.

    Validation between epochs keeps the parameters of the best one, beside those of the last: the averaged ones of a
    subnet that has them.

    Args:
        best: highest accuracy of the epochs before.
        policy: of a supernet, which is measured on architectures that it draws.
        folder: of the run, for images that take too much memory.
    """
    train, net, ctx = flags.train, trainer.net, trainer.ctx
    measure: Callable[[int], Dict[str, Any]]
    save: Callable[[], None] = partial(save_parameters, folder / BEST_MODEL_FILE, net)
    if policy:
        load = once(partial(candidate_evaluator, net, data, flags.data, folder, ctx))
        count, seed = train.val_architectures, flags.run.seed
        num_images = count * (len(data.splits["bn"]) + len(data.splits["search_val"]))
        measure = partial(validate_supernet, load, policy, count, steps_per_epoch, seed)
    else:
        name, batch_size = SCORING_LISTS[train.val_on or "val"], flags.data.batch_size
        load = once(partial(load_images, data, name, flags.data, folder))
        num_images = len(data.splits[name])
        block = trainer.forward if train.mode == SYMBOLIC else net
        measure = partial(validate_network, block, load, batch_size * len(ctx), ctx, trainer.dtype)
        if trainer.average:
            load_bn = once(partial(load_images, data, "bn", flags.data, folder))
            averaged = (trainer.average, net, load_bn, load, batch_size, ctx[0])
            measure = partial(validate_with_average, measure, *averaged)
            parts = (net, trainer.average, load_bn, batch_size, ctx[0])
            save = partial(save_averaged_subnet, folder / BEST_MODEL_FILE, *parts)
            num_images += num_images + len(data.splits["bn"])
    frequency = train.val_frequency
    if frequency is None and train.patience:
        frequency = 1
    if frequency is None:
        frequency = affordable_frequency(num_images, steps_per_epoch * flags.data.batch_size * len(ctx))
    validate = partial(validate_when_due, measure, frequency, train.num_epochs)
    return partial(keep_best, validate, best, save) if frequency else validate


def once(load: Callable[[], Any]) -> Callable[[], Any]:
    """`load`, called at most once, when it is first needed."""
    return lru_cache(maxsize=1)(load)
