"""Train a supernet (--model ShuffleNas), a subnet (--model ShuffleNas_fixArch) or a classifier of GluonCV's zoo.

Results lie in --save-dir: config.json, log.jsonl, checkpoints/ and, at the end, model.params. The same command
continues a run that was stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from oneshot_nas_network import Supernet
from spos.core.errors import Stopped
from spos.core.flags import OneLineParser, run_program
from spos.data.dataset import DataSet
from spos.data.loader import ImageLoader, make_loader
from spos.data.order import Order
from spos.data.pixels import remove_images
from spos.data.registry import check_same_lists, open_data, with_lists
from spos.engine.cluster import Cluster
from spos.engine.compat import mx
from spos.engine.devices import join_cluster, make_devices, versions
from spos.engine.parameters import save_parameters
from spos.runs.journal import Journal
from spos.runs.run import LISTS_FOLDER, LOG_FILE, MODEL_FILE, PREPROCESSING, SUBNET, SUPERNET, open_run
from spos.space.architecture_file import ArchitectureRecord
from spos.space.space import SearchSpace
from spos.training.assembly import make_objective, make_recipe, make_trainer, make_validation, sampling_policy
from spos.training.flags import TrainingFlags, describe_sampling
from spos.training.initial_values import check_files, files_digest, load_first_values, start
from spos.training.log import EpochRow, RunLog
from spos.training.network import make_network, space_and_architecture
from spos.training.progress import Run

DEFAULT_SAVE_DIR = {SUPERNET: "runs/supernet", SUBNET: "runs/subnet"}


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, tuple(TrainingFlags.groups().values()))
    flags = TrainingFlags.of(parser.parse_args(argv))
    check_files(flags.train)
    save_dir = Path(flags.run.save_dir or DEFAULT_SAVE_DIR.get(flags.train.model, f"runs/{flags.train.model}"))

    data = open_data(flags.data)
    ctx = make_devices(flags.device)
    space, record = space_and_architecture(flags, data)
    sampling = describe_sampling(flags.train, space) if space else ""
    net = make_network(flags, data, space, record, ctx)
    begins_with = load_first_values(net, flags.train)
    objective = make_objective(flags, data, ctx)
    cluster = join_cluster(flags.device)
    config = describe(flags, data, space, record, cluster)
    if cluster.is_chief:
        open_run(save_dir, config, flags.run.resume)
        if sampling:
            print(sampling, flush=True)
    cluster.barrier()
    folder = save_dir if cluster.is_chief else save_dir / f"worker-{cluster.rank}"
    data = with_lists(data, flags.data, folder / LISTS_FOLDER)
    check_same_lists(data, cluster)

    batches = open_batches(flags, data, net, len(ctx), cluster)
    policy = sampling_policy(flags.train, net, batches.num_batches)
    recipe = make_recipe(flags, objective, policy, batches.num_batches)
    trainer = make_trainer(flags, net, recipe, ctx, cluster)
    log = RunLog(Journal(folder / LOG_FILE, EpochRow), flags.train.logging_file if cluster.is_chief else "")
    run = Run(
        folder,
        log.epoch,
        make_validation(flags, data, trainer, policy, batches.num_batches, folder),
        flags.train.save_frequency,
        flags.train.save_steps,
        flags.train.keep_checkpoints,
        flags.train.log_interval,
    )
    progress = start(trainer, run, flags.train, begins_with)
    log.keep_epochs_before(progress.epoch)
    if flags.train.tensorboard and cluster.is_chief:
        log.write_tensorboard(save_dir / "tensorboard", progress.epoch)
    try:
        if progress.epoch < recipe.num_epochs:
            trainer.train(batches, run, progress)
        if cluster.is_chief:
            save_parameters(save_dir / MODEL_FILE, net)
            remove_images(save_dir)
            log.line(f"finished; parameters are in {save_dir / MODEL_FILE}")
    except Stopped:
        cluster.finish()
        raise
    cluster.finish()
    log.close()
    return 0


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
        "data": data.name,
        PREPROCESSING: data.preprocessing.to_json(),
        "workers": cluster.num_workers if cluster.is_distributed else None,
        "versions": versions(),
    }


def open_batches(
    flags: TrainingFlags, data: DataSet, net: mx.gluon.Block, num_devices: int, cluster: Cluster
) -> ImageLoader:
    """Training images: a supernet's without the held-out ones, unless the flags say otherwise."""
    split = flags.train.train_on or ("train" if isinstance(net, Supernet) else "train_full")
    order = Order(
        flags.run.seed,
        every_epoch=True,
        part=cluster.rank,
        num_parts=cluster.num_workers,
        drop_last=True,
        reduced_scale=flags.train.reduced_dataset_scale,
    )
    return make_loader(data, split, flags.data, data.preparation(training=True), order, num_devices)


if __name__ == "__main__":
    sys.exit(run_program(main))
