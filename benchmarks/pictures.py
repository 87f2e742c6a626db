"""Pictures made up for benchmarks: JPEG files in a record file, about as large and as hard to decode as ImageNet's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np

from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.recordio import RecordFile
from spos.data.registry import open_data, with_lists
from spos.engine.compat import mx

PICTURE_SIZE = (300, 400)  # rows, columns
JPEG_QUALITY = 90  # 43 kB a picture: 3 bits a pixel, ImageNet's have 3.7
NOISE = 9  # of 255, standard deviation


def write_pictures(folder: Path, num_images: int, num_classes: int, seed: int = 0) -> RecordFile:
    """Smooth colours with a little noise, labels in turns."""
    rng = np.random.default_rng(seed)
    rows, columns = PICTURE_SIZE
    file = RecordFile(str(folder / "pictures.rec"), str(folder / "pictures.idx"))
    writer = mx.recordio.MXIndexedRecordIO(file.idx, file.rec, "w")
    for i in range(num_images):
        coarse = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
        picture = np.clip(picture + rng.normal(0, NOISE, picture.shape), 0, 255).astype(np.uint8)
        _, content = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        header = mx.recordio.IRHeader(0, float(i % num_classes), i, 0)
        writer.write_idx(i, mx.recordio.pack(header, content.tobytes()))
    writer.close()
    return file


def make_pictures(
    folder: Path, num_bn: int, num_scoring: int, num_classes: int, input_size: int, options: DataOptions
) -> Tuple[DataSet, DataOptions]:
    """A data set whose lists "bn" and "search_val" hold so many pictures, and the options that say so."""
    file = write_pictures(folder, num_bn + num_scoring + 1, num_classes)  # one is left to train on
    options = replace(
        options,
        dataset="record",
        rec_train=file.rec,
        rec_val=file.rec,
        classes=num_classes,
        input_size=input_size,
        update_bn_images=num_bn,
        holdout=num_scoring,
    )
    return with_lists(open_data(options), options, folder / "lists"), options
