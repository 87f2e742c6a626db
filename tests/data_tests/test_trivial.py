"""TrivialAugment: what its operations do, at which strengths, and that numbers decide everything."""

from collections import Counter

import numpy as np
import pytest

from spos.data.trivial import NUM_DRAWS, OPERATIONS, trivially_augmented

NAMES = (
    *("identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize", "contrast", "brightness"),
    *("sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)
DIRECTED = {"rotate", "color", "contrast", "brightness", "sharpness", "shear_x", "shear_y"}
DIRECTED |= {"translate_x", "translate_y"}


@pytest.fixture
def pixels(rng):
    """A smooth picture, BGR."""
    y, x = np.mgrid[0:40, 0:40]
    waves = [128 + 90 * np.sin(x / 9 + i) * np.cos(y / 7 - i) for i in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def changed(pixels, name, strength, sign=1):
    """Args: strength: 0..1."""
    draws = (NAMES.index(name) + 0.5) / len(NAMES), min(strength, 0.999), 0.25 if sign > 0 else 0.75
    return trivially_augmented(pixels, draws)


def test_there_is_a_name_for_every_operation():
    assert len(NAMES) == len(OPERATIONS)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"autocontrast", "equalize"}))
def test_no_strength_is_no_change(pixels, name):
    assert np.abs(changed(pixels, name, 0).astype(int) - pixels).max() <= 1  # rounding of a blend


@pytest.mark.parametrize("name", NAMES)
def test_numbers_decide_and_the_image_is_left_as_it_is(pixels, name):
    before = pixels.copy()
    results = {(strength, sign): changed(pixels, name, strength, sign) for strength in (0.5, 1) for sign in (1, -1)}
    assert (pixels == before).all()
    for (strength, sign), result in results.items():
        assert result.shape == pixels.shape and result.dtype == np.uint8
        assert (changed(pixels, name, strength, sign) == result).all()
        if name != "identity":
            assert (result != pixels).any()
    if name in DIRECTED:
        assert (results[1, 1] != results[1, -1]).any()
    else:
        assert (results[1, 1] == results[1, -1]).all()


def test_strongest_operations_are_those_of_the_paper(pixels):
    assert (changed(pixels, "solarize", 1) == 255 - pixels).all()
    assert (changed(pixels, "posterize", 1) == pixels & 0b11000000).all()
    moved = changed(pixels, "translate_x", 1)
    assert (moved[:, :8] == pixels[:, 32:]).all() and not moved[:, 8:].any()
    moved = changed(pixels, "translate_y", 1, sign=-1)
    assert (moved[32:] == pixels[:8]).all() and not moved[:32].any()
    assert changed(pixels, "brightness", 1, sign=-1).max() <= 3
    assert np.ptp(changed(pixels, "color", 1, sign=-1).astype(int), axis=2).max() <= 3  # grey
    dark = (pixels * 0.4).astype(np.uint8)
    brighter = changed(dark, "brightness", 1).astype(float)
    assert np.abs(brighter - 1.99 * dark).max() < 1.01


def test_colours_are_those_of_rgb():
    """Of pure blue and pure red, equal weights would make the same grey; ITU-R 601 does not."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0] = 255  # blue
    assert changed(pixels, "color", 1, sign=-1)[0, 0].tolist() == [31, 28, 28]  # grey 29, and a hundredth of the colour


def test_all_operations_are_as_likely():
    rng = np.random.default_rng(0)
    counts = Counter(int(draws[0] * len(OPERATIONS)) for draws in rng.random((14000, NUM_DRAWS)))
    assert set(counts) == set(range(14)) and min(counts.values()) > 880
