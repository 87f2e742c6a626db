"""Imbalance: how many training images each class has, said at the start where that differs much."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from spos.data.image_list import MAX_LABELS, ImageList

LEAST_RATIO = 2.0  # of the largest class to the smallest, that is worth a line
NAMED = 3  # classes at each end


def describe_imbalance(labels: np.ndarray, names: Sequence[str] = ()) -> Optional[str]:
    """One line about classes of unequal size; None if the largest has less than twice the images of the smallest.

    Args:
        labels: (N,) integers.    names: of the classes; their numbers if there are none.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.max() < LEAST_RATIO * counts.min():
        return None
    order = np.argsort(counts, kind="stable")
    called = [names[label] if 0 <= label < len(names) else f"class {label}" for label in classes.tolist()]
    said = [f"{counts[i]:,} of {called[i]}" for i in order]
    some = said if len(said) <= 2 * NAMED else [*said[:NAMED], "..", *said[-NAMED:]]
    ratio = counts.max() / counts.min()
    return f"training images by class: {', '.join(some)} ({ratio:.1f} times as many); --class-balanced shows all alike"


def say_if_imbalanced(images: ImageList, names: Sequence[str] = ()) -> None:
    """Print `describe_imbalance` of a list, unless it is so long that its labels take seconds to read."""
    if len(images) > MAX_LABELS:
        return
    line = describe_imbalance(images.find_labels(), names)
    if line:
        print(line, flush=True)
