"""The walk through folders: everything is found once, and what is left out is said."""

import os

import pytest
from image_files import make_folders, png, random_images

import train_imagenet
from spos.core import errors
from spos.core.errors import InputError
from spos.data.flags import DataOptions
from spos.data.folder import check_outside, image_names, list_folder, open_folders
from spos.data.registry import check_output, open_data
from spos.data.walk import Walk

PNG = png(random_images(1)[0])


@pytest.fixture(autouse=True)
def fresh():
    errors.warn_once.cache_clear()


@pytest.fixture
def flowers(tmp_path):
    make_folders(tmp_path, "flowers", {"aster": 3, "lily": 2})
    return tmp_path / "flowers"


def find(folder, names=("aster", "lily")):
    return list_folder(str(folder), names)


@pytest.mark.parametrize("suffix", (".tif", ".TIFF", ".jp2", ".ppm", ".jfif", ".bmp", ".WebP"))
def test_pictures_of_every_suffix_are_listed(flowers, suffix):
    (flowers / "lily" / f"other{suffix}").write_bytes(PNG)
    assert f"lily/other{suffix}" in find(flowers).paths


@pytest.mark.parametrize(
    "link, target",
    (
        ("aster/again", "."),
        ("aster/up", ".."),
        ("aster/deeper/far/again", "../.."),
        ("aster/other", "../lily"),
        ("lily/root", "/"),
        ("lily/process", "/proc/self"),
        ("lily/process", "/proc/self/task"),
        ("lily/devices", "/sys/class"),
    ),
)
def test_links_never_multiply_images_or_run_away(flowers, capsys, link, target):
    before = find(flowers).paths
    (flowers / link).parent.mkdir(parents=True, exist_ok=True)
    (flowers / link).symlink_to(target)
    assert find(flowers).paths == before
    (line,) = capsys.readouterr().err.splitlines()
    assert link in line and str(flowers) in line


@pytest.mark.parametrize("target", ("aster", "..", "/proc/self"))
def test_a_class_that_is_a_link_does_not_multiply_images_either(flowers, capsys, target):
    classes = ["aster", "lily"]
    before = Walk(str(flowers)).find(classes)
    (flowers / "again").symlink_to(target)
    walk = Walk(str(flowers))
    assert walk.find(["again", *classes]) == {"again": [], **before}
    walk.report()
    assert "again" in capsys.readouterr().err


def test_two_links_that_point_at_each_other(flowers, tmp_path):
    for one, other in (("x", "y"), ("y", "x")):
        (tmp_path / one).mkdir()
        (tmp_path / one / f"{one}.png").write_bytes(PNG)
        (tmp_path / one / "to").symlink_to(tmp_path / other)
    (flowers / "aster" / "x").symlink_to(tmp_path / "x")
    assert [path for path in find(flowers).paths if "/x" in path] == ["aster/x/to/y.png", "aster/x/x.png"]


def test_folders_that_lie_elsewhere_are_read_through_links(flowers, tmp_path):
    make_folders(tmp_path, "disk", {"more": 2, "tulip": 1})
    (flowers / "aster" / "a").symlink_to(tmp_path / "disk" / "more")
    (flowers / "tulip").symlink_to(tmp_path / "disk" / "tulip")
    paths = find(flowers, ("aster", "lily", "tulip")).paths
    assert paths[3:5] == ("aster/a/000.png", "aster/a/001.png") and paths[-1] == "tulip/000.png"


def test_what_lies_here_is_found_where_it_lies_not_through_a_link(flowers):
    make_folders(flowers, "lily", {"z": 1})
    (flowers / "aster" / "a").symlink_to(flowers / "lily" / "z")
    assert [path for path in find(flowers).paths if path.endswith("z/000.png")] == ["lily/z/000.png"]
    assert not any("/a/" in path for path in find(flowers).paths)


def test_what_is_left_out_is_counted_by_kind_in_one_line(flowers, capsys):
    for name in ("a.gif", "b.GIF", "c.txt", "noname", ".DS_Store"):
        (flowers / "lily" / name).write_bytes(b"x")
    os.mkfifo(flowers / "lily" / "pipe.png")
    (flowers / "readme.md").write_text("x")
    for folder in ("lost+found", "__MACOSX", "@eaDir"):
        (flowers / folder).mkdir()
    (flowers / "aster" / "@eaDir").mkdir()
    (flowers / "aster" / "@eaDir" / "thumb.jpg").write_bytes(PNG)
    assert len(find(flowers).paths) == 5
    (line,) = capsys.readouterr().err.splitlines()
    for said in ("2 .gif (lily/a.gif)", "1 .txt", "1 without a suffix", "1 hidden", "no regular", "1 '@eaDir'"):
        assert said in line
    assert "4 beside the class folders" in line and "lost+found" not in find(flowers).paths


def test_folders_of_the_system_are_no_classes(flowers, tmp_path):
    (flowers / "lost+found").mkdir()
    (flowers / "System Volume Information").mkdir()
    assert open_folders(str(flowers), str(flowers))[2] == ("aster", "lily")


def test_classes_without_images_are_named(flowers, capsys):
    for name in ("rose", "runs"):
        (flowers / name).mkdir()
    (flowers / "runs" / "log.jsonl").write_text("{}")
    find(flowers, ("aster", "lily", "rose", "runs"))
    assert "no image of 2 class folder(s): rose, runs" in capsys.readouterr().err


def test_classes_that_validation_lacks_are_named(flowers, tmp_path, capsys):
    make_folders(tmp_path, "val", {"aster": 1})
    open_folders(str(flowers), str(tmp_path / "val"))
    assert "val: no image of 1 class folder(s): lily" in capsys.readouterr().err


def test_dead_links_stay_in_the_list(flowers):
    (flowers / "lily" / "dead.png").symlink_to("/nowhere")
    (flowers / "lily" / "self.png").symlink_to("self.png")
    assert find(flowers).paths[-2:] == ("lily/dead.png", "lily/self.png")


@pytest.mark.parametrize("folder", ("lily", "lily/more"))
def test_a_folder_that_cannot_be_entered_is_said(flowers, monkeypatch, folder):
    (flowers / "lily" / "more").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=f"{folder}/?: cannot read this folder .Permission denied"):
        find(flowers)


def test_other_programs_walk_alike(flowers, capsys):
    (flowers / "lily" / "again").symlink_to("..")
    (flowers / "lily" / "a.heic").write_text("x")
    (flowers / "lily" / "notes.txt").write_text("x")
    assert len(image_names(str(flowers))) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 .heic (lily/a.heic)" in line and "circle (lily/again)" in line and "notes" not in line


def test_names_of_any_bytes_are_found(flowers, capfd):
    os.mkdir(os.fsencode(flowers) + b"/gr\xfcn")
    with open(os.fsencode(flowers) + b"/gr\xfcn/\xe9.png", "wb") as file:
        file.write(PNG)
    name = os.fsdecode(b"gr\xfcn")
    assert list(Walk(str(flowers)).find([name])) == [name]
    assert b"gr\xfcn/\xe9.png\n" in find(flowers, ("aster", "lily", name)).to_bytes()


def test_results_among_the_classes_are_refused(flowers, tmp_path):
    check_outside(tmp_path / "flowers-packed", str(flowers))
    (tmp_path / "link").symlink_to(flowers)
    for inside in (flowers, flowers / "runs" / "first", tmp_path / "link" / "new"):
        with pytest.raises(InputError, match="lies in .*flowers, whose sub-folders are the classes"):
            check_outside(inside, str(flowers))


def options(folder, **changes):
    return DataOptions(dataset="folder", data_dir=str(folder), input_size=32, **changes)


def test_a_run_among_the_classes_is_refused_before_anything_is_written(flowers, tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).symlink_to(flowers)
    check_output(options(tmp_path), tmp_path / "run")
    for inside in (tmp_path / "train" / "run", flowers / "run"):
        with pytest.raises(InputError, match="whose sub-folders are the classes"):
            train_imagenet.main(["--dataset", "folder", "--data-dir", str(tmp_path), "--save-dir", str(inside)])
    assert sorted(os.listdir(flowers)) == ["aster", "lily"]


def test_one_class_and_batches_of_one_image_are_said(tmp_path, capsys):
    make_folders(tmp_path, "train", {"all": 9})
    make_folders(tmp_path, "val", {"all": 1})
    open_data(options(tmp_path, batch_size=1))
    assert [line.split(":")[1].split(" has")[-1][:30] for line in capsys.readouterr().err.splitlines()] == [
        " one class only, so every answ",
        " --batch-size 1",
    ]
