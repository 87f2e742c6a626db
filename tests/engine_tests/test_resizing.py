"""Resizing on the device: by area, the same every time, and never larger."""

import cv2
import numpy as np
import pytest

from spos.engine.compat import mx
from spos.engine.resizing import area_weights, resized


@pytest.mark.parametrize("loaded, size", ((32, 24), (160, 96), (16, 8), (17, 5), (224, 192)))
def test_images_shrink_by_area_as_by_opencv(loaded, size, rng):
    images = rng.normal(0, 1, (3, 3, loaded, loaded)).astype(np.float32)
    wanted = [cv2.resize(image.transpose(1, 2, 0), (size, size), interpolation=cv2.INTER_AREA) for image in images]
    got = resized(mx.nd.array(images), size)
    assert got.shape == (3, 3, size, size) and got.dtype == np.float32
    np.testing.assert_allclose(got.asnumpy(), np.stack(wanted).transpose(0, 3, 1, 2), atol=2e-5)


@pytest.mark.parametrize("loaded, size", ((32, 24), (17, 5), (7, 7)))
def test_every_pixel_counts_by_its_area(loaded, size):
    weights = area_weights(loaded, size)
    np.testing.assert_allclose(weights.sum(0), 1)
    np.testing.assert_allclose(weights.sum(1), size / loaded)
    assert (weights >= 0).all()


def test_the_same_bits_every_time_and_the_same_values_for_every_image_alone(rng):
    images = mx.nd.array(rng.normal(0, 1, (8, 3, 32, 32)))
    first = resized(images, 24).asnumpy()
    assert np.array_equal(resized(images, 24).asnumpy(), first)
    alone = [resized(images[i : i + 1], 24).asnumpy()[0] for i in range(8)]  # with two threads other sums are made
    np.testing.assert_allclose(alone, first, rtol=0, atol=1e-6)


def test_half_precision_is_computed_in_single(rng):
    images = mx.nd.array(rng.normal(0, 1, (2, 3, 32, 32))).astype("float16")
    got = resized(images, 24)
    assert got.dtype == np.float16
    assert np.array_equal(got.asnumpy(), resized(images.astype("float32"), 24).asnumpy().astype(np.float16))


def test_images_of_the_size_are_left_alone():
    images = mx.nd.zeros((1, 3, 16, 16))
    assert resized(images, 16) is images


def test_nothing_is_enlarged():
    with pytest.raises(ValueError, match="images of 16 px cannot be enlarged to 24"):
        resized(mx.nd.zeros((1, 3, 16, 16)), 24)
