"""utils.unpack_images: the files that were packed, by class."""

import shutil

import numpy as np
import pytest
from conftest import fails
from image_files import pack, png, random_images

from spos.core.errors import InputError
from utils import pack_images, unpack_images


@pytest.fixture
def pictures(tmp_path):
    """Two classes, of nine and five images, packed as they are."""
    for number, image in enumerate(random_images(14)):
        file = tmp_path / "pictures" / "train" / ("cat" if number < 9 else "dog") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    shutil.copytree(tmp_path / "pictures" / "train", tmp_path / "pictures" / "val")
    argv = [str(tmp_path / "pictures"), str(tmp_path / "packed"), "--resize", "0"]
    assert pack_images.main(argv) == 0
    return tmp_path


def contents(folder):
    return {path.name: sorted(file.read_bytes() for file in path.iterdir()) for path in folder.iterdir()}


def test_unpacking_is_the_inverse_of_packing(pictures, capsys):
    record, target = str(pictures / "packed" / "train.rec"), pictures / "again"
    assert unpack_images.main([record, str(target)]) == 0
    assert contents(target) == contents(pictures / "pictures" / "train")
    assert "14 images of 2 classes" in capsys.readouterr().out
    assert {file.suffix for file in target.glob("*/*")} == {".png"}
    next(target.glob("cat/*")).unlink()  # as if a kill had come before it
    assert unpack_images.main([record, str(target)]) == 0
    assert contents(target) == contents(pictures / "pictures" / "train")


@pytest.mark.parametrize("most, counts", (("3", (3, 3)), ("100", (9, 5)), ("4,1", (4, 1)), ("2,7,9", (2, 5))))
def test_so_many_of_each_class(pictures, most, counts):
    record, target = str(pictures / "packed" / "train.rec"), pictures / most
    assert unpack_images.main([record, str(target), "--per-class", most]) == 0
    assert tuple(len(list((target / name).iterdir())) for name in ("cat", "dog")) == counts


def test_the_first_of_each_class_in_file_order():
    labels = np.array([1, 0, 0, 2, 1, 0, 2, 2])
    assert unpack_images.first_of_each(labels, (2,)).tolist() == [0, 1, 2, 3, 4, 6]
    assert unpack_images.first_of_each(labels, (1, 2)).tolist() == [0, 1, 3, 4]
    assert unpack_images.first_of_each(labels, ()).tolist() == list(range(8))


def test_classes_without_names_are_numbers(tmp_path):
    source = pack(tmp_path, [png(image) for image in random_images(12)])
    assert unpack_images.main([source.rec, str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{label:02d}" for label in range(12)]


@pytest.mark.parametrize("most", ("0", "x", "3,,4", "-1", "2.5"))
def test_what_is_no_number_is_refused(most):
    with pytest.raises(InputError, match="--per-class must be a number"):
        unpack_images.parse_counts(most)


def test_bad_input_is_one_line(pictures, capsys):
    argv = [str(pictures / "nothing.rec"), str(pictures / "out")]
    fails(unpack_images.main, argv, capsys, "nothing")
    (pictures / "packed" / "classes.txt").write_text("a/b\ndog\n")
    fails(unpack_images.main, [str(pictures / "packed" / "train.rec"), argv[1]], capsys, "'a/b' cannot be a folder")
    assert not (pictures / "out").exists()
    (pictures / "packed" / "classes.txt").write_text("..\ndog\n")
    fails(unpack_images.main, [str(pictures / "packed" / "train.rec"), argv[1]], capsys, "'..' cannot be a folder")


def test_two_record_files_do_not_share_a_folder(pictures, capsys):
    """Both number their images from 0."""
    (pictures / "pictures" / "val" / "cat" / "0.png").write_bytes(png(random_images(20)[-1]))
    packed = [str(pictures / "pictures"), str(pictures / "other"), "--resize", "0"]
    assert pack_images.main(packed) == 0
    target = pictures / "both"
    assert unpack_images.main([str(pictures / "other" / "train.rec"), str(target)]) == 0
    before = contents(target)
    fails(unpack_images.main, [str(pictures / "other" / "val.rec"), str(target)], capsys, "is another image")
    assert contents(target) == before
