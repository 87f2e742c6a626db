"""Augmentation: windows and colours by numbers."""

import math

import numpy as np
import pytest

from spos.data.augmentation import (
    IMAGENET_AUGMENTATION,
    NUM_DRAWS,
    SMALL_IMAGE_AUGMENTATION,
    Augmentation,
    augmentation_for,
    centre_window,
    color_matrix,
    erased_window,
    random_window,
)


def test_windows_have_the_area_and_aspect_asked_for():
    rng = np.random.default_rng(0)
    windows = [random_window(375, 500, IMAGENET_AUGMENTATION, rng.random(NUM_DRAWS).tolist()) for _ in range(2000)]
    areas = np.array([w.width * w.height / (375 * 500) for w in windows])
    aspects = np.array([w.width / w.height for w in windows])
    assert (
        0.075 < areas.min() < 0.1 and 0.9 < areas.max() <= 1 and 0.4 < areas.mean() < 0.5
    )  # large ones fit less often
    assert aspects.min() > 0.73 and aspects.max() < 1.36
    assert all(w.x >= 0 and w.y >= 0 and w.x + w.width <= 500 and w.y + w.height <= 375 for w in windows)


@pytest.mark.parametrize("height, width", [(1, 1), (400, 3), (3, 400), (1, 2)])
def test_windows_of_strange_images_lie_inside(height, width):
    rng = np.random.default_rng(0)
    for _ in range(50):
        window = random_window(height, width, IMAGENET_AUGMENTATION, rng.random(NUM_DRAWS).tolist())
        assert window.x >= 0 and 1 <= window.width <= width - window.x
        assert window.y >= 0 and 1 <= window.height <= height - window.y


@pytest.mark.parametrize("shorter", [32, 224, 256, 333, 375])
def test_centre_is_as_large_as_after_a_resize(shorter):
    window = centre_window(shorter, 500, 224, 0.875)
    assert window.width == window.height and abs(window.width / shorter - 0.875) < 0.02


def test_color_changes_are_what_their_names_say():
    pixels, mean = np.array([[10.0, 200.0, 90.0, 1.0]]), [40.0, 50.0, 60.0]
    draws = [0.5] * NUM_DRAWS
    only = Augmentation(jitter=0.4)
    np.testing.assert_allclose(pixels @ color_matrix(only, mean, draws).T, pixels[:, :3], rtol=1e-5)
    for index, expected in (
        (23, lambda x, grey, mean_grey: 1.4 * x),
        (24, lambda x, grey, mean_grey: mean_grey + 1.4 * (x - mean_grey)),
        (25, lambda x, grey, mean_grey: grey + 1.4 * (x - grey)),
    ):
        strong = [*draws[:index], 1.0, *draws[index + 1 :]]
        weights = np.array([0.114, 0.587, 0.299])
        want = expected(pixels[0, :3], weights @ pixels[0, :3], weights @ mean)
        np.testing.assert_allclose((pixels @ color_matrix(only, mean, strong).T)[0], want, rtol=1e-5)


def test_color_noise_has_the_deviation_of_alexnet():
    rng = np.random.default_rng(0)
    only = Augmentation(pca_noise=0.1)
    shifts = np.array([color_matrix(only, [0.0] * 3, rng.random(NUM_DRAWS).tolist())[:, 3] for _ in range(3000)])
    assert np.abs(shifts.mean(axis=0)).max() < 0.3
    assert math.sqrt((shifts**2).sum(axis=1).mean()) == pytest.approx(5.57, rel=0.05)


@pytest.mark.parametrize("size, pad", [(32, 4), (64, 8), (96, 0), (224, 0)])
def test_augmentation_depends_on_the_input_size(size, pad):
    augmentation = augmentation_for(size)
    assert augmentation.pad == pad and (augmentation.area is None) == (pad > 0) and augmentation.mirror


def test_a_window_of_an_augmentation_without_area_is_refused():
    with pytest.raises(ValueError, match="shows the whole image"):
        random_window(32, 32, SMALL_IMAGE_AUGMENTATION, [0.5] * NUM_DRAWS)


def test_what_is_erased_has_the_area_aspect_and_chance_of_the_paper():
    rng = np.random.default_rng(0)
    augmentation = Augmentation(pad=4, erasing=0.25)
    windows = [erased_window(augmentation, 200, 200, rng.random(augmentation.num_draws).tolist()) for _ in range(4000)]
    erased = [window for window in windows if window]
    assert len(erased) / len(windows) == pytest.approx(0.25, abs=0.03)
    areas = np.array([window.width * window.height / 200**2 for window in erased])
    aspects = np.array([window.width / window.height for window in erased])
    assert areas.min() == pytest.approx(0.02, abs=0.005) and areas.max() <= 0.34
    assert areas.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    assert aspects.min() >= 0.29 and aspects.max() <= 3.4 and np.median(aspects) == pytest.approx(1, abs=0.15)
    assert all(0 <= w.x <= 200 - w.width and 0 <= w.y <= 200 - w.height for w in erased)
    assert Augmentation(pad=4).num_draws == NUM_DRAWS  # the numbers of others stay what they were
