"""Images in one folder per class: found, numbered, listed, split and read. Python and NumPy, no MXNet.

A list (`.lst`) has the form of MXNet's im2rec: index<TAB>label<TAB>path, the path relative to the images' folder.
"""

from __future__ import annotations

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from spos.core.errors import InputError, warn_once
from spos.data.image_list import Drawn, ImageList, UnreadableImage, check_sizes, checksum_of, draw_covering_lists
from spos.data.walk import IMAGE_SUFFIXES, Walk, is_no_class
from spos.runs.files import PathLike, write_once

MAX_BYTES = 2**30  # of one image file
_NAMED = 5  # classes in a message


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Some or all images below `root`.

    keys: number of each image in the whole folder, rising.    paths: relative to `root`, with forward slashes.
    """

    root: str
    keys: np.ndarray  # (N,) int64
    labels: np.ndarray  # (N,) int64
    paths: Tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: Union[Sequence[int], np.ndarray]) -> ImageFolder:
        """The images at these positions, in the order of the folder."""
        chosen = np.sort(np.asarray(positions, dtype=np.int64))
        return ImageFolder(
            self.root, self.keys[chosen], self.labels[chosen], tuple(self.paths[position] for position in chosen)
        )

    def to_bytes(self) -> bytes:
        """The list as im2rec reads it."""
        rows = zip(self.keys.tolist(), self.labels.tolist(), self.paths)
        return "".join(f"{key}\t{label}\t{path}\n" for key, label, path in rows).encode("utf-8", "surrogateescape")

    @property
    def where(self) -> str:
        return self.root

    def find_labels(self) -> np.ndarray:
        """(N,) int64."""
        return self.labels

    def digest(self) -> List[int]:
        """Checksum of the list, number of images."""
        return [zlib.crc32(self.to_bytes()), len(self)]

    def contents(self) -> str:
        return checksum_of(self, self.to_bytes())

    def hold_out(self, sizes: Mapping[str, int], directory: str, seed: int) -> Dict[str, ImageList]:
        """Writes `directory/<name>.lst`."""
        check_sizes(sizes, len(self), self.root)

        def is_recorded(drawn: Drawn) -> bool:
            lists = {Path(directory) / f"{name}.lst": self.take(drawn[name]) for name in sizes}
            return all(path.is_file() and path.read_bytes() == images.to_bytes() for path, images in lists.items())

        drawn = draw_covering_lists(sizes, seed, self.labels, self.root, is_recorded)
        return {name: self.take(positions).record(directory, name) for name, positions in drawn.items()}

    def record(self, directory: str, name: str) -> ImageFolder:
        """Writes `directory/<name>.lst`."""
        write_once(Path(directory) / f"{name}.lst", self.to_bytes())
        return self

    def open(self) -> FolderSource:
        return FolderSource(self)


class FolderSource:
    """Files of a folder; its own reader, for nothing stays open."""

    def __init__(self, images: ImageFolder) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def name(self, position: int) -> str:
        return os.path.join(self._images.root, self._images.paths[position])

    def reader(self) -> FolderSource:
        return self

    def __enter__(self) -> FolderSource:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, position: int) -> Tuple[np.ndarray, bytes]:
        """Raises: UnreadableImage if the file is gone, or cannot be read."""
        return self._images.labels[position : position + 1].astype(np.float32), read_file(self.name(position))


def read_file(path: str) -> bytes:
    """The content of an image file. Raises: UnreadableImage, which says why: not every such file is damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait
    except OSError as error:
        where = f" (a link to {os.readlink(path)})" if os.path.islink(path) else ""
        raise UnreadableImage(f"cannot be read: {error.strerror}{where}") from None
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage("cannot be read: it is no regular file")
        if status.st_size > MAX_BYTES:
            raise UnreadableImage(f"is not decoded: it has {status.st_size} bytes, more than {MAX_BYTES}")
        try:
            return file.readall()
        except OSError as error:
            raise UnreadableImage(f"cannot be read: {error.strerror}") from None


def class_folders(folder: str) -> List[str]:
    """Sorted names of the sub-folders, each of which is a class, empty ones included.

    Folders that systems make (`lost+found` and the like) are none.    Raises: InputError if there are no others.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not is_no_class(entry.name))
    except OSError as error:
        raise InputError(f"{folder}: cannot read this folder ({error.strerror})") from None
    if not names:
        raise InputError(
            f"{folder} has no sub-folders; expected one for each class, with its images inside. Images that all lie in "
            "one folder (such as the 50,000 validation images of ImageNet as they come) must be sorted into folders"
        )
    return names


def list_folder(folder: str, classes: Sequence[str]) -> ImageFolder:
    """All images below the class folders, by class and name; the label is the position of the folder in `classes`.

    Raises: InputError if a folder is not in `classes`, or there is no image.
    """
    label_of = {name: label for label, name in enumerate(classes)}
    found = class_folders(folder)
    unknown = [name for name in found if name not in label_of]
    if unknown:
        raise InputError(f"{folder}/{unknown[0]}: {_and_others(unknown)} not among the {len(classes)} classes")
    names = sorted(found, key=label_of.__getitem__)
    walk = Walk(folder)
    images = walk.find(names)
    for entry in sorted(os.listdir(folder)):
        if entry not in images:
            walk.leave_out("beside the class folders", folder, entry)
    walk.report()
    paths = [f"{name}/{image}" for name in names for image in images[name]]
    if not paths:
        raise InputError(f"{folder}: the class folders hold no image; expected files named {' '.join(IMAGE_SUFFIXES)}")
    empty = [name for name in names if not images[name]]
    if empty:
        warn_once(f"{folder}: no image of {_list_classes(empty)}, which stay classes. Take them out if they are none")
    labels = np.repeat([label_of[name] for name in names], [len(images[name]) for name in names])
    return ImageFolder(folder, np.arange(len(paths)), labels.astype(np.int64), tuple(paths))


def _list_classes(names: Sequence[str]) -> str:
    others = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    return f"{len(names)} class folder(s): {', '.join(names[:_NAMED])}{others}"


def _and_others(names: Sequence[str]) -> str:
    return "this class is" if len(names) == 1 else f"this class and {len(names) - 1} others are"


def image_names(folder: str) -> List[str]:
    """Sorted paths of all images below a folder, relative to it. Pictures and links that are left out are said."""
    walk = Walk(folder)
    names = walk.find([""])[""]
    walk.report(files_too=False)
    return names


def check_outside(output: PathLike, folder: str) -> None:
    """Raise InputError if results would lie in a folder whose sub-folders are classes."""
    inner, outer = os.path.realpath(output), os.path.realpath(folder)
    if os.path.commonpath((inner, outer)) == outer:
        raise InputError(f"{output} lies in {folder}, whose sub-folders are the classes. Give a folder outside of it")


def open_folders(train: str, val: str, classes: Sequence[str] = ()) -> Tuple[ImageFolder, ImageFolder, Tuple[str, ...]]:
    """List both folders with the same numbering. Returns them and the class names.

    Args:
        classes: names in the order of their labels, of which some folders may be missing; by default the sorted names
            of the folders in `train`.
    Raises: InputError, also if `val` has a class that `train` has not.
    """
    names = tuple(classes) or tuple(class_folders(train))
    if not classes:
        extra = sorted(set(class_folders(val)) - set(names))
        if extra:
            raise InputError(
                f"{val}/{extra[0]}: {train} has no such class, so nothing could learn it. Name the folders alike, or "
                "take it out"
            )
    missing = sorted(set(class_folders(train)) - set(class_folders(val)))
    if missing:
        warn_once(f"{val}: no image of {_list_classes(missing)}, so nothing says how well they are told apart")
    return list_folder(train, names), list_folder(val, names), names
