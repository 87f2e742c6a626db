"""JPEG files: their headers, and as few rows as are needed."""

import cv2
import numpy as np
import pytest
from image_files import jpeg_file, shared_file

from spos.data import jpeg
from spos.data.recordio import RecordReader, read_index

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
