"""NumPy arrays as a data set: the same pixels come back, and what is refused."""

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.data.arrays import FILES, pack_arrays
from spos.data.flags import DataOptions
from spos.data.loader import ImageLoader
from spos.data.order import Order
from spos.data.registry import open_data


@pytest.fixture
def arrays(rng):
    """Training images of 12 x 10 pixels and labels 0..2, then the same for testing."""
    images, test_images = (rng.integers(0, 256, (count, 12, 10, 3), dtype=np.uint8) for count in (40, 6))
    return images, np.arange(40) % 3, test_images, np.arange(6) % 3


def pixels_of(options, split):
    """All images of a list as they are decoded, (N, H, W, 3), and their labels."""
    data = open_data(options)
    preparation = data.preparation(as_pixels=True)
    batch = next(ImageLoader(data.splits[split], preparation, Order(), 64, num_classes=data.num_classes).epoch(0))
    return batch.images.asnumpy().transpose(0, 2, 3, 1), batch.labels.asnumpy()


def test_pixels_and_labels_come_back(arrays, tmp_path):
    square = (arrays[0][:, :10], arrays[1], arrays[2][:, :10], arrays[3])
    options = pack_arrays(tmp_path, *square)
    for split, images, labels in (("train_full", *square[:2]), ("test", *square[2:])):
        found, found_labels = pixels_of(options, split)
        assert (found == images).all() and (found_labels == labels).all()


def test_the_centre_is_cut_from_images_that_are_not_square(arrays, tmp_path):
    found, _ = pixels_of(pack_arrays(tmp_path, *arrays), "test")
    assert (found == arrays[2][:, 1:11]).all()


def test_grey_images_have_three_equal_channels(arrays, tmp_path):
    grey = (arrays[0][:, :10, :, 0], arrays[1], arrays[2][:, :10, :, 0], arrays[3])
    found, _ = pixels_of(pack_arrays(tmp_path, *grey), "test")
    assert (found == grey[2][..., None]).all()


def test_what_is_not_said_follows_from_the_arrays(arrays, tmp_path):
    options = pack_arrays(tmp_path, *arrays)
    assert (options.classes, options.input_size, options.crop_ratio) == (3, 10, 1.0)
    more = DataOptions(classes=5, input_size=16, crop_ratio=0.9, batch_size=8)
    options = pack_arrays(tmp_path, *arrays, more)
    assert (options.classes, options.input_size, options.crop_ratio, options.batch_size) == (5, 16, 0.9, 8)
    assert open_data(options).num_classes == 5


def test_a_second_call_writes_nothing_and_other_images_are_refused(arrays, tmp_path):
    pack_arrays(tmp_path, *arrays)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in FILES}
    pack_arrays(tmp_path, *arrays)
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in FILES}
    other = arrays[0].copy()
    other[0, 0, 0, 0] ^= 1
    with pytest.raises(InputError, match="holds other images"):
        pack_arrays(tmp_path, other, *arrays[1:])
    with pytest.raises(InputError, match="holds other images"):
        pack_arrays(tmp_path, arrays[0], arrays[1][::-1], *arrays[2:])


@pytest.mark.parametrize(
    "place, change, message",
    (
        (0, lambda a: a / 255, r"^images must be uint8 \(N, H, W, 3\) or \(N, H, W\), not float64 \(40, 12, 10, 3\)"),
        (0, lambda a: a.transpose(0, 3, 1, 2), r"^images must be uint8"),
        (2, lambda a: a[0, 0], "^test_images must be uint8"),
        (2, lambda a: a[:0], "^test_labels must be one for each of 0 images"),
        (1, lambda a: a[1:], r"^labels must be one for each of 40 images, not \(39,\)"),
        (1, lambda a: a.astype(float), "^labels must be whole numbers from 0, not float64"),
        (1, lambda a: a - 1, "^labels must be whole numbers from 0, not int64 from -1"),
        (3, lambda a: a + 1, "^test_labels go up to 3, labels only to 2"),
    ),
)
def test_what_is_refused(place, change, message, arrays, tmp_path):
    wrong = [change(array) if i == place else array for i, array in enumerate(arrays)]
    with pytest.raises(InputError, match=message):
        pack_arrays(tmp_path, *wrong)
    assert not list(tmp_path.iterdir())
