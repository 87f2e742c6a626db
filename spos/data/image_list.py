"""Lists of images: what a loader and a data set ask of a record file, a folder, or any other origin. No MXNet.

A list opens as a source, which stands for the time of a loader; a source opens a reader, which stands for one pass.
"""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Callable, Dict, List, Mapping, Optional, Protocol, Tuple, Type

import numpy as np

from spos.core.errors import InputError, warn_once
from spos.core.seeds import random_order

MAX_LABELS = 200_000  # that are looked at one by one, a few microseconds each
SAMPLED_LABELS = 2_000  # of more: on a disk that turns each takes some milliseconds
_SAMPLED_IMAGES = 200  # of which a checksum covers the content
_NAMED = 5  # labels in a message
Drawn = Mapping[str, np.ndarray]  # positions by the name of the list


class UnreadableImage(Exception):
    """Why an image cannot be used: the rest of a sentence that begins with its name."""


class ImageReader(Protocol):
    """Encoded images by position. Threads may share one."""

    def __enter__(self) -> ImageReader: ...

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None: ...

    def read(self, position: int) -> Tuple[np.ndarray, bytes]:
        """The labels (float32, shape (L,), normally L = 1) and the encoded image. Raises: UnreadableImage."""


class ImageSource(Protocol):
    """A list that was opened and found in order."""

    def __len__(self) -> int: ...

    def name(self, position: int) -> str:
        """What messages call the image."""

    def reader(self) -> ImageReader:
        """A reader for the time of one pass, to be entered."""


class ImageList(Protocol):
    """Some or all images of one origin."""

    def __len__(self) -> int:
        """Number of images, without looking at them; for a record file by reading its index, a second for ImageNet."""

    @property
    def where(self) -> str:
        """What messages call the list."""

    def digest(self) -> List[int]:
        """Numbers that differ between machines whose files do."""

    def contents(self) -> str:
        """A checksum of what the images are: of the list, of labels and of a sample of encoded images.

        Unlike `digest` it sees other labels and other pictures behind an equal list. It says nothing of paths.
        """

    def find_labels(self) -> np.ndarray:
        """(N,) int64, the class of every image; for a record file by looking at each, a few microseconds.

        Raises: InputError if an image has several labels, or one that is no whole number from 0.
        """

    def hold_out(self, sizes: Mapping[str, int], directory: str, seed: int) -> Dict[str, ImageList]:
        """Draw disjoint lists of `sizes` images, e.g. {"bn": 20000, "search_val": 50000}; the rest is "train".

        Each is recorded in `directory`, in the order of the files; the same list, sizes and seed give the same bytes
        everywhere. Lists that are already there are the record of a run: they are kept if equal and never replaced.
        A class that chance leaves out of a list gets an image of it where there are enough, else it is said.

        Raises: InputError if no training image is left, or the directory holds lists drawn otherwise.
        """

    def record(self, directory: str, name: str) -> ImageList:
        """Write the list to `directory`, unless it is there already. Raises InputError if another one is."""

    def open(self) -> ImageSource:
        """Raises: InputError if the files cannot be used."""


def draw_lists(num_images: int, sizes: Mapping[str, int], seed: int) -> Dict[str, np.ndarray]:
    """Positions of disjoint random lists of `sizes`; the rest is "train"."""
    order = random_order(num_images, seed)
    ends = np.cumsum(list(sizes.values()))
    return dict(zip([*sizes, "train"], np.split(order, ends)))


def cover_classes(drawn: Drawn, labels: np.ndarray) -> Dict[str, np.ndarray]:
    """The drawn lists, with an image of every class in each where the data allow; all as drawn if none is missing.

    An image of a missing class changes places with one of the most frequent class of the list. "train" keeps at
    least one image of every class, and no list changes its size.
    """
    covered = {name: positions.copy() for name, positions in drawn.items()}
    train = covered["train"]
    for name, positions in covered.items():
        if name == "train":
            continue
        for label in missing_classes(positions, labels):
            candidates = np.flatnonzero(labels[train] == label)
            found, counts = np.unique(labels[positions], return_counts=True)
            if len(candidates) < 2 or counts.max() < 2:
                continue
            place = np.flatnonzero(labels[positions] == found[counts.argmax()])[-1]
            positions[place], train[candidates[0]] = train[candidates[0]], positions[place]
    return covered


def missing_classes(positions: np.ndarray, labels: np.ndarray) -> List[int]:
    """The labels that occur, but not at these positions."""
    return np.setdiff1d(labels, labels[positions]).tolist()


def draw_covering_lists(
    sizes: Mapping[str, int], seed: int, labels: np.ndarray, where: str, is_recorded: Callable[[Drawn], bool]
) -> Drawn:
    """Disjoint lists in which no class is missing, if that can be; what cannot be covered is said.

    Args:
        is_recorded: whether these lists are those of a run, which keeps them as they are.
    """
    drawn: Drawn = draw_lists(len(labels), sizes, seed)
    if not is_recorded(drawn):
        drawn = cover_classes(drawn, labels)
    for name in sizes:
        missing = missing_classes(drawn[name], labels)
        if missing:
            some = ", ".join(map(str, missing[:_NAMED])) + (" .." if len(missing) > _NAMED else "")
            warn_once(
                f"{where}: the held-out list '{name}' has no image of {len(missing)} of {len(np.unique(labels))} "
                f"classes (label {some})"
            )
    return drawn


def checksum_of(images: ImageList, rows: bytes) -> str:
    """Checksum of `rows`, which stand for the list and its labels, and of a sample of the images."""
    digest = hashlib.sha256(rows)
    source = images.open()
    with source.reader() as reader:
        for position in np.unique(np.linspace(0, len(source) - 1, _SAMPLED_IMAGES).astype(int)).tolist():
            try:
                labels, content = reader.read(position)
            except UnreadableImage:
                labels, content = np.zeros(0, np.float32), b""
            digest.update(labels.tobytes() + len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def check_sizes(sizes: Mapping[str, int], num_images: int, source: str) -> None:
    """Raise InputError unless lists of these sizes leave an image to train on."""
    wrong = {name: size for name, size in sizes.items() if size < 1 or name == "train"}
    if wrong:
        raise InputError(f"cannot hold out {wrong}: list sizes are at least 1, and 'train' is what is left")
    if sum(sizes.values()) >= num_images:
        raise InputError(
            f"{source} lists {num_images} images; holding out {dict(sizes)} leaves none to train on. Hold out fewer"
        )
