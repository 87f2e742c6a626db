"""Packing: the bytes of MXNet's im2rec, threads that end, and images that cannot be packed."""

import struct
import threading

import numpy as np
import pytest
from image_files import jpeg_file, png, random_images

from spos.data.image_list import UnreadableImage
from spos.data.packing import Packing, RecordWriter, frame, in_order
from spos.data.recordio import MAGIC, RecordReader, unpack_record
from spos.engine.compat import mx

MAGIC_BYTES = struct.pack("<I", MAGIC)
PAYLOADS = (
    b"",
    b"x",
    b"four",
    MAGIC_BYTES,
    MAGIC_BYTES * 3,
    b"1" + MAGIC_BYTES + b"234",
    b"1234" + MAGIC_BYTES + b"5",
    b"1234" + MAGIC_BYTES + b"12345678" + MAGIC_BYTES,
    MAGIC_BYTES + b"12" + MAGIC_BYTES + b"34" + MAGIC_BYTES,
)


def test_records_and_index_are_those_of_mxnet(tmp_path):
    theirs = mx.recordio.MXIndexedRecordIO(str(tmp_path / "b.idx"), str(tmp_path / "b.rec"), "w")
    with RecordWriter(str(tmp_path / "a.rec"), str(tmp_path / "a.idx")) as writer:
        for i, payload in enumerate(PAYLOADS):
            writer.write(7 * i, payload)
            theirs.write_idx(7 * i, payload)
    theirs.close()
    for suffix in ("rec", "idx"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert writer.num_records == len(PAYLOADS)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_framed_record_is_read_back(tmp_path, payload):
    (tmp_path / "a.rec").write_bytes(frame(bytes(24) + payload))
    with RecordReader(str(tmp_path / "a.rec")) as reader:
        assert unpack_record(reader.read(0))[1] == payload


@pytest.mark.parametrize("resize", (0, 120))
@pytest.mark.parametrize("content", (jpeg_file(), png(random_images(1, 90, 200)[0]), png(random_images(1, 33, 31)[0])))
def test_a_record_is_that_of_im2rec(tmp_path, resize, content):
    cv2 = pytest.importorskip("cv2")
    (tmp_path / "image").write_bytes(content)
    header = mx.recordio.IRHeader(0, 5.0, 41, 0)
    expected = mx.recordio.pack(header, content)
    if resize:
        image = cv2.imread(str(tmp_path / "image"), 1)
        height, width = image.shape[:2]
        size = (resize, height * resize // width) if height > width else (width * resize // height, resize)
        expected = mx.recordio.pack_img(header, cv2.resize(image, size), quality=93, img_fmt=".jpg")
    assert Packing(resize, 93).record(str(tmp_path / "image"), 41, 5) == expected


def test_images_that_would_become_too_long_are_said(tmp_path):
    (tmp_path / "a.png").write_bytes(png(np.zeros((1, 400, 3), np.uint8)))
    assert Packing(0, 95).record(str(tmp_path / "a.png"), 0, 0)
    with pytest.raises(UnreadableImage, match="too long for --resize 256: 400 x 1 pixels"):
        Packing(256, 95).record(str(tmp_path / "a.png"), 0, 0)


def test_a_record_that_is_too_long_is_refused(tmp_path):
    class Long(bytes):
        def __len__(self):
            return 2**29

    with RecordWriter(str(tmp_path / "a.rec"), str(tmp_path / "a.idx")) as writer, pytest.raises(
        UnreadableImage, match="536870912 bytes"
    ):
        writer.write(0, Long())
    assert (tmp_path / "a.idx").read_bytes() == b""


def test_results_come_in_order_and_errors_with_their_item():
    def work(number):
        if number % 7 == 3:
            raise UnreadableImage("is odd")
        return bytes([number])

    found = list(in_order(work, range(50), 3))
    assert [item for item, _ in found] == list(range(50))
    assert all(result == bytes([item]) for item, result in found if item % 7 != 3)
    assert all(str(result) == "is odd" for item, result in found if item % 7 == 3)


def test_threads_end_with_the_one_who_asks():
    before, done = threading.active_count(), []
    results = in_order(lambda number: done.append(number) or b"", range(10**9), 2)
    next(results)
    results.close()
    assert threading.active_count() == before and len(done) < 20


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: bytes(1 // number), [1, 0], 2))
