"""Pack a folder of images into {train,val}.{rec,idx}, as MXNet's im2rec does, with class numbers that are right.

python -m utils.pack_images --imagenet PATH/TO/imagenet data/imagenet    # train/ and val/, a sub-folder per class
python -m utils.pack_images PATH/TO/pictures data/pictures               # the same, also with test/, or class folders
python -m utils.pack_images PATH/TO/pictures.csv data/pictures           # a table with the columns path,label[,split]

The label is the position among the sorted class names; with --imagenet among the 1000 of ImageNet, present or not.
Photos are turned upright, and what is no picture is named and left out. Where nobody has set test images aside, a share
of each class is drawn; lists of held-out images are drawn too, with a share of each class, and lie in TARGET/lists.
Near-duplicates of an image are in its list. Files appear when all are whole, train.rec last; a packing that ends before
leaves nothing behind. One packing at a time may write to a folder.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import os
import shutil
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Callable, Generator, Iterator, List, Optional, Tuple, TypeVar, Union

import numpy as np

from spos.core.errors import InputError, warn
from spos.core.flags import OneLineParser, below_one, not_negative, positive, run_program
from spos.core.progress import progress_bar
from spos.core.stopping import StopRequest
from spos.data.flags import MAX_BAD_IMAGES, MAX_BN_IMAGES, MAX_HOLDOUT
from spos.data.folder import ImageFolder, check_outside, open_folders, read_file
from spos.data.image_list import UnreadableImage
from spos.data.packing import Packing, RecordWriter, in_order
from spos.data.pictures import Pictures, Split, find_pictures, split_pictures
from spos.data.recordio import read_index
from spos.data.registry import CLASSES_FILE, PACKED_LISTS, imagenet_synsets
from spos.data.similar import small_copy
from spos.engine.compat import physical_cores
from spos.runs.files import write_atomic
from spos.runs.lock import locked

Result = TypeVar("Result")

DEFAULT_VAL_FRACTION = 0.1
NAMES = ("train", "val")  # of the record files
WORK_FOLDER = ".packing"  # below the target, until everything is whole
MOVED = "moved"  # a file in it that names, once all are whole, those that are moved to the target
PACKED = (CLASSES_FILE, *(f"{name}.{kind}" for name in ("val", "train") for kind in ("lst", "idx", "rec")))


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, ())
    parser.add_argument("source", help="folder with train/, val/, test/ or class folders; or a CSV file")
    parser.add_argument("target", help="folder of the record files")
    parser.add_argument("--imagenet", action="store_true", help="classes are those of ImageNet, by folder name")
    parser.add_argument(
        "--val-fraction",
        type=below_one,
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
    check_target(target, PACKED[-1])
    found: Union[Pictures, Split] = find_imagenet(source) if args.imagenet else find_pictures(source)
    if args.val_fraction is not None and found.test:
        raise InputError(f"--val-fraction is for images without a split, but {found.test.where} is there")
    check_names(found)
    for root in found.class_roots:
        check_outside(target, root)
    packing, options = Packing(args.resize, args.quality), (args.num_workers, args.max_bad_images)
    with new_folder(target), locked(target), work_folder(target) as work, StopRequest("") as stop:
        check_target(target, "train.rec", "val.rec", PACKED_LISTS, *PACKED)
        with stop.at_once():
            share = DEFAULT_VAL_FRACTION if args.val_fraction is None else args.val_fraction
            split = found if isinstance(found, Split) else draw_split(found, share, args.seed, *options)
            for name, images in zip(NAMES, (split.train, split.test)):
                print(f"{name}: {len(images)} images, {len(found.classes)} classes", flush=True)
                pack(work / name, images, packing, *options)
            has_lists = write_lists(work, split)
            (work / CLASSES_FILE).write_bytes(os.fsencode("".join(f"{name}\n" for name in found.classes)))
        names = (PACKED_LISTS, *PACKED) if has_lists else PACKED
        write_atomic(work / MOVED, "".join(f"{name}\n" for name in names))
        for name in names:
            os.replace(work / name, target / name)
    print(f"packed {target}/train.rec and val.rec; class names are in {target / CLASSES_FILE}")
    return 0


def check_target(target: Path, *names: str) -> None:
    for name in names:
        if (target / name).exists():
            raise InputError(f"{target / name} is there already; remove it to pack again, or give another folder")


def remove_moved(target: Path, work: Path) -> None:
    """Take out what a packing has moved to the target that ended before train.rec, which is moved last."""
    if not (work / MOVED).exists() or (target / PACKED[-1]).exists():
        return
    for name in (work / MOVED).read_text().splitlines():
        if (work / name).exists():
            continue  # it had not come to this one
        if (target / name).is_dir():
            shutil.rmtree(target / name)
        else:
            (target / name).unlink(missing_ok=True)


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
    remove_moved(target, work)  # of one that was killed
    shutil.rmtree(work, ignore_errors=True)
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
        remove_moved(target, work)
        shutil.rmtree(work, ignore_errors=True)


def find_imagenet(source: Path) -> Split:
    """Both lists of ImageNet, whose classes are those of its 1000 names; what is held out, a run draws."""
    train, val = source / "train", source / "val"
    if not (train.is_dir() and val.is_dir()):
        raise InputError(f"{source} must hold train/ and val/, each with a sub-folder per class (n01440764 and so on)")
    images, held_back, names = open_folders(str(train), str(val), imagenet_synsets())
    return Split(images, held_back, {}, names)


def check_names(found: Union[Pictures, Split]) -> None:
    """Raise InputError for a name that cannot stand in a list."""
    paths = (path for images in (found.train, found.test) if images for path in images.paths)
    for name in (*found.classes, *paths):
        if any(character in name for character in "\t\n\r"):
            raise InputError(f"{name!r}: no list of images can hold names with tabs or line ends; rename it")


def draw_split(found: Pictures, test_share: float, seed: int, num_workers: int, max_bad_images: int) -> Split:
    """The lists, after a look at every image: which can be read, and which show the same picture."""
    kept, copies = found, []
    for name, images in (("train", found.train), ("test", found.test)):
        if images is not None:
            good, seen = look(images, num_workers, max_bad_images)
            copies.append(seen)
            kept = kept.keep(name, good)
    split = split_pictures(kept, np.concatenate(copies), test_share, MAX_HOLDOUT, MAX_BN_IMAGES, seed)
    if split.num_similar:
        warn(f"{split.num_similar:,} of {len(split.test):,} test images are near-duplicates of training images")
    return split


def look(images: ImageFolder, num_workers: int, max_bad_images: int) -> Tuple[np.ndarray, np.ndarray]:
    """Positions of the images that are readable, and their small copies. Raises: InputError if too many are not."""
    positions, copies = [], []
    for position, copy in readable(images, lambda path, *_: small_copy(read_file(path)), num_workers, max_bad_images):
        positions.append(position)
        copies.append(copy)
    if not copies:
        raise InputError(f"none of the {len(images)} images of {images.root} can be packed; see above")
    return np.array(positions), np.stack(copies)


def readable(
    images: ImageFolder, work: Callable[[str, int, int], Result], num_workers: int, max_bad_images: int
) -> Generator[Tuple[int, Result], None, None]:
    """What `work` makes of path, key and label of each image, by position, for those images that are readable.

    Raises: InputError if more than `max_bad_images` are not.
    """
    rows = list(enumerate(zip(images.keys.tolist(), images.labels.tolist())))
    source = images.open()
    bad: List[int] = []

    def one(row: Tuple[int, Tuple[int, int]]) -> Result:
        position, (key, label) = row
        return work(source.name(position), key, label)

    with closing(in_order(one, rows, num_workers)) as results:
        for (position, _), result in results:
            if not isinstance(result, UnreadableImage):
                yield position, result
                continue
            bad.append(position)
            warn(f"{source.name(position)} could not be packed, so it is left out: it {result}")
            if len(bad) > max_bad_images:
                raise InputError(
                    f"{len(bad)} of {len(images)} images could not be packed, more than --max-bad-images "
                    f"{max_bad_images}; the first: {source.name(bad[0])}. Repair or remove them, or allow more"
                )


def pack(prefix: Path, images: ImageFolder, packing: Packing, num_workers: int, max_bad_images: int) -> None:
    """Write `prefix`.rec, .idx and .lst of those images that are readable. Raises: InputError if too many are not."""
    kept: List[int] = []
    records = readable(images, packing.record, num_workers, max_bad_images)
    with RecordWriter(f"{prefix}.rec", f"{prefix}.idx") as writer, closing(records):
        for position, content in progress_bar(records, total=len(images), desc=prefix.name, unit="img"):
            kept.append(position)
            writer.write(int(images.keys[position]), content)
    if not kept:
        raise InputError(f"none of the {len(images)} images of {images.root} can be packed; see above")
    Path(f"{prefix}.lst").write_bytes(images.take(kept).to_bytes())


def write_lists(work: Path, split: Split) -> bool:
    """Indexes of the held-out lists, of those images that are packed. False if one is empty: then none is written."""
    index = read_index(str(work / "train.idx"))
    lists = {
        name: index.take(np.flatnonzero(np.isin(index.keys, split.train.keys[positions])))
        for name, positions in split.lists.items()
    }
    empty = [name for name, lines in lists.items() if not len(lines)]
    if empty:
        warn(
            f"no held-out lists are written, for the list '{empty[0]}' would have no image; runs draw theirs at "
            "random, which may divide near-duplicates. More images that differ would do"
        )
    if not lists or empty:
        return False
    for name, lines in lists.items():
        write_atomic(work / PACKED_LISTS / f"{name}.idx", lines.to_bytes())
    return True


if __name__ == "__main__":
    sys.exit(run_program(main))
