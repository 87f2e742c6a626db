"""NumPy arrays of images as a data set: packed once into record files, without loss."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, Iterator, Optional

import numpy as np

from spos.core.errors import InputError
from spos.data.flags import DataOptions
from spos.data.prepared import encode_png, is_complete, pack_images, write_prepared
from spos.runs.files import PathLike, read_json

NAME = "arrays"
DIGEST = "arrays_sha256"
FILES = ("train.rec", "train.idx", "val.rec", "val.idx")


def pack_arrays(
    folder: PathLike,
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    options: Optional[DataOptions] = None,
) -> DataOptions:
    """Write images to `folder`, unless they are there already, and say how the other functions find them.

    Programs find them too: `--dataset record --data-dir FOLDER --input-size S --crop-ratio 1`.

    Args:
        images, test_images: uint8, (N, H, W, 3) RGB or (N, H, W) grey. The images that score candidates and those of
            the BatchNorm update are taken from `images`; `test_images` are for validation alone.
        labels, test_labels: whole numbers (N,) from 0.
        options: what else there is to say of the images, such as `batch_size`, `holdout` and `update_bn_images`.
            `input_size` is the shorter side of the images by default.
    Raises: InputError if an array has another shape or type, or if `folder` holds other images.
    """
    options = options or DataOptions()
    parts = {"train": _Part("", images, labels), "val": _Part("test_", test_images, test_labels)}
    num_classes = int(parts["train"].labels.max()) + 1
    if parts["val"].labels.max() >= num_classes:
        raise InputError(f"test_labels go up to {test_labels.max()}, labels only to {num_classes - 1}")
    digest = hashlib.sha256(b"".join(part.digest() for part in parts.values())).hexdigest()
    where = Path(folder)
    if not is_complete(where, NAME, FILES):
        contents: Dict[str, bytes] = {}
        for name, part in parts.items():
            record, index = pack_images(map(encode_png, part.rgb()), part.labels.tolist())
            contents.update({f"{name}.rec": record, f"{name}.idx": index.to_bytes()})
        write_prepared(where, NAME, contents, {"num_classes": num_classes, DIGEST: digest})
    elif read_json(where / f"{NAME}.json").get(DIGEST) != digest:
        raise InputError(f"{folder} holds other images; give another folder")
    return replace(
        options,
        dataset="record",
        data_dir=str(folder),
        classes=options.classes or num_classes,
        input_size=options.input_size or min(images.shape[1:3]),
        crop_ratio=options.crop_ratio or 1.0,
    )


@dataclass(frozen=True)
class _Part:
    """Images and their labels; `prefix` is what the arguments that gave them are called by."""

    prefix: str
    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        images, labels, name = self.images, self.labels, self.prefix
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
            raise InputError(f"{name}images must be uint8 (N, H, W, 3) or (N, H, W), not {images.dtype} {images.shape}")
        if not len(images) or labels.shape != images.shape[:1]:
            raise InputError(f"{name}labels must be one for each of {len(images)} images, not {labels.shape}")
        if labels.dtype.kind not in "iu" or labels.min() < 0:
            raise InputError(f"{name}labels must be whole numbers from 0, not {labels.dtype} from {labels.min()}")

    def rgb(self) -> Iterator[np.ndarray]:
        """The images one by one, (H, W, 3)."""
        for image in self.images:
            yield np.ascontiguousarray(image if image.ndim == 3 else np.stack([image] * 3, axis=-1))

    def digest(self) -> bytes:
        """SHA-256 of shape, pixels and labels."""
        whole = hashlib.sha256(str(self.images.shape).encode())
        for values in (self.images, self.labels.astype(np.int64)):
            whole.update(np.ascontiguousarray(values).data)
        return whole.digest()
