"""Near-duplicates among images: the same picture encoded again, resized, or a little darker. No MXNet.

Two images are near-duplicates if small copies of them differ by at most a quarter of their contrast, and everything
that such pairs link is one group, like the frames of a film. A split that divides no group tests on what was not
trained on.

Of 2,000 photos of CIFAR-10 no two different ones are closer than 0.28, of 600 of 224 px none closer than 0.43; the same
photo as a JPEG of quality 20, at half the size or 15% brighter is mostly within 0.2, cut by 5% at each side it is not.
"""

from __future__ import annotations

from typing import Iterator

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from spos.data.decoder import decode_upright

SIDE = 12  # px of a small copy
LARGEST_DISTANCE = 0.25  # of unit vectors
LEAST_CONTRAST = 2.0  # standard deviation, of 0..255; below it the noise of a flat picture would count
_NUM_AXES, _NUM_SAMPLED = 12, 2000  # along which candidates are looked for, and images that say them
_BLOCK, _MOST_PAIRS = 512, 20_000  # images whose candidates are looked for, and pairs that are compared, at a time


def small_copy(content: bytes) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8 of an encoded image, as people see it. Raises: UnreadableImage."""
    return cv2.resize(decode_upright(content, least=4 * SIDE), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def near_duplicates(copies: np.ndarray) -> np.ndarray:
    """The group of every image: the position of its first member, so an image without near-duplicates is its own.

    Args:
        copies: (N, SIDE, SIDE, 3) uint8 of at least one image, of `small_copy`.
    Returns: (N,) int64.
    """
    _, firsts, same = np.unique(copies.reshape(len(copies), -1), axis=0, return_index=True, return_inverse=True)
    same = same.reshape(-1)
    group = _linked(_vectors(copies[firsts]))[same]
    first_of_group = np.full(group.max() + 1, len(copies), np.int64)
    np.minimum.at(first_of_group, group, np.arange(len(copies)))
    return first_of_group[group]


def _vectors(copies: np.ndarray) -> np.ndarray:
    """(N, D): pixels around their mean in units of their contrast, and the mean as a share of white."""
    pixels = copies.reshape(len(copies), -1).astype(np.float32)
    mean = pixels.mean(axis=1, keepdims=True)
    centred = pixels - mean
    contrast = np.maximum(centred.std(axis=1, keepdims=True), LEAST_CONTRAST)
    return np.hstack([centred / (contrast * np.sqrt(pixels.shape[1])), mean / 255])


def _linked(vectors: np.ndarray) -> np.ndarray:
    """(N,) a number of every vector, equal where pairs no farther apart than LARGEST_DISTANCE link them.

    Many equal pictures have more pairs than memory holds. So few are looked at at a time, and of these only such as are
    not linked yet.
    """
    component = np.arange(len(vectors))
    for pairs in _candidates(vectors):
        pairs = pairs[component[pairs[:, 0]] != component[pairs[:, 1]]]
        distances = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1)
        links = component[pairs[distances <= LARGEST_DISTANCE]]
        if len(links):
            size = (len(vectors), len(vectors))
            graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=size)
            component = connected_components(graph, directed=False)[1][component]
    return component


def _candidates(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """(P, 2) positions of vectors that may be near, every pair once, at most _MOST_PAIRS at a time.

    They are close along the main axes of the vectors, where distances can only be smaller.
    """
    sampled = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _NUM_SAMPLED)).astype(int)]
    _, _, axes = np.linalg.svd(sampled - sampled.mean(axis=0), full_matrices=False)
    places = vectors @ axes[:_NUM_AXES].T
    order = KDTree(places).indices  # neighbours are mostly near each other
    parts = np.split(order, range(_BLOCK, len(order), _BLOCK))
    trees = [KDTree(places[part]) for part in parts]
    for number, (part, tree) in enumerate(zip(parts, trees)):
        yield from _in_chunks(part[tree.query_pairs(LARGEST_DISTANCE, output_type="ndarray")])
        for other, others in zip(parts[number + 1 :], trees[number + 1 :]):
            near = tree.sparse_distance_matrix(others, LARGEST_DISTANCE, output_type="ndarray")
            yield from _in_chunks(np.stack([part[near["i"]], other[near["j"]]], axis=1))


def _in_chunks(pairs: np.ndarray) -> Iterator[np.ndarray]:
    return (pairs[first : first + _MOST_PAIRS] for first in range(0, len(pairs), _MOST_PAIRS))
