"""Layouts of pictures, and what becomes of them."""

import numpy as np
import pytest
from image_files import png, random_images

from spos.core.errors import InputError
from spos.data.pictures import find_pictures, split_pictures
from spos.data.similar import small_copy


def fill(folder, num, seed=0):
    folder.mkdir(parents=True)
    for i, image in enumerate(random_images(num)):
        (folder / f"{i}.png").write_bytes(png(np.roll(image, seed, axis=1)))


def copies_of(*lists):
    return np.stack(
        [small_copy(open(images.open().name(i), "rb").read()) for images in lists for i in range(len(images))]
    )


def test_class_folders_have_no_split(tmp_path):
    for name in ("b", "a"):
        fill(tmp_path / name, 3)
    found = find_pictures(tmp_path)
    assert found.classes == ("a", "b") and found.test is None and found.scoring is None
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and found.class_roots == (str(tmp_path),)


@pytest.mark.parametrize("parts", (("train",), ("train", "val"), ("train", "test"), ("train", "val", "test")))
def test_parts_are_taken_as_they_are(tmp_path, parts):
    for size, part in enumerate(parts, 2):
        for name in ("a", "b"):
            fill(tmp_path / part / name, size)
    found = find_pictures(tmp_path)
    sizes = len(found.train), len(found.test) if found.test else 0, 0 if found.scoring is None else len(found.scoring)
    assert sizes == {1: (4, 0, 0), 2: (4, 6, 0), 3: (10, 8, 6)}[len(parts)]
    if len(parts) == 3:
        assert {found.train.paths[i].split("/")[0] for i in found.scoring} == {"val"}
        assert found.train.labels[found.scoring].tolist() == [0] * 3 + [1] * 3
    if found.test:
        assert found.test.root == str(tmp_path / parts[-1])


@pytest.mark.parametrize(
    "parts, sizes",
    (
        (("Train", "Test"), (4, 6, 0)),
        (("training", "validation"), (4, 6, 0)),
        (("TRAIN", "Valid"), (4, 6, 0)),
        (("train", "valid", "test"), (10, 8, 6)),
        (("Training", "Validation", "Testing"), (10, 8, 6)),
    ),
)
def test_parts_go_by_the_names_that_people_give_them(tmp_path, parts, sizes):
    for size, part in enumerate(parts, 2):
        for name in ("a", "b"):
            fill(tmp_path / part / name, size)
    found = find_pictures(tmp_path)
    scoring = 0 if found.scoring is None else len(found.scoring)
    assert (len(found.train), len(found.test), scoring) == sizes and found.classes == ("a", "b")
    assert all((tmp_path / found.train.root / path).is_file() for path in found.train.paths)
    assert all(f"{part}/" in found.layout for part in parts)


@pytest.mark.parametrize(
    "folders, message",
    (
        (("Test/a", "valid/a"), "holds Test/ and no train/; expected train/"),
        (("testing/a",), "holds testing/ and no train/"),
        (("test/a", "cat"), "holds test/ and no train/"),
        (("test", "val"), "holds test/ and no train/"),
        (("train/a", "val/a", "valid/a"), "holds val/ and valid/, which mean the same part"),
        (("train", "test", "other"), "train has no sub-folders"),
    ),
)
def test_parts_that_are_incomplete_are_one_line(tmp_path, folders, message):
    for name in folders:
        fill(tmp_path / name, 2)
    with pytest.raises(InputError, match=message):
        find_pictures(tmp_path)


def test_a_class_may_be_called_like_a_part(tmp_path):
    for name in ("bus", "train", "tram"):
        fill(tmp_path / name, 2)
    assert find_pictures(tmp_path).classes == ("bus", "train", "tram")


def test_other_folders_beside_the_parts_are_named(tmp_path, capsys):
    for name in ("train/a", "val/a", "dev/a"):
        fill(tmp_path / name, 2)
    assert len(find_pictures(tmp_path).train) == 2 and "dev not read" in capsys.readouterr().err


@pytest.mark.parametrize("text", ("file,taken\nx.png,2020\n", "", "\xff\xfe"))
def test_a_table_of_other_columns_beside_class_folders_is_left_alone(tmp_path, text):
    for name in ("a", "b"):
        fill(tmp_path / name, 2)
    (tmp_path / "metadata.csv").write_text(text, "latin-1")
    assert find_pictures(tmp_path).classes == ("a", "b")
    write_table(tmp_path, "path,label\na/0.png,x\nb/0.png,y\n", ())
    assert find_pictures(tmp_path).classes == ("x", "y")  # the one that names paths and labels is meant


def test_a_table_of_other_columns_beside_one_folder_of_pictures_is_refused(tmp_path):
    for name in ("__MACOSX", ".cache"):
        (tmp_path / name).mkdir()
    write_table(tmp_path, "file,label\nx/1.png,a\nx/2.png,b\n", ("x/1.png", "x/2.png"))
    with pytest.raises(InputError, match="names the columns file, label; expected path,label"):
        find_pictures(tmp_path)


def test_a_flat_train_folder_has_its_labels_in_the_table(tmp_path):
    write_table(tmp_path, "path,label\ntrain/1.png,a\ntrain/2.png,b\n", ("train/1.png", "train/2.png"))
    assert find_pictures(tmp_path).layout == "the table labels.csv"


def test_a_flat_test_folder_is_not_read(tmp_path, capsys):
    for part in ("train", "val"):
        fill(tmp_path / part / "a", 2)
    fill(tmp_path / "test", 2)
    assert find_pictures(tmp_path).test.root == str(tmp_path / "val")
    assert "test is not read" in capsys.readouterr().err


def write_table(folder, text, files=("x/1.png", "x/2.png", "y.png")):
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(png(random_images(1)[0]))
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def test_a_table_of_paths_and_labels(tmp_path):
    table = write_table(tmp_path, "Path, Label\nx/1.png,10\nx/2.png,9\ny.png,10\n")
    for source in (table, tmp_path):
        found = find_pictures(source)
        assert found.classes == ("9", "10") and found.train.labels.tolist() == [1, 0, 1] and found.test is None
        assert found.train.paths == ("x/1.png", "x/2.png", "y.png") and found.class_roots == ()


@pytest.mark.parametrize(
    "splits, sizes", ((("train", "test", "val"), (2, 1, 1)), (("train", "TEST", "train"), (2, 1, 0)))
)
def test_a_table_with_a_split(tmp_path, splits, sizes):
    names = ("x/1.png", "x/2.png", "y.png")
    rows = "".join(f'"{name}",cat,{split}\n' for name, split in zip(names, splits))
    found = find_pictures(write_table(tmp_path, f"path,label,split\n{rows}"))
    assert (len(found.train), len(found.test), 0 if found.scoring is None else len(found.scoring)) == sizes


@pytest.mark.parametrize(
    "text, message",
    (
        ("file,label\na,b\n", "names the columns file, label; expected path,label"),
        ("", "names the columns of nothing"),
        ("path,label\n", "no row follows"),
        ("path,label\nx/1.png,\n", "line 2: label is empty"),
        ("path,label\nx/1.png,a\nx/1.png,b\n", "line 3: x/1.png stands in line 2 already"),
        ("path,label\nnowhere.png,a\n", "1 of 1 files are not there, like .*nowhere.png"),
        ("path,label,split\nx/1.png,a,dev\n", "line 2: split is dev; expected train, val or test"),
        ("path,label,split\nx/1.png,a,train\ny.png,a,\n", "1 rows have no split"),
        ("path,label,split\nx/1.png,a,test\n", "no row has the split train"),
    ),
)
def test_a_table_that_is_wrong_is_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        find_pictures(write_table(tmp_path, text))


def test_a_table_that_is_a_picture_is_refused(tmp_path):
    with pytest.raises(InputError, match="no CSV file in UTF-8|names the columns"):
        find_pictures(write_table(tmp_path, "path,label\n") and tmp_path / "y.png")


def test_sources_that_are_none(tmp_path):
    with pytest.raises(InputError, match="does not exist; give a folder of images, or a CSV file"):
        find_pictures(tmp_path / "nothing")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("path,label\n")
    with pytest.raises(InputError, match="holds 2 CSV files"):
        find_pictures(tmp_path)


def test_a_split_keeps_near_duplicates_together(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, 20)
    found = find_pictures(tmp_path)  # the pictures of both classes are the same
    split = split_pictures(found, copies_of(found.train), 0.2, 50, 50, seed=0)
    assert sorted(path[2:] for path in split.test.paths if path[0] == "a") == sorted(
        path[2:] for path in split.test.paths if path[0] == "b"
    )
    assert len(split.test) == 8 and sorted(np.concatenate(list(split.lists.values())).tolist()) == list(range(32))
    assert [len(split.lists[name]) for name in ("search_val", "bn", "train")] == [4, 4, 24]


def test_classes_that_a_list_cannot_have_are_said_with_the_reason(tmp_path, capsys):
    fill(tmp_path / "a", 20)
    fill(tmp_path / "film", 1)
    fill(tmp_path / "single", 1)
    content = (tmp_path / "film" / "0.png").read_bytes()
    (tmp_path / "single" / "0.png").write_bytes(png(random_images(40)[39]))
    for frame in range(1, 9):
        (tmp_path / "film" / f"{frame}.png").write_bytes(content)
    found = find_pictures(tmp_path)
    split_pictures(found, copies_of(found.train), 0.2, 50, 50, seed=0)
    err = capsys.readouterr().err
    for use in ("tests", "scores candidates", "serves the BatchNorm update"):
        assert f"no image {use} of 1 class(es), film: all their images are near-duplicates of each other" in err
        assert f"no image {use} of 1 class(es), single: there are too few images" in err


@pytest.mark.parametrize(
    "share, message", ((0.0, "their share is 0"), (0.1, "every class has one image only, or near"))
)
def test_no_test_image_at_all_is_an_error_with_the_reason(tmp_path, share, message):
    for name in ("a", "b"):
        fill(tmp_path / name, 1)
        (tmp_path / name / "again.png").write_bytes((tmp_path / name / "0.png").read_bytes())
    found = find_pictures(tmp_path)
    with pytest.raises(InputError, match=f"no image can be set aside to test: {message}"):
        split_pictures(found, copies_of(found.train), share, 50, 50, seed=0)


def test_images_of_an_owners_split_stay_where_they_are(tmp_path):
    for part, num in (("train", 10), ("val", 3), ("test", 4)):
        fill(tmp_path / part / "a", num)
    found = find_pictures(tmp_path)
    split = split_pictures(found, copies_of(found.train, found.test), 0.5, 50, 50, seed=0)
    assert split.test is found.test and split.lists["search_val"].tolist() == [10, 11, 12]
    assert len(split.lists["bn"]) == 1 and split.num_similar == 4  # the same numbers drew them


def test_images_that_cannot_be_read_are_left_out_of_an_owners_split(tmp_path):
    for part in ("train", "val", "test"):
        fill(tmp_path / part / "a", 4)
    found = find_pictures(tmp_path).keep("train", np.array([0, 2, 3, 5, 6, 7])).keep("test", np.array([1, 2]))
    assert [path.split("/")[0] for path in found.train.paths] == ["train"] * 3 + ["val"] * 3
    assert found.scoring.tolist() == [3, 4, 5] and len(found.test) == 2
