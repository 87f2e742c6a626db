"""The loader. Real images come from ../shared/data and are skipped without it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import loader, pack, png, random_images, read_pass, shared_file, subset

from spos.core.errors import InputError
from spos.data.augmentation import DIGITS_AUGMENTATION, IMAGENET_AUGMENTATION, SMALL_IMAGE_AUGMENTATION
from spos.data.dataset import IMAGENET_CROP_RATIO, IMAGENET_MEAN, IMAGENET_STD, make_dataset
from spos.data.flags import DataOptions
from spos.data.loader import make_loader
from spos.data.order import Order
from spos.data.recordio import read_index
from spos.engine.compat import mx

AUGMENTATIONS = pytest.mark.parametrize(
    "augmentation",
    [
        IMAGENET_AUGMENTATION,
        SMALL_IMAGE_AUGMENTATION,
        DIGITS_AUGMENTATION,
        replace(SMALL_IMAGE_AUGMENTATION, trivial=True, erasing=0.5),
    ],
)


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
    assert [batch.labels.shape for batch in batches] == [(8,)] * 6 + [(2,)]
    assert (images.num_batches, images.num_images) == (7, 50)
    image, label, positions = batches[0]
    assert image.shape == (8, 3, 32, 32) and positions.tolist() == list(range(8))
    assert (image.dtype, label.dtype, image.context, label.context) == (np.float32, np.float32, mx.cpu(), mx.cpu())


def test_drop_last_leaves_out_the_smaller_batch(noise_file):
    images = loader(noise_file, drop_last=True)
    assert len(list(images.epoch(0))) == images.num_batches == 6
    assert images.num_images == 48


def test_a_batch_that_is_kept_does_not_change(noise_file):
    batches = list(loader(noise_file, batch_size=2).epoch(0))  # ImageRecordIter by itself overwrites after five
    kept = np.concatenate([batch.labels.asnumpy() for batch in batches])
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
    images, _ = read_pass(loader(pack(tmp_path, [png(grey)]), size=28, crop_ratio=0.875))  # resized to 32
    resized_width = 32 * width // min(height, width)
    left = (resized_width - 28) // 2
    expected = (np.arange(left, left + 28) + 0.5) / resized_width * 255
    assert np.abs(images[0, 0] - expected).max() < 5


@pytest.mark.parametrize("num_parts", [2, 3, 7])
@pytest.mark.parametrize("augmentation", [None, SMALL_IMAGE_AUGMENTATION])
def test_parts_are_disjoint_and_complete(noise_file, num_parts, augmentation):
    parts = [
        read_pass(loader(noise_file, augmentation=augmentation, part=i, num_parts=num_parts), 4)[1]
        for i in range(num_parts)
    ]
    assert sorted(np.concatenate(parts)) == list(range(50))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# The loader with augmentation


@pytest.mark.parametrize("num_parts", [2, 3])
@AUGMENTATIONS
def test_parts_together_are_a_loader_with_larger_batches(noise_file, num_parts, augmentation):
    """Images, order and augmentation: several workers train on what one with their batches together would."""
    arguments = {"augmentation": augmentation, "drop_last": True, "seed": 3}
    whole = loader(noise_file, batch_size=4 * num_parts, **arguments)
    parts = [loader(noise_file, batch_size=4, part=i, num_parts=num_parts, **arguments) for i in range(num_parts)]
    assert [part.num_batches for part in parts] == [whole.num_batches] * num_parts
    for batch, *of_parts in zip(whole.epoch(2), *(part.epoch(2) for part in parts)):
        for expected, *pieces in zip(batch[:2], *of_parts):
            np.testing.assert_array_equal(np.concatenate([p.asnumpy() for p in pieces]), expected.asnumpy())


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
        labels = sorted(read_pass(images, epoch)[1])
        assert labels == ([0, 1, 2] if augmentation is None else [0, 0, 1, 2])  # in training the next takes its place
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
    assert [batch.labels.asnumpy().tolist() for batch in batches] == [[4, 5, 6, 7]]


@pytest.mark.parametrize("num_parts", [1, 2])
def test_training_batches_keep_their_size_and_number(tmp_path, num_parts):
    """Half of the images are undecodable, some batches are so entirely; a resumed pass and other parts agree."""
    contents = [b"no picture" if i % 4 < 2 else png(image) for i, image in enumerate(random_images(32))]
    file = pack(tmp_path, contents)
    arguments = {"augmentation": SMALL_IMAGE_AUGMENTATION, "drop_last": True, "max_bad_images": 16, "batch_size": 2}
    images = loader(file, part=num_parts - 1, num_parts=num_parts, **arguments)
    whole = [(batch.images.asnumpy(), batch.labels.asnumpy()) for batch in images.epoch(3)]
    assert [len(labels) for _, labels in whole] == [2] * (16 // num_parts)
    rest = [(batch.images.asnumpy(), batch.labels.asnumpy()) for batch in images.epoch(3, start=5)]
    assert all(np.array_equal(a, b) for one, other in zip(whole[5:], rest) for a, b in zip(one, other))
    assert all(label % 4 >= 2 for _, labels in whole for label in labels)


def test_training_stops_when_no_image_can_be_decoded(tmp_path):
    images = loader(pack(tmp_path, [b"no picture"] * 4), augmentation=SMALL_IMAGE_AUGMENTATION, max_bad_images=9)
    with pytest.raises(InputError, match="no image can be decoded"):
        read_pass(images)


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
    [
        {"batch_size": 0},
        {"num_workers": 0},
        {"num_classes": 0},
        {"crop_ratio": 0},
        {"size": 0},
        {"part": 2, "num_parts": 2},
        {"seed": -1},
        {"reduced_scale": 0},
        {"every_epoch": True},
    ],
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
    for expected, batch in zip(whole[start:], rest):
        np.testing.assert_array_equal(batch.images.asnumpy(), expected.images.asnumpy())


def test_a_fixed_order_is_random_and_the_same_in_every_pass(noise_file):
    images = loader(noise_file, seed=3)
    first, second = (read_pass(images, epoch) for epoch in (0, 1))
    np.testing.assert_array_equal(first[0], second[0])
    assert sorted(first[1]) == list(range(50)) and list(first[1]) != sorted(first[1])
    in_order, _ = read_pass(loader(noise_file))
    np.testing.assert_array_equal(first[0], in_order[first[1].astype(int)])
    assert list(read_pass(loader(noise_file, seed=4))[1]) != list(first[1])


def test_a_reduced_epoch_reads_another_part_each_time(noise_file):
    images = loader(noise_file, augmentation=SMALL_IMAGE_AUGMENTATION, drop_last=True, reduced_scale=3)
    assert (images.num_batches, images.num_images) == (2, 16)
    one, two = (read_pass(images, epoch)[1] for epoch in (0, 1))
    assert len(one) == len(two) == 16 and set(one) != set(two)


@pytest.mark.parametrize("num_parts, num_batches", [(3, 4), (7, 1), (4, 3)])
def test_training_parts_have_equally_many_batches(noise_file, num_parts, num_batches):
    parts = [loader(noise_file, batch_size=4, drop_last=True, part=i, num_parts=num_parts) for i in range(num_parts)]
    assert {part.num_batches for part in parts} == {num_batches}


# Positions


def test_batches_carry_the_positions_of_what_they_hold(noise_file):
    images = loader(noise_file, augmentation=SMALL_IMAGE_AUGMENTATION)
    for batch in images.epoch(2):
        np.testing.assert_array_equal(batch.labels.asnumpy(), batch.positions)
    positions = np.concatenate([batch.positions for batch in images.epoch(2)])
    np.testing.assert_array_equal(positions, images.positions(2))


@pytest.mark.parametrize("augmentation", [None, SMALL_IMAGE_AUGMENTATION])
def test_positions_are_of_the_images_that_could_be_decoded(tmp_path, augmentation):
    contents = [png(image) for image in random_images(6)]
    contents[1] = contents[4] = b"no picture"
    for batch in loader(pack(tmp_path, contents), batch_size=3, augmentation=augmentation).epoch(0):
        np.testing.assert_array_equal(batch.labels.asnumpy(), batch.positions)
        assert not {1, 4} & set(batch.positions.tolist())


def test_a_loader_of_a_data_set_follows_its_flags(noise_file):
    data = make_dataset("noise", noise_file, noise_file, 50, 32, 1.0)
    options = DataOptions(batch_size=4, num_workers=1, max_bad_images=7)
    images = make_loader(data, "test", options, data.preparation(training=True), Order(3, True, drop_last=True), 3)
    assert (images.batch_size, images.num_batches, images.num_images) == (12, 4, 48)
    assert images.preparation.augmentation == data.augmentation
    expected = loader(
        noise_file, 12, augmentation=data.augmentation, mean=IMAGENET_MEAN, std=IMAGENET_STD, seed=3, drop_last=True
    )
    np.testing.assert_array_equal(read_pass(images, 1)[0], read_pass(expected, 1)[0])


# Real images


def imagenet_loader(file, batch_size, num_classes=1000, augmentation=None):
    look = {"size": 64, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "crop_ratio": IMAGENET_CROP_RATIO}
    return loader(file, batch_size, num_classes=num_classes, augmentation=augmentation, **look)


def test_sample_of_imagenet_is_read_in_file_order():
    file = shared_file("imagenet_sample", "val")
    images = imagenet_loader(file, 16)
    pixels, labels = read_pass(images)
    lines = [line.split("\t") for line in Path(file.rec).with_suffix(".lst").read_text().splitlines()]
    by_key = {int(line[0]): float(line[1]) for line in lines}
    assert labels.tolist() == [by_key[key] for key in read_index(file.idx).keys.tolist()]
    assert pixels.shape == (103, 3, 64, 64) and abs(pixels.mean()) < 0.5


def test_class_count_too_small_for_imagenet_is_one_clear_line():
    file = shared_file("imagenet_sample", "val")
    with pytest.raises(InputError, match="for 10 classes") as caught:
        read_pass(imagenet_loader(file, 16, num_classes=10))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("augmentation", [None, IMAGENET_AUGMENTATION, SMALL_IMAGE_AUGMENTATION])
def test_odd_but_decodable_files_are_read(augmentation):
    file = shared_file("imagenet_odd", "decodable")
    images = imagenet_loader(file, 4, augmentation=augmentation)
    pixels, labels = read_pass(images)
    assert len(labels) == len(file) and np.isfinite(pixels).all()
