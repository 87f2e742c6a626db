"""What several test modules share: the optional `../shared` folder, space variants, and random weights."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from spos.compat import mx
from spos.search_space import search_space

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

VARIANTS = {
    "plain": search_space(),
    "se": search_space(use_se=True),
    "se-last-conv": search_space(use_se=True, last_conv_after_pooling=True),
    "last-conv": search_space(last_conv_after_pooling=True),
    "v2plus": search_space("ShuffleNetV2+", use_se=True, last_conv_after_pooling=True),
    "multiple-of-8": search_space(use_se=True, width_multiple=8),
    "small-images": search_space(use_se=True, last_conv_after_pooling=True, strides=(1, 1, 2, 2, 2), input_size=32),
}


@pytest.fixture(params=VARIANTS, ids=str)
def space(request):
    """Every variant of the search space, with ten classes."""
    from dataclasses import replace

    return replace(VARIANTS[request.param], num_classes=10)


@pytest.fixture
def rng():
    """A generator whose seed is printed when a test fails (pytest shows captured output)."""
    seed = 20190401
    print(f"seed {seed}")
    return np.random.default_rng(seed)


@pytest.fixture
def noise_file(tmp_path):
    """A record file of 50 images of noise, 32x32, image i with label i."""
    from image_files import pack, png, random_images

    return pack(tmp_path, [png(image) for image in random_images(50)])


@pytest.fixture
def reference():
    """The folder of exact values from an independent implementation."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip("../shared/reference is not here")
    return folder


def fill_parameters(net, name_in_file=lambda name: name):
    """Fill every parameter from its name, as the reference implementation did (large values, all channels alive)."""
    for name, parameter in net._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(reference_value(name_in_file(name), parameter.shape)))


def reference_value(name, shape):
    """Value of parameter `name` in the reference cases: a function of its name alone."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith(".weight"):
        value = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith(("gamma", "running_var")):
        value = random.uniform(0.5, 1.5, shape)
    else:
        value = random.normal(0, 0.1, shape)
    return value.astype(np.float32)
