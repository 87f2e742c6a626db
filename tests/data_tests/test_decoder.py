"""Decoding one image: windows, colours, and files that are not what they seem."""

import csv
import io

import numpy as np
import pytest
from image_files import ONE, SHARED_DATA, ZERO, jpeg_file, loader, pack, png, random_images, read_pass
from PIL import Image

from spos.data import jpeg
from spos.data.augmentation import (
    IMAGENET_AUGMENTATION,
    NUM_DRAWS,
    SMALL_IMAGE_AUGMENTATION,
    Augmentation,
)
from spos.data.dataset import IMAGENET_CROP_RATIO, IMAGENET_MEAN, IMAGENET_STD
from spos.data.decoder import ImageDecoder, Scratch
from spos.data.folder import list_folder
from spos.data.preprocessing import Preparation


def decode(content, size=224, augmentation=None, draws=None):
    out = np.empty((3, size, size), np.float32)
    decoder = ImageDecoder(Preparation(size, ZERO, ONE, 0.875, augmentation))
    draws = np.full(NUM_DRAWS, 0.5).tolist() if draws is None else draws
    decoder.decode(content, draws, out, Scratch(size))  # raises if it cannot
    return out


@pytest.mark.parametrize("encoding", ["JPEG", "PNG"])
def test_shrinking_takes_the_mean_over_an_area(encoding):
    """Stripes one pixel wide become grey, not stripes of another width."""
    stripes = np.tile(np.array([0, 255], np.uint8), (1024, 512))
    buffer = io.BytesIO()
    Image.fromarray(stripes).convert("RGB").save(buffer, format=encoding)
    image = decode(buffer.getvalue(), size=100)
    assert abs(image.mean() - 127.5) < 3 and image.std() < 10


ODD_MODES = pytest.mark.parametrize("augmentation", [None, IMAGENET_AUGMENTATION, SMALL_IMAGE_AUGMENTATION])


def odd_cases():
    if not (SHARED_DATA / "imagenet_odd").is_dir():
        pytest.skip("needs imagenet_odd in ../shared/data")
    with open(SHARED_DATA / "imagenet_odd" / "cases.tsv") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@ODD_MODES
@pytest.mark.parametrize("form", ["folder", "record"])
def test_odd_files_give_what_their_row_allows(tmp_path, capfd, augmentation, form):
    cases = odd_cases()
    root = SHARED_DATA / "imagenet_odd"
    if form == "folder":
        images = list_folder(str(root / "files"), sorted({case["wnid"] for case in cases}))
        labels = {case["wnid"]: label for label, case in enumerate(sorted(cases, key=lambda case: case["wnid"]))}
        expected = {float(labels[case["wnid"]]) for case in cases if case["decodable"] != "0"}
    else:
        images = pack(tmp_path, [(root / case["file"]).read_bytes() for case in cases])
        expected = {float(i) for i, case in enumerate(cases) if case["decodable"] != "0"}
    look = {"size": 64, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "crop_ratio": IMAGENET_CROP_RATIO}
    read = loader(images, 4, num_classes=1000, augmentation=augmentation, **look)
    pixels, found = read_pass(read)
    assert set(found.tolist()) == expected and len(expected) == 11
    assert len(found) == (11 if augmentation is None else 14)  # in training others take the places of three
    assert np.isfinite(pixels).all() and len(read.bad_images) == 3
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 3


def test_images_whose_header_promises_too_much_are_left_out(tmp_path):
    content = bytearray(jpeg_file())
    at = jpeg.read_header(bytes(content)).frame_at
    content[at + 5 : at + 9] = b"\xff\xff\xff\xff"  # 65,535 x 65,535 pixels
    images = loader(pack(tmp_path, [bytes(content), png(random_images(1)[0])]), 2, num_classes=2)
    assert read_pass(images)[1].tolist() == [1]


def test_images_that_resizing_would_blow_up_are_left_out(tmp_path):
    """One pixel wide and 200,000 long: a file of some hundred bytes, at 32 px 205 million pixels."""
    long = np.zeros((200_000, 1, 3), np.uint8)
    images = loader(
        pack(tmp_path, [png(long), png(random_images(1)[0])]), 2, num_classes=2, augmentation=SMALL_IMAGE_AUGMENTATION
    )
    assert set(read_pass(images)[1].tolist()) == {1}


@pytest.mark.parametrize("dtype", (np.float32, np.uint8))
def test_a_box_is_erased_in_the_colour_of_the_mean(dtype):
    mean, size = (120.0, 110.0, 100.0), 32
    out = np.empty((3, size, size), dtype)
    augmentation = Augmentation(pad=0, erasing=1.0)
    decoder = ImageDecoder(Preparation(size, mean, ONE, 0.875, augmentation, as_pixels=dtype == np.uint8))
    draws = np.full(augmentation.num_draws, 0.5).tolist()
    decoder.decode(png(np.full((size, size, 3), 200, np.uint8)), draws, out, Scratch(size))
    box = out[:, 10:23, 10:23]  # half of the way between the smallest and the largest area: 13 of 32 px, in the middle
    erased = 0 if dtype == np.float32 else np.array(mean)[:, None, None]
    assert (box == erased).all()
    assert (out != erased).any(0).sum() == size**2 - 13**2
    plain = ImageDecoder(Preparation(size, mean, ONE, 0.875, Augmentation(pad=0)))
    whole = np.empty((3, size, size), np.float32)
    plain.decode(png(np.full((size, size, 3), 200, np.uint8)), draws, whole, Scratch(size))
    assert (whole != 0).all()
