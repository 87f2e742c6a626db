"""A look at images of every layout."""

import cv2
import numpy as np
import pytest
from image_files import png, random_images

from spos.core.errors import InputError
from spos.pilot.facts import DIGITS, PICTURES, RECORD, bad_images_allowed, sizes_of
from spos.pilot.look import look_at
from spos.pilot.session import facts_text
from utils import pack_images


def fill(folder, num, bad=0, shape=(40, 30)):
    folder.mkdir(parents=True)
    for i, image in enumerate(random_images(num)):
        (folder / f"{i}.png").write_bytes(png(image[: shape[0], : shape[1]]))
    for i in range(bad):
        (folder / f"bad{i}.png").write_text("<html>")


def test_class_folders(tmp_path):
    fill(tmp_path / "a", 12)
    fill(tmp_path / "b", 6, bad=1)
    facts, sample = look_at(str(tmp_path), {})
    assert (facts.kind, facts.num_train, facts.num_test, facts.num_classes) == (PICTURES, 19, 0, 2)
    assert (facts.smallest, facts.largest, facts.num_bad, facts.num_sampled) == (7, 12, 1, 19)
    assert sample.images.shape == (18, facts.side, facts.side, 3) and sample.labels.tolist() == [0] * 12 + [1] * 6
    assert 0 < sample.decode_seconds < 1


def test_a_split_and_packed_images(tmp_path):
    for part, num in (("train", 12), ("val", 5)):
        for name in ("a", "b"):
            fill(tmp_path / "raw" / part / name, num)
    facts, _ = look_at(str(tmp_path / "raw"), {})
    assert (facts.num_train, facts.num_test, facts.layout) == (24, 10, "train/ and val/")
    assert pack_images.main([str(tmp_path / "raw"), str(tmp_path / "packed"), "--resize", "0"]) == 0
    packed, _ = look_at(str(tmp_path / "packed"), {})
    assert (packed.kind, packed.num_train, packed.num_test, packed.side) == (RECORD, 24, 10, facts.side)


@pytest.mark.parametrize("parts", ({"": 6}, {"": 37}, {"train": 9, "test": 4}, {"train": 11, "val": 6, "test": 4}))
def test_lists_have_the_sizes_that_packing_gives_them(tmp_path, parts):
    images = iter(random_images(7 * sum(parts.values())))
    for part, num in parts.items():
        for number in range(7):
            folder = tmp_path / "raw" / part / str(number)
            folder.mkdir(parents=True)
            for i in range(num):
                (folder / f"{i}.png").write_bytes(png(next(images)))
    facts, _ = look_at(str(tmp_path / "raw"), {})
    test_share = ["--val-fraction", "0.2"] if "" in parts else []
    assert pack_images.main([str(tmp_path / "raw"), str(tmp_path / "packed"), "--resize", "0", *test_share]) == 0
    packed, _ = look_at(str(tmp_path / "packed"), {})
    lists = {name: len((tmp_path / "packed" / f"{name}.idx").read_text().splitlines()) for name in ("train", "val")}
    held_out = {
        name: len((tmp_path / "packed" / "lists" / f"{name}.idx").read_text().splitlines())
        for name in ("train", "search_val")
    }
    sizes = sizes_of(facts, 0.2)
    assert (sizes.full, sizes.test) == (lists["train"], lists["val"])
    assert (sizes.train, sizes.holdout) == (held_out["train"], held_out["search_val"])
    assert sizes_of(packed, 0.2) == sizes


def test_the_word_digits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts, sample = look_at(DIGITS, {})
    assert (facts.kind, facts.num_train, facts.num_test, facts.num_classes, facts.side) == (DIGITS, 1437, 360, 10, 32)
    assert len(sample.images) == 400
    assert facts.lists["search_val"] == sizes_of(facts, 0.2).holdout > 0


def test_of_large_photos_little_is_kept(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(6):
            (tmp_path / name / f"{i}.jpg").write_bytes(
                cv2.imencode(".jpg", np.full((900, 700, 3), 30 * i, np.uint8))[1]
            )
    facts, sample = look_at(str(tmp_path), {})
    assert facts.side == 700 and sample.images.shape == (12, 256, 256, 3)
    assert sample.images[:6].mean(axis=(1, 2, 3)) == pytest.approx([30 * i for i in range(6)], abs=2)


def test_of_many_images_a_thousandth_may_be_undecodable_or_as_many_as_are_allowed(tmp_path):
    assert [bad_images_allowed(num, {}) for num in (20, 10_000, 50_000)] == [10, 10, 50]
    assert bad_images_allowed(50_000, {"max_bad_images": 0}) == 0
    for name in ("a", "b"):
        fill(tmp_path / name, 8, bad=8)
    facts, _ = look_at(str(tmp_path), {"max_bad_images": 16})
    assert facts.num_bad == 16 and "16 of 32 that were looked at; packing ends at more than 16" in facts_text(facts, 16)


def test_many_files_that_are_no_pictures_are_refused(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, 8, bad=8)
    with pytest.raises(InputError, match="16 of 32 images that were looked at cannot be decoded, like .*bad0.png"):
        look_at(str(tmp_path), {})


@pytest.mark.parametrize(
    "sizes, message", (((), "has no sub-folders"), ((9,), "one class only"), ((9, 3), "fewer than 5"))
)
def test_what_cannot_be_learned_from_is_refused(tmp_path, sizes, message):
    for number, size in enumerate(sizes):
        fill(tmp_path / str(number), size)
    with pytest.raises(InputError, match=message):
        look_at(str(tmp_path), {})
