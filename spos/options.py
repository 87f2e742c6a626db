"""Flags of the programs. Each is declared once, as a field of a group; programs pick groups.

A group is a frozen dataclass: its field names are the flags, its defaults the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from spos.command_line import confidence, flag, fraction, not_negative, number, positive, positive_number
from spos.cost import COMPARISON_MODELS, DEFAULT_COMPARISON_MODEL
from spos.evolution import EVOLUTIONS
from spos.pareto import OBJECTIVES
from spos.search_space import LAYOUTS
from spos.tables import FORMATS

SUPERNET, SUBNET = "ShuffleNas", "ShuffleNas_fixArch"  # values of --model; others name a network of GluonCV's zoo

KV_STORES = ("device", "dist_sync", "dist_sync_device", "dist_async")  # MXNet's names

SEARCH_MODES = ("genetic", "random", "two-stage", "nsga2")

MAX_BAD_IMAGES = 10
DEFAULT_LATENCY_ERROR_MAX = 0.1


@dataclass(frozen=True)
class RunOptions:
    """Where results lie, and what makes a run repeatable."""

    save_dir: str = flag("", "run directory (runs/supernet, runs/search or runs/subnet by default)")
    seed: int = flag(0, "seed of everything random", type=not_negative)
    resume: bool = flag(False, "insist on continuing the run in --save-dir (the same command continues anyway)")


@dataclass(frozen=True)
class JsonOptions:
    """Output for machines."""

    json: bool = flag(False, "print one JSON object and nothing else on standard output")


@dataclass(frozen=True)
class DataOptions:
    """The images: ImageNet, CIFAR, digits, or one's own, as RecordIO files or as one folder per class."""

    dataset: str = flag(
        "imagenet",
        "imagenet: record files, or raw folders when there are none; folder: DATA_DIR/train and DATA_DIR/val with one "
        "sub-folder per class; record: any record files; cifar10, cifar100: those of Gluon, packed once below "
        "DATA_DIR, or given record files; digits: inside the installation",
        choices=("imagenet", "folder", "record", "cifar10", "cifar100", "digits"),
    )
    data_dir: str = flag("data", "folder of the images: record files and raw folders are looked for here")
    rec_train: str = flag("", "training images (RecordIO; else train.rec in DATA_DIR/imagenet or DATA_DIR)")
    rec_train_idx: str = flag("", "index of --rec-train (else the same name with .idx)")
    rec_val: str = flag("", "validation images (RecordIO; else val.rec in DATA_DIR/imagenet or DATA_DIR)")
    rec_val_idx: str = flag("", "index of --rec-val (else the same name with .idx)")
    use_rec: bool = flag(False, "insist on RecordIO files, never read raw folders")
    classes: int = flag(0, "number of classes (0: as many as are found; imagenet: 1000)", type=not_negative)
    max_bad_images: int = flag(
        MAX_BAD_IMAGES, "undecodable images of one list to leave out before the run stops", type=not_negative
    )
    input_size: int = flag(0, "height and width of the network's input (0: that of the data set)", type=not_negative)
    crop_ratio: float = flag(
        0.0, "input size / shorter side before the centre crop (0: that of the data set)", type=fraction
    )
    holdout: int = flag(
        0, "training images held out to score candidates (0: a tenth, at most 50,000)", type=not_negative
    )
    update_bn_images: int = flag(
        0, "training images held out for the BatchNorm update (0: a tenth, at most 20,000)", type=not_negative
    )
    batch_size: int = flag(128, "images per step and device", type=positive)
    num_workers: int = flag(4, "threads that decode images", type=positive, short="-j", aliases=("--num-data-workers",))


@dataclass(frozen=True)
class SpaceOptions:
    """Which search space."""

    channels_layout: str = flag("OneShot", "blocks and output channels of the stages", choices=tuple(LAYOUTS))
    use_se: bool = flag(False, "squeeze-and-excite and hard-swish")
    last_conv_after_pooling: bool = flag(False, "the head of MobileNetV3")
    ignore_first_two_cs: bool = flag(False, "leave out the two narrowest channel choices")
    width_multiple: int = flag(
        1, "round middle widths up to a multiple of this (1: published widths; 8 or 16: fast kernels)", type=positive
    )
    strides: str = flag("", "stride plan: stem, then each stage, e.g. 2,2,2,2,2 (empty: by input size)")


@dataclass(frozen=True)
class ArchitectureOptions:
    """One architecture: by name, by file, or by its choices."""

    architecture: str = flag("", "published name or architecture file (JSON)")
    block_choices: str = flag("", "block choices like '0, 0, 3, ...', with --channel-choices")
    channel_choices: str = flag("", "channel choices like '6, 5, 3, ...'")


@dataclass(frozen=True)
class DeviceOptions:
    """What computes."""

    num_gpus: int = flag(0, "GPUs to use (0: CPU)", type=not_negative)
    num_cpus_ctx: int = flag(
        1, "CPU contexts when there is no GPU; more than one tests multi-device code", type=positive
    )
    dtype: str = flag("float32", "precision of the network", choices=("float32", "float16"))
    low_memory: bool = flag(
        False, "give freed memory back at once: half the memory and half the speed, the same results"
    )


@dataclass(frozen=True)
class TrainDeviceOptions(DeviceOptions):
    """What computes, on one machine or on several."""

    kv_store: str = flag(
        "device",
        "device: this process alone; dist_...: one of several workers, started by scripts/train_cluster.sh",
        choices=KV_STORES,
    )


@dataclass(frozen=True)
class TrainConstraintOptions:
    """What the architectures cost that a supernet is trained on, in millions: flops-330-params-5.0, or either part."""

    train_upper_constraints: str = flag("", "sample nothing more expensive, e.g. flops-330-params-5.0")
    train_bottom_constraints: str = flag("", "sample nothing cheaper, e.g. flops-190-params-2.8")


@dataclass(frozen=True)
class TrainOptions(TrainConstraintOptions):
    """The training recipe. The scripts carry the published values."""

    model: str = flag(SUPERNET, f"{SUPERNET}: supernet, {SUBNET}: subnet, or a classifier of GluonCV's model zoo")
    num_epochs: int = flag(120, "epochs", type=positive)
    lr: float = flag(0.1, "learning rate after warm-up", type=positive_number)
    momentum: float = flag(0.9, "momentum of NAG", type=fraction)
    wd: float = flag(3e-5, "weight decay", type=float)
    lr_mode: str = flag(
        "cosine", "decay of the learning rate", choices=("cosine", "poly", "step", "linear", "constant")
    )
    lr_decay: float = flag(0.1, "factor of --lr-mode step", type=fraction)
    lr_decay_epoch: str = flag("40,60", "epochs at which --lr-mode step decays")
    lr_decay_period: int = flag(0, "decay every so many epochs instead (--lr-mode step)", type=not_negative)
    warmup_lr: float = flag(0.0, "learning rate at the start of the warm-up", type=float)
    warmup_epochs: int = flag(0, "epochs of linear warm-up", type=not_negative)
    label_smoothing: bool = flag(False, "smooth labels by 0.1")
    no_wd: bool = flag(False, "no weight decay on biases and BatchNorm")
    mixup: bool = flag(False, "train on mixed pairs of images")
    mixup_alpha: float = flag(0.2, "parameter of the beta distribution of --mixup", type=positive_number)
    mixup_off_epoch: int = flag(0, "last epochs without --mixup", type=not_negative)
    mode: str = flag(
        "hybrid",
        "hybrid compiles what can be compiled; symbolic trains the exported graph",
        choices=("hybrid", "imperative", "symbolic"),
    )
    sampling: str = flag(
        "uniform",
        "paths of a step: one (uniform), every block choice once (fair), or widest to narrowest (sandwich)",
        choices=("uniform", "fair", "sandwich"),
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
        choices=("random", "evolution"),
    )
    flop_param_method: str = flag(
        "lookup_table",
        "symbol: count what is drawn under constraints by its symbol graph too (slow, the same numbers)",
        choices=("lookup_table", "symbol"),
    )
    execution: str = flag("slice", "how the supernet runs narrower widths", choices=("slice", "mask"))
    val_architectures: int = flag(5, "architectures sampled to validate a supernet", type=positive)
    val_frequency: int = flag(
        0, "epochs between validations; the last is always validated (0: only the last)", type=not_negative
    )
    reduced_dataset_scale: int = flag(
        1, "use only 1 / N of the batches of an epoch, others in every epoch", type=positive
    )
    train_on: str = flag(
        "",
        "train: without the held-out images; train_full: with them (default: supernet train, subnet train_full)",
        choices=("", "train", "train_full"),
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
    """Distillation from a trained network of GluonCV's zoo."""

    teacher: str = flag("", "name of the network to learn from")
    teacher_params: str = flag("", "its parameters (default: GluonCV's own, downloaded)")
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
class ComparisonOptions:
    """What costs are compared with."""

    comparison_model: str = flag(
        DEFAULT_COMPARISON_MODEL, "network that ratios are relative to", choices=tuple(COMPARISON_MODELS)
    )


@dataclass(frozen=True)
class CountOptions:
    """What else can be counted, for which images, and what is shown of it instead of the summary."""

    supernet: bool = flag(False, "count the supernet of the search space")
    symbol: str = flag("", "count any exported network (NAME-symbol.json)")
    input_size: Optional[int] = flag(None, "height and width of the input (default: the architecture's)", type=positive)
    classes: Optional[int] = flag(None, "number of classes (default: the architecture's)", type=positive)
    layers: bool = flag(False, "show every layer; of a supernet every branch, of --symbol every operator")
    profile: str = flag(
        "",
        "show multiplies and adds apart, in the MicroNet convention, for each choice block or operator, and the scores",
        choices=("", "block", "operator"),
    )
    comparison: bool = flag(False, "show the table of published networks, with a row for what else is named")
    distribution: Optional[int] = flag(
        None, "show quantiles of so many architectures drawn from the search space", type=positive
    )
    seed: int = flag(0, "seed of --distribution", type=not_negative)
    format: str = flag("text", "how tables are printed (csv: raw numbers, no notes)", choices=tuple(FORMATS))


@dataclass(frozen=True)
class LatencyTableOptions:
    """Latencies that were measured."""

    latency_table: str = flag(
        "", "file of latencies of the search space (utils.build_latency_table); latencies are then said too"
    )


@dataclass(frozen=True)
class ConstraintOptions(ComparisonOptions, LatencyTableOptions):
    """What a searched architecture may cost."""

    flop_max: float = flag(-1.0, "largest FLOPs, as a ratio to the comparison model (-1: no limit)", type=number)
    param_max: float = flag(-1.0, "largest parameters, as a ratio to the comparison model (-1: no limit)", type=number)
    score_max: Optional[float] = flag(
        None,
        "largest 0.5 flop ratio + 0.5 param ratio (-1: no limit) [1.0, with --evolution spos no limit]",
        type=number,
    )
    flop_max_m: float = flag(-1.0, "largest FLOPs in millions (-1: no limit)", type=number)
    param_max_m: float = flag(-1.0, "largest parameters in millions (-1: no limit)", type=number)
    latency_max: float = flag(-1.0, "largest latency in milliseconds by --latency-table (-1: no limit)", type=number)
    latency_error_max: float = flag(
        DEFAULT_LATENCY_ERROR_MAX,
        "refuse a --latency-table whose median relative error on held-out networks is larger, or unknown (-1: never)",
        type=number,
    )


@dataclass(frozen=True)
class EvolutionOptions:
    """Sizes and chances of an evolution."""

    population_size: int = flag(50, "architectures in a generation", type=positive)
    retain_length: int = flag(10, "best architectures kept as parents", type=positive)
    random_select: float = flag(0.1, "chance of any other architecture to become a parent", type=fraction)
    mutate_chance: float = flag(0.1, "chance of each gene to mutate", type=fraction)


@dataclass(frozen=True)
class SearchOptions(EvolutionOptions):
    """How to search."""

    supernet_params: str = flag("runs/supernet/model.params", "trained supernet")
    search_mode: str = flag(
        "genetic",
        "two-stage: genetic, blocks first, then the channels of the best blocks; nsga2: Pareto front of top-1 against "
        "--objectives",
        choices=SEARCH_MODES,
    )
    evolution: str = flag(
        "published",
        "operators of genetic and two-stage; spos: those of Single Path One-Shot, whose FLOPs limit is --flop-max 1",
        choices=tuple(EVOLUTIONS),
    )
    two_stage_blocks: int = flag(
        1, "best block choices whose channels are searched in the second stage of two-stage", type=positive
    )
    objectives: str = flag(
        "flops", f"costs that --search-mode nsga2 weighs against top-1, separated by commas: {', '.join(OBJECTIVES)}"
    )
    search_target: str = flag("acc", "what is maximised", choices=("acc", "balanced_flop_acc"))
    score_acc_ratio: float = flag(0.2, "weight of the combined score in --search-target balanced_flop_acc", type=float)
    search_on: str = flag("holdout", "images that score candidates", choices=("holdout", "val"))
    search_iters: int = flag(20, "generations (random: rounds of --population-size)", type=positive)
    topk: int = flag(3, "architectures to report", type=positive)
    fixed_block_choices: str = flag("", "search channel choices only, with these block choices")
    fixed_channel_choices: str = flag("", "search block choices only, with these channel choices")
    racing: bool = flag(False, "score in growing subsets of the images; drop what is confidently below the best so far")
    confidence: float = flag(0.95, "of --racing: that the best are those of scoring everything fully", type=confidence)
    scheduler: str = flag("", "score on the workers of this Dask scheduler, like tcp://host:8786 (empty: here)")
    seed_history: str = flag("", "history or run directory of an older search: its scores are used, its best bred from")
