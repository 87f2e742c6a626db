"""Pictures as people have them, found in any of the usual layouts. No MXNet.

A CSV file with the columns path and label, or a folder that holds one; a folder with train/, and val/ or test/ or both,
each with a sub-folder per class; or the class folders alone. Parts go by the names that people give them, in any case.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from spos.core.errors import InputError, warn, warn_once
from spos.data.flags import HELD_OUT_SHARE
from spos.data.folder import ImageFolder, class_folders, list_folder, open_folders
from spos.data.image_list import Drawn, missing_classes
from spos.data.similar import near_duplicates
from spos.data.split import stratified
from spos.data.walk import is_no_class

PATH, LABEL, SPLIT = "path", "label", "split"
PARTS = (TRAIN, VAL, TEST) = ("train", "val", "test")
_PART_OF = {
    **{"train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL},
    **{"test": TEST, "testing": TEST},
}  # what folders and values of the column split are called, in lower case
_USES = {"test": "tests", "search_val": "scores candidates", "bn": "serves the BatchNorm update"}
_NAMED = 5  # classes in a message
_MISSING_SHARE = 0.5  # of the files of a CSV; more, and its folder is wrong


@dataclass(frozen=True)
class Pictures:
    """Images, and what of a split their owner made.

    Args:
        train: all images but those that only test.    test: None if nobody has set some aside.
        scoring: positions in `train` of the images that are to tell networks apart; None if nobody chose them.
        classes: names by label.    layout: what was found, for people.    is_table: no folder stands for a class.
    """

    train: ImageFolder
    test: Optional[ImageFolder]
    scoring: Optional[np.ndarray]
    classes: Tuple[str, ...]
    layout: str
    is_table: bool = False

    @property
    def class_roots(self) -> Tuple[str, ...]:
        """Folders whose sub-folders are classes."""
        return () if self.is_table else _roots(self.train, self.test)

    def keep(self, name: str, positions: np.ndarray) -> Pictures:
        """Without some images, of `train` or of `test`.

        Args: positions: rising, of those that stay.
        """
        if name == "test":
            return replace(self, test=self.test.take(positions) if self.test else None)
        scoring = None if self.scoring is None else np.flatnonzero(np.isin(positions, self.scoring))
        return replace(self, train=self.train.take(positions), scoring=scoring)


@dataclass(frozen=True)
class Split:
    """Images in two lists, and in the first of them those held out.

    Args:
        lists: positions in `train` by the names of a data set's lists: search_val, bn, train; none if a run draws them.
        classes: names by label.
        num_similar: images of `test` with a near-duplicate in `train`.
    """

    train: ImageFolder
    test: ImageFolder
    lists: Drawn
    classes: Tuple[str, ...]
    num_similar: int = 0

    @property
    def class_roots(self) -> Tuple[str, ...]:
        """Folders whose sub-folders are classes."""
        return _roots(self.train, self.test)


def _roots(*lists: Optional[ImageFolder]) -> Tuple[str, ...]:
    return tuple(images.root for images in lists if images)


def find_pictures(source: Path) -> Pictures:
    """Raises: InputError if there are none, or they lie in no known way."""
    table = _table_in(source)
    if table is not None:
        return _read_table(table)
    folders = _parts_of(source)
    if folders:
        return _read_parts(source, folders)
    names = tuple(class_folders(str(source)))
    return Pictures(list_folder(str(source), names), None, None, names, "a folder for each class")


def _parts_of(source: Path) -> Dict[str, str]:
    """Folders by the part that each is; none if the folders are classes, one of which may be called like a part.

    Raises: InputError if a part is there twice, or what is trained on is not there.
    """
    names = class_folders(str(source))
    found = [name for name in names if name.lower() in _PART_OF]
    others = [name for name in names if name not in found]
    if not found or (len(found) == 1 and others and not _has_classes(source / found[0])):
        return {}
    folders: Dict[str, str] = {}
    for name in found:
        first = folders.setdefault(_PART_OF[name.lower()], name)
        if first != name:
            raise InputError(
                f"{source} holds {first}/ and {name}/, which mean the same part; join them, or take one out"
            )
    if TRAIN not in folders:
        raise InputError(
            f"{source} holds {found[0]}/ and no train/; expected train/ with val/ or test/ beside it, each with a "
            "sub-folder per class, or class folders that are not called like these"
        )
    if others:
        warn_once(f"{source}: {', '.join(others)} not read; parts are called train, val and test")
    return folders


def _read_parts(source: Path, folders: Mapping[str, str]) -> Pictures:
    train, val, test = (folders.get(part) for part in PARTS)
    if test and not _has_classes(source / test):
        warn_once(f"{source / test} is not read: it has no folder for each class")
        test = None
    learned, held_back = str(source / str(train)), test or val
    if not held_back:
        names = tuple(class_folders(learned))
        return Pictures(list_folder(learned, names), None, None, names, f"{train}/")
    images, tested, names = open_folders(learned, str(source / held_back))
    if not (val and test):
        return Pictures(images, tested, None, names, f"{train}/ and {held_back}/")
    more = list_folder(str(source / val), names)
    paths = tuple(f"{part}/{path}" for part, own in ((train, images), (val, more)) for path in own.paths)
    joined = ImageFolder(str(source), np.arange(len(paths)), np.concatenate([images.labels, more.labels]), paths)
    return Pictures(joined, tested, np.arange(len(images), len(paths)), names, f"{train}/, {val}/ and {test}/")


def split_pictures(found: Pictures, copies: np.ndarray, test_share: float, held_out: int, bn: int, seed: int) -> Split:
    """The lists of a data set: as their owner split them, else stratified, and near-duplicates on one side.

    Args:
        copies: (N, ..) small copies (`spos.data.similar`) of `found.train`, then of `found.test`.
        test_share: of each class, if nobody set test images aside.
        held_out, bn: images that are held out of training at most, to score candidates and for the BatchNorm update.
    Raises: InputError if that leaves no test image.
    """
    groups = near_duplicates(copies)
    size = len(found.train)
    train, test, num_similar = found.train, found.test, 0
    if test is None:
        drawn = stratified(found.train.labels, groups, {"test": test_share}, seed)
        train, test = train.take(drawn["train"]), train.take(drawn["test"])
        if not len(test):
            raise InputError(f"{found.train.root}: no image can be set aside to test: {_why_none(test_share)}")
        kept = drawn["train"]
        _say_missing("test", found.classes, found.train, groups, drawn["test"])
    else:
        kept, num_similar = np.arange(size), int(np.isin(groups[size:], groups[:size]).sum())
    shares = held_out_shares(len(kept), held_out, bn)
    if found.scoring is None:
        lists: Drawn = stratified(train.labels, groups[kept], shares, seed)
        for name in shares:
            _say_missing(name, found.classes, train, groups[kept], lists[name])
        return Split(train, test, lists, found.classes, num_similar)
    rest = np.setdiff1d(np.arange(size), found.scoring)
    drawn = stratified(train.labels[rest], groups[rest], {"bn": shares["bn"]}, seed)
    lists = {"search_val": found.scoring, **{name: rest[positions] for name, positions in drawn.items()}}
    _say_missing("bn", found.classes, train, groups[:size], lists["bn"])
    return Split(train, test, lists, found.classes, num_similar)


def _why_none(test_share: float) -> str:
    if not test_share:
        return "their share is 0; give one above it"
    return "every class has one image only, or near-duplicates of one; add others, or set test images aside yourself"


def _say_missing(
    name: str, classes: Sequence[str], images: ImageFolder, groups: np.ndarray, positions: np.ndarray
) -> None:
    """Warn of classes of which a list has no image, with the reason."""
    missing = missing_classes(positions, images.labels)
    alone = [label for label in missing if _is_one_group(groups[images.labels == label])]
    few = [label for label in missing if label not in alone]
    for labels, reason in (
        (alone, "all their images are near-duplicates of each other"),
        (few, "there are too few images that are not near-duplicates of others"),
    ):
        if labels:
            named = ", ".join(classes[label] for label in labels[:_NAMED]) + (" .." if len(labels) > _NAMED else "")
            warn(f"{images.root}: no image {_USES[name]} of {len(labels)} class(es), {named}: {reason}")


def _is_one_group(groups: np.ndarray) -> bool:
    return len(groups) > 1 and bool((groups == groups[0]).all())


def held_out_shares(num_images: int, held_out: int, bn: int) -> Dict[str, float]:
    """Of the training images, in each list that is held out: a tenth, and at most so many images."""
    limits = {"search_val": held_out, "bn": bn}
    return {name: min(HELD_OUT_SHARE, limit / num_images) for name, limit in limits.items()}


def _has_classes(folder: Path) -> bool:
    return bool(_sub_folders(folder))


def _sub_folders(folder: Path) -> List[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not is_no_class(entry.name)]


def _table_in(source: Path) -> Optional[Path]:
    """The CSV file that is meant, if one is."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise InputError(f"{source} does not exist; give a folder of images, or a CSV file with the columns path,label")
    tables = sorted(source.glob("*.csv"))
    if any(_is_train(entry) and _has_classes(entry) for entry in source.iterdir()):
        return None
    named = [table for table in tables if {PATH, LABEL} <= set(_columns(table))]
    if named or len(_sub_folders(source)) > 1:
        tables = named  # others, beside class folders, say something else
    if not tables:
        return None
    if len(tables) > 1:
        raise InputError(f"{source} holds {len(tables)} CSV files ({tables[0].name}, {tables[1].name}); give one")
    return tables[0]


def _is_train(folder: Path) -> bool:
    return folder.is_dir() and _PART_OF.get(folder.name.lower()) == TRAIN


def _columns(path: Path) -> List[str]:
    """What the first line of a CSV file names, in lower case; nothing if it is no such file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return [name.strip().lower() for name in next(csv.reader(file, skipinitialspace=True), ())]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _read_table(path: Path) -> Pictures:
    """Raises: InputError that names the line of what is wrong."""
    rows = _rows(path)
    classes = _sorted_classes({label for _, label, _ in rows})
    label_of = {name: number for number, name in enumerate(classes)}
    parts: Dict[str, List[Tuple[str, int]]] = {}
    for name, label, split in rows:
        parts.setdefault(split, []).append((name, label_of[label]))
    layout, root = f"the table {path.name}", str(path.parent)
    if "" in parts and len(parts) > 1:
        raise InputError(f"{path}: {len(parts['']):,} rows have no {SPLIT}; name it in all rows or in none")
    if "" in parts:
        return Pictures(_images(root, parts[""]), None, None, classes, layout, True)
    if TRAIN not in parts:
        raise InputError(f"{path}: no row has the {SPLIT} train, so there is nothing to learn from")
    train, val, test = (parts.get(name, []) for name in PARTS)
    if not (val and test):
        rest = val or test
        held_back = _images(root, rest) if rest else None
        return Pictures(_images(root, train), held_back, None, classes, layout, True)
    scoring = np.arange(len(train), len(train) + len(val))
    return Pictures(_images(root, train + val), _images(root, test), scoring, classes, layout, True)


def _images(root: str, rows: Sequence[Tuple[str, int]]) -> ImageFolder:
    labels = np.array([label for _, label in rows], np.int64)
    return ImageFolder(root, np.arange(len(rows)), labels, tuple(name for name, _ in rows))


def _rows(path: Path) -> List[Tuple[str, str, str]]:
    """(path, label, split) of every row; split is empty if there is no such column."""
    found: List[Tuple[str, str, str]] = []
    seen: Dict[str, int] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            if PATH not in columns or LABEL not in columns:
                raise InputError(
                    f"{path}: the first line names the columns {', '.join(columns) or 'of nothing'}; expected "
                    f"{PATH},{LABEL} or {PATH},{LABEL},{SPLIT}"
                )
            for row in reader:
                line = reader.line_num
                name, label, split = ((row.get(column) or "").strip() for column in (PATH, LABEL, SPLIT))
                if not name or not label:
                    raise InputError(f"{path}, line {line}: {PATH if not name else LABEL} is empty")
                if split and split.lower() not in _PART_OF:
                    raise InputError(f"{path}, line {line}: {SPLIT} is {split}; expected train, val or test")
                if name in seen:
                    raise InputError(f"{path}, line {line}: {name} stands in line {seen[name]} already")
                seen[name] = line
                found.append((name, label, _PART_OF.get(split.lower(), "")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: this is no CSV file in UTF-8 ({error})") from None
    if not found:
        raise InputError(f"{path}: no row follows the first line")
    missing = [name for name, _, _ in found if not (path.parent / name).is_file()]
    if missing and len(missing) > _MISSING_SHARE * len(found):
        raise InputError(
            f"{path}: {len(missing):,} of {len(found):,} files are not there, like {path.parent / missing[0]}; paths "
            "begin in the folder of the table"
        )
    return found


def _sorted_classes(names: Set[str]) -> Tuple[str, ...]:
    """By number if all are numbers, so that 10 stands behind 9; else by name."""
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
