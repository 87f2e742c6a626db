"""Pack a folder of images into {train,val}.{rec,idx}, as MXNet's im2rec does, with class numbers that are right.

python -m utils.pack_images --imagenet PATH/TO/imagenet data/imagenet    # train/ and val/, a sub-folder per class
python -m utils.pack_images PATH/TO/pictures data/pictures               # the same, or one folder without such parts

The label is the position among the sorted class names; with --imagenet among the 1000 of ImageNet, present or not.
Photos are turned upright, and what is no picture is named and left out. Files appear when all are whole; a packing that
ends before leaves nothing behind. One packing at a time may write to a folder.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import os
import shutil
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError, warn
from spos.core.flags import OneLineParser, fraction, not_negative, positive, run_program
from spos.core.progress import progress_bar
from spos.core.stopping import StopRequest
from spos.data.flags import MAX_BAD_IMAGES
from spos.data.folder import ImageFolder, check_outside, class_folders, list_folder, open_folders, split_by_class
from spos.data.image_list import UnreadableImage
from spos.data.packing import Packing, RecordWriter, in_order
from spos.data.registry import imagenet_synsets
from spos.engine.compat import physical_cores
from spos.runs.lock import locked

DEFAULT_VAL_FRACTION = 0.1
CLASSES_FILE = "classes.txt"  # the name of class i is on line i, from 0
WORK_FOLDER = ".packing"  # below the target, until everything is whole
PACKED = (CLASSES_FILE, *(f"{name}.{kind}" for name in ("val", "train") for kind in ("lst", "idx", "rec")))


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("source", help="folder with train/ and val/, or with the class folders themselves")
    parser.add_argument("target", help="folder of the record files")
    parser.add_argument("--imagenet", action="store_true", help="classes are those of ImageNet, by folder name")
    parser.add_argument(
        "--val-fraction",
        type=fraction,
        default=None,
        help=f"share of each class that becomes val when there is no val/ [{DEFAULT_VAL_FRACTION}]",
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of that draw [0]")
    parser.add_argument(
        "--resize", type=not_negative, default=256, help="shorter side of the packed images; 0: files as they are [256]"
    )
    parser.add_argument("--quality", type=positive, default=95, help="JPEG quality of resized images [95]")
    parser.add_argument("--num-workers", "-j", type=positive, default=max(2, physical_cores()), help="threads")
    parser.add_argument(
        "--max-bad-images", type=not_negative, default=MAX_BAD_IMAGES, help="files that may be left out [10]"
    )
    args = parser.parse_args(argv)
    source, target = Path(args.source), Path(args.target)
    check_target(target)
    lists, classes = find_images(source, args.imagenet, args.val_fraction, args.seed)
    check_names(lists, classes)
    for images in lists.values():
        check_outside(target, images.root)
    with new_folder(target), locked(target), work_folder(target) as work, StopRequest("") as stop:
        check_target(target)
        with stop.at_once():
            for name, images in lists.items():
                print(f"{name}: {len(images)} images, {len(classes)} classes", flush=True)
                pack(work / name, images, Packing(args.resize, args.quality), args.num_workers, args.max_bad_images)
            (work / CLASSES_FILE).write_bytes(os.fsencode("".join(f"{name}\n" for name in classes)))
        for file in PACKED:
            os.replace(work / file, target / file)
    print(f"packed {target}/train.rec and val.rec; class names are in {target / CLASSES_FILE}")
    return 0


def check_target(target: Path) -> None:
    for name in ("train.rec", "val.rec"):
        if (target / name).exists():
            raise InputError(f"{target / name} is there already; remove it to pack again, or give another folder")


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """If the block fails, a folder that was not there before is removed again, unless something lies in it."""
    is_new = not folder.exists()
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A folder below the target for what is not whole yet; it is removed, however the block ends.

    Raises: InputError if the disk is full, or memory.
    """
    work = target / WORK_FOLDER
    shutil.rmtree(work, ignore_errors=True)  # of one that was killed
    try:
        work.mkdir(parents=True)
        yield work
    except OSError as error:
        raise InputError(
            f"{target}: nothing was packed, for it cannot be written ({error.strerror}). Free space there, or give "
            "another folder"
        ) from None
    except MemoryError:
        raise InputError("nothing was packed, for there is not enough memory; fewer --num-workers take less") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def find_images(
    source: Path, imagenet: bool, val_fraction: Optional[float], seed: int
) -> Tuple[Dict[str, ImageFolder], Sequence[str]]:
    """The lists of training and validation images, and the class names by label."""
    synsets = imagenet_synsets() if imagenet else ()
    train, val = source / "train", source / "val"
    if train.is_dir() and val.is_dir():
        if val_fraction is not None:
            raise InputError(f"--val-fraction is for a folder without val/, but {val} is there")
        train_images, val_images, names = open_folders(str(train), str(val), synsets)
        return {"train": train_images, "val": val_images}, names
    if train.is_dir() or val.is_dir():
        missing = val if train.is_dir() else train
        raise InputError(f"{missing} is not a folder; expected both train/ and val/, or class folders without these")
    if imagenet:
        raise InputError(f"{source} must hold train/ and val/, each with a sub-folder per class (n01440764 and so on)")
    names = tuple(class_folders(str(source)))
    fraction_of_val = DEFAULT_VAL_FRACTION if val_fraction is None else val_fraction
    train_images, val_images = split_by_class(list_folder(str(source), names), fraction_of_val, seed)
    return {"train": train_images, "val": val_images}, names


def check_names(lists: Dict[str, ImageFolder], classes: Sequence[str]) -> None:
    """Raise InputError for a name that cannot stand in a list."""
    for name in (*classes, *(path for images in lists.values() for path in images.paths)):
        if any(character in name for character in "\t\n\r"):
            raise InputError(f"{name!r}: no list of images can hold names with tabs or line ends; rename it")


def pack(prefix: Path, images: ImageFolder, packing: Packing, num_workers: int, max_bad_images: int) -> None:
    """Write `prefix`.rec, .idx and .lst of those images that are readable. Raises: InputError if too many are not."""
    rows = list(enumerate(zip(images.keys.tolist(), images.labels.tolist())))
    source = images.open()
    bad: List[int] = []

    def record(row: Tuple[int, Tuple[int, int]]) -> bytes:
        position, (key, label) = row
        return packing.record(source.name(position), key, label)

    with RecordWriter(f"{prefix}.rec", f"{prefix}.idx") as writer, closing(
        in_order(record, rows, num_workers)
    ) as records:
        for (position, (key, _)), content in progress_bar(records, total=len(rows), desc=prefix.name, unit="img"):
            try:
                if isinstance(content, UnreadableImage):
                    raise content
                writer.write(key, content)
            except UnreadableImage as error:
                bad.append(position)
                warn(f"{source.name(position)} could not be packed, so it is left out: it {error}")
            if len(bad) > max_bad_images:
                raise InputError(
                    f"{len(bad)} of {len(images)} images could not be packed, more than --max-bad-images "
                    f"{max_bad_images}; the first: {source.name(bad[0])}. Repair or remove them, or allow more"
                )
    if not writer.num_records:
        raise InputError(f"none of the {len(images)} images of {images.root} can be packed; see above")
    kept = images.take(np.setdiff1d(np.arange(len(images)), bad))
    Path(f"{prefix}.lst").write_bytes(kept.to_bytes())


if __name__ == "__main__":
    sys.exit(run_program(main))
