"""Lists of images: what a loader and a data set ask of a record file, a folder, or any other origin. No MXNet.

A list opens as a source, which stands for the time of a loader; a source opens a reader, which stands for one pass.
"""

from __future__ import annotations

from types import TracebackType
from typing import Dict, List, Mapping, Optional, Protocol, Tuple, Type

import numpy as np

from spos.core.errors import InputError
from spos.core.seeds import random_order


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

    def hold_out(self, sizes: Mapping[str, int], directory: str, seed: int) -> Dict[str, ImageList]:
        """Draw disjoint lists of `sizes` images, e.g. {"bn": 20000, "search_val": 50000}; the rest is "train".

        Each is recorded in `directory`, in the order of the files; the same list, sizes and seed give the same bytes
        everywhere. Lists that are already there are the record of a run: they are kept if equal and never replaced.

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


def check_sizes(sizes: Mapping[str, int], num_images: int, source: str) -> None:
    """Raise InputError unless lists of these sizes leave an image to train on."""
    wrong = {name: size for name, size in sizes.items() if size < 1 or name == "train"}
    if wrong:
        raise InputError(f"cannot hold out {wrong}: list sizes are at least 1, and 'train' is what is left")
    if sum(sizes.values()) >= num_images:
        raise InputError(
            f"{source} lists {num_images} images; holding out {dict(sizes)} leaves none to train on. Hold out fewer"
        )
