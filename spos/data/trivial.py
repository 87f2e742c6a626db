"""TrivialAugment: one random change of random strength to every image (arXiv:2103.10158), executed by Pillow.

Operations and their largest strengths are those of the paper's wide space; what is moved in from outside of the image
is black. Everything random is a function of three uniform numbers.
"""

from __future__ import annotations

from typing import Callable, Sequence, Tuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

NUM_DRAWS = 3
_NUM_STRENGTHS = 31  # from nothing to the largest, evenly
_SHEAR, _TRANSLATION, _ROTATION, _FACTOR = 0.99, 32, 135, 0.99  # largest; of pixels, degrees, and away from a factor 1
_FEWEST_BITS, _ALL_BITS = 2, 8

Operation = Callable[[Image.Image, float, int], Image.Image]  # of an image, a strength 0..1 and a sign


def _sheared(x: float, y: float) -> Operation:
    return lambda image, strength, sign: _moved(image, (1, sign * strength * x, 0, sign * strength * y, 1, 0))


def _translated(x: float, y: float) -> Operation:
    return lambda image, strength, sign: _moved(image, (1, 0, sign * strength * x, 0, 1, sign * strength * y))


def _moved(image: Image.Image, matrix: Sequence[float]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, tuple(matrix))


def _enhanced(kind: Callable) -> Operation:
    return lambda image, strength, sign: kind(image).enhance(1 + sign * strength * _FACTOR)


# In the paper's order. Those that have no direction do not read the sign.
OPERATIONS: Tuple[Operation, ...] = (
    lambda image, strength, sign: image,
    lambda image, strength, sign: ImageOps.autocontrast(image),
    lambda image, strength, sign: ImageOps.equalize(image),
    lambda image, strength, sign: image.rotate(sign * strength * _ROTATION),
    lambda image, strength, sign: ImageOps.solarize(image, round(256 * (1 - strength))),
    _enhanced(ImageEnhance.Color),
    lambda image, strength, sign: ImageOps.posterize(image, _ALL_BITS - round(strength * (_ALL_BITS - _FEWEST_BITS))),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Sharpness),
    _sheared(_SHEAR, 0),
    _sheared(0, _SHEAR),
    _translated(_TRANSLATION, 0),
    _translated(0, _TRANSLATION),
)


def trivially_augmented(pixels: np.ndarray, draws: Sequence[float]) -> np.ndarray:
    """A changed image.

    Args:
        pixels: (H, W, 3) uint8 BGR.    draws: NUM_DRAWS uniform numbers: which operation, how strong, its sign.
    Returns: (H, W, 3) uint8 BGR, in new memory unless nothing changes.
    """
    operation = OPERATIONS[int(draws[0] * len(OPERATIONS))]
    strength = int(draws[1] * _NUM_STRENGTHS) / (_NUM_STRENGTHS - 1)
    if operation is OPERATIONS[0]:
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))
    changed = operation(image, strength, 1 if draws[2] < 0.5 else -1)
    return np.ascontiguousarray(np.asarray(changed)[..., ::-1])
