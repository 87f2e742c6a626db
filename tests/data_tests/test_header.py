"""Headers of image files: the size that a file claims, in every format, and a limit on it."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from image_files import jpeg_file, loader, pack, png, random_images, read_pass
from PIL import Image

from spos.data.decoder import decode_upright, read_header
from spos.data.header import MAX_PIXELS, read_plain_header
from spos.data.image_list import UnreadableImage

PIXELS = random_images(1, 40, 90)[0]
BY_OPENCV = (
    ".bmp",
    ".dib",
    ".jp2",
    ".pbm",
    ".pgm",
    ".ppm",
    ".pam",
    ".pfm",
    ".png",
    ".ras",
    ".sr",
    ".tiff",
    ".webp",
    ".hdr",
)


def encoded(suffix):
    image = PIXELS[..., ::-1]
    if suffix in (".pbm", ".pgm"):
        image = image[..., 0]
    if suffix in (".pfm", ".hdr"):
        image = image.astype(np.float32) / 255
    done, content = cv2.imencode(suffix, image)
    assert done
    return content.tobytes()


@pytest.mark.parametrize("suffix", (*BY_OPENCV, ".jpg"))
def test_the_size_is_the_one_that_opencv_decodes(suffix):
    content = encoded(suffix)
    header = read_header(content)
    assert (header.height, header.width, header.orientation) == (40, 90, 1)
    assert decode_upright(content).shape == (40, 90, 3)


@pytest.mark.parametrize(
    "form, options",
    (
        ("WEBP", {"quality": 50}),
        ("WEBP", {"quality": 50, "exif": b"II*\0"}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG2000", {"no_jp2": True}),
        ("PPM", {}),
    ),
)
def test_sizes_of_files_that_pillow_wrote(form, options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form, **options)
    assert (read_plain_header(buffer.getvalue()).height, read_plain_header(buffer.getvalue()).width) == (40, 90)


def bomb(width, height):
    """A valid PNG of one bit a pixel, as small as its rows of zeros compress."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack_row = zlib.compressobj(9)
    rows = b"".join(pack_row.compress(bytes((width + 7) // 8 + 1)) for _ in range(height)) + pack_row.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_picture_bomb_is_left_out_and_said(tmp_path, capfd):
    content = bomb(14_000, 12_000)
    assert len(content) < 30_000 and MAX_PIXELS < 14_000 * 12_000
    images = loader(pack(tmp_path, [content, png(PIXELS)]), num_classes=2)
    assert read_pass(images)[1].tolist() == [1]
    (line,) = capfd.readouterr().err.splitlines()
    assert "key 0 (byte 0) is not decoded: it claims 14000 x 12000 pixels, more than 134217728" in line
    assert decode_upright(bomb(300, 200)).shape == (200, 300, 3)


def claiming(content, at, form, *size):
    changed = bytearray(content)
    struct.pack_into(form, changed, at, *size)
    return bytes(changed)


@pytest.mark.parametrize(
    "content",
    (
        claiming(encoded(".bmp"), 18, "<ii", 40_000, -40_000),
        claiming(encoded(".jp2"), encoded(".jp2").find(b"\xff\x4f\xff\x51") + 8, ">II", 2**31, 2**31),
        claiming(encoded(".ras"), 4, ">II", 2**31, 2**31),
        encoded(".ppm").replace(b"90 40", b"99999 99999"),
        encoded(".hdr").replace(b"-Y 40 +X 90", b"-Y 99999 +X 99999"),
        jpeg_file().replace(struct.pack(">HH", 400, 500), b"\xff\xff\xff\xff", 1),
        b"\xff\xd8 stray bytes" + jpeg_file()[2:].replace(struct.pack(">HH", 400, 500), b"\xff\xff\xff\xff", 1),
    ),
)
def test_claims_are_limited_in_every_format(content):
    with pytest.raises(UnreadableImage, match="claims .* pixels, more than"):
        decode_upright(content)


@pytest.mark.parametrize("suffix", (*BY_OPENCV, ".jpg"))
def test_what_is_cut_or_no_picture_is_said_so(suffix):
    content = encoded(suffix)
    for length in (0, 1, 2, 8, 12, 16, 20, 24):
        with pytest.raises(UnreadableImage, match="cannot be decoded"):
            decode_upright(content[:length])
    with pytest.raises(UnreadableImage, match="not a picture, or damaged"):
        decode_upright(b"root:x:0:0:root:/root:/bin/bash\n" * 50)


def test_changed_bytes_of_a_header_never_raise_anything_else():
    rng = np.random.default_rng(11)
    for suffix in BY_OPENCV:
        content = encoded(suffix)
        for _ in range(60):
            changed = bytearray(content[:300])
            for at in rng.integers(0, min(len(changed), 80), 3):
                changed[at] = rng.integers(0, 256)
            header = read_plain_header(bytes(changed))
            assert header is None or isinstance(header.height, int)
