"""Record files, their indexes, and the lists drawn from them."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import pack, subset

from spos.core.errors import InputError
from spos.data import recordio
from spos.data.recordio import (
    Index,
    RecordFile,
    RecordReader,
    find_labels,
    read_index,
    unpack_record,
)


def test_index_is_read_in_file_order(tmp_path):
    path = tmp_path / "a.idx"
    path.write_text("7\t400\n3\t0\n5\t80\n")
    index = read_index(str(path))
    assert index.keys.tolist() == [3, 5, 7]
    assert index.offsets.tolist() == [0, 80, 400]


def test_index_written_is_index_read(tmp_path):
    index = Index(np.arange(5) * 3, np.arange(5) * 2**33)
    (tmp_path / "a.idx").write_bytes(index.to_bytes())
    again = read_index(str(tmp_path / "a.idx"))
    np.testing.assert_array_equal(again.keys, index.keys)
    np.testing.assert_array_equal(again.offsets, index.offsets)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "lists no image"),
        ("0\t0\n1\tx\n", "line 2: expected 'key<TAB>offset'"),
        ("0\t0\n1\n2\t8\t9\n", "line 2: expected"),
        ("0\t0\n\n1\t8\n", "line 2: expected"),
        ("0\t-4\n", "line 1: expected"),
        ("0\t99999999999999999999\n", "line 1: expected"),
        ("0\t8\n1\t8\n", "offset 8 is listed twice"),
        ("0\t0\n1\t9999999\n", "cut short, or the index belongs to another file"),
        ("0\t0\n1\t4\n", "no record at byte 4"),
    ],
)
def test_opening_refuses_a_wrong_index(tmp_path, noise_file, text, message):
    Path(noise_file.idx).write_text(text)
    with pytest.raises(InputError, match=message):
        noise_file.open()


def test_opening_says_how_to_make_a_missing_index(noise_file):
    os.unlink(noise_file.idx)
    with pytest.raises(InputError, match="rec2idx"):
        noise_file.open()


def test_opening_refuses_a_missing_record_file(noise_file):
    os.unlink(noise_file.rec)
    with pytest.raises(InputError, match="no such .rec file"):
        noise_file.open()


@pytest.mark.parametrize("content, message", [(b"", "is empty"), (b"\x89PNG" + b"0" * 9999, "not a RecordIO file")])
def test_opening_refuses_what_is_no_record_file(noise_file, content, message):
    Path(noise_file.rec).write_bytes(content)
    with pytest.raises(InputError, match=message):
        noise_file.open()


@pytest.mark.parametrize("missing", [1, 4, 500, 3000])
def test_opening_refuses_a_record_file_cut_in_its_last_record(noise_file, missing):
    os.truncate(noise_file.rec, os.path.getsize(noise_file.rec) - missing)
    with pytest.raises(InputError, match="cut short"):
        noise_file.open()


def test_opening_counts_the_listed_images(noise_file, tmp_path):
    few = subset(noise_file, [0, 20, 49], tmp_path)
    assert (len(noise_file.open()), len(few.open()), len(few)) == (50, 3, 3)


def test_record_split_in_parts_is_read_whole(tmp_path):
    magic = struct.pack("<I", 0xCED7230A)
    content = b"abcd" + magic + b"efghij" + b"kl" + magic + b"mno"  # MXNet splits a record at its own magic number
    file = pack(tmp_path, [content, b"after"], labels=[3, 4])
    index = read_index(file.idx)
    with RecordReader(file.rec) as reader:
        records = [reader.read(int(offset)) for offset in index.offsets]
    assert b"".join(records) == Path(file.rec).read_bytes()
    assert [unpack_record(record)[1] for record in records] == [content, b"after"]
    assert [unpack_record(record)[0].tolist() for record in records] == [[3.0], [4.0]]


def test_record_cut_in_its_second_part_is_refused(tmp_path):
    magic = struct.pack("<I", 0xCED7230A)
    file = pack(tmp_path, [b"abcd" + magic + b"efgh"])
    os.truncate(file.rec, os.path.getsize(file.rec) - 4)
    with pytest.raises(InputError, match="cut short"):
        file.open()


def test_a_big_index_is_read_fast(tmp_path):
    num = 1_281_167
    (tmp_path / "big.idx").write_bytes(Index(np.arange(num), np.arange(num) * 110_000).to_bytes())
    start = time.perf_counter()
    assert len(RecordFile("", str(tmp_path / "big.idx"))) == num
    assert time.perf_counter() - start < 15  # 0.8 s alone; a loop over lines with checks is far slower


# Lists


def test_split_is_disjoint_and_complete_and_in_file_order(noise_file, tmp_path):
    lists = noise_file.hold_out({"bn": 5, "search_val": 12}, str(tmp_path / "lists"), seed=3)
    offsets = {name: read_index(file.idx).offsets.tolist() for name, file in lists.items()}
    assert {name: len(values) for name, values in offsets.items()} == {"bn": 5, "search_val": 12, "train": 33}
    assert sorted(sum(offsets.values(), [])) == read_index(noise_file.idx).offsets.tolist()
    for file in lists.values():
        lines = Path(file.idx).read_text().splitlines()
        assert [int(line.split("\t")[1]) for line in lines] == read_index(file.idx).offsets.tolist()


def test_split_is_the_same_everywhere(noise_file, tmp_path):
    lists = noise_file.hold_out({"bn": 6}, str(tmp_path / "lists"), seed=1)
    assert read_index(lists["bn"].idx).keys.tolist() == [20, 90, 160, 310, 360, 390]  # the same on Python 3.8 to 3.12


def test_split_depends_on_the_seed(noise_file, tmp_path):
    one, two = (noise_file.hold_out({"bn": 9}, str(tmp_path / str(seed)), seed) for seed in (0, 1))
    assert Path(one["bn"].idx).read_bytes() != Path(two["bn"].idx).read_bytes()


def test_split_is_kept_when_drawn_again(noise_file, tmp_path):
    first = noise_file.hold_out({"bn": 9}, str(tmp_path / "lists"), seed=0)
    inode = os.stat(first["bn"].idx).st_ino
    assert noise_file.hold_out({"bn": 9}, str(tmp_path / "lists"), seed=0) == first
    assert os.stat(first["bn"].idx).st_ino == inode


def test_split_refuses_to_replace_the_lists_of_another_run(noise_file, tmp_path):
    noise_file.hold_out({"bn": 9}, str(tmp_path / "lists"), seed=0)
    with pytest.raises(InputError, match="holds another list"):
        noise_file.hold_out({"bn": 9}, str(tmp_path / "lists"), seed=1)


@pytest.mark.parametrize("sizes", [{"bn": 50}, {"bn": 20, "search_val": 40}, {"bn": 0}, {"bn": -1}, {"train": 3}])
def test_split_refuses_sizes_that_make_no_sense(noise_file, tmp_path, sizes):
    with pytest.raises(InputError, match="hold"):
        noise_file.hold_out(sizes, str(tmp_path / "lists"), seed=0)


def test_labels_are_found_without_the_images(tmp_path):
    assert find_labels(pack(tmp_path, [b"x", b"y" * 999, b"z"], labels=[4, 0, 7])).tolist() == [4, 0, 7]


@pytest.mark.parametrize("label, said", ((1.5, "label 1.5"), (-1, "label -1"), ([1.0, 2.0], "2 labels")))
def test_labels_that_are_no_classes_are_refused(label, said, tmp_path):
    file = pack(tmp_path, [b"x", b"y"], labels=[0, label])
    with pytest.raises(InputError, match=f"image with key 10 .* has {said}, expected one whole number"):
        find_labels(file)


def test_large_files_are_looked_at_in_samples(tmp_path, noise_file, monkeypatch):
    whole = noise_file.contents()
    monkeypatch.setattr(recordio, "MAX_LABELS", 20)
    monkeypatch.setattr(recordio, "SAMPLED_LABELS", 5)
    read = []
    read_label = recordio.RecordReader.read_label
    monkeypatch.setattr(
        recordio.RecordReader, "read_label", lambda reader, offset: read.append(offset) or read_label(reader, offset)
    )
    assert noise_file.contents() == noise_file.contents() != whole and len(read) == 10
    noise_file.hold_out({"bn": 6}, str(tmp_path / "lists"), seed=1)  # no label is read for it
    assert len(read) == 10
