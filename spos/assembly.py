"""From filled option groups to the objects they describe: devices, data, search spaces, loaders.

What every program does before it starts, so that the programs themselves stay short.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import cv2
import numpy as np

from spos.architectures import space_of
from spos.cluster import LOCAL, Cluster, open_cluster
from spos.compat import mx, return_freed_memory
from spos.data import ImageLoader
from spos.data_set import DataSet, hold_out
from spos.datasets import open_dataset
from spos.errors import InputError
from spos.image_source import count_listed, summarize_list
from spos.options import DataOptions, DeviceOptions, SpaceOptions, TrainDeviceOptions
from spos.pixels import Pixels, load_pixels
from spos.record_file import check_sizes
from spos.records import PIXELS_FOLDER
from spos.search_space import SearchSpace, parse_choices

MAX_HOLDOUT, MAX_BN_IMAGES = 50_000, 20_000  # ImageNet's, as published
LISTS_SEED = 20190401  # held-out lists and their order are the same for every run on the same files


def make_devices(options: DeviceOptions) -> Tuple[mx.Context, ...]:
    """The contexts to compute on. Raises InputError if they are not there or cannot do the precision.

    With `--low-memory` this process, and those it starts, give freed memory back from now on.
    """
    if options.low_memory:
        return_freed_memory()
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
    data = open_dataset(options)
    data = replace(
        data, input_size=options.input_size or data.input_size, crop_ratio=options.crop_ratio or data.crop_ratio
    )
    if "train" not in data.splits:
        train = data.splits["train_full"]
        check_sizes(held_out_sizes(data, options), count_listed(train), getattr(train, "idx", "") or train.root)
    return data


def held_out_sizes(data: DataSet, options: DataOptions) -> Dict[str, int]:
    """How many training images each list takes: as many as the flags say, or a tenth up to the published sizes."""
    tenth = max(1, count_listed(data.splits["train_full"]) // 10)
    return {
        "bn": options.update_bn_images or min(tenth, MAX_BN_IMAGES),
        "search_val": options.holdout or min(tenth, MAX_HOLDOUT),
    }


def with_lists(data: DataSet, options: DataOptions, directory: Path) -> DataSet:
    """`data` with its held-out lists, written to `directory` or found there."""
    sizes = held_out_sizes(data, options)
    return hold_out(data, sizes["search_val"], sizes["bn"], str(directory), LISTS_SEED)


def check_same_lists(data: DataSet, cluster: Cluster) -> None:
    """Raise InputError on a worker whose image files are not those of worker 0."""
    own = {name: summarize_list(images) for name, images in sorted(data.splits.items())}
    for name, content in cluster.share_json(own).items():
        if own.get(name) != content:
            raise InputError(
                f"worker {cluster.rank} has other images in its list '{name}' of {data.name} than worker 0: copy the "
                "images to all machines"
            )


def make_loader(
    data: DataSet,
    split: str,
    options: DataOptions,
    num_devices: int = 1,
    training: bool = False,
    seed: int = 0,
    reduced_scale: int = 1,
    cluster: Cluster = LOCAL,
    order_seed: Optional[int] = None,
    as_pixels: bool = False,
) -> ImageLoader:
    """Batches of one split for all devices together; augmented, shuffled and without a short batch for training.

    Each worker of a cluster reads its own part.
    """
    batch_size = options.batch_size * num_devices
    return ImageLoader(
        data.splits[split],
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
        reduced_scale=reduced_scale,
        max_bad_images=options.max_bad_images,
        order_seed=order_seed,
        as_pixels=as_pixels,
    )


def load_images(data: DataSet, split: str, options: DataOptions, folder: Path, shared: bool = False) -> Pixels:
    """The images of one split for repeated evaluation, in a random order that is the same for every run.

    Args:
        folder: for those that take too much memory, or that other processes of this machine use too (`shared`).
    """
    loader = make_loader(data, split, options, order_seed=LISTS_SEED, as_pixels=True)
    look = json.dumps([summarize_list(data.splits[split]), data.input_size, data.crop_ratio, cv2.__version__])
    name = f"{split}-{hashlib.sha256(look.encode()).hexdigest()[:16]}"
    return load_pixels(loader, data.mean, data.std, folder / PIXELS_FOLDER, name, shared)


def load_first_images(data: DataSet, split: str, options: DataOptions, num_images: int) -> Pixels:
    """The first images of `load_images`, or all if there are fewer; no others are decoded."""
    few = replace(options, batch_size=min(options.batch_size, num_images))
    parts, count = [], 0
    with closing(make_loader(data, split, few, order_seed=LISTS_SEED, as_pixels=True).epoch(0)) as batches:
        for images, labels in batches:
            parts.append((images.asnumpy(), labels.asnumpy()))
            count += len(labels)
            if count >= num_images:
                break
    images, labels = (np.concatenate(part)[:num_images] for part in zip(*parts))
    return Pixels(images, labels, data.mean, data.std)


def remove_images(folder: Path) -> None:
    """Remove what `load_images` kept in a run that has ended; gigabytes for ImageNet."""
    if (folder / PIXELS_FOLDER).is_dir():
        shutil.rmtree(folder / PIXELS_FOLDER)


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
    return {"mxnet": mx.__version__, "numpy": np.__version__, "opencv": cv2.__version__, "commit": commit}
