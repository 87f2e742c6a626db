"""Flags of training: their groups, what cannot work together, and what they mean for sampling."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple, get_type_hints

from spos.core.errors import InputError
from spos.core.flags import (
    OneLineParser,
    RunOptions,
    as_json,
    below_one,
    changed_flags,
    flag,
    fraction,
    not_negative,
    not_negative_number,
    pick,
    positive,
    positive_number,
)
from spos.data.flags import HOLDOUT, SCORING_LISTS, DataOptions
from spos.engine.flags import TrainDeviceOptions
from spos.engine.forms import EXECUTIONS
from spos.runs.run import SUBNET, SUPERNET
from spos.sampling.limits import Limit, limits_in_millions, parse_bounds
from spos.sampling.strips import METHODS, ConstrainedPolicy
from spos.sampling.warm_up import Policy, SamplingPolicy
from spos.space.flags import ArchitectureOptions, SpaceOptions
from spos.space.space import SearchSpace
from spos.training.recipes import LR_IMAGES, RECIPES, recipe_values
from spos.training.recipes import PUBLISHED as PUBLISHED_RECIPE
from spos.training.schedule import FALLING, LR_MODES, decay_epochs
from spos.training.strategies import PASS_GRADIENTS, STRATEGIES, SUM, UNIFORM

HYBRID, IMPERATIVE, SYMBOLIC = MODES = ("hybrid", "imperative", "symbolic")
PUBLISHED, ALIGNED = INITIAL_VALUES = ("published", "aligned")
HELD_OUT, TEST_IMAGES = "held-out images", "test images"  # what validates
NAG, ADAMW = OPTIMIZERS = ("nag", "adamw")
TRIVIAL = "trivial"
BY_TABLE, BY_SYMBOL = COUNT_METHODS = ("lookup_table", "symbol")

SUPERNET_FLAGS = (
    "use_all_blocks",
    "use_all_channels",
    "cs_warm_up",
    "epoch_start_cs",
    "sampling",
    "pass_gradients",
    "initial_values",
    "execution",
)
FIRST_PARAMETERS = ("resume_params", "init_params", "init_from_supernet")
SPACE_FLAGS = (
    "space",
    "blocks",
    "last_conv_after_pooling",
    "channels_layout",
    "ignore_first_two_cs",
    "width_multiple",
    "strides",
)


@dataclass(frozen=True)
class TrainConstraintOptions:
    """What the architectures cost that a supernet is trained on, in millions: flops-330-params-5.0, or either part."""

    train_upper_constraints: str = flag("", "sample nothing more expensive, e.g. flops-330-params-5.0")
    train_bottom_constraints: str = flag("", "sample nothing cheaper, e.g. flops-190-params-2.8")


@dataclass(frozen=True)
class TrainOptions(TrainConstraintOptions):
    """The training recipe."""

    model: str = flag(SUPERNET, f"{SUPERNET}: supernet, {SUBNET}: subnet, or a classifier of GluonCV's model zoo")
    num_epochs: int = flag(120, "epochs", type=positive)
    recipe: str = flag(
        "",
        "values of the flags below, all at once; those that are given count more, and --no-FLAG takes one out. The "
        f"learning rate is in proportion to the images of a step, {RECIPES[PUBLISHED_RECIPE]['lr']:g} for {LR_IMAGES}",
        choices=("", *RECIPES),
    )
    optimizer: str = flag(NAG, "adamw: Adam with decoupled weight decay, in float32", choices=OPTIMIZERS)
    lr: float = flag(0.1, "learning rate after warm-up", type=positive_number)
    momentum: float = flag(0.9, "momentum of NAG", type=fraction)
    wd: float = flag(3e-5, "weight decay", type=not_negative_number)
    lr_mode: str = flag("cosine", "decay of the learning rate", choices=LR_MODES)
    lr_decay: float = flag(0.1, "factor of --lr-mode step", type=fraction)
    lr_decay_epoch: str = flag("40,60", "epochs at which --lr-mode step decays")
    lr_decay_period: int = flag(0, "decay every so many epochs instead (--lr-mode step)", type=not_negative)
    lr_restarts: int = flag(
        0, "how often --lr-mode cosine, poly or linear begins again, in equal parts of the training", type=not_negative
    )
    warmup_lr: float = flag(0.0, "learning rate at the start of the warm-up", type=not_negative_number)
    warmup_epochs: int = flag(0, "epochs of linear warm-up", type=not_negative)
    label_smoothing: bool = flag(False, "smooth labels by 0.1")
    no_wd: bool = flag(False, "no weight decay on biases and BatchNorm")
    ema_decay: float = flag(
        0.0,
        "also average the weights over the steps, keeping this share of the average in each, e.g. 0.999: "
        "model-ema.params (0: no average)",
        type=below_one,
    )
    auto_augment: str = flag(
        "",
        "trivial: one random change of random strength to every image, in the place of colour noise",
        choices=("", TRIVIAL),
    )
    random_erasing: float = flag(0.0, "chance of a box in the colour of the mean in an image", type=fraction)
    mixup: bool = flag(False, "train on mixed pairs of images")
    mixup_alpha: float = flag(0.2, "parameter of the beta distribution of --mixup", type=positive_number)
    cutmix: bool = flag(False, "train on images with a box of another in them; with --mixup, on one of both by chance")
    cutmix_alpha: float = flag(1.0, "parameter of the beta distribution of --cutmix", type=positive_number)
    stochastic_depth: float = flag(
        0.0,
        "leave out, for some images, what choice blocks add to their input, growing from block to block to this chance",
        type=below_one,
    )
    mixup_off_epoch: int = flag(0, "last epochs without --mixup and --cutmix", type=not_negative)
    mode: str = flag(HYBRID, "hybrid compiles what can be compiled; symbolic trains the exported graph", choices=MODES)
    sampling: str = flag(
        UNIFORM,
        "paths of a step: one (uniform), every block choice once (fair), or widest to narrowest (sandwich)",
        choices=tuple(STRATEGIES),
    )
    pass_gradients: str = flag(
        SUM,
        "of --sampling fair and sandwich: an update by their sum over the passes, or their mean",
        choices=PASS_GRADIENTS,
    )
    initial_values: str = flag(
        PUBLISHED,
        "of a supernet: aligned lets all choices of a choice block begin as one function, as far as they can",
        choices=INITIAL_VALUES,
    )
    use_all_blocks: bool = flag(False, "train the mean of all block choices")
    use_all_channels: bool = flag(False, "train at full width only")
    epoch_start_cs: int = flag(
        -1, "first epoch (from 0) of channel selection; full width before it (-1: from the start)", type=int
    )
    cs_warm_up: bool = flag(False, "let channel selection start wide and grow narrower by the layout's schedule")
    train_constraint_method: str = flag(
        "random",
        "random: uniform within the constraints; evolution: walk through strips of FLOPs and params between them",
        choices=METHODS,
    )
    flop_param_method: str = flag(
        BY_TABLE,
        "symbol: count what is drawn under constraints by its symbol graph too (slow, the same numbers)",
        choices=COUNT_METHODS,
    )
    execution: str = flag("slice", "how the supernet runs narrower widths", choices=EXECUTIONS)
    val_architectures: int = flag(5, "architectures sampled to validate a supernet", type=positive)
    val_frequency: Optional[int] = flag(
        None,
        "epochs between validations; the last is always validated (0: only the last) [1 where it takes at most a tenth "
        "of the time, else 0]",
        type=not_negative,
    )
    patience: int = flag(
        0,
        "end when so many validations in a row were no better than the best before, whose weights are best.params "
        "(0: train to the last epoch)",
        type=not_negative,
    )
    reduced_dataset_scale: int = flag(
        1, "use only 1 / N of the batches of an epoch, others in every epoch", type=positive
    )
    train_on: str = flag(
        "",
        "train: without the held-out images; train_full: with them (default: supernet train, subnet train_full)",
        choices=("", "train", "train_full"),
    )
    class_balanced: bool = flag(
        False, "show as many training images of every class as of any other, those of small classes several times"
    )
    val_on: str = flag(
        "",
        "images that validate a network without paths; holdout: those that score candidates, which needs --train-on "
        "train [val]",
        choices=("", *SCORING_LISTS),
    )
    save_frequency: int = flag(1, "epochs between checkpoints", type=positive)
    save_steps: int = flag(0, "batches between checkpoints inside an epoch (0: none)", type=not_negative)
    keep_checkpoints: int = flag(2, "checkpoints to keep", type=positive)
    log_interval: int = flag(50, "batches between log lines when output is not a terminal", type=positive)
    logging_file: str = flag("", "also write log lines to this file")
    tensorboard: bool = flag(False, "also write metrics as TensorBoard events, to --save-dir/tensorboard")
    resume_epoch: int = flag(-1, "epoch to start from, with --resume-params", type=int)
    resume_params: str = flag("", "go on with the training that these parameters are of: same network, same classes")
    resume_states: str = flag("", "start from this optimizer state, with --resume-params")
    init_params: str = flag(
        "",
        "begin a new training with these parameters, for fine-tuning: the classifier is new if the number of classes "
        "differs. A subnet of a run brings its architecture",
    )
    init_from_supernet: str = flag("", "begin a subnet with the weights of its path in this trained supernet")


@dataclass(frozen=True)
class TeacherOptions:
    """Distillation from trained networks."""

    teacher: str = flag(
        "",
        "what to learn from: a run of this program or a file in it (of a supernet, the most expensive path), or a "
        "network of GluonCV's zoo by its name; several, separated by commas, teach by the mean of their predictions",
    )
    teacher_params: str = flag("", "parameters of a teacher of the zoo (default: GluonCV's own, downloaded)")
    temperature: float = flag(20.0, "temperature of its predictions", type=positive_number)
    hard_weight: float = flag(0.5, "weight of the labels beside the teacher", type=fraction)


@dataclass(frozen=True)
class ZooOptions:
    """Only for networks of GluonCV's zoo."""

    use_pretrained: bool = flag(False, "start from GluonCV's weights (downloaded)")
    last_gamma: bool = flag(False, "start the last BatchNorm of every residual block at 0")
    use_gn: bool = flag(False, "group normalisation instead of BatchNorm")
    batch_norm: bool = flag(False, "vgg with BatchNorm")


@dataclass(frozen=True)
class TrainingFlags:
    """Everything the user gave, by group."""

    run: RunOptions
    train: TrainOptions
    data: DataOptions
    space: SpaceOptions
    named: ArchitectureOptions
    device: TrainDeviceOptions
    teacher: TeacherOptions
    zoo: ZooOptions

    @classmethod
    def groups(cls) -> Dict[str, Any]:
        """The groups by the names that they have here, in the order of the help."""
        return get_type_hints(cls)

    @classmethod
    def parse(cls, parser: OneLineParser, argv: Optional[Sequence[str]]) -> TrainingFlags:
        """From a command line. Raises: as `of`."""
        args = parser.parse_args(argv)
        parser.set_defaults(**recipe_values(args.recipe, images_of_a_step(args, args)))
        return cls.of(parser.parse_args(argv))

    @classmethod
    def of(cls, args: Namespace) -> TrainingFlags:
        """From parsed arguments. Raises InputError for the first combination that cannot work."""
        flags = cls(**{name: pick(group, args) for name, group in cls.groups().items()})
        check_training_flags(flags)
        return flags

    def to_json(self) -> Dict[str, Any]:
        """All flags by name, as `config.json` has them."""
        return as_json(*(getattr(self, name) for name in self.groups()))


def images_of_a_step(data: Any, devices: Any) -> int:
    """Of all devices of a worker, by what has their flags."""
    return data.batch_size * (devices.num_gpus or devices.num_cpus_ctx)


def validated_on(options: Mapping[str, Any]) -> str:
    """What the images of `val_top1` are, by the flags of a run as `config.json` has them."""
    return HELD_OUT if options.get("model") == SUPERNET or options.get("val_on") == HOLDOUT else TEST_IMAGES


def limits_of(options: TrainConstraintOptions) -> Tuple[Limit, ...]:
    """The limits that flags set. Raises InputError if their text is malformed."""
    upper = parse_bounds(options.train_upper_constraints, "--train-upper-constraints")
    lower = parse_bounds(options.train_bottom_constraints, "--train-bottom-constraints")
    return limits_in_millions(upper, lower)


def make_policy(options: TrainOptions, space: SearchSpace, steps_per_epoch: int = 0) -> Policy:
    """What samples the architecture of a step, by the flags."""
    policy = SamplingPolicy(space, options.epoch_start_cs, options.cs_warm_up, options.use_all_channels)
    limits = limits_of(options)
    if not limits:
        return policy
    return ConstrainedPolicy(policy, limits, options.train_constraint_method, steps_per_epoch)


def describe_sampling(options: TrainOptions, space: SearchSpace) -> str:
    """One line that says from when on the constraints hold; empty without any. Raises InputError if they never do."""
    policy = make_policy(options, space)
    if not isinstance(policy, ConstrainedPolicy):
        return ""
    first = policy.first_epoch(options.num_epochs)
    before = "; before it every width is too large, and sampling is unconstrained" if first else ""
    return f"constraints hold from epoch {first} on (counted from 0){before}"


def check_constraint_flags(options: TrainOptions, is_supernet: bool) -> None:
    """Refuse constraints where nothing is sampled, and flags about them without any."""
    limits = limits_of(options)
    if limits and (options.use_all_blocks or options.use_all_channels or not is_supernet):
        raise InputError(
            "--train-upper-constraints and --train-bottom-constraints sample architectures for a supernet; leave them "
            "out for a subnet and with --use-all-blocks or --use-all-channels"
        )
    for name in ("train_constraint_method", "flop_param_method"):
        value = getattr(options, name)
        if not limits and value != getattr(TrainOptions, name):
            raise InputError(
                f"--{name.replace('_', '-')} {value} needs --train-upper-constraints or --train-bottom-constraints"
            )


def check_training_flags(flags: TrainingFlags) -> None:
    """Raise InputError for the first combination of flags that cannot work, saying which and why."""
    rules = (_model_rules, _supernet_rules, _schedule_rules, _loss_rules, _start_rules)
    for rule in rules:
        for message in rule(flags):
            raise InputError(message)


def _model_rules(flags: TrainingFlags) -> Iterator[str]:
    train, zoo, space = flags.train, flags.zoo, flags.space
    model, architecture = train.model, changed_flags(flags.named)
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
        if train.ema_decay:
            yield f"--ema-decay is for --model {SUPERNET} or {SUBNET}, whose BatchNorm can be updated, not for {model}"
        if space.use_se and "resnext" not in model:
            yield f"--use-se: of GluonCV's models only resnext has it, not {model}"
        if zoo.batch_norm and "vgg" not in model:
            yield f"--batch-norm is for vgg, not for {model}"
    if model != SUBNET and train.stochastic_depth:
        yield f"--stochastic-depth is for a subnet (--model {SUBNET}), not for {model}"
    if model != SUPERNET:
        for flag in changed_flags(train, SUPERNET_FLAGS):
            yield f"{flag} is for a supernet (--model {SUPERNET}), not for {model}"
        if train.val_on == HOLDOUT and train.train_on != "train":
            yield f"--val-on {HOLDOUT}: the network would be trained on these images; give --train-on train"
    elif train.val_on:
        yield "--val-on: a supernet is validated on held-out images; leave it out"


def _supernet_rules(flags: TrainingFlags) -> Iterator[str]:
    train = flags.train
    if train.model == SUPERNET and train.mode == SYMBOLIC:
        yield f"--mode {SYMBOLIC}: a supernet takes another path every step, a symbol has one; use hybrid or imperative"
    if train.use_all_channels and (train.cs_warm_up or train.epoch_start_cs >= 0):
        yield "--use-all-channels never selects channels; leave it out, or leave out --cs-warm-up and --epoch-start-cs"
    if train.sampling != UNIFORM and train.use_all_blocks:
        yield f"--sampling {train.sampling} chooses blocks, --use-all-blocks runs all of them; leave one out"
    if train.ema_decay and flags.device.kv_store == "dist_async":
        yield "--ema-decay: with --kv-store dist_async no worker sees every step; use dist_sync"
    check_constraint_flags(train, is_supernet=train.model == SUPERNET)
    if train.sampling != UNIFORM and limits_of(train):
        yield (
            f"--sampling {train.sampling} runs paths of any cost; --train-upper-constraints and "
            f"--train-bottom-constraints need --sampling {UNIFORM}"
        )
    if train.sampling == UNIFORM and train.pass_gradients != SUM:
        yield f"--pass-gradients {train.pass_gradients}: --sampling {UNIFORM} has one pass a step"
    if train.sampling == "sandwich" and train.use_all_channels:
        yield "--sampling sandwich trains widths from the widest to the narrowest; leave out --use-all-channels"


def _schedule_rules(flags: TrainingFlags) -> Iterator[str]:
    train = flags.train
    if train.warmup_epochs >= train.num_epochs:
        yield f"--warmup-epochs {train.warmup_epochs} leaves nothing of --num-epochs {train.num_epochs}"
    if train.patience and train.val_frequency == 0:
        yield "--patience counts validations; --val-frequency 0 has none before the end"
    if train.patience and validated_on(flags.to_json()) != HELD_OUT:
        yield f"--patience would stop by the test images; add --train-on train --val-on {HOLDOUT}"
    if train.lr_restarts and train.lr_mode not in FALLING:
        yield f"--lr-restarts is for --lr-mode {', '.join(FALLING)}, not for {train.lr_mode}"
    if train.lr_restarts >= train.num_epochs - train.warmup_epochs:
        yield f"--lr-restarts {train.lr_restarts} leaves no epoch for each part of --num-epochs {train.num_epochs}"
    if train.optimizer == ADAMW and changed_flags(train, ("momentum",)):
        yield f"--momentum is for --optimizer {NAG}, not for {ADAMW}"
    if train.optimizer == ADAMW and flags.device.dtype != "float32":
        yield f"--optimizer {ADAMW} is for float32, not for --dtype {flags.device.dtype}"
    recipe = recipe_values(train.recipe, images_of_a_step(flags.data, flags.device))
    if recipe and train.optimizer != recipe["optimizer"] and train.lr == recipe["lr"]:
        yield f"--optimizer {train.optimizer}: the learning rate of --recipe {train.recipe} is another's; give --lr"
    yield from _idle_flags(train)
    decay_epochs(train.lr_decay_epoch, train.lr_decay_period, train.num_epochs)


def _idle_flags(train: TrainOptions) -> Iterator[str]:
    """Flags that nothing reads, and what would."""
    mixes = train.mixup or train.cutmix
    for names, is_read, what in (
        (("mixup_alpha",), train.mixup, "--mixup"),
        (("cutmix_alpha",), train.cutmix, "--cutmix"),
        (("mixup_off_epoch",), mixes, "--mixup or --cutmix"),
        (("warmup_lr",), train.warmup_epochs, "--warmup-epochs"),
        (("lr_decay", "lr_decay_epoch", "lr_decay_period"), train.lr_mode == "step", "--lr-mode step"),
    ):
        for name in () if is_read else changed_flags(train, names):
            yield f"{name} is for {what}"


def _loss_rules(flags: TrainingFlags) -> Iterator[str]:
    train, teacher = flags.train, flags.teacher
    mixed = "--mixup" if train.mixup else "--cutmix" if train.cutmix else ""
    if mixed and train.mixup_off_epoch >= train.num_epochs:
        yield f"--mixup-off-epoch {train.mixup_off_epoch} leaves no epoch of {train.num_epochs} to {mixed}"
    if not teacher.teacher and changed_flags(teacher):
        yield f"{changed_flags(teacher)[0]} needs --teacher"
    if teacher.teacher and teacher.hard_weight == 1:
        yield "--hard-weight 1 gives the teacher no weight; leave out --teacher, or lower it"


def _start_rules(flags: TrainingFlags) -> Iterator[str]:
    train = flags.train
    if not train.resume_params and (train.resume_states or train.resume_epoch > 0):
        yield "--resume-states and --resume-epoch need --resume-params"
    if train.ema_decay and train.resume_params:
        yield "--ema-decay: --resume-params brings no average; go on in the run itself, or take --init-params"
    sources = changed_flags(flags.zoo, ("use_pretrained",)) + changed_flags(train, FIRST_PARAMETERS)
    if len(sources) > 1:
        yield f"{sources[0]} and {sources[1]} both give the first parameters; leave one out"
    if train.init_from_supernet and train.model != SUBNET:
        yield f"--init-from-supernet is for a subnet (--model {SUBNET}), not for {train.model}"
    if train.resume_epoch >= train.num_epochs:
        yield f"--resume-epoch {train.resume_epoch} leaves nothing of --num-epochs {train.num_epochs}"
