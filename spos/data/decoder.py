"""One encoded image in, one normalised float32 image out: decode, cut, resize, change colours. OpenCV, no MXNet.

MXNet's own ImageRecordIter is not used: its decoder alone takes 1.4 times as long as OpenCV's, an
undecodable image ends the process (SIGFPE) where it resizes, and it seeds by the position in the batch only.
"""

from __future__ import annotations

from typing import Sequence, Tuple

import cv2
import numpy as np

from spos.data import jpeg
from spos.data.augmentation import (
    TRIVIAL,
    Augmentation,
    Window,
    centre_window,
    color_matrix,
    erased_window,
    is_mirrored,
    padded_window,
    random_window,
)
from spos.data.exif import UPRIGHT, turned
from spos.data.header import MAX_PIXELS, NOT_A_PICTURE, Header, check_claim, read_plain_header
from spos.data.image_list import UnreadableImage
from spos.data.preprocessing import Preparation
from spos.data.trivial import trivially_augmented


def read_header(content: bytes) -> Header:
    """What an encoded image says of itself; a `JpegHeader` of a JPEG.

    Raises: UnreadableImage if it is no picture, or claims more pixels than are decoded.
    """
    return check_claim(jpeg.read_header(content) or read_plain_header(content))


def decode_upright(content: bytes, least: int = 0) -> np.ndarray:
    """A whole image as people see it, (H, W, 3) uint8 BGR. Raises: UnreadableImage.

    Args: least: pixels of the shorter side that will do, if not 0; a larger JPEG is decoded to fewer then, which is
        fast.
    """
    header = read_header(content)
    image = None
    if isinstance(header, jpeg.JpegHeader):
        shorter = min(header.height, header.width)
        factor = max(factor for factor in jpeg.FACTORS if factor == 1 or (least and shorter >= least * factor))
        image = jpeg.decode(content, header, header.height, factor)
    image = jpeg.decode_any(content) if image is None else image
    if image is None:
        raise UnreadableImage(NOT_A_PICTURE)
    return turned(image, header.orientation)


class Scratch:
    """Memory that one thread reuses from image to image."""

    def __init__(self, size: int) -> None:
        self.pixels = np.empty((size, size, 3), np.uint8)
        self.other = np.empty((size, size, 3), np.uint8)
        self.planes = np.empty((3, size, size), np.uint8)  # R, G, B
        self.bgr_planes = list(self.planes[::-1])


class ImageDecoder:
    """Turns encoded images into normalised ones of one size."""

    def __init__(self, preparation: Preparation) -> None:
        cv2.setNumThreads(1)  # images are decoded in several threads; OpenCV's own would only get in their way
        self.size = preparation.size
        self._augmentation = preparation.augmentation
        self._crop_ratio = preparation.crop_ratio
        self._mean = [round(value) for value in preparation.mean[::-1]]  # BGR
        self._scale, self._shift = normalisation(preparation.mean, preparation.std)

    def decode(self, content: bytes, draws: Sequence[float], out: np.ndarray, scratch: Scratch) -> None:
        """Write the image to `out` (3, S, S), RGB: as it is if that is uint8, as (x - mean) / std if it is float32.

        Args:
            draws: `Augmentation.num_draws` uniform numbers; everything random about the image is a function of them.
        Raises: UnreadableImage.
        """
        augmentation = self._augmentation
        if augmentation is not None and augmentation.area is None:
            pixels = self._padded(content, augmentation.pad, draws, scratch)
        else:
            pixels = self._cut(content, draws, scratch)
        if augmentation is not None:
            pixels = self._changed(pixels, augmentation, draws, scratch)
        self._write(pixels, out, scratch)

    def prepare(self, image: np.ndarray, out: np.ndarray, scratch: Scratch) -> None:
        """Do to pixels (H, W, 3), uint8 RGB, what `decode` does to an encoded image without augmentation."""
        height, width = image.shape[:2]
        window = centre_window(height, width, self.size, self._crop_ratio)
        self._write(self._resize(np.ascontiguousarray(image[..., ::-1]), window, scratch), out, scratch)

    def _changed(
        self, pixels: np.ndarray, augmentation: Augmentation, draws: Sequence[float], scratch: Scratch
    ) -> np.ndarray:
        """BGR pixels (S, S, 3), mirrored, in other colours, changed at random, or in part erased."""
        if is_mirrored(augmentation, draws):
            pixels = cv2.flip(pixels, 1, dst=scratch.other)
        if augmentation.changes_colors:
            mean = [cv2.mean(plane)[0] for plane in cv2.split(pixels, scratch.bgr_planes)]
            pixels = cv2.transform(pixels, color_matrix(augmentation, mean, draws), dst=scratch.pixels)
        if augmentation.trivial:
            pixels = trivially_augmented(pixels, draws[TRIVIAL])
        erased = erased_window(augmentation, self.size, self.size, draws) if augmentation.erasing else None
        if erased:
            pixels[erased.y : erased.y + erased.height, erased.x : erased.x + erased.width] = self._mean
        return pixels

    def _write(self, pixels: np.ndarray, out: np.ndarray, scratch: Scratch) -> None:
        """BGR pixels (S, S, 3) to `out`, as `decode` says."""
        cv2.split(pixels, scratch.bgr_planes)
        out[...] = scratch.planes
        if out.dtype != np.uint8:
            out *= self._scale
            out -= self._shift

    def _cut(self, content: bytes, draws: Sequence[float], scratch: Scratch) -> np.ndarray:
        """The random or the central part, resized."""
        header = read_header(content)
        if isinstance(header, jpeg.JpegHeader):
            height, width = header.shown
            window = self._window(height, width, draws)
            factor = max(f for f in jpeg.FACTORS if f == 1 or f * self.size <= min(window.width, window.height))
            bottom = window.y + window.height
            image = jpeg.decode(content, header, bottom if header.orientation == UPRIGHT else header.height, factor)
            if image is not None:
                image = turned(image, header.orientation)
                if image.shape[0] >= bottom // factor and image.shape[1] == -(-width // factor):
                    return self._resize(image, _divide(window, factor), scratch)
        image = decode_upright(content)
        height, width = image.shape[:2]
        return self._resize(image, self._window(height, width, draws), scratch)

    def _window(self, height: int, width: int, draws: Sequence[float]) -> Window:
        if self._augmentation is None:
            return centre_window(height, width, self.size, self._crop_ratio)
        return random_window(height, width, self._augmentation, draws)

    def _resize(self, image: np.ndarray, window: Window, scratch: Scratch) -> np.ndarray:
        part = image[window.y : window.y + window.height, window.x : window.x + window.width]
        if part.shape == scratch.pixels.shape:
            return np.ascontiguousarray(part)
        return cv2.resize(part, (self.size, self.size), scratch.pixels, interpolation=_filter(part.shape, self.size))

    def _padded(self, content: bytes, pad: int, draws: Sequence[float], scratch: Scratch) -> np.ndarray:
        """The whole image, its shorter side resized to the input size, padded with black and cut."""
        image = decode_upright(content)
        height, width = _with_shorter_side(image.shape, self.size)
        if height * width > MAX_PIXELS:
            raise UnreadableImage(f"is too long: resized to {self.size} px it would have {width} x {height} pixels")
        window = padded_window(height, width, self.size, pad, draws)
        if (height, width) != image.shape[:2]:
            image = cv2.resize(image, (width, height), interpolation=_filter(image.shape, self.size))
        left, top = max(0, window.x), max(0, window.y)
        right, bottom = min(width, window.x + self.size), min(height, window.y + self.size)
        scratch.pixels[...] = 0
        scratch.pixels[top - window.y : bottom - window.y, left - window.x : right - window.x] = image[
            top:bottom, left:right
        ]
        return scratch.pixels


def normalisation(mean: Sequence[float], std: Sequence[float]) -> Tuple[np.ndarray, np.ndarray]:
    """(scale, shift), float32 and (3, 1, 1): pixels * scale - shift is (pixels - mean) / std."""
    scale, shift = (
        np.array(values, np.float32)[:, None, None]
        for values in ([1 / s for s in std], [m / s for m, s in zip(mean, std)])
    )
    return scale, shift


def _with_shorter_side(shape: Tuple[int, ...], size: int) -> Tuple[int, int]:
    height, width = shape[:2]
    shorter = min(height, width)
    return max(size, round(height * size / shorter)), max(size, round(width * size / shorter))


def _filter(shape: Tuple[int, ...], size: int) -> int:
    """Bilinear, or the mean over the area when an image shrinks by 2 or more."""
    return cv2.INTER_AREA if min(shape[:2]) >= 2 * size else cv2.INTER_LINEAR


def _divide(window: Window, factor: int) -> Window:
    """The same part of an image that was decoded at 1 / factor."""
    return Window(*(value // factor for value in (window.x, window.y, window.width, window.height)))
