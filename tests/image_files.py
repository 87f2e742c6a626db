"""Small image files for tests, and what a loader reads from them."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, write_subset
from PIL import Image

from spos.data.flags import MAX_BAD_IMAGES
from spos.data.loader import ImageLoader
from spos.data.order import Order
from spos.data.prepared import encode_png as png
from spos.data.preprocessing import Preparation
from spos.data.recordio import RecordFile
from spos.engine.compat import mx

SHARED_DATA = SHARED / "data"
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
OF_PREPARATION = {item.name for item in fields(Preparation)}


def shared_file(folder: str, name: str) -> RecordFile:
    path = SHARED_DATA / folder
    if not path.is_dir():
        pytest.skip(f"needs {folder} in ../shared/data")
    return RecordFile(str(path / f"{name}.rec"), str(path / f"{name}.idx"))


def jpeg_file(height=400, width=500, **options) -> bytes:
    """A smooth picture with some noise, as a camera gives it."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 30, (height, width))
    pixels = np.stack([y * 200 // height + noise, x * 200 // width + noise, (x + y) % 200], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def pack(directory: Path, contents, labels=None) -> RecordFile:
    """Write encoded images as a record file; image i has key 10 * i."""
    file = RecordFile(str(directory / "a.rec"), str(directory / "a.idx"))
    writer = mx.recordio.MXIndexedRecordIO(file.idx, file.rec, "w")
    for i, content in enumerate(contents):
        label = i if labels is None else labels[i]
        writer.write_idx(10 * i, mx.recordio.pack(mx.recordio.IRHeader(0, label, i, 0), content))
    writer.close()
    return file


def random_images(num: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), dtype=np.uint8)


def make_folders(root: Path, split: str, counts) -> None:
    """`counts` images of noise, 32x32, in each class folder of `root / split`."""
    pixels = iter(random_images(sum(counts.values())))
    for name, count in counts.items():
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i:03d}.png").write_bytes(png(next(pixels)))


def make_pictures(root: Path) -> Path:
    """Three classes, one of them empty in val."""
    make_folders(root, "train", {"bee": 12, "ant": 12, "cow": 16})
    make_folders(root, "val", {"bee": 3, "cow": 4, "ant": 0})
    return root


def subset(file: RecordFile, positions, directory: Path) -> RecordFile:
    write_subset(file.idx, positions, directory / "subset.idx")
    return RecordFile(file.rec, str(directory / "subset.idx"))


def loader(
    images, batch_size=8, num_workers=2, num_classes=50, max_bad_images=MAX_BAD_IMAGES, **changes
) -> ImageLoader:
    """A loader of whole 32x32 images; `changes` are fields of its preparation and its order.

    Augmented images are shuffled anew in each epoch.
    """
    look = {"size": 32, "mean": ZERO, "std": ONE, "crop_ratio": 1.0}
    look.update({name: value for name, value in changes.items() if name in OF_PREPARATION})
    order = {"seed": 0, "every_epoch": True} if look.get("augmentation") else {}
    order.update({name: value for name, value in changes.items() if name not in OF_PREPARATION})
    limits = {"num_classes": num_classes, "max_bad_images": max_bad_images}
    return ImageLoader(images, Preparation(**look), Order(**order), batch_size, num_workers, **limits)


def read_pass(images: ImageLoader, epoch: int = 0):
    batches = list(images.epoch(epoch))
    return (
        np.concatenate([batch.images.asnumpy() for batch in batches]),
        np.concatenate([batch.labels.asnumpy() for batch in batches]),
    )
