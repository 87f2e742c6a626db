"""Predictions of an exported network on images: the most probable classes of each, with their names."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.tables import Column, Table
from spos.data.folder import ImageFolder, image_names
from spos.data.loader import ImageLoader
from spos.data.order import Order
from spos.data.walk import IMAGE_SUFFIXES
from spos.deploy.exported import ExportedModel, softmax

COLUMNS = (Column("image"), Column("rank"), Column("class"), Column("label"), Column("probability", spec=".2%"))


@dataclass(frozen=True)
class Guess:
    """A class that an image may show. `probability` is a fraction 0..1."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, the most probable first; of equal ones the smaller label."""

    image: str
    classes: Tuple[Guess, ...]


def find_images(paths: Sequence[str]) -> List[str]:
    """Files as they are named, whatever their suffix; of folders all images below, sorted.

    Raises: InputError if a path does not exist, or a folder holds no image.
    """
    found: List[str] = []
    for path in paths:
        if os.path.isdir(path):
            names = image_names(path)
            if not names:
                raise InputError(f"{path} holds no image; expected files named {' '.join(IMAGE_SUFFIXES)}")
            found += [os.path.join(path, name) for name in names]
        elif os.path.isfile(path):
            found.append(path)
        else:
            raise InputError(f"{path} does not exist; expected an image or a folder of images")
    return found


def predict(
    model: ExportedModel, paths: Sequence[str], top: int = 5, batch_size: int = 32, num_workers: int = 2
) -> Iterator[Prediction]:
    """Predictions in the order of `paths`. Images are prepared as in evaluation, by the same code.

    What cannot be decoded is named in a warning and left out.

    Args:
        top: classes of each image; fewer if there are fewer.    num_workers: threads that decode.
    Raises: InputError if a logit is not finite.
    """
    loader = ImageLoader(
        ImageFolder("", np.arange(len(paths)), np.zeros(len(paths), np.int64), tuple(paths)),
        model.info.preprocessing.preparation,
        Order(),
        batch_size,
        num_workers,
        num_classes=1,  # what the images show is not known
        max_bad_images=len(paths),
    )
    for batch in loader.epoch(0):
        logits = model(batch.images.asnumpy())
        for position, row in zip(batch.positions.tolist(), logits):
            if not np.isfinite(row).all():
                raise InputError(f"{model.path} gives logits that are not finite for {paths[position]}")
            yield Prediction(_printable(paths[position]), _ranked(model, row, top))


def prediction_table(model: ExportedModel, predictions: Sequence[Prediction]) -> Table:
    """A row for each class of each image."""
    rows = tuple(
        (prediction.image, rank, guess.name, guess.label, guess.probability)
        for prediction in predictions
        for rank, guess in enumerate(prediction.classes, 1)
    )
    return Table(f"{model.path} ({model.runtime}, {model.info.precision})", COLUMNS, rows)


def prediction_json(model: ExportedModel, predictions: Sequence[Prediction]) -> Dict[str, Any]:
    """The same for machines."""
    return {
        "model": str(model.path),
        "runtime": model.runtime,
        "precision": model.info.precision,
        "images": [asdict(prediction) for prediction in predictions],
    }


def _ranked(model: ExportedModel, logits: np.ndarray, top: int) -> Tuple[Guess, ...]:
    probabilities = softmax(logits)
    labels = np.argsort(-logits, kind="stable")[:top].tolist()
    return tuple(Guess(label, model.info.name_of(label), float(probabilities[label])) for label in labels)


def _printable(path: str) -> str:
    """A file name that is no text, with its strange bytes as `\\xff`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
