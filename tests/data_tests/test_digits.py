"""The digits of scikit-learn as a data set."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_files import loader, read_pass

from spos.core.errors import InputError
from spos.data.dataset import hold_out
from spos.data.digits import MEAN, STD, load_images, prepare_digits, split_positions
from spos.data.recordio import read_index


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
    images = loader(digits.splits["test"], 100, num_classes=digits.num_classes, size=digits.input_size)
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
    assert len(data.splits["train_full"].open()) == 1437
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_digits_where_nothing_can_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write the digits here"):
        prepare_digits(str(tmp_path / "file"))


def test_data_that_has_lists_records_them(digits, tmp_path):
    data = hold_out(digits, 1, 1, str(tmp_path / "lists"), seed=0)
    for name in ("train", "bn", "search_val", "test"):
        assert (tmp_path / "lists" / f"{name}.idx").read_bytes() == Path(digits.splits[name].idx).read_bytes()
        assert data.splits[name].rec == digits.splits[name].rec
