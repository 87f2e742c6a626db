"""Flags of `train_imagenet.py` that cannot work together, found before anything starts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Iterator, List

from spos.constrained_policy import check_constraint_flags, limits_of
from spos.errors import InputError
from spos.options import SUBNET, SUPERNET, ArchitectureOptions, SpaceOptions, TeacherOptions, TrainOptions, ZooOptions
from spos.schedule import decay_epochs

SUPERNET_FLAGS = ("use_all_blocks", "use_all_channels", "cs_warm_up", "epoch_start_cs", "sampling", "execution")
FIRST_PARAMETERS = ("resume_params", "init_params", "init_from_supernet")
SPACE_FLAGS = ("last_conv_after_pooling", "channels_layout", "ignore_first_two_cs", "width_multiple", "strides")


def check_training_flags(
    train: TrainOptions, zoo: ZooOptions, teacher: TeacherOptions, space: SpaceOptions, named: ArchitectureOptions
) -> None:
    """Raise InputError for the first combination of flags that cannot work, saying which and why."""
    rules = (_model_rules, _supernet_rules, _schedule_rules, _loss_rules, _start_rules)
    for rule in rules:
        for message in rule(train, zoo, teacher, space, named):
            raise InputError(message)


def changed_flags(options: Any, names: Any = None) -> List[str]:
    """Flags of a group that differ from their default, as the user writes them."""
    return [
        f"--{item.name.replace('_', '-')}"
        for item in fields(options)
        if (names is None or item.name in names) and getattr(options, item.name) != item.default
    ]


def _model_rules(train: TrainOptions, zoo: ZooOptions, _: Any, space: SpaceOptions, named: Any) -> Iterator[str]:
    model, architecture = train.model, changed_flags(named)
    if model == SUBNET and not architecture and not train.init_params:
        yield f"--model {SUBNET} needs --architecture, --block-choices with --channel-choices, or --init-params"
    if model == SUPERNET and architecture:
        yield f"--model {SUPERNET} trains all architectures; leave out {' '.join(architecture)}"
    if model in (SUPERNET, SUBNET):
        for flag in changed_flags(zoo):
            yield f"{flag} is for models of GluonCV's zoo, not for --model {model}"
    else:
        for flag in architecture + changed_flags(space, SPACE_FLAGS):
            yield f"{flag} is for --model {SUPERNET} or {SUBNET}, not for {model}"
        if space.use_se and "resnext" not in model:
            yield f"--use-se: of GluonCV's models only resnext has it, not {model}"
        if zoo.batch_norm and "vgg" not in model:
            yield f"--batch-norm is for vgg, not for {model}"
    if model != SUPERNET:
        for flag in changed_flags(train, SUPERNET_FLAGS):
            yield f"{flag} is for a supernet (--model {SUPERNET}), not for {model}"


def _supernet_rules(train: TrainOptions, *_: Any) -> Iterator[str]:
    if train.model == SUPERNET and train.mode == "symbolic":
        yield "--mode symbolic: a supernet takes another path every step, a symbol has one; use hybrid or imperative"
    if train.use_all_channels and (train.cs_warm_up or train.epoch_start_cs >= 0):
        yield "--use-all-channels never selects channels; leave it out, or leave out --cs-warm-up and --epoch-start-cs"
    if train.sampling != "uniform" and train.use_all_blocks:
        yield f"--sampling {train.sampling} chooses blocks, --use-all-blocks runs all of them; leave one out"
    check_constraint_flags(train, is_supernet=train.model == SUPERNET)
    if train.sampling != "uniform" and limits_of(train):
        yield (
            f"--sampling {train.sampling} runs paths of any cost; --train-upper-constraints and "
            "--train-bottom-constraints need --sampling uniform"
        )
    if train.sampling == "sandwich" and train.use_all_channels:
        yield "--sampling sandwich trains widths from the widest to the narrowest; leave out --use-all-channels"


def _schedule_rules(train: TrainOptions, *_: Any) -> Iterator[str]:
    if train.warmup_epochs >= train.num_epochs:
        yield f"--warmup-epochs {train.warmup_epochs} leaves nothing of --num-epochs {train.num_epochs}"
    decay_epochs(train.lr_decay_epoch, train.lr_decay_period, train.num_epochs)


def _loss_rules(train: TrainOptions, _zoo: Any, teacher: TeacherOptions, *_: Any) -> Iterator[str]:
    if train.mixup and train.mixup_off_epoch >= train.num_epochs:
        yield f"--mixup-off-epoch {train.mixup_off_epoch} leaves no epoch of {train.num_epochs} to --mixup"
    if not teacher.teacher and changed_flags(teacher):
        yield f"{changed_flags(teacher)[0]} needs --teacher"
    if teacher.teacher and teacher.hard_weight == 1:
        yield "--hard-weight 1 gives the teacher no weight; leave out --teacher, or lower it"


def _start_rules(train: TrainOptions, zoo: ZooOptions, *_: Any) -> Iterator[str]:
    if not train.resume_params and (train.resume_states or train.resume_epoch > 0):
        yield "--resume-states and --resume-epoch need --resume-params"
    sources = changed_flags(zoo, ("use_pretrained",)) + changed_flags(train, FIRST_PARAMETERS)
    if len(sources) > 1:
        yield f"{sources[0]} and {sources[1]} both give the first parameters; leave one out"
    if train.init_from_supernet and train.model != SUBNET:
        yield f"--init-from-supernet is for a subnet (--model {SUBNET}), not for {train.model}"
    if train.resume_epoch >= train.num_epochs:
        yield f"--resume-epoch {train.resume_epoch} leaves nothing of --num-epochs {train.num_epochs}"
