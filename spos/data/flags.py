"""Flags of the images."""

from __future__ import annotations

from dataclasses import dataclass

from spos.core.flags import flag, fraction, not_negative, positive

MAX_BAD_IMAGES = 10
HELD_OUT_SHARE = 0.1  # of the training images, for each of the two lists that are held out
MAX_HOLDOUT, MAX_BN_IMAGES = 50_000, 20_000  # held out unless flags say otherwise: those of ImageNet, as published
HOLDOUT = "holdout"
SCORING_LISTS = {HOLDOUT: "search_val", "val": "test"}  # lists of a data set that networks are measured on, by name


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
