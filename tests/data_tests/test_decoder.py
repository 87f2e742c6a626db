"""Decoding one image: windows, colours, and files that are not what they seem."""

import csv
import io
import math

import cv2
import numpy as np
import pytest
from image_files import ONE, SHARED_DATA, ZERO, pack, png, random_images, read_pass, shared_file
from PIL import Image

from spos.data import jpeg
from spos.data.augmentation import (
    IMAGENET_AUGMENTATION,
    NUM_DRAWS,
    SMALL_IMAGE_AUGMENTATION,
    Augmentation,
    augmentation_for,
    centre_window,
    color_matrix,
    random_window,
)
from spos.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from spos.data.decoder import ImageDecoder, Scratch
from spos.data.folder import list_folder
from spos.data.loader import ImageLoader
from spos.data.recordio import RecordReader, read_index


def jpeg_file(height=400, width=500, **options):
    """A smooth picture with some noise, as a camera gives it."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 30, (height, width))
    pixels = np.stack([y * 200 // height + noise, x * 200 // width + noise, (x + y) % 200], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


KINDS = {
    "4:2:0": {"subsampling": 2},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 2},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_rows", [1, 17, 200, 370, 383, 400])
@pytest.mark.parametrize("factor", [1, 2])
def test_upper_rows_are_those_of_the_whole_image(capfd, kind, num_rows, factor):
    content = jpeg_file(**KINDS[kind])
    header = jpeg.read_header(content)
    assert (header.height, header.width) == (400, 500)
    upper = jpeg.decode(content, header, num_rows, factor)
    whole = jpeg.decode_any(content, jpeg.FACTORS[factor])
    num = num_rows // factor
    np.testing.assert_array_equal(upper[:num], whole[:num])
    if kind in ("4:2:0", "4:4:4", "4:2:2") and num_rows <= 200:
        assert upper.shape[0] < whole.shape[0]  # less was decoded
    assert capfd.readouterr().err == ""  # libjpeg complains of data that is left over


def test_real_images_are_decoded_to_the_same_rows(capfd):
    file = shared_file("imagenet_sample", "train")
    with RecordReader(file.rec) as reader:
        contents = [reader.read_image(int(offset))[1] for offset in read_index(file.idx).offsets[:60]]
    for content in contents:
        header = jpeg.read_header(content)
        num_rows = header.height * 2 // 3
        whole = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        np.testing.assert_array_equal(jpeg.decode(content, header, num_rows)[:num_rows], whole[:num_rows])
    assert "extraneous" not in capfd.readouterr().err


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 100, 300])
def test_a_header_that_is_cut_is_none(length):
    assert jpeg.read_header(jpeg_file()[:length]) is None


def test_a_jpeg_cut_in_the_middle_is_the_same_every_time():
    content = jpeg_file()[: len(jpeg_file()) * 6 // 10]
    header = jpeg.read_header(content)
    images = [jpeg.decode(content, header, header.height) for _ in range(3)]
    assert images[0].shape == (400, 500, 3) and all(np.array_equal(images[0], image) for image in images)
    assert images[0][-20:].std() < 1  # one grey


def decode(content, size=224, augmentation=None, draws=None):
    out = np.empty((3, size, size), np.float32)
    decoder = ImageDecoder(size, ZERO, ONE, augmentation, 0.875)
    draws = np.full(NUM_DRAWS, 0.5).tolist() if draws is None else draws
    assert decoder.decode(content, draws, out, Scratch(size))
    return out


@pytest.mark.parametrize("encoding", ["JPEG", "PNG"])
def test_shrinking_takes_the_mean_over_an_area(encoding):
    """Stripes one pixel wide become grey, not stripes of another width."""
    stripes = np.tile(np.array([0, 255], np.uint8), (1024, 512))
    buffer = io.BytesIO()
    Image.fromarray(stripes).convert("RGB").save(buffer, format=encoding)
    image = decode(buffer.getvalue(), size=100)
    assert abs(image.mean() - 127.5) < 3 and image.std() < 10


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
    loader = ImageLoader(images, 4, 64, 1000, IMAGENET_MEAN, IMAGENET_STD, augmentation)
    pixels, found = read_pass(loader)
    assert set(found.tolist()) == expected and len(expected) == 11
    assert len(found) == (11 if augmentation is None else 14)  # in training others take the places of three
    assert np.isfinite(pixels).all() and len(loader.bad_images) == 3
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 3


def test_images_whose_header_promises_too_much_are_left_out(tmp_path):
    content = bytearray(jpeg_file())
    at = jpeg.read_header(bytes(content)).frame_at
    content[at + 5 : at + 9] = b"\xff\xff\xff\xff"  # 65,535 x 65,535 pixels
    loader = ImageLoader(pack(tmp_path, [bytes(content), png(random_images(1)[0])]), 2, 32, 2, ZERO, ONE)
    assert read_pass(loader)[1].tolist() == [1]
