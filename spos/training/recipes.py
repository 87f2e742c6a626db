"""Recipes: flags of training that belong together, by one name. What is given beside the name counts more."""

from __future__ import annotations

from typing import Any, Dict, Mapping

LR_IMAGES = 256  # in a step, that the learning rates below are for
PUBLISHED = "published"  # the values of the published description: a learning rate of 1.3 with 1,024 images in a step
RECIPES: Mapping[str, Mapping[str, Any]] = {
    PUBLISHED: {
        "optimizer": "nag",
        "lr": 1.3 / 4,
        "momentum": 0.9,
        "wd": 3e-5,
        "lr_mode": "cosine",
        "warmup_epochs": 5,
        "label_smoothing": True,
        "no_wd": True,
    },
}


def recipe_values(name: str, images_of_a_step: int) -> Dict[str, Any]:
    """Values of flags by their names; none for an empty name.

    Args:
        images_of_a_step: of all devices of a worker, which the learning rate is in proportion to (arXiv:1706.02677).
    """
    if not name:
        return {}
    values = RECIPES[name]
    return {**values, "lr": values["lr"] * images_of_a_step / LR_IMAGES}
