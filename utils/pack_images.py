"""Pack a folder of images into {train,val}.{rec,idx} with MXNet's own im2rec, with class numbers that are right.

python -m utils.pack_images --imagenet PATH/TO/imagenet data/imagenet    # train/ and val/, a sub-folder per class
python -m utils.pack_images PATH/TO/pictures data/pictures               # the same, or one folder without such parts

im2rec numbers the folders that hold images, so one empty folder shifts all that follow, and it goes on after a file it
cannot read. Here the lists are made first (label = position among the sorted class names; with --imagenet among the
1000 of ImageNet, present or not), and what was packed is compared with them. Files appear when all are whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError, warn
from spos.core.flags import OneLineParser, fraction, not_negative, positive, run_program
from spos.core.installation import ROOT
from spos.data.flags import MAX_BAD_IMAGES
from spos.data.folder import ImageFolder, class_folders, list_folder, open_folders, split_by_class
from spos.data.recordio import RecordFile, open_index
from spos.data.registry import imagenet_synsets
from spos.engine.compat import physical_cores
from spos.runs.files import write_atomic

DEFAULT_VAL_FRACTION = 0.1
CLASSES_FILE = "classes.txt"  # the name of class i is on line i, from 0
WORK_FOLDER = ".packing"  # below the target, until everything is whole


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
    parser.add_argument("--num-workers", "-j", type=positive, default=max(2, physical_cores()), help="processes")
    parser.add_argument(
        "--max-bad-images", type=not_negative, default=MAX_BAD_IMAGES, help="images im2rec may fail to pack [10]"
    )
    args = parser.parse_args(argv)
    source, target = Path(args.source), Path(args.target)
    for name in ("train.rec", "val.rec"):
        if (target / name).exists():
            raise InputError(f"{target / name} is there already; remove it to pack again, or give another folder")
    lists, classes = find_images(source, args.imagenet, args.val_fraction, args.seed)
    work = target / WORK_FOLDER
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name, images in lists.items():
        print(f"{name}: {len(images)} images, {len(classes)} classes", flush=True)
        check_paths(images)
        (work / f"{name}.lst").write_bytes(images.to_bytes())
        run_im2rec(work / name, images.root, im2rec_flags(args.resize, args.quality), args.num_workers)
        check_packed(work, name, images, args.max_bad_images)
    for name in ("val", "train"):  # train.rec appears last: it is what others look for
        for suffix in (".lst", ".idx", ".rec"):
            os.replace(work / f"{name}{suffix}", target / f"{name}{suffix}")
    write_atomic(target / CLASSES_FILE, "".join(f"{name}\n" for name in classes))
    shutil.rmtree(work)
    print(f"packed {target}/train.rec and val.rec; class names are in {target / CLASSES_FILE}")
    return 0


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


def check_paths(images: ImageFolder) -> None:
    """Raise InputError for a file name that cannot stand in a list."""
    for path in images.paths:
        if path != path.strip() or any(character in path for character in "\t\n\r"):
            raise InputError(f"{images.root}/{path!r}: im2rec cannot read names with tabs, line ends or outer blanks")


def im2rec_flags(resize: int, quality: int) -> List[str]:
    if resize == 0:
        return ["--pass-through"]
    return ["--resize", str(resize), "--quality", str(quality)]


def run_im2rec(prefix: Path, root: str, flags: Sequence[str], num_workers: int) -> None:
    """Pack the list `prefix`.lst. With one process im2rec stops at the first bad file, so there are at least two."""
    command = [sys.executable, "-m", "utils.im2rec", *flags, "--num-thread", str(max(2, num_workers))]
    done = subprocess.run([*command, str(prefix.resolve()), str(Path(root).resolve())], cwd=ROOT, check=False)
    if done.returncode:
        raise InputError(f"im2rec failed on {root} (exit code {done.returncode}); see above. Nothing was packed")


def check_packed(work: Path, name: str, images: ImageFolder, max_bad_images: int) -> None:
    """Compare what was packed with the list, and keep what is in both. Raises: InputError if too much is missing."""
    path = work / f"{name}.idx"
    if not path.is_file() or path.stat().st_size == 0:
        raise InputError(f"im2rec packed none of the {len(images)} images of {images.root}; see above")
    packed = np.isin(images.keys, open_index(RecordFile(str(work / f"{name}.rec"), str(path))).keys)
    missing = [f"{images.root}/{images.paths[i]}" for i in np.flatnonzero(~packed)]
    for file in missing[: max_bad_images + 1]:
        warn(f"{file} could not be packed, so it is left out. It is not a picture, or damaged")
    if len(missing) > max_bad_images:
        raise InputError(
            f"{len(missing)} of {len(images)} images could not be packed, more than --max-bad-images {max_bad_images}; "
            f"the first: {missing[0]}. Repair or remove them, or allow more"
        )
    (work / f"{name}.lst").write_bytes(images.take(np.flatnonzero(packed).tolist()).to_bytes())


if __name__ == "__main__":
    sys.exit(run_program(main))
