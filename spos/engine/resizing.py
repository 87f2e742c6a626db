"""Images of a smaller size, made on their device: one way for training and for scoring."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from spos.engine.compat import mx


def resized(images: mx.nd.NDArray, size: int) -> mx.nd.NDArray:
    """Square images (N, C, S, S) at another size (N, C, size, size), by area.

    A pixel is the mean of the area that it covers, pixels at its rim weighed by their covered part, as OpenCV's
    `INTER_AREA` has it. Two products with a constant matrix, in float32: the same bits on a device every time. Images
    that have the size already are returned as they are.

    Raises: ValueError if images are smaller than that; they are loaded at the largest size.
    """
    loaded = images.shape[2]
    if loaded == size:
        return images
    if loaded < size:
        raise ValueError(f"images of {loaded} px cannot be enlarged to {size}")
    weights = _area_weights(loaded, size, images.context)
    narrower = mx.nd.dot(images.astype("float32", copy=False), weights).swapaxes(2, 3)  # (N, C, size, S)
    return mx.nd.dot(narrower, weights).swapaxes(2, 3).astype(images.dtype, copy=False)


def area_weights(loaded: int, size: int) -> np.ndarray:
    """(loaded, size): the share of every old pixel of a line in every new one."""
    ratio = loaded / size
    old, new = np.arange(loaded)[:, None], np.arange(size)[None]
    covered = np.minimum(old + 1, (new + 1) * ratio) - np.maximum(old, new * ratio)
    return np.maximum(covered, 0) / ratio


@lru_cache(maxsize=None)
def _area_weights(loaded: int, size: int, ctx: mx.Context) -> mx.nd.NDArray:
    with mx.autograd.pause():
        return mx.nd.array(area_weights(loaded, size), ctx=ctx)
