"""The data layer: lists, loader, digits. Real images come from ../shared/data and are skipped without it."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spos.augmentation import DIGITS_AUGMENTATION, IMAGENET_AUGMENTATION, SMALL_IMAGE_AUGMENTATION
from spos.compat import mx
from spos.data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CachedLoader,
    ImageLoader,
    hold_out,
    open_record_dataset,
    stride_plan,
)
from spos.digits import MEAN, STD, load_images, prepare_digits, split_positions
from spos.errors import InputError
from spos.record_file import (
    Index,
    RecordFile,
    RecordReader,
    check,
    count_images,
    read_index,
    split_index,
    unpack_record,
    write_index_subset,
)

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

AUGMENTATIONS = pytest.mark.parametrize(
    "augmentation", [IMAGENET_AUGMENTATION, SMALL_IMAGE_AUGMENTATION, DIGITS_AUGMENTATION]
)


def shared_file(folder: str, name: str) -> RecordFile:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"needs {folder} in ../shared/data")
    return RecordFile(str(path / f"{name}.rec"), str(path / f"{name}.idx"))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def pack(directory: Path, contents, labels=None) -> RecordFile:
    """Write encoded images as a record file; image i has key 10 * i."""
    file = RecordFile(str(directory / "a.rec"), str(directory / "a.idx"))
    writer = mx.recordio.MXIndexedRecordIO(file.idx, file.rec, "w")
    for i, content in enumerate(contents):
        label = i if labels is None else labels[i]
        writer.write_idx(10 * i, mx.recordio.pack(mx.recordio.IRHeader(0, label, i, 0), content))
    writer.close()
    return file


def random_images(num: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), dtype=np.uint8)


@pytest.fixture
def noise_file(tmp_path) -> RecordFile:
    """50 images of noise, 32x32, image i with label i."""
    return pack(tmp_path, [png(image) for image in random_images(50)])


def subset(file: RecordFile, positions, directory: Path) -> RecordFile:
    target = str(directory / "subset.idx")
    write_index_subset(file.idx, positions, target)
    return RecordFile(file.rec, target)


def loader(file: RecordFile, **changes) -> ImageLoader:
    arguments = dict(batch_size=8, input_size=32, num_classes=50, mean=ZERO, std=ONE, crop_ratio=1.0)
    arguments.update(changes)
    return ImageLoader(file, **arguments)


def read_pass(images: ImageLoader, epoch: int = 0):
    batches = list(images.epoch(epoch))
    return (
        np.concatenate([image.asnumpy() for image, _ in batches]),
        np.concatenate([label.asnumpy() for _, label in batches]),
    )


# The index and the record file


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
def test_check_refuses_a_wrong_index(tmp_path, noise_file, text, message):
    Path(noise_file.idx).write_text(text)
    with pytest.raises(InputError, match=message):
        check(noise_file)


def test_check_says_how_to_make_a_missing_index(noise_file):
    os.unlink(noise_file.idx)
    with pytest.raises(InputError, match="rec2idx"):
        check(noise_file)


def test_check_refuses_a_missing_record_file(noise_file):
    os.unlink(noise_file.rec)
    with pytest.raises(InputError, match="no such .rec file"):
        check(noise_file)


@pytest.mark.parametrize("content, message", [(b"", "is empty"), (b"\x89PNG" + b"0" * 9999, "not a RecordIO file")])
def test_check_refuses_what_is_no_record_file(noise_file, content, message):
    Path(noise_file.rec).write_bytes(content)
    with pytest.raises(InputError, match=message):
        check(noise_file)


@pytest.mark.parametrize("missing", [1, 4, 500, 3000])
def test_check_refuses_a_record_file_cut_in_its_last_record(noise_file, missing):
    os.truncate(noise_file.rec, os.path.getsize(noise_file.rec) - missing)
    with pytest.raises(InputError, match="cut short"):
        check(noise_file)


def test_check_counts_the_listed_images(noise_file, tmp_path):
    few = subset(noise_file, [0, 20, 49], tmp_path)
    assert (check(noise_file), check(few), count_images(few)) == (50, 3, 3)


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
        check(file)


def test_a_big_index_is_read_fast(tmp_path):
    num = 1_281_167
    (tmp_path / "big.idx").write_bytes(Index(np.arange(num), np.arange(num) * 110_000).to_bytes())
    start = time.perf_counter()
    assert count_images(RecordFile("", str(tmp_path / "big.idx"))) == num
    assert time.perf_counter() - start < 15  # 0.8 s alone; a loop over lines with checks is far slower


# Lists


def test_split_is_disjoint_and_complete_and_in_file_order(noise_file, tmp_path):
    lists = split_index(noise_file, {"bn": 5, "search_val": 12}, str(tmp_path / "lists"), seed=3)
    offsets = {name: read_index(file.idx).offsets.tolist() for name, file in lists.items()}
    assert {name: len(values) for name, values in offsets.items()} == {"bn": 5, "search_val": 12, "train": 33}
    assert sorted(sum(offsets.values(), [])) == read_index(noise_file.idx).offsets.tolist()
    for file in lists.values():
        lines = Path(file.idx).read_text().splitlines()
        assert [int(line.split("\t")[1]) for line in lines] == read_index(file.idx).offsets.tolist()


def test_split_is_the_same_everywhere(noise_file, tmp_path):
    lists = split_index(noise_file, {"bn": 6}, str(tmp_path / "lists"), seed=1)
    assert read_index(lists["bn"].idx).keys.tolist() == [20, 90, 160, 310, 360, 390]  # the same on Python 3.8 to 3.12


def test_split_depends_on_the_seed(noise_file, tmp_path):
    one, two = (split_index(noise_file, {"bn": 9}, str(tmp_path / str(seed)), seed) for seed in (0, 1))
    assert Path(one["bn"].idx).read_bytes() != Path(two["bn"].idx).read_bytes()


def test_split_is_kept_when_drawn_again(noise_file, tmp_path):
    first = split_index(noise_file, {"bn": 9}, str(tmp_path / "lists"), seed=0)
    inode = os.stat(first["bn"].idx).st_ino
    assert split_index(noise_file, {"bn": 9}, str(tmp_path / "lists"), seed=0) == first
    assert os.stat(first["bn"].idx).st_ino == inode


def test_split_refuses_to_replace_the_lists_of_another_run(noise_file, tmp_path):
    split_index(noise_file, {"bn": 9}, str(tmp_path / "lists"), seed=0)
    with pytest.raises(InputError, match="holds another list"):
        split_index(noise_file, {"bn": 9}, str(tmp_path / "lists"), seed=1)


@pytest.mark.parametrize("sizes", [{"bn": 50}, {"bn": 20, "search_val": 40}, {"bn": 0}, {"bn": -1}, {"train": 3}])
def test_split_refuses_sizes_that_make_no_sense(noise_file, tmp_path, sizes):
    with pytest.raises(InputError, match="hold"):
        split_index(noise_file, sizes, str(tmp_path / "lists"), seed=0)


# The loader without augmentation


@pytest.mark.parametrize("batch_size", [1, 8, 25, 50, 64])
def test_pixels_and_labels_are_those_of_the_file(noise_file, batch_size):
    images, labels = read_pass(loader(noise_file, batch_size=batch_size))
    np.testing.assert_array_equal(images, random_images(50).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(labels, np.arange(50))


def test_images_are_normalised_by_mean_and_std(noise_file):
    images, _ = read_pass(loader(noise_file, mean=IMAGENET_MEAN, std=IMAGENET_STD))
    expected = (random_images(50) - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(images, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_batches_have_the_promised_form(noise_file):
    images = loader(noise_file)
    batches = list(images.epoch(0))
    assert [label.shape for _, label in batches] == [(8,)] * 6 + [(2,)]
    assert (images.num_batches, images.num_images) == (7, 50)
    image, label = batches[0]
    assert image.shape == (8, 3, 32, 32)
    assert (image.dtype, label.dtype, image.context, label.context) == (np.float32, np.float32, mx.cpu(), mx.cpu())


def test_drop_last_leaves_out_the_smaller_batch(noise_file):
    images = loader(noise_file, drop_last=True)
    assert len(list(images.epoch(0))) == images.num_batches == 6
    assert images.num_images == 48


def test_a_batch_that_is_kept_does_not_change(noise_file):
    batches = list(loader(noise_file, batch_size=2).epoch(0))  # ImageRecordIter by itself overwrites after five
    kept = np.concatenate([label.asnumpy() for _, label in batches])
    np.testing.assert_array_equal(kept, np.arange(50))


@pytest.mark.parametrize("positions", [[0], [49], [3, 4, 5], range(0, 50, 7), range(1, 50)])
@pytest.mark.parametrize("augmentation", [None, SMALL_IMAGE_AUGMENTATION])
def test_a_shorter_index_reads_nothing_else(noise_file, tmp_path, positions, augmentation):
    few = subset(noise_file, positions, tmp_path)
    _, labels = read_pass(loader(few, augmentation=augmentation, batch_size=4))
    assert sorted(labels) == list(positions)


@pytest.mark.parametrize("height, width", [(48, 64), (64, 48), (64, 64)])
def test_centre_is_cut_after_the_shorter_side_is_resized(tmp_path, height, width):
    grey = np.tile(np.linspace(0, 255, width, dtype=np.uint8)[None, :, None], (height, 1, 3))
    images, _ = read_pass(loader(pack(tmp_path, [png(grey)]), input_size=28, crop_ratio=0.875))  # resized to 32
    resized_width = 32 * width // min(height, width)
    left = (resized_width - 28) // 2
    expected = (np.arange(left, left + 28) + 0.5) / resized_width * 255
    assert np.abs(images[0, 0] - expected).max() < 5


@pytest.mark.parametrize("num_parts", [2, 3, 7])
@pytest.mark.parametrize("augmentation", [None, SMALL_IMAGE_AUGMENTATION])
def test_parts_are_disjoint_and_complete(noise_file, num_parts, augmentation):
    parts = [
        read_pass(loader(noise_file, augmentation=augmentation, part_index=i, num_parts=num_parts), 4)[1]
        for i in range(num_parts)
    ]
    assert sorted(np.concatenate(parts)) == list(range(50))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# The loader with augmentation


@AUGMENTATIONS
def test_an_epoch_reads_every_image_once(noise_file, augmentation):
    _, labels = read_pass(loader(noise_file, augmentation=augmentation))
    assert sorted(labels) == list(range(50))
    assert labels.tolist() != list(range(50))


@AUGMENTATIONS
def test_an_epoch_is_a_function_of_seed_and_epoch(noise_file, augmentation):
    one, two = (loader(noise_file, augmentation=augmentation, seed=5) for _ in range(2))
    for epoch in range(3):
        expected = read_pass(one, epoch)
    resumed = read_pass(two, 2)
    np.testing.assert_array_equal(resumed[0], expected[0])
    np.testing.assert_array_equal(resumed[1], expected[1])


@AUGMENTATIONS
@pytest.mark.parametrize("num_workers", [2, 3, 8])
def test_an_epoch_does_not_depend_on_threads(noise_file, augmentation, num_workers):
    one = read_pass(loader(noise_file, augmentation=augmentation, num_workers=1))
    many = read_pass(loader(noise_file, augmentation=augmentation, num_workers=num_workers))
    np.testing.assert_array_equal(many[0], one[0])
    np.testing.assert_array_equal(many[1], one[1])


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_is_another_order(noise_file, change):
    def order(seed=0, epoch=0):
        return loader(noise_file, augmentation=SMALL_IMAGE_AUGMENTATION, seed=seed).positions(epoch).tolist()

    assert order(**change) != order()


def test_labels_follow_the_announced_positions(noise_file):
    images = loader(noise_file, augmentation=SMALL_IMAGE_AUGMENTATION)
    np.testing.assert_array_equal(read_pass(images, 2)[1], images.positions(2))


def test_batches_of_an_epoch_are_not_augmented_alike(tmp_path):
    image = png(random_images(1)[0])
    images = loader(pack(tmp_path, [image] * 32), augmentation=SMALL_IMAGE_AUGMENTATION)
    pixels, _ = read_pass(images)
    assert len({array.tobytes() for array in pixels}) > 24  # 8 if position in the batch alone counted


def test_padding_is_black_and_the_digits_are_not_mirrored(tmp_path):
    ramp = np.tile(np.arange(100, 132, dtype=np.uint8)[None, :, None], (32, 1, 3))
    images = loader(pack(tmp_path, [png(ramp)] * 40), augmentation=DIGITS_AUGMENTATION)
    pixels, _ = read_pass(images)
    shifts = set()
    for row in pixels[:, 0, 16]:
        shift = int(row[16]) - 116  # the window starts `shift` pixels to the right of the image
        expected = np.arange(100, 132) + shift
        expected[(expected < 100) | (expected > 131)] = 0
        np.testing.assert_array_equal(row, expected)
        shifts.add(shift)
    assert shifts == {-2, -1, 0, 1, 2}


def test_small_images_are_mirrored_half_the_time(tmp_path):
    ramp = np.tile(np.arange(100, 132, dtype=np.uint8)[None, :, None], (32, 1, 3))
    images = loader(pack(tmp_path, [png(ramp)] * 50), augmentation=SMALL_IMAGE_AUGMENTATION)
    pixels, _ = read_pass(images)
    mirrored = (pixels[:, 0, 16, 10] > pixels[:, 0, 16, 20]).sum()
    assert 12 <= mirrored <= 38


# The loader on bad input, and its end


@pytest.mark.parametrize("label", [10.0, -1.0, 2.5, float("nan")])
def test_a_label_out_of_range_is_named(tmp_path, label):
    file = pack(tmp_path, [png(image) for image in random_images(3)], labels=[0, label, 1])
    with pytest.raises(InputError, match=r"a\.rec: image with key 10 .*has label .*expected 0\.\.9 for 10 classes"):
        read_pass(loader(file, num_classes=10))


def test_several_labels_are_refused(tmp_path):
    file = pack(tmp_path, [png(random_images(1)[0])], labels=[[1.0, 2.0]])
    with pytest.raises(InputError, match="2 labels"):
        read_pass(loader(file))


@pytest.mark.parametrize("content", [b"", b"<html>no picture</html>", bytes(range(256)) * 9, b"\xff\xd8\xff\xe0 cut"])
@pytest.mark.parametrize("augmentation", [None, IMAGENET_AUGMENTATION, SMALL_IMAGE_AUGMENTATION])
def test_an_undecodable_image_is_left_out_and_named_once(tmp_path, capsys, content, augmentation):
    file = pack(tmp_path, [png(image) for image in random_images(3)] + [content])
    images = loader(file, augmentation=augmentation)
    for epoch in range(2):
        assert sorted(read_pass(images, epoch)[1]) == [0, 1, 2]
    (name,) = images.bad_images
    assert name.endswith("a.rec: image with key 30 (byte " + str(read_index(file.idx).offsets[3]) + ")")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and name in line


def test_pixels_beside_an_undecodable_image_are_unchanged(tmp_path):
    contents = [png(image) for image in random_images(5)]
    file = pack(tmp_path, contents[:2] + [b"no picture"] + contents[2:])
    pixels, labels = read_pass(loader(file))
    np.testing.assert_array_equal(pixels, random_images(5).transpose(0, 3, 1, 2))
    assert labels.tolist() == [0, 1, 3, 4, 5]


def test_a_batch_of_undecodable_images_is_left_out(tmp_path):
    contents = [b"no picture"] * 4 + [png(image) for image in random_images(4)]
    batches = list(loader(pack(tmp_path, contents), batch_size=4).epoch(0))
    assert [labels.asnumpy().tolist() for _, labels in batches] == [[4, 5, 6, 7]]


def test_too_many_undecodable_images_stop_the_run(tmp_path):
    file = pack(tmp_path, [b"no picture"] * 3 + [png(random_images(1)[0])])
    assert len(read_pass(loader(file, max_bad_images=3))[0]) == 1
    with pytest.raises(InputError, match="3 images cannot be decoded, more than --max-bad-images 2; .*key 0 .*key 20"):
        read_pass(loader(file, max_bad_images=2))


def test_a_record_overwritten_in_the_middle_is_reported(noise_file):
    offset = int(read_index(noise_file.idx).offsets[20])
    with open(noise_file.rec, "r+b") as file:
        file.seek(offset)
        file.write(b"\0" * 16)
    with pytest.raises(InputError, match=f"no record at byte {offset}"):
        read_pass(loader(noise_file))


def test_drop_last_with_too_few_images_is_refused(noise_file):
    with pytest.raises(InputError, match="no batch of 51"):
        loader(noise_file, batch_size=51, drop_last=True)


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 0}, {"crop_ratio": 0}, {"part_index": 2, "num_parts": 2}, {"seed": -1}, {"num_workers": 0}],
)
def test_a_wrong_argument_is_refused(noise_file, change):
    with pytest.raises(ValueError):
        loader(noise_file, **change)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_threads_and_files_end_with_a_closed_generator(noise_file):
    images = loader(noise_file, augmentation=SMALL_IMAGE_AUGMENTATION)

    def start_and_stop():
        batches = images.epoch(0)
        next(batches)
        batches.close()
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    start_and_stop()
    threads, files = start_and_stop()
    for _ in range(10):
        last = start_and_stop()
    assert last[0] <= threads + 2 and last[1] <= files


# Parts of an epoch


@pytest.mark.parametrize("augmentation", [None, IMAGENET_AUGMENTATION])
@pytest.mark.parametrize("start", [1, 4, 7])
def test_an_epoch_begun_later_gives_the_batches_of_the_whole(noise_file, augmentation, start):
    images = loader(noise_file, augmentation=augmentation)
    whole, rest = list(images.epoch(3)), list(images.epoch(3, start))
    assert len(rest) == 7 - start
    for (expected, _), (pixels, _) in zip(whole[start:], rest):
        np.testing.assert_array_equal(pixels.asnumpy(), expected.asnumpy())


def test_cached_batches_begin_where_asked(noise_file):
    cached = CachedLoader(loader(noise_file))
    assert [labels.shape[0] for _, labels in cached.epoch(0, 5)] == [8, 2]


def test_cached_batches_count_what_was_decoded(tmp_path):
    file = pack(tmp_path, [b"no picture"] + [png(image) for image in random_images(3)])
    cached = CachedLoader(loader(file))
    assert cached.num_images == 3 and len(cached.bad_images) == 1


def test_a_reduced_epoch_reads_another_part_each_time(noise_file):
    images = loader(noise_file, augmentation=SMALL_IMAGE_AUGMENTATION, drop_last=True, reduced_scale=3)
    assert (images.num_batches, images.num_images) == (2, 16)
    one, two = (read_pass(images, epoch)[1] for epoch in (0, 1))
    assert len(one) == len(two) == 16 and set(one) != set(two)


@pytest.mark.parametrize("num_parts, num_batches", [(3, 4), (7, 1), (4, 3)])
def test_training_parts_have_equally_many_batches(noise_file, num_parts, num_batches):
    parts = [
        loader(noise_file, batch_size=4, drop_last=True, part_index=i, num_parts=num_parts) for i in range(num_parts)
    ]
    assert {part.num_batches for part in parts} == {num_batches}


# Real images


def test_sample_of_imagenet_is_read_in_file_order():
    file = shared_file("imagenet_sample", "val")
    images = ImageLoader(file, 16, 64, 1000, IMAGENET_MEAN, IMAGENET_STD)
    pixels, labels = read_pass(images)
    lines = [line.split("\t") for line in Path(file.rec).with_suffix(".lst").read_text().splitlines()]
    by_key = {int(line[0]): float(line[1]) for line in lines}
    assert labels.tolist() == [by_key[key] for key in read_index(file.idx).keys.tolist()]
    assert pixels.shape == (103, 3, 64, 64) and abs(pixels.mean()) < 0.5


def test_class_count_too_small_for_imagenet_is_one_clear_line():
    file = shared_file("imagenet_sample", "val")
    with pytest.raises(InputError, match="for 10 classes") as caught:
        read_pass(ImageLoader(file, 16, 64, 10, IMAGENET_MEAN, IMAGENET_STD))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("augmentation", [None, IMAGENET_AUGMENTATION, SMALL_IMAGE_AUGMENTATION])
def test_odd_but_decodable_files_are_read(augmentation):
    file = shared_file("imagenet_odd", "decodable")
    images = ImageLoader(file, 4, 64, 1000, IMAGENET_MEAN, IMAGENET_STD, augmentation)
    pixels, labels = read_pass(images)
    assert len(labels) == check(file) and np.isfinite(pixels).all()


def test_cifar_opens_as_a_data_set_without_leaks(tmp_path):
    train, val = shared_file("cifar10", "train"), shared_file("cifar10", "val")
    data = open_record_dataset(train.rec, train.idx, val.rec, val.idx, 10, 32, 1.0)
    data = hold_out(data, 5000, 2000, str(tmp_path / "lists"), seed=0)
    offsets = {name: set(read_index(file.idx).offsets.tolist()) for name, file in data.splits.items()}
    parts = [offsets[name] for name in ("train", "bn", "search_val")]
    assert [len(part) for part in parts] == [43000, 2000, 5000]
    assert set.union(*parts) == offsets["train_full"] and sum(map(len, parts)) == 50000
    assert data.splits["test"] == val and data.strides == (1, 1, 2, 2, 2) and data.name == "cifar10"


def test_held_out_images_of_imagenette_never_reach_training(tmp_path):
    train, val = shared_file("imagenette224", "train"), shared_file("imagenette224", "val")
    data = open_record_dataset(train.rec, train.idx, val.rec, val.idx, 10, 224, 0.875)
    data = hold_out(data, 3800, 100, str(tmp_path / "lists"), seed=0)
    seen = []
    for name in ("train", "bn"):
        images = ImageLoader(data.splits[name], 25, 16, 10, ZERO, ONE, crop_ratio=1.0)
        seen += [array.tobytes() for array in read_pass(images)[0]]
    held = ImageLoader(data.splits["search_val"], 100, 16, 10, ZERO, ONE, crop_ratio=1.0)
    first = next(iter(held.epoch(0)))[0].asnumpy()
    assert len(seen) == 200 and not {array.tobytes() for array in first} & set(seen)


@pytest.mark.parametrize(
    "size, strides", [(32, (1, 1, 2, 2, 2)), (64, (2, 1, 2, 2, 2)), (160, (2, 2, 2, 2, 2)), (224, (2, 2, 2, 2, 2))]
)
def test_stride_plan(size, strides):
    assert stride_plan(size) == strides


def test_data_that_has_lists_records_them(digits, tmp_path):
    data = hold_out(digits, 1, 1, str(tmp_path / "lists"), seed=0)
    for name in ("train", "bn", "search_val", "test"):
        assert (tmp_path / "lists" / f"{name}.idx").read_bytes() == Path(digits.splits[name].idx).read_bytes()
        assert data.splits[name].rec == digits.splits[name].rec


# The digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare_digits(str(tmp_path_factory.mktemp("digits")))


def test_digits_have_disjoint_lists_of_the_promised_size(digits):
    offsets = {name: set(read_index(file.idx).offsets.tolist()) for name, file in digits.splits.items()}
    parts = [offsets[name] for name in ("train", "bn", "search_val", "test")]
    assert [len(part) for part in parts] == [1077, 180, 180, 360]
    assert len(set.union(*parts)) == 1797
    assert offsets["train_full"] == set.union(*parts[:3])


def test_digits_lists_are_stratified():
    _, labels = load_images()
    share = np.bincount(labels) / len(labels)
    for positions in split_positions(labels).values():
        counts = np.bincount(labels[positions], minlength=10)
        assert np.abs(counts - share * len(positions)).max() < 2


def test_digits_are_read_with_the_pixels_that_were_written(digits):
    images = ImageLoader(digits.splits["test"], 100, digits.input_size, digits.num_classes, ZERO, ONE, crop_ratio=1.0)
    pixels, labels = read_pass(images)
    expected_pixels, expected_labels = load_images()
    keys = read_index(digits.splits["test"].idx).keys
    np.testing.assert_array_equal(labels, expected_labels[keys])
    np.testing.assert_array_equal(pixels, np.stack([expected_pixels[keys]] * 3, axis=1))


def test_digits_use_the_full_range_of_a_byte():
    images, _ = load_images()
    assert images.shape == (1797, 32, 32) and (images.min(), images.max()) == (0, 255)


def test_digits_mean_and_std_are_those_of_the_training_images():
    images, labels = load_images()
    lists = split_positions(labels)
    training = images[np.concatenate([lists[name] for name in ("train", "bn", "search_val")])]
    assert training.mean() == pytest.approx(MEAN[0], abs=0.05)
    assert training.std() == pytest.approx(STD[0], abs=0.05)


def folder_content(directory) -> dict:
    return {path.name: path.read_bytes() for path in sorted(Path(directory).iterdir())}


def test_digits_are_the_same_bytes_on_every_run(digits, tmp_path):
    prepare_digits(str(tmp_path))
    assert folder_content(tmp_path) == folder_content(Path(digits.splits["test"].rec).parent)


def test_digits_are_written_once(digits):
    folder = Path(digits.splits["test"].rec).parent
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert prepare_digits(str(folder)) == digits
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before


@pytest.mark.parametrize("name, length", [("digits.rec", 100), ("digits.json", 100), ("bn.idx", None)])
def test_damaged_digits_are_written_again(digits, tmp_path, name, length):
    folder = Path(shutil.copytree(str(Path(digits.splits["test"].rec).parent), str(tmp_path / "digits")))
    expected = folder_content(folder)
    if length is None:
        (folder / name).unlink()
    else:
        os.truncate(str(folder / name), length)
    prepare_digits(str(folder))
    assert folder_content(folder) == expected


def test_digits_description_is_json_and_names_the_lists(digits):
    description = json.loads((Path(digits.splits["test"].rec).parent / "digits.json").read_text())
    assert description["splits"] == {"train": 1077, "bn": 180, "search_val": 180, "test": 360}


def test_digits_may_be_prepared_by_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=prepare_digits, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    data = prepare_digits(str(tmp_path))
    assert check(data.splits["train_full"]) == 1437
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_digits_where_nothing_can_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write the digits here"):
        prepare_digits(str(tmp_path / "file"))
