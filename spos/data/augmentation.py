"""Augmentation: the part of an image that the network sees, and its colours. Decisions on numbers, no pixels.

Everything random comes from a row of uniform numbers per image, drawn for a whole batch at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import numpy as np

LARGE_IMAGE = 96  # px: from here on images are cut as ImageNet's are; smaller ones are shown whole
NUM_DRAWS = 32  # uniform numbers of one image
NUM_MORE_DRAWS = 8  # behind them, of those that are changed by TrivialAugment or erased in part
_NUM_TRIES = 10
_TRIES, _PLACE, _MIRROR, _JITTER, _NOISE = 0, 20, 22, 23, 26  # first number of each decision
TRIVIAL, _ERASING = slice(NUM_DRAWS, NUM_DRAWS + 3), slice(NUM_DRAWS + 3, NUM_DRAWS + NUM_MORE_DRAWS)
_ERASED_AREA, _ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)  # shares of an image, and width / height

GREY_WEIGHTS = (0.114, 0.587, 0.299)  # BGR
# Principal components of the colours of ImageNet (AlexNet, 2012): rows B, G, R; deviations for values 0..255.
_PCA_DEVIATIONS = (55.46, 4.794, 1.148)
_PCA_COMPONENTS = ((-0.5836, -0.6948, 0.4203), (-0.5808, -0.0045, -0.8140), (-0.5675, 0.7192, 0.4009))


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image.

    With `area` a random part of that share of the image, of that `aspect` (width / height), is resized to the input
    size. Without, the shorter side is resized to the input size, `pad` black pixels are put around, and a random
    window is cut.
    """

    area: Optional[Tuple[float, float]] = None
    aspect: Tuple[float, float] = (3 / 4, 4 / 3)
    pad: int = 0
    mirror: bool = False
    jitter: float = 0.0  # brightness, contrast and saturation, each by a factor of 1 - jitter .. 1 + jitter
    pca_noise: float = 0.0
    trivial: bool = False  # one random change of random strength (`spos.data.trivial`), in the place of other colours
    erasing: float = 0.0  # chance of a box in the colour of the mean

    @property
    def num_draws(self) -> int:
        """Uniform numbers of one image."""
        return NUM_DRAWS + (NUM_MORE_DRAWS if self.trivial or self.erasing else 0)

    @property
    def changes_colors(self) -> bool:
        return self.jitter > 0 or self.pca_noise > 0


@dataclass(frozen=True)
class Window:
    """A part of an image in pixels; for padded images it may reach over the edges."""

    x: int
    y: int
    width: int
    height: int


def random_window(height: int, width: int, augmentation: Augmentation, draws: Sequence[float]) -> Window:
    """A random part of the image with the area and aspect of `augmentation`; the largest central one after ten tries.

    The aspect is uniform in its logarithm, so that wide and tall are equally likely.
    """
    if augmentation.area is None:
        raise ValueError("this augmentation shows the whole image; expected one with an area")
    log_low, log_high = (math.log(ratio) for ratio in augmentation.aspect)
    for i in range(_TRIES, _TRIES + 2 * _NUM_TRIES, 2):
        area = _between(augmentation.area, draws[i]) * height * width
        aspect = math.exp(log_low + draws[i + 1] * (log_high - log_low))
        w, h = max(1, round(math.sqrt(area * aspect))), max(1, round(math.sqrt(area / aspect)))
        if w <= width and h <= height:
            return Window(int(draws[_PLACE] * (width - w + 1)), int(draws[_PLACE + 1] * (height - h + 1)), w, h)
    w = max(1, min(width, round(height * augmentation.aspect[1])))
    h = max(1, min(height, round(width / augmentation.aspect[0])))
    return Window((width - w) // 2, (height - h) // 2, w, h)


def centre_window(height: int, width: int, size: int, crop_ratio: float) -> Window:
    """The central square that is left when the shorter side is resized to ceil(size / crop_ratio) and `size` is cut."""
    shorter = min(height, width)
    side = max(1, round(shorter * size / math.ceil(round(size / crop_ratio, 6))))
    return Window((width - side) // 2, (height - side) // 2, side, side)


def padded_window(height: int, width: int, size: int, pad: int, draws: Sequence[float]) -> Window:
    """A random square of an image that has `pad` pixels around it; x and y count from the image's own corner."""
    x = int(draws[_PLACE] * (width + 2 * pad - size + 1)) - pad
    y = int(draws[_PLACE + 1] * (height + 2 * pad - size + 1)) - pad
    return Window(x, y, size, size)


def erased_window(augmentation: Augmentation, height: int, width: int, draws: Sequence[float]) -> Optional[Window]:
    """The box that is erased (arXiv:1708.04896); None if there is none. What would not fit is as long as the image."""
    happens, area, aspect, x, y = draws[_ERASING]
    if happens >= augmentation.erasing:
        return None
    low, high = (math.log(ratio) for ratio in _ERASED_ASPECT)
    size, ratio = _between(_ERASED_AREA, area) * height * width, math.exp(low + aspect * (high - low))
    w, h = min(width, max(1, round(math.sqrt(size * ratio)))), min(height, max(1, round(math.sqrt(size / ratio))))
    return Window(int(x * (width - w + 1)), int(y * (height - h + 1)), w, h)


def _between(ends: Tuple[float, float], share: float) -> float:
    low, high = ends
    return low + share * (high - low)


def is_mirrored(augmentation: Augmentation, draws: Sequence[float]) -> bool:
    """Whether left and right are exchanged."""
    return augmentation.mirror and draws[_MIRROR] < 0.5


def color_matrix(augmentation: Augmentation, mean: Sequence[float], draws: Sequence[float]) -> np.ndarray:
    """All colour changes as one (3, 4) matrix for (B, G, R, 1), values 0..255.

    Brightness, contrast (towards the mean grey of the image) and saturation (towards the grey of the pixel); their
    order does not matter, for grey keeps its grey, and values are clipped only after all of them. Then noise along
    the principal components. `mean`: of B, G, R over the image. Plain numbers: this runs for every image.
    """
    brightness, contrast, saturation = (1 + augmentation.jitter * (2 * u - 1) for u in draws[_JITTER : _JITTER + 3])
    (blue, green, red), (weight_b, weight_g, weight_r) = mean, GREY_WEIGHTS
    grey = brightness * (1 - contrast) * (weight_b * blue + weight_g * green + weight_r * red)
    own, mixed = brightness * contrast * saturation, brightness * contrast * (1 - saturation)
    b, g, r = mixed * weight_b, mixed * weight_g, mixed * weight_r
    x, y, z = (deviation * augmentation.pca_noise * n for deviation, n in zip(_PCA_DEVIATIONS, _normal(draws)))
    shift_b, shift_g, shift_r = (grey + i * x + j * y + k * z for i, j, k in _PCA_COMPONENTS)
    rows = ((b + own, g, r, shift_b), (b, g + own, r, shift_g), (b, g, r + own, shift_r))
    return np.array(rows, np.float32)


def _normal(draws: Sequence[float]) -> Tuple[float, float, float]:
    """Three normal numbers from four uniform ones (Box and Muller, 1958)."""
    u, v, s, t = draws[_NOISE : _NOISE + 4]
    radius, angle = math.sqrt(-2 * math.log(1 - u)), 2 * math.pi * v
    other = math.sqrt(-2 * math.log(1 - s)) * math.cos(2 * math.pi * t)
    return radius * math.cos(angle), radius * math.sin(angle), other


# The recipe of GluonCV's train_imagenet.py for .rec files.
IMAGENET_AUGMENTATION = Augmentation(area=(0.08, 1.0), mirror=True, jitter=0.4, pca_noise=0.1)
SMALL_IMAGE_AUGMENTATION = Augmentation(pad=4, mirror=True)  # 32 px
DIGITS_AUGMENTATION = Augmentation(pad=2)  # a mirrored digit is another sign


def augmentation_for(input_size: int) -> Augmentation:
    """From 96 px on that of ImageNet; below, an eighth of padding on each side (4 px of 32, 8 of 64) and mirroring."""
    if input_size >= LARGE_IMAGE:
        return IMAGENET_AUGMENTATION
    return Augmentation(pad=max(1, input_size // 8), mirror=True)
