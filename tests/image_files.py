"""Small record files for tests, and what a loader reads from them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED
from PIL import Image

from spos.data.loader import ImageLoader
from spos.data.recordio import RecordFile, write_index_subset
from spos.engine.compat import mx

SHARED_DATA = SHARED / "data"
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def shared_file(folder: str, name: str) -> RecordFile:
    path = SHARED_DATA / folder
    if not path.is_dir():
        pytest.skip(f"needs {folder} in ../shared/data")
    return RecordFile(str(path / f"{name}.rec"), str(path / f"{name}.idx"))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
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


def subset(file: RecordFile, positions, directory: Path) -> RecordFile:
    target = str(directory / "subset.idx")
    write_index_subset(file.idx, positions, target)
    return RecordFile(file.rec, target)


def loader(file: RecordFile, **changes) -> ImageLoader:
    arguments = dict(batch_size=8, input_size=32, num_classes=50, mean=ZERO, std=ONE, crop_ratio=1.0)
    arguments.update(changes)
    return ImageLoader(file, **arguments)


def read_pass(images: ImageLoader, epoch: int = 0):
    batches = list(images.epoch(epoch))
    return (
        np.concatenate([image.asnumpy() for image, _ in batches]),
        np.concatenate([label.asnumpy() for _, label in batches]),
    )
