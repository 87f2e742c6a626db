"""Data sets by the flags: one function for each value of `--dataset`, and the held-out lists of a run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from spos.core.errors import InputError, warn_once
from spos.data.augmentation import LARGE_IMAGE
from spos.data.cifar import IMAGE_SIZE, NUM_CLASSES, describe_cifar, prepare_cifar
from spos.data.dataset import (
    IMAGENET_CROP_RATIO,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LISTS_SEED,
    DataSet,
    check_num_classes,
    hold_out,
    open_folder_dataset,
    open_record_dataset,
)
from spos.data.digits import prepare_digits
from spos.data.flags import MAX_BN_IMAGES, MAX_HOLDOUT, DataOptions
from spos.data.folder import check_outside, class_folders
from spos.data.image_list import check_sizes
from spos.data.preprocessing import Preprocessing
from spos.data.recordio import RecordFile, find_labels
from spos.engine.compat import import_gluoncv
from spos.runs.files import PathLike

if TYPE_CHECKING:
    from spos.engine.cluster import Cluster

CLASSES_FILE = "classes.txt"  # beside packed images: the name of class i is on line i, from 0
PACKED_LISTS = "lists"  # the folder beside packed images with the lists that were drawn then
HELD_OUT_LISTS = ("train", "bn", "search_val")  # of packed images, if they were drawn then

IMAGENET_CLASSES = 1000
IMAGENET_SIZE = 224
_ADVICE = "README.md, 'Your own images', says how to make both; --dataset digits needs no files"


def open_dataset(options: DataOptions) -> DataSet:
    """Raises: InputError if files are missing, with the way to make them, or do not fit the flags."""
    return _OPENERS[options.dataset](options)


def imagenet_synsets() -> Tuple[str, ...]:
    """The 1000 folder names of ImageNet, sorted: the class is the position."""
    import_gluoncv()
    from gluoncv.data import ImageNet1kAttr

    return tuple(ImageNet1kAttr().synset)


def imagenet_class_names() -> Tuple[str, ...]:
    """What the 1000 classes are called in English, by label."""
    import_gluoncv()
    from gluoncv.data import ImageNet1kAttr

    return tuple(ImageNet1kAttr().classes)


def imagenet_preprocessing(options: DataOptions) -> Preprocessing:
    """What the flags say about ImageNet's images when none of them are there."""
    return Preprocessing(
        _input_size(options), _crop_ratio(options), IMAGENET_MEAN, IMAGENET_STD, imagenet_class_names()
    )


def _open_imagenet(options: DataOptions) -> DataSet:
    """Record files if they are named or there; else raw folders."""
    folders = (Path(options.data_dir) / "imagenet", Path(options.data_dir))
    rec = _named_record_files(options)
    if rec is None:
        rec = next(filter(None, map(_record_files_in, folders)), None)
    if rec is not None:
        data = open_record_dataset(
            *_four(rec), options.classes or IMAGENET_CLASSES, _input_size(options), _crop_ratio(options)
        )
        return replace(data, class_names=imagenet_class_names() if data.num_classes == IMAGENET_CLASSES else ())
    folder = next((folder for folder in folders if _is_raw(folder)), None)
    if options.use_rec or folder is None:
        raise InputError(
            f"--dataset imagenet: {folders[0] / 'train.rec'} does not exist"
            + ("" if options.use_rec else f", and neither do the raw folders {folders[1] / 'train'} and val")
            + f". Give --rec-train and --rec-val, or a --data-dir with such files or with raw folders. {_ADVICE}"
        )
    return replace(_open_folders(folder, options, imagenet_synsets()), class_names=imagenet_class_names())


def _open_folder(options: DataOptions) -> DataSet:
    _refuse_record_flags(options)
    folder = Path(options.data_dir)
    if not _is_raw(folder):
        raise InputError(
            f"--dataset folder: {folder / 'train'} and {folder / 'val'} must be folders with one sub-folder per class. "
            f"Give --data-dir; scripts/prepare_folder.sh splits a folder that has no such parts. {_ADVICE}"
        )
    return _open_folders(folder, options, ())


def _open_folders(folder: Path, options: DataOptions, classes: Tuple[str, ...]) -> DataSet:
    if classes:
        unknown = sorted(set(class_folders(str(folder / "train"))) - set(classes))
        if unknown:
            raise InputError(
                f"{folder / 'train' / unknown[0]} is no class of ImageNet (a name like {classes[0]}). Use --dataset "
                f"folder --data-dir {folder} for images of your own"
            )
    return open_folder_dataset(
        str(folder / "train"),
        str(folder / "val"),
        classes,
        options.classes,
        _input_size(options),
        _crop_ratio(options),
    )


def _open_record(options: DataOptions) -> DataSet:
    rec = _named_record_files(options) or _record_files_in(Path(options.data_dir))
    if rec is None:
        raise InputError(
            f"--dataset record: {Path(options.data_dir) / 'train.rec'} does not exist. Give --rec-train and --rec-val, "
            f"or --data-dir with train.rec and val.rec. {_ADVICE}"
        )
    train, val = rec
    num_found = int(find_labels(train).max()) + 1
    check_num_classes(options.classes, num_found, train.rec)
    num_classes = options.classes or num_found
    largest = int(find_labels(val).max())
    if largest >= num_classes:
        raise InputError(f"{val.rec} has label {largest}, but {train.rec} only 0..{num_found - 1}; give --classes")
    data = open_record_dataset(*_four(rec), num_classes, _input_size(options), _crop_ratio(options))
    packed = Path(train.rec).parent
    names = read_class_names(packed / CLASSES_FILE, num_classes)
    is_packed = (Path(train.rec), Path(train.idx)) == (packed / "train.rec", packed / "train.idx")
    has_lists = is_packed and (packed / PACKED_LISTS / "train.idx").is_file()
    if options.holdout or options.update_bn_images or not has_lists:
        return replace(data, class_names=names)
    lists = {name: RecordFile(train.rec, str(packed / PACKED_LISTS / f"{name}.idx")) for name in HELD_OUT_LISTS}
    return replace(data, class_names=names, splits={**data.splits, **lists})


def read_class_names(file: Path, num_classes: int) -> Tuple[str, ...]:
    """By label, as they were packed; none if nothing says them. Raises: InputError if there are too few."""
    if not file.is_file():
        return ()
    names = tuple(os.fsdecode(line) for line in file.read_bytes().splitlines())
    if len(names) < num_classes:
        raise InputError(f"{file} names {len(names)} classes, but the images have {num_classes}; remove or complete it")
    return names[:num_classes]


def _open_cifar(options: DataOptions) -> DataSet:
    check_num_classes(options.classes, NUM_CLASSES[options.dataset], f"--dataset {options.dataset}")
    rec = _named_record_files(options)
    train, val = rec or prepare_cifar(options.dataset, str(Path(options.data_dir) / options.dataset))
    data = describe_cifar(options.dataset, train, val, options.input_size or IMAGE_SIZE)
    return replace(data, num_classes=options.classes or data.num_classes)


def _open_digits(options: DataOptions) -> DataSet:
    if options.use_rec or _named_record_files(options):
        raise InputError("--dataset digits brings its own images; for record files use --dataset record")
    data = prepare_digits(str(Path(options.data_dir) / "digits"))
    if options.classes not in (0, data.num_classes):
        raise InputError(f"--classes {options.classes}: --dataset digits has {data.num_classes} classes")
    return data


_OPENERS: Dict[str, Callable[[DataOptions], DataSet]] = {
    "imagenet": _open_imagenet,
    "folder": _open_folder,
    "record": _open_record,
    "cifar10": _open_cifar,
    "cifar100": _open_cifar,
    "digits": _open_digits,
}


def _named_record_files(options: DataOptions) -> Optional[Tuple[RecordFile, RecordFile]]:
    """The files that --rec-train and --rec-val name; None if none of the four flags is given."""
    given = {name: getattr(options, name) for name in ("rec_train", "rec_train_idx", "rec_val", "rec_val_idx")}
    if not any(given.values()):
        return None
    for name in ("rec_train", "rec_val"):
        if not given[name]:
            raise InputError(f"--{name.replace('_', '-')} is missing; --rec-train and --rec-val go together")
        given[f"{name}_idx"] = given[f"{name}_idx"] or _index_of(given[name])
    for name, path in given.items():
        if not Path(path).is_file():
            raise InputError(f"--{name.replace('_', '-')} {path} does not exist. {_ADVICE}")
    return (
        RecordFile(given["rec_train"], given["rec_train_idx"]),
        RecordFile(given["rec_val"], given["rec_val_idx"]),
    )


def _record_files_in(folder: Path) -> Optional[Tuple[RecordFile, RecordFile]]:
    """train.rec and val.rec of a folder, or None if there is no train.rec."""
    if not (folder / "train.rec").is_file():
        return None
    train, val = (str(folder / name) for name in ("train.rec", "val.rec"))
    for path in (val, _index_of(train), _index_of(val)):
        if not Path(path).is_file():
            raise InputError(f"{path} does not exist beside {train}. {_ADVICE}")
    return RecordFile(train, _index_of(train)), RecordFile(val, _index_of(val))


def _index_of(rec: str) -> str:
    return str(Path(rec).with_suffix(".idx"))


def _four(files: Tuple[RecordFile, RecordFile]) -> Tuple[str, str, str, str]:
    train, val = files
    return train.rec, train.idx, val.rec, val.idx


def _is_raw(folder: Path) -> bool:
    return (folder / "train").is_dir() and (folder / "val").is_dir()


def _refuse_record_flags(options: DataOptions) -> None:
    if options.use_rec or _named_record_files(options):
        raise InputError("--dataset folder reads raw folders; for record files leave it out, or use --dataset record")


def _input_size(options: DataOptions) -> int:
    return options.input_size or IMAGENET_SIZE


def _crop_ratio(options: DataOptions) -> float:
    return options.crop_ratio or (IMAGENET_CROP_RATIO if _input_size(options) >= LARGE_IMAGE else 1.0)


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
        check_sizes(held_out_sizes(data, options), len(train), train.where)
    if data.num_classes == 1:
        warn_once(
            f"{data.name} has one class only, so every answer is right and nothing can be learned. Do the folders lie "
            "one level deeper, or higher?"
        )
    if options.batch_size == 1:
        warn_once(
            "--batch-size 1: BatchNorm sees one image at a time, and where its map is 1x1 the variance of one value, "
            "which is 0. Use larger batches"
        )
    return data


def check_output(options: DataOptions, output: PathLike) -> None:
    """Raise InputError if results would lie among class folders that are read; before anything is written or opened."""
    folders = {"imagenet": ("imagenet", ""), "folder": ("",)}.get(options.dataset, ())
    for part in (Path(options.data_dir) / folder / split for folder in folders for split in ("train", "val")):
        if part.is_dir():
            check_outside(output, str(part))


def held_out_sizes(data: DataSet, options: DataOptions) -> Dict[str, int]:
    """How many training images each list takes: as many as the flags say, or a tenth up to the published sizes."""
    tenth = max(1, len(data.splits["train_full"]) // 10)
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
    own: Dict[str, Any] = {name: images.digest() for name, images in sorted(data.splits.items())}
    own.update({f"{name} (its content)": checksum for name, checksum in data.contents().items()})
    for name, content in cluster.share_json(own).items():
        if own.get(name) != content:
            raise InputError(
                f"worker {cluster.rank} has other images in its list '{name}' of {data.name} than worker 0: copy the "
                "images to all machines"
            )
