"""What a network gets right and wrong: by class, which classes it takes for which, and how sure it may be. No MXNet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType, convert, field
from typing_extensions import Annotated

from spos.core.intervals import Interval, wilson_interval
from spos.runs.files import read_json
from spos.runs.schema import Count, Positive, Share, ShareInterval, Text

EVALUATION_FOLDER, EVALUATION_FILE, SHEET_FILE = "evaluation", "evaluation.json", "worst.png"  # of a run
NUM_BINS = 15  # of confidence, equally wide, as in arXiv:1706.04599
MOST_IN_JSON = 100  # classes whose confusion matrix stands in the JSON; of more the CSV alone has it


class ClassShape(Struct):
    """A class in `evaluation.json`."""

    name: Text = field(name="class")
    num_images: Count
    top1: Optional[Share]
    top1_interval: Optional[ShareInterval]
    precision: Optional[Share]
    mistaken_for: Optional[Text]


class BinShape(Struct):
    """A bin of confidence in `evaluation.json`."""

    num_images: Positive
    confidence: Share
    top1: Share


class EvaluationShape(Struct):
    """What readers need of `evaluation.json`."""

    split: Text
    top1: Share
    top1_interval: ShareInterval
    num_images: Positive
    mean_class_top1: Share
    calibration_error: Share
    calibration_bins: List[BinShape]
    classes: Annotated[List[ClassShape], Meta(min_length=1)]
    confusion: Union[List[List[Count]], UnsetType] = UNSET


def read_evaluation(file: Path) -> Optional[EvaluationShape]:
    """None if it is not there. Raises InputError if it is no such file."""
    if not file.is_file():
        return None
    return convert(read_json(file, EvaluationShape), EvaluationShape)


class ClassResult(NamedTuple):
    """One class.

    Attributes:
        top1: share of its images that are recognised (recall); None without images.    interval: Wilson's, 95%.
        precision: share of the images taken for it that are of it; None if there are none.
        mistaken_for: the class that most of its other images are taken for; None if there are none.
    """

    label: int
    num_images: int
    top1: Optional[float]
    interval: Optional[Interval]
    precision: Optional[float]
    mistaken_for: Optional[int]


class Bin(NamedTuple):
    """Images of like confidence: how many, their mean confidence, and the share that is right."""

    num_images: int
    confidence: float
    top1: float


@dataclass(frozen=True)
class Predictions:
    """Logits of images with their true classes.

    Args:
        logits: (images, classes) float32.    labels: (images,) integers.    positions: (images,) in their list.
    """

    logits: np.ndarray
    labels: np.ndarray
    positions: np.ndarray

    @property
    def num_classes(self) -> int:
        return self.logits.shape[1]

    @cached_property
    def predicted(self) -> np.ndarray:
        """(images,) class of the largest logit, of equals the first."""
        return self.logits.argmax(1)

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """(images, classes) in float64."""
        logits = self.logits.astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    @cached_property
    def confusion(self) -> np.ndarray:
        """(classes, classes) images of the class of the row that are taken for that of the column."""
        counts = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts

    @cached_property
    def by_class(self) -> List[ClassResult]:
        """Of every class, in the order of the labels."""
        return [self._class_result(label) for label in range(self.num_classes)]

    def _class_result(self, label: int) -> ClassResult:
        row, taken = self.confusion[label], int(self.confusion[:, label].sum())
        count, hits = int(row.sum()), int(row[label])
        others = row.copy()
        others[label] = 0
        share = hits / count if count else 0.0
        return ClassResult(
            label,
            count,
            share if count else None,
            Interval(share, *wilson_interval(hits, count)) if count else None,
            hits / taken if taken else None,
            int(others.argmax()) if others.any() else None,
        )

    @property
    def mean_class_top1(self) -> float:
        """Mean over the classes that have images, each counted alike (balanced accuracy)."""
        return float(np.mean([one.top1 for one in self.by_class if one.top1 is not None]))

    @cached_property
    def bins(self) -> List[Bin]:
        """By confidence, the probability of the predicted class, from the least to the most sure; none is empty."""
        confidence = np.exp(self.log_probabilities.max(1))
        right = self.predicted == self.labels
        number = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
        return [
            Bin(int(own.sum()), float(confidence[own].mean()), float(right[own].mean()))
            for own in (number == i for i in range(NUM_BINS))
            if own.any()
        ]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the mean of how far bins are from being right as often as they are sure."""
        return sum(one.num_images * abs(one.top1 - one.confidence) for one in self.bins) / len(self.labels)

    @cached_property
    def losses(self) -> np.ndarray:
        """(images,) cross-entropy in nats."""
        return -self.log_probabilities[np.arange(len(self.labels)), self.labels]

    def worst(self, count: int) -> np.ndarray:
        """Indices of the images of the largest loss, the worst first."""
        return np.argsort(-self.losses, kind="stable")[:count]

    def to_json(self, names: Sequence[str] = ()) -> Dict[str, Any]:
        """All of it but the images; the confusion matrix of not more than MOST_IN_JSON classes.

        Args:
            names: of the classes; their numbers if there are none.
        """
        classes = [
            {
                "class": name_of(one.label, names),
                "num_images": one.num_images,
                "top1": one.top1,
                "top1_interval": one.interval and [one.interval.low, one.interval.high],
                "precision": one.precision,
                "mistaken_for": None if one.mistaken_for is None else name_of(one.mistaken_for, names),
            }
            for one in self.by_class
        ]
        matrix = {"confusion": self.confusion.tolist()} if self.num_classes <= MOST_IN_JSON else {}
        return {
            "mean_class_top1": self.mean_class_top1,
            "calibration_error": self.calibration_error,
            "calibration_bins": [one._asdict() for one in self.bins],
            "classes": classes,
            **matrix,
        }


def name_of(label: int, names: Sequence[str]) -> str:
    """What a class is called; its number if nothing says it."""
    return names[label] if names else str(label)
