"""EXIF orientation: photos are upright in every format, by every way of reading, in training and in evaluation."""

import io
import struct

import numpy as np
import pytest
from image_files import loader, pack, read_pass
from PIL import Image, ImageOps

from spos.data.augmentation import SMALL_IMAGE_AUGMENTATION
from spos.data.decoder import decode_upright
from spos.data.exif import orientation_of, turned

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
ORIENTATIONS = range(1, 9)


def photo(orientation, form="JPEG", height=48, width=72, **options):
    """Four quarters of different colours, so that every turn and mirror image is another picture."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 10, 10)
    pixels[: height // 2, width // 2 :] = (10, 250, 10)
    pixels[height // 2 :, : width // 2] = (10, 10, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else options
    Image.fromarray(pixels).save(buffer, form, exif=exif, **options)
    return buffer.getvalue()


def as_seen(content):
    """What another program shows, RGB."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")).astype(int)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_image_is_decoded_upright(form, orientation):
    content = photo(orientation, form)
    seen = decode_upright(content)[..., ::-1].astype(int)
    assert seen.shape == as_seen(content).shape == ((72, 48, 3) if orientation > 4 else (48, 72, 3))
    assert np.abs(seen - as_seen(content)).max() < 12  # two JPEG decoders


@pytest.mark.parametrize("height, width", ((48, 72), (400, 290)))  # the second one is decoded at a part of its size
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_evaluation_sees_it_upright(tmp_path, orientation, height, width):
    content = photo(orientation, height=height, width=width)
    seen = Image.fromarray(as_seen(content).astype(np.uint8))
    left, top = (seen.width - min(seen.size)) // 2, (seen.height - min(seen.size)) // 2
    centre = seen.crop((left, top, left + min(seen.size), top + min(seen.size)))
    expected = np.asarray(centre.resize((32, 32), Image.Resampling.BOX)).astype(int).transpose(2, 0, 1)
    (pixels,), _ = read_pass(loader(pack(tmp_path, [content]), num_classes=1))
    assert np.abs(pixels - expected).mean() < 8


def quarters(pixels):
    """The colours of the four quarters of an image (3, 32, 32): 0 to 2 of its channels, 3 for black."""
    colours = [pixels[:, y, x] for y in (10, 21) for x in (10, 21)]
    return [int(colour.argmax()) if colour.max() > 99 else 3 for colour in colours]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_training_sees_it_upright_or_mirrored(tmp_path, orientation):
    content = photo(orientation, height=96, width=96)
    a, b, c, d = quarters(as_seen(content)[1::3, 1::3].transpose(2, 0, 1))
    (pixels,), _ = read_pass(loader(pack(tmp_path, [content]), 1, num_classes=1, augmentation=SMALL_IMAGE_AUGMENTATION))
    assert quarters(pixels) in ([a, b, c, d], [b, a, d, c])


def test_turning_there_and_back():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    back = {6: 8, 8: 6}
    for orientation in ORIENTATIONS:
        np.testing.assert_array_equal(turned(turned(image, orientation), back.get(orientation, orientation)), image)


def block(order, kind, value, num_entries=1):
    form = {3: "HH", 4: "I", 2: "I"}[kind]
    values = (value, 0) if kind == 3 else (value,)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return start + struct.pack(order + "IHHHI" + form, 8, num_entries, 0x0112, kind, 1, *values)


@pytest.mark.parametrize("order", "<>")
def test_blocks_of_both_byte_orders_are_read(order):
    assert orientation_of(block(order, 3, 6)) == orientation_of(block(order, 4, 6)) == 6


@pytest.mark.parametrize(
    "exif",
    (b"", b"II*\0", b"no exif", block("<", 3, 0), block("<", 3, 9), block("<", 2, 6), block(">", 3, 6)[:15]),
)
def test_blocks_that_say_nothing_turn_nothing(exif):
    assert orientation_of(exif) == 1


def test_a_block_without_end_is_given_up():
    assert orientation_of(block("<", 3, 6)[:10] + b"\0" * 12 * 50) == 1
