"""Data sets that the program writes itself: complete or not there, and without loss."""

import io
import json

import numpy as np
import pytest
from image_files import random_images
from PIL import Image

from spos.core.errors import InputError
from spos.data.prepared import encode_png, is_complete, pack_images, write_prepared
from spos.data.recordio import RecordFile, RecordReader

FILES = {"a.rec": b"images", "a.idx": b"0\t0\n"}


@pytest.fixture
def folder(tmp_path):
    write_prepared(tmp_path, "some", FILES, {"num_classes": 3})
    return tmp_path


def test_what_was_written_is_complete_and_described(folder):
    assert is_complete(folder, "some", FILES)
    description = json.loads((folder / "some.json").read_text())
    assert (description["name"], description["num_classes"], set(description["sha256"])) == ("some", 3, set(FILES))


@pytest.mark.parametrize("names", (["a.rec"], [*FILES, "b.idx"], []))
def test_other_files_than_expected_are_not_complete(folder, names):
    assert not is_complete(folder, "some", names)


@pytest.mark.parametrize("name", (*FILES, "some.json"))
@pytest.mark.parametrize("damage", ("missing", "changed"))
def test_damage_is_seen(folder, name, damage):
    (folder / name).unlink()
    if damage == "changed":
        (folder / name).write_bytes(b"{}")
    assert not is_complete(folder, "some", FILES)


def test_a_kill_before_the_description_leaves_nothing_complete(tmp_path, monkeypatch):
    from spos.data import prepared

    write = prepared.write_atomic

    def killed(path, content):
        if path.name == "some.json":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(prepared, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        write_prepared(tmp_path, "some", FILES, {})
    assert not is_complete(tmp_path, "some", FILES)


def test_images_of_somebody_else_are_not_overwritten(tmp_path):
    """What a kill has left of the same images is: it is all that can be there without a description."""
    (tmp_path / "a.rec").write_bytes(FILES["a.rec"])
    write_prepared(tmp_path, "some", FILES, {})
    assert is_complete(tmp_path, "some", FILES)
    (tmp_path / "some.json").unlink()
    (tmp_path / "a.rec").write_bytes(b"others")
    with pytest.raises(InputError, match="a.rec is there already, with other images"):
        write_prepared(tmp_path, "some", FILES, {})
    assert (tmp_path / "a.rec").read_bytes() == b"others"


def test_pixels_survive_png():
    (image,) = random_images(1, 5, 7)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png(image)))), image)


def test_packed_images_are_read_with_their_labels(tmp_path):
    record, index = pack_images([b"one", b"three"], np.array([1, 3]))
    (tmp_path / "a.rec").write_bytes(record)
    (tmp_path / "a.idx").write_bytes(index.to_bytes())
    file = RecordFile(str(tmp_path / "a.rec"), str(tmp_path / "a.idx"))
    assert len(file.open()) == 2 and index.keys.tolist() == [0, 1]
    with RecordReader(file.rec) as reader:
        found = [reader.read_image(int(offset)) for offset in index.offsets]
    assert [(labels.tolist(), content) for labels, content in found] == [([1.0], b"one"), ([3.0], b"three")]
