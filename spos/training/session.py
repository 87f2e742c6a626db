"""Sessions of training: a run from its flags to its parameters, and the same from a script."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from oneshot_nas_network import Subnet, Supernet
from spos.core.errors import InputError, Stopped
from spos.core.flags import RunOptions, fill
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.imbalance import say_if_imbalanced
from spos.data.loader import ImageLoader, make_loader
from spos.data.order import Order
from spos.data.pixels import load_images, remove_images
from spos.data.preprocessing import Preparation
from spos.data.registry import check_output, check_same_lists, open_data, with_lists
from spos.data.space import fit_to_data, sized_like
from spos.engine.cluster import Cluster
from spos.engine.compat import mx
from spos.engine.devices import join_cluster, make_devices, versions
from spos.engine.flags import TrainDeviceOptions
from spos.engine.parameters import save_arrays, save_parameters
from spos.execution.trained import TrainingGraphs
from spos.runs.files import PathLike, read_json, write_json
from spos.runs.journal import Journal
from spos.runs.lock import entered, locked
from spos.runs.run import (
    AVERAGE_MODEL_FILE,
    CONTENTS,
    LISTS_FOLDER,
    LOG_FILE,
    MODEL_FILE,
    PREPROCESSING,
    SPACE_FILE,
    SUBNET,
    SUPERNET,
)
from spos.space.architecture_file import ArchitectureRecord, load_architecture
from spos.space.flags import ArchitectureOptions, SpaceOptions, options_of, strides_for
from spos.space.space import SearchSpace
from spos.training.assembly import make_objective, make_recipe, make_trainer, make_validation, sampling_policy
from spos.training.averaging import WeightAverage, save_averaged_subnet, with_averages
from spos.training.flags import (
    TRIVIAL,
    TeacherOptions,
    TrainingFlags,
    TrainOptions,
    ZooOptions,
    check_training_flags,
    describe_sampling,
    images_of_a_step,
)
from spos.training.initial_values import check_files, files_digest, load_first_values, start
from spos.training.log import EpochRow, RunLog
from spos.training.losses import Objective
from spos.training.network import make_network, sized_data, space_and_architecture
from spos.training.progress import Run
from spos.training.recipes import recipe_values
from spos.training.teachers import teachers_digest
from spos.training.trainer import Trainer

DEFAULT_SAVE_DIR = {SUPERNET: "runs/supernet", SUBNET: "runs/subnet"}


def train_supernet(
    data: DataOptions,
    folder: PathLike,
    space: Optional[SearchSpace] = None,
    seed: int = 0,
    num_gpus: int = 0,
    **recipe: Any,
) -> Path:
    """Train a supernet, or go on with it: the same call continues a run that was stopped or killed, to the same bits.

    Args:
        data: the images, for example as `pack_arrays` gives them.
        folder: of the run: its config, log, checkpoints, the lists of held-out images, and `model.params`.
        space: one of `search_space()` or `load_space()`; the published one by default. The number of classes is that of
            the images, and so are input size and stride plan of the published layouts, unless made for their size.
        recipe: flags of training by their names: num_epochs, lr, sampling, cs_warm_up, label_smoothing, teacher, ...
    Returns: the file of the trained parameters.
    Raises: InputError if images or recipe cannot be used, or if `folder` holds another run; Stopped after Ctrl-C or
        SIGTERM, with a checkpoint.
    """
    options, file = SpaceOptions(), Path(folder) / SPACE_FILE
    if space:
        data = sized_like(data, space)
        size = open_data(data).input_size
        options = options_of(space, size) or SpaceOptions(space=str(file), strides=strides_for(space, size))
    flags = _flags(data, folder, seed, num_gpus, options, ArchitectureOptions(), model=SUPERNET, **recipe)
    if space and options.space == str(file):
        fit_to_data(space, options, open_data(data))  # refuses before anything is written
        _write_space(space, file)
    return train(flags)


def train_subnet(
    data: DataOptions,
    folder: PathLike,
    architecture: PathLike,
    seed: int = 0,
    num_gpus: int = 0,
    **recipe: Any,
) -> Path:
    """Train the network of one architecture from scratch, or go on with it.

    Args:
        architecture: a published name, or an architecture file such as the `best.json` of a search; it says the space.
        data, folder, recipe: as for `train_supernet`; also init_params and init_from_supernet, to begin with weights.
    Returns: the file of the trained parameters.
    Raises: as `train_supernet`, and InputError if there is no such architecture.
    """
    space = load_architecture(architecture).at_its_size.space
    data = sized_like(data, space)
    options = SpaceOptions(strides=strides_for(space, open_data(data).input_size))
    named = ArchitectureOptions(architecture=str(architecture))
    return train(_flags(data, folder, seed, num_gpus, options, named, model=SUBNET, **recipe))


def _write_space(space: SearchSpace, file: Path) -> None:
    """A space that no flags name, as a file that they do, in the folder of its run."""
    described = {"space": space.to_json(), "fingerprint": space.fingerprint}
    if not file.is_file():
        write_json(file, described)
    elif read_json(file) != described:
        raise InputError(f"{file.parent} holds a run in another search space; give another folder")


def _flags(
    data: DataOptions,
    folder: PathLike,
    seed: int,
    num_gpus: int,
    space: SpaceOptions,
    named: ArchitectureOptions,
    **recipe: Any,
) -> TrainingFlags:
    teaching = {field.name: recipe.pop(field.name) for field in fields(TeacherOptions) if field.name in recipe}
    named_recipe = fill(TrainOptions, recipe=recipe.get("recipe", "")).recipe
    devices = fill(TrainDeviceOptions, num_gpus=num_gpus)
    recipe = {**recipe_values(named_recipe, images_of_a_step(data, devices)), **recipe}
    flags = TrainingFlags(
        fill(RunOptions, save_dir=str(folder), seed=seed),
        fill(TrainOptions, **recipe),
        data,
        space,
        named,
        devices,
        fill(TeacherOptions, **teaching),
        ZooOptions(),
    )
    check_training_flags(flags)
    return flags


def train(flags: TrainingFlags) -> Path:
    """Train what the flags describe to its end, or go on with it. Returns the file of its parameters.

    Raises: InputError if they cannot be met; Stopped after a signal, with a checkpoint.
    """
    check_files(flags.train)
    flags = replace(flags, data=sized_data(flags))
    save_dir = save_dir_of(flags)
    check_output(flags.data, save_dir)
    session = Session.of(flags)
    with enter_run(save_dir, session.config, flags.run.resume, session.cluster) as folder:
        session.run(folder)
    return save_dir / MODEL_FILE


@dataclass(frozen=True)
class Session:
    """A training before its folder is entered: everything that may be refused is made.

    Attributes:
        begins_with: what a new training says of its first values.    sampling: what it says of its limits.
        config: what `config.json` says.
    """

    flags: TrainingFlags
    data: DataSet
    ctx: Tuple[mx.Context, ...]
    net: mx.gluon.Block
    objective: Objective
    cluster: Cluster
    begins_with: str
    sampling: str
    config: Mapping[str, Any]

    @classmethod
    def of(cls, flags: TrainingFlags) -> Session:
        """Raises: InputError if images, network, first values or teachers do not fit."""
        data, ctx = open_data(flags.data), tuple(make_devices(flags.device))
        space, record = space_and_architecture(flags, data)
        sampling = describe_sampling(flags.train, space) if space else ""
        net = make_network(flags, data, space, record, ctx)
        begins_with = load_first_values(net, flags.train)
        objective = make_objective(flags, data, save_dir_of(flags), ctx)
        cluster = join_cluster(flags.device)
        config = describe(flags, data, space, record, cluster)
        return cls(flags, data, ctx, net, objective, cluster, begins_with, sampling, config)

    def run(self, folder: Path) -> None:
        """Train to the end, from where the folder stands. Raises: Stopped after a signal."""
        flags, train, is_chief = self.flags, self.flags.train, self.cluster.is_chief
        data = with_lists(self.data, flags.data, folder / LISTS_FOLDER)
        check_same_lists(data, self.cluster)
        batches = open_batches(flags, data, self.net, len(self.ctx), self.cluster)
        self._say_what_is_trained(data)
        policy = sampling_policy(train, self.net, batches.num_batches)
        recipe = make_recipe(flags, self.objective, policy, batches.num_batches)
        trainer = make_trainer(flags, self.net, recipe, self.ctx, self.cluster)
        log = RunLog(Journal(folder / LOG_FILE, EpochRow), train.logging_file if is_chief else "")
        run = Run(
            folder,
            log.epoch,
            make_validation(flags, data, trainer, policy, batches.num_batches, folder, log.best_top1),
            train.save_frequency,
            train.save_steps,
            train.keep_checkpoints,
            train.log_interval,
            is_over=partial(log.is_over, train.patience),
        )
        progress = start(trainer, run, train, self.begins_with)
        if is_chief and isinstance(trainer.forward, TrainingGraphs):
            print(f"paths run by {trainer.forward.kernels}", flush=True)
        log.keep_epochs_before(progress.epoch)
        if train.tensorboard and is_chief:
            log.write_tensorboard(folder / "tensorboard", progress.epoch)
        try:
            if progress.epoch < recipe.num_epochs:
                trainer.train(batches, run, progress)
            if is_chief:
                self._finish(trainer, log, data, folder)
        except Stopped:
            self.cluster.finish()
            raise
        self.cluster.finish()
        log.close()

    def _say_what_is_trained(self, data: DataSet) -> None:
        if not self.cluster.is_chief:
            return
        if self.sampling:
            print(self.sampling, flush=True)
        if not self.flags.train.class_balanced:
            say_if_imbalanced(data.splits["train_full"], data.class_names)

    def _finish(self, trainer: Trainer, log: RunLog, data: DataSet, folder: Path) -> None:
        """Write what was trained, and say so."""
        patience = self.flags.train.patience
        if log.is_over(patience):
            log.line(f"ended: none of {patience} validations on held-out images was better than the best before")
        if trainer.average:
            log.line(save_average(trainer.net, trainer.average, self.flags, data, folder, self.ctx[0]))
        save_parameters(folder / MODEL_FILE, self.net)
        remove_images(folder)
        log.line(f"finished; parameters are in {folder / MODEL_FILE}")


def save_average(
    net: mx.gluon.Block,
    average: WeightAverage,
    flags: TrainingFlags,
    data: DataSet,
    folder: Path,
    ctx: mx.Context,
) -> str:
    """Write the averaged weights of a network. Returns what the log says of them.

    A supernet keeps the statistics of its last weights, which a search replaces. A subnet gets those of its averaged
    weights, exactly, of the images of the BatchNorm update.
    """
    file = folder / AVERAGE_MODEL_FILE
    if isinstance(net, Subnet):
        load_bn = partial(load_images, data, "bn", flags.data, folder)
        save_averaged_subnet(file, net, average, load_bn, flags.data.batch_size, ctx)
    else:
        save_arrays(file, with_averages(net, average))
    return f"averaged weights are in {file}"


@contextlib.contextmanager
def enter_run(save_dir: Path, config: Mapping[str, Any], must_resume: bool, cluster: Cluster) -> Iterator[Path]:
    """The folder of this worker, which no other program can enter within this block: the chief's is the run."""
    with contextlib.ExitStack() as locks:
        if cluster.is_chief:
            locks.enter_context(entered(save_dir, config, must_resume))
        cluster.barrier()
        folder = save_dir if cluster.is_chief else save_dir / f"worker-{cluster.rank}"
        if not cluster.is_chief:
            locks.enter_context(locked(folder))
        yield folder


def save_dir_of(flags: TrainingFlags) -> Path:
    """The run directory."""
    return Path(flags.run.save_dir or DEFAULT_SAVE_DIR.get(flags.train.model, f"runs/{flags.train.model}"))


def describe(
    flags: TrainingFlags,
    data: DataSet,
    space: Optional[SearchSpace],
    record: Optional[ArchitectureRecord],
    cluster: Cluster,
) -> Dict[str, Any]:
    """What `config.json` says of the run."""
    return {
        "program": "train_imagenet.py",
        "options": flags.to_json(),
        "space": space.to_json() if space else None,
        "fingerprint": space.fingerprint if space else None,
        "architecture": record.to_json() if record else None,
        **files_digest(flags.train),
        **teachers_digest(flags.teacher),
        "data": data.name,
        CONTENTS: data.contents(),
        PREPROCESSING: data.preprocessing.to_json(),
        "workers": cluster.num_workers if cluster.is_distributed else None,
        "versions": versions(),
    }


def open_batches(
    flags: TrainingFlags, data: DataSet, net: mx.gluon.Block, num_devices: int, cluster: Cluster
) -> ImageLoader:
    """Training images: a supernet's without the held-out ones, unless the flags say otherwise."""
    split = flags.train.train_on or ("train" if isinstance(net, Supernet) else "train_full")
    labels = data.splits[split].find_labels() if flags.train.class_balanced else None
    order = Order(
        flags.run.seed,
        every_epoch=True,
        part=cluster.rank,
        num_parts=cluster.num_workers,
        drop_last=True,
        reduced_scale=flags.train.reduced_dataset_scale,
        labels=labels,
    )
    return make_loader(data, split, flags.data, preparation_of(flags.train, data), order, num_devices)


def preparation_of(train: TrainOptions, data: DataSet) -> Preparation:
    """Of training images: augmented as those of the data set are, and by what the flags add."""
    usual = data.preparation(training=True)
    augmentation = replace(data.augmentation, erasing=train.random_erasing)
    if train.auto_augment == TRIVIAL:
        augmentation = replace(augmentation, trivial=True, jitter=0.0, pca_noise=0.0)
    return replace(usual, augmentation=augmentation)
