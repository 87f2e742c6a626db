"""Lists of images: record files and folders behave alike."""

from pathlib import Path

import numpy as np
import pytest
from image_files import make_folders, pack, png, random_images, subset

from spos.core.errors import InputError
from spos.data.folder import list_folder
from spos.data.image_list import check_sizes, draw_covering_lists, draw_lists
from spos.data.recordio import RecordFile

NUM = 50


@pytest.fixture(params=("record", "folder"))
def images(request, noise_file, tmp_path):
    """A list of 50 images, the same ones either way."""
    if request.param == "record":
        return noise_file
    make_folders(tmp_path, "train", {"a": 20, "b": 30})
    return list_folder(str(tmp_path / "train"), ["a", "b"])


def contents(images):
    source = images.open()
    with source.reader() as reader:
        return [reader.read(position)[1] for position in range(len(source))]


def test_a_list_says_how_many_it_has_and_where(images):
    assert len(images) == len(images.open()) == NUM
    assert Path(images.where).exists()


def test_images_are_read_with_their_labels_in_the_order_of_the_list(images):
    source = images.open()
    with source.reader() as reader:
        labels = [reader.read(position)[0] for position in range(NUM)]
    assert all(label.dtype == np.float32 and label.shape == (1,) for label in labels)
    values = [float(label[0]) for label in labels]
    assert values == sorted(values) and len(set(contents(images))) == NUM
    assert len({source.name(position) for position in range(NUM)}) == NUM


def test_lists_are_drawn_alike_and_read_only_what_they_hold(images, tmp_path):
    drawn = draw_lists(NUM, {"bn": 5, "search_val": 12}, seed=3)
    lists = images.hold_out({"bn": 5, "search_val": 12}, str(tmp_path / "lists"), seed=3)
    everything = contents(images)
    for name, positions in drawn.items():
        assert contents(lists[name]) == [everything[position] for position in sorted(positions)]
    assert len(list((tmp_path / "lists").iterdir())) == 3


def test_lists_of_a_run_are_kept_and_never_replaced(images, tmp_path):
    images.hold_out({"bn": 9}, str(tmp_path / "lists"), seed=0)
    inodes = {path.name: path.stat().st_ino for path in (tmp_path / "lists").iterdir()}
    again = images.hold_out({"bn": 9}, str(tmp_path / "lists"), seed=0)
    assert {path.name: path.stat().st_ino for path in (tmp_path / "lists").iterdir()} == inodes
    assert again["bn"].record(str(tmp_path / "lists"), "bn").digest() == again["bn"].digest()
    for wrong in (
        lambda: images.hold_out({"bn": 9}, str(tmp_path / "lists"), 1),
        lambda: images.record(str(tmp_path / "lists"), "bn"),
    ):
        with pytest.raises(InputError, match="holds another list"):
            wrong()


def test_digests_tell_lists_apart_and_are_plain_numbers(images, tmp_path):
    lists = images.hold_out({"bn": 9}, str(tmp_path / "lists"), seed=0)
    digests = [images.digest(), lists["bn"].digest(), lists["train"].digest()]
    assert images.digest() == digests[0]
    assert len(set(map(tuple, digests))) == 3 and all(type(number) is int for one in digests for number in one)


def test_a_digest_of_record_files_sees_a_longer_file(noise_file, tmp_path):
    few = subset(noise_file, [0], tmp_path)
    before = few.digest()
    with open(noise_file.rec, "ab") as file:
        file.write(b"more")
    assert few.digest() != before


@pytest.mark.parametrize("sizes", [{"bn": 50}, {"bn": 20, "search_val": 40}, {"bn": 0}, {"bn": -1}, {"train": 3}])
def test_sizes_that_make_no_sense_are_refused(images, tmp_path, sizes):
    with pytest.raises(InputError, match="hold"):
        images.hold_out(sizes, str(tmp_path / "lists"), seed=0)
    assert not (tmp_path / "lists").exists()
    with pytest.raises(InputError, match="hold"):
        check_sizes(sizes, NUM, "here")


def test_drawn_lists_are_disjoint_and_complete():
    drawn = draw_lists(100, {"bn": 7, "search_val": 20}, seed=1)
    assert {name: len(positions) for name, positions in drawn.items()} == {"bn": 7, "search_val": 20, "train": 73}
    assert sorted(np.concatenate(list(drawn.values()))) == list(range(100))


LABELS = np.repeat([0, 1, 2, 3], [90, 3, 5, 2])


def test_every_class_is_in_the_lists_where_the_data_allow(capsys):
    for seed in range(20):
        sizes = {"bn": 4, "search_val": 9}
        drawn = draw_lists(100, sizes, seed)
        lists = draw_covering_lists(sizes, seed, LABELS, f"seed {seed}", lambda _: False)
        assert sorted(np.concatenate(list(lists.values()))) == list(range(100))
        assert {name: len(positions) for name, positions in lists.items()} == {**sizes, "train": 87}
        assert set(LABELS[lists["train"]]) >= set(LABELS[drawn["train"]])
        err = capsys.readouterr().err
        for name in sizes:
            found = set(LABELS[lists[name]])
            left = sorted({0, 1, 2, 3} - found)
            assert (f"'{name}' has no image of {len(left)} of 4 classes" in err) == bool(left)
            assert all((LABELS[lists["train"]] == label).sum() <= 1 for label in left)  # none to spare
            if set(LABELS[drawn[name]]) == {0, 1, 2, 3}:
                np.testing.assert_array_equal(lists[name], drawn[name])  # nothing was missing: as it was drawn


def test_lists_that_cover_all_classes_are_those_of_chance():
    labels = np.arange(100) % 3
    for seed in range(10):
        for name, positions in draw_lists(100, {"bn": 30}, seed).items():
            np.testing.assert_array_equal(
                positions, draw_covering_lists({"bn": 30}, seed, labels, "here", lambda _: False)[name]
            )


def test_lists_of_a_run_stay_and_what_they_lack_is_said(tmp_path, capsys):
    make_folders(tmp_path, "train", {"a": 40, "b": 3})
    images = list_folder(str(tmp_path / "train"), ["a", "b"])
    seed = next(s for s in range(99) if 1 not in images.labels[draw_lists(43, {"bn": 4}, s)["bn"]])
    old = {name: images.take(positions) for name, positions in draw_lists(43, {"bn": 4}, seed).items()}
    fresh = images.hold_out({"bn": 4}, str(tmp_path / "new"), seed)
    assert set(fresh["bn"].labels) == {0, 1} and capsys.readouterr().err == ""
    for name, part in old.items():
        part.record(str(tmp_path / "old"), name)
    kept = images.hold_out({"bn": 4}, str(tmp_path / "old"), seed)
    assert kept["bn"].paths == old["bn"].paths
    assert "the held-out list 'bn' has no image of 1 of 2 classes (label 1)" in capsys.readouterr().err


def test_contents_tell_other_labels_and_other_pictures(tmp_path):
    pictures = [png(image) for image in random_images(12)]
    for name, labels in (("a", [0] * 12), ("b", [0] * 12), ("c", [0] * 11 + [1])):
        (tmp_path / name).mkdir()
        pack(tmp_path / name, pictures, labels)
    (tmp_path / "d").mkdir()
    pack(tmp_path / "d", [*pictures[:5], png(255 - random_images(12)[5]), *pictures[6:]], [0] * 12)
    files = {name: RecordFile(str(tmp_path / name / "a.rec"), str(tmp_path / name / "a.idx")) for name in "abcd"}
    contents = {name: file.contents() for name, file in files.items()}
    assert contents["a"] == contents["b"] and len(set(contents.values())) == 3
    assert files["a"].digest() == files["c"].digest()  # what the older checksum sees


def test_contents_of_folders_do_not_depend_on_where_they_lie(tmp_path):
    for name in ("one", "two", "three"):
        make_folders(tmp_path, name, {"a": 3, "b": 4})
    (tmp_path / "three" / "b" / "002.png").write_bytes((tmp_path / "one" / "a" / "000.png").read_bytes())
    one, two, three = (list_folder(str(tmp_path / name), ["a", "b"]).contents() for name in ("one", "two", "three"))
    assert one == two != three
