"""Near-duplicates: what counts as the same picture."""

import tracemalloc

import cv2
import numpy as np
import pytest

from spos.data import similar
from spos.data.image_list import UnreadableImage
from spos.data.similar import SIDE, near_duplicates, small_copy


def picture(seed, size=64):
    """Something with the smooth structure of a photo."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def encoded(image, suffix=".png", quality=95):
    return cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def groups_of(images):
    return near_duplicates(np.stack([small_copy(encoded(image)) for image in images])).tolist()


CHANGES = {
    "the same": lambda image: image,
    "a poor JPEG": lambda image: cv2.imdecode(np.frombuffer(encoded(image, ".jpg", 20), np.uint8), cv2.IMREAD_COLOR),
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.9).astype(np.uint8),
    "cut a little": lambda image: image[1:-1, 1:-1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_a_near_duplicate(change):
    assert groups_of([picture(0), picture(1), CHANGES[change](picture(0))]) == [0, 1, 0]


def test_other_pictures_mirrored_and_inverted_ones_are_none():
    first = picture(0)
    assert groups_of([first, picture(1), first[:, ::-1].copy(), 255 - first, first[..., ::-1].copy()]) == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_flat_pictures_differ_by_their_colour():
    grey = [np.full((40, 40, 3), level, np.uint8) for level in (20, 21, 220)]
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 2] = 120
    assert groups_of([*grey, red, np.full((40, 40, 3), 40, np.uint8)]) == [0, 0, 2, 3, 0]


def test_what_pairs_link_is_one_group():
    start, end = picture(0).astype(float), picture(1).astype(float)
    film = [(start * (1 - t) + end * t).astype(np.uint8) for t in np.linspace(0, 1, 40)]
    assert groups_of([film[0], film[-1]]) == [0, 1]
    assert groups_of(film) == [0] * 40


def test_a_thousand_equal_pictures_are_one_group():
    copies = np.tile(small_copy(encoded(picture(3))), (1000, 1, 1, 1))
    assert near_duplicates(copies).tolist() == [0] * 1000
    assert near_duplicates(copies[:1]).tolist() == [0]


def film(num, rng):
    """Small copies of so many frames that all are near-duplicates and none are equal."""
    still = rng.integers(40, 216, (SIDE, SIDE, 3))
    return (still + rng.integers(-3, 4, (num, SIDE, SIDE, 3))).astype(np.uint8)


def test_the_memory_does_not_grow_with_the_pairs(rng):
    """A thousand frames have 500,000 pairs, whose vectors would be 1.7 GB."""
    frames = film(1000, rng)
    tracemalloc.start()
    try:
        assert set(near_duplicates(frames).tolist()) == {0}
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()


def test_films_cut_into_each_other_are_taken_apart(rng, monkeypatch):
    """Also where only a few pairs are looked at at a time."""
    films = np.stack([film(30, rng) for _ in range(4)], axis=1).reshape(-1, SIDE, SIDE, 3)
    assert near_duplicates(films).tolist() == list(range(4)) * 30
    monkeypatch.setattr(similar, "_MOST_PAIRS", 7)
    monkeypatch.setattr(similar, "_BLOCK", 10)
    assert near_duplicates(films).tolist() == list(range(4)) * 30


def test_a_photo_is_seen_upright_and_whole():
    assert small_copy(encoded(picture(0, 4000), ".jpg")).shape == (SIDE, SIDE, 3)
    with pytest.raises(UnreadableImage):
        small_copy(b"<html>")
