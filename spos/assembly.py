"""From filled option groups to the objects they describe: devices, data, search spaces, loaders.

What every program does before it starts, so that the programs themselves stay short.
"""

from __future__ import annotations

import os
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from spos.architectures import space_of
from spos.cluster import LOCAL, Cluster, open_cluster
from spos.compat import mx
from spos.data import IMAGENET_CROP_RATIO, CachedLoader, DataSet, ImageLoader, hold_out, open_record_dataset
from spos.digits import prepare_digits
from spos.errors import InputError
from spos.options import DataOptions, DeviceOptions, SpaceOptions, TrainDeviceOptions
from spos.record_file import check_sizes, count_images
from spos.search_space import SearchSpace, parse_choices

IMAGENET_CLASSES = 1000
IMAGENET_SIZE = 224
MAX_CACHED_BYTES = 2**30
LISTS_SEED = 20190401  # the held-out lists are the same for every run on the same files


def make_devices(options: DeviceOptions) -> Tuple[mx.Context, ...]:
    """The contexts to compute on. Raises InputError if they are not there or cannot do the precision."""
    if options.num_gpus == 0:
        if options.dtype != "float32":
            raise InputError(f"--dtype {options.dtype} needs a GPU: MXNet has no such convolution on CPU")
        return tuple(mx.cpu(i) for i in range(options.num_cpus_ctx))
    if options.num_gpus > mx.context.num_gpus():
        raise InputError(f"--num-gpus {options.num_gpus}: MXNet sees {mx.context.num_gpus()} GPUs on this machine")
    return tuple(mx.gpu(i) for i in range(options.num_gpus))


def join_cluster(options: TrainDeviceOptions) -> Cluster:
    """The workers that train together, this one among them; LOCAL unless `--kv-store` says otherwise."""
    if options.kv_store == "dist_async" and options.dtype != "float32":
        raise InputError(
            f"--kv-store dist_async adds small changes to the parameters, for which {options.dtype} is too coarse: "
            "use --dtype float32 or --kv-store dist_sync"
        )
    return open_cluster(options.kv_store)


def open_data(options: DataOptions) -> DataSet:
    """The data set that the flags name, without the held-out lists of a run (`hold_out`).

    Raises: InputError if files are missing, with the way to make them, or do not fit the flags.
    """
    if options.dataset == "digits":
        data = prepare_digits(str(Path(options.data_dir) / "digits"))
        if options.classes not in (0, data.num_classes):
            raise InputError(f"--classes {options.classes}: --dataset digits has {data.num_classes} classes")
    else:
        for name in ("rec_train", "rec_train_idx", "rec_val", "rec_val_idx"):
            path = getattr(options, name)
            if not Path(path).is_file():
                raise InputError(
                    f"--{name.replace('_', '-')} {path} does not exist. README.md, 'Your own images', says how to "
                    "make it; --dataset digits needs no files"
                )
        data = open_record_dataset(
            options.rec_train,
            options.rec_train_idx,
            options.rec_val,
            options.rec_val_idx,
            num_classes=options.classes or IMAGENET_CLASSES,
            input_size=options.input_size or IMAGENET_SIZE,
            crop_ratio=options.crop_ratio or IMAGENET_CROP_RATIO,
        )
        sizes = {"bn": options.update_bn_images, "search_val": options.holdout}
        check_sizes(sizes, count_images(data.splits["train_full"]), options.rec_train_idx)
    return replace(
        data, input_size=options.input_size or data.input_size, crop_ratio=options.crop_ratio or data.crop_ratio
    )


def with_lists(data: DataSet, options: DataOptions, directory: Path) -> DataSet:
    """`data` with its held-out lists, written to `directory` or found there."""
    return hold_out(data, options.holdout, options.update_bn_images, str(directory), LISTS_SEED)


def check_same_lists(data: DataSet, cluster: Cluster) -> None:
    """Raise InputError on a worker whose image files are not those of worker 0."""
    own = {
        name: [zlib.crc32(Path(file.idx).read_bytes()), os.path.getsize(file.rec)]
        for name, file in sorted(data.splits.items())
    }
    for name, content in cluster.share_json(own).items():
        if own.get(name) != content:
            raise InputError(
                f"worker {cluster.rank} has other images in its list '{name}' than worker 0 ({data.splits[name].rec}): "
                "copy the record and index files to all machines"
            )


def make_loader(
    data: DataSet,
    split: str,
    options: DataOptions,
    num_devices: int = 1,
    training: bool = False,
    seed: int = 0,
    cluster: Cluster = LOCAL,
) -> ImageLoader:
    """Batches of one split for all devices together; augmented, shuffled and without a short batch for training.

    Each worker of a cluster reads its own part.
    """
    file = data.splits[split]
    batch_size = options.batch_size * num_devices
    return ImageLoader(
        file,
        batch_size,
        data.input_size,
        data.num_classes,
        data.mean,
        data.std,
        augmentation=data.augmentation if training else None,
        crop_ratio=data.crop_ratio,
        seed=seed,
        num_workers=options.num_workers,
        drop_last=training,
        part_index=cluster.rank,
        num_parts=cluster.num_workers,
    )


def make_cached_loader(data: DataSet, split: str, options: DataOptions, num_devices: int = 1) -> Any:
    """Batches of one split for repeated evaluation: kept in memory when they take less than MAX_CACHED_BYTES."""
    loader = make_loader(data, split, options, num_devices)
    num_bytes = loader.num_images * 3 * data.input_size**2 * 4
    return CachedLoader(loader) if num_bytes <= MAX_CACHED_BYTES else loader


def make_space(options: SpaceOptions, data: DataSet) -> SearchSpace:
    """The search space of the flags, for these images."""
    return replace(space_of(options), **fit_to_data(options, data))


def fit_to_data(options: SpaceOptions, data: DataSet) -> Dict[str, Any]:
    """The fields of a space that depend on the images."""
    strides = parse_choices(options.strides, "--strides") if options.strides else data.strides
    return {"strides": strides, "input_size": data.input_size, "num_classes": data.num_classes}


def versions() -> Dict[str, Any]:
    """What a result depends on beside its flags: library versions and the commit of this code, if it is known."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or None
    except OSError:  # no git here
        commit = None
    return {"mxnet": mx.__version__, "numpy": np.__version__, "commit": commit}
