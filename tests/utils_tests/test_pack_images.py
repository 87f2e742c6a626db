"""Packing raw folders into record files, as the scripts do it."""

import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from conftest import ROOT
from data_tests.test_exif import photo, quarters
from image_files import loader, png, random_images, read_pass

from spos.core.errors import InputError
from spos.data.flags import DataOptions
from spos.data.folder import list_folder
from spos.data.recordio import RecordFile
from spos.data.registry import imagenet_synsets, open_data, with_lists
from utils import pack_images


def fill(folder, num, bad=0):
    folder.mkdir(parents=True)
    for i, image in enumerate(random_images(num)):
        (folder / f"{i}.png").write_bytes(png(image))
    for i in range(bad):
        (folder / f"bad{i}.jpg").write_text("<html>")


def packed(folder, split):
    return RecordFile(str(folder / f"{split}.rec"), str(folder / f"{split}.idx"))


def labels(folder, split):
    return read_pass(loader(packed(folder, split), num_classes=1000))[1].tolist()


def test_imagenet_classes_are_positions_among_all_names(tmp_path, capfd):
    synsets = imagenet_synsets()
    for split in ("train", "val"):
        fill(tmp_path / "raw" / split / synsets[10], 2, bad=1)
        fill(tmp_path / "raw" / split / synsets[500], 1)
        fill(tmp_path / "raw" / split / synsets[3], 0)
    assert pack_images.main(["--imagenet", "--resize", "32", str(tmp_path / "raw"), str(tmp_path / "out")]) == 0
    assert labels(tmp_path / "out", "train") == labels(tmp_path / "out", "val") == [10, 10, 500]
    assert (tmp_path / "out" / "classes.txt").read_text().split() == list(synsets)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.txt",
        *(f"{split}.{suffix}" for split in ("train", "val") for suffix in ("idx", "lst", "rec")),
    ]
    assert capfd.readouterr().err.count("bad0.jpg could not be packed") == 2
    with pytest.raises(InputError, match="is there already"):
        pack_images.main(["--imagenet", str(tmp_path / "raw"), str(tmp_path / "out")])


def test_folder_without_parts_is_split_by_the_script(tmp_path):
    fill(tmp_path / "raw" / "b", 5)
    fill(tmp_path / "raw" / "a", 5)
    arguments = [str(tmp_path / "raw"), str(tmp_path / "out"), "--val-fraction", "0.4", "--resize", "0"]
    done = subprocess.run(
        ["sh", str(ROOT / "scripts" / "prepare_folder.sh"), *arguments],
        capture_output=True,
        text=True,
        env={"SPOS_PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert labels(tmp_path / "out", "train") == [0] * 3 + [1] * 3 and labels(tmp_path / "out", "val") == [0, 0, 1, 1]
    pixels, _ = read_pass(loader(packed(tmp_path / "out", "train"), num_classes=2))
    originals = {image.tobytes() for image in random_images(5).transpose(0, 3, 1, 2).astype(np.float32)}
    assert {image.tobytes() for image in pixels} <= originals


def test_too_many_bad_files_leave_nothing_behind(tmp_path):
    fill(tmp_path / "raw" / "a", 17, bad=1)
    fill(tmp_path / "raw" / "b", 2)
    with pytest.raises(InputError, match="1 of 20 images could not be packed, more than --max-bad-images 0"):
        pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), "--max-bad-images", "0"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "make, flags, message",
    [
        (["val/a"], [], "holds val/ and no train/"),
        (["a"], ["--imagenet"], "must hold train/ and val/"),
        (["train/a", "val/a"], ["--imagenet"], "not among the 1000 classes"),
        (["train/a", "val/a"], ["--val-fraction", "0.1"], "--val-fraction is for"),
        (["train", "val"], [], "no sub-folders"),
    ],
)
def test_folders_that_cannot_be_packed_are_refused(tmp_path, make, flags, message):
    for name in make:
        fill(tmp_path / "raw" / name, 0 if name in ("train", "val") else 1)
    with pytest.raises(InputError, match=message):
        pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), *flags])
    assert not (tmp_path / "out").exists()


def test_a_name_that_no_list_can_hold_is_refused(tmp_path):
    fill(tmp_path / "raw" / "a", 9)
    (tmp_path / "raw" / "a" / "x\ty.png").write_bytes(b"")
    with pytest.raises(InputError, match="tabs"):
        pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out")])


def start(source, target, resize=2000, **options):
    """The program in a process of its own, on enough work to be met at it."""
    arguments = [str(source), str(target), "--resize", str(resize), "-j", "2"]
    command = [sys.executable, "-m", "utils.pack_images", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for(path, process):
    """Until a file holds something: threads and a bar that are just being made tell of an interruption themselves."""
    deadline = time.monotonic() + 60
    while not path.exists() or not path.stat().st_size:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def many(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / "raw" / name, 300)
    return tmp_path / "raw"


@pytest.mark.parametrize("signum", (signal.SIGTERM, signal.SIGINT))
def test_a_stopped_packing_ends_with_one_line_and_leaves_nothing(many, tmp_path, signum):
    process = start(many, tmp_path / "out")
    wait_for(tmp_path / "out" / ".packing" / "train.rec", process)
    assert psutil.Process(process.pid).children() == []  # threads do the work
    process.send_signal(signum)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signum and err.strip().count("\n") == 0 and "stopped" in err
    assert not (tmp_path / "out").exists() and "packed" not in out


def test_a_packing_that_was_killed_is_started_anew(many, tmp_path):
    process = start(many, tmp_path / "out")
    wait_for(tmp_path / "out" / ".packing" / "train.rec", process)
    process.kill()
    process.communicate(timeout=30)
    assert pack_images.main([str(many), str(tmp_path / "out"), "--resize", "8"]) == 0
    assert len(packed(tmp_path / "out", "train")) == 540
    assert ".packing" not in os.listdir(tmp_path / "out")


class Killed(BaseException):
    """Stands for a kill: nothing is tidied up."""


@pytest.mark.parametrize("moved", range(8))
def test_a_packing_that_was_killed_while_files_were_moved_is_started_anew(tmp_path, monkeypatch, moved):
    for name in ("a", "b"):
        fill(tmp_path / "raw" / name, 20)
    replace, left = os.replace, [*range(moved)]

    def killed(source, target):
        if ".packing" in str(source) and not str(target).startswith(str(source.parent)):
            if not left:
                raise Killed
            left.pop()
        replace(source, target)

    arguments = [str(tmp_path / "raw"), str(tmp_path / "out"), "--resize", "0"]
    with monkeypatch.context() as patch:
        patch.setattr(pack_images.os, "replace", killed)
        patch.setattr(pack_images, "remove_moved", lambda *_: None)
        patch.setattr(pack_images.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            pack_images.main(arguments)
    assert (tmp_path / "out" / ".packing" / "train.rec").exists() and not (tmp_path / "out" / "train.rec").exists()
    (tmp_path / "out" / "notes.txt").touch()
    assert pack_images.main(arguments) == 0
    assert len(packed(tmp_path / "out", "train")) == 36 and (tmp_path / "out" / "notes.txt").exists()
    assert ".packing" not in os.listdir(tmp_path / "out")


@pytest.mark.parametrize("name", ("train.lst", "lists", "classes.txt"))
def test_what_is_there_is_said_before_anything_is_packed(tmp_path, monkeypatch, name):
    """A packing of which train.rec alone was removed, as a message asks for it: its lists are of other images."""
    fill(tmp_path / "raw" / "a", 20)
    (tmp_path / "out" / name).mkdir(parents=True)
    monkeypatch.setattr(pack_images, "pack", lambda *_: pytest.fail("packed"))
    with pytest.raises(InputError, match=f"{name} is there already; remove it to pack again"):
        pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), "--resize", "0"])
    assert os.listdir(tmp_path / "out") == [name]


def test_validation_images_of_somebody_else_are_refused(tmp_path):
    fill(tmp_path / "raw" / "a", 20)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "val.rec").touch()
    with pytest.raises(InputError, match="val.rec is there already"):
        pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out")])
    assert (tmp_path / "out" / "val.rec").exists()


def test_a_second_packing_into_one_place_is_refused_and_the_first_whole(many, tmp_path, capsys):
    process = start(many, tmp_path / "out", resize=500)
    wait_for(tmp_path / "out" / ".packing" / "train.rec", process)
    with pytest.raises(InputError, match=f"out is in use by pack_images.py .process {process.pid} on "):
        pack_images.main([str(many), str(tmp_path / "out")])
    assert process.wait(timeout=60) == 0, process.stderr.read()
    assert len(packed(tmp_path / "out", "train")) == 540 and len(packed(tmp_path / "out", "val")) == 60


def test_a_disk_that_fills_up_is_one_line(many, tmp_path):
    """A limit on the size of files is met where a full disk would be."""
    process = start(
        many, tmp_path / "out", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert "nothing was packed, for it cannot be written (File too large)" in err
    assert not (tmp_path / "out").exists()


def test_results_among_the_pictures_are_refused(tmp_path):
    fill(tmp_path / "raw" / "a", 12)
    with pytest.raises(InputError, match="whose sub-folders are the classes"):
        pack_images.main([str(tmp_path / "raw"), str(tmp_path / "raw" / "packed" / "first")])
    assert os.listdir(tmp_path / "raw") == ["a"]


def test_names_of_any_bytes_are_packed(tmp_path):
    fill(tmp_path / "raw" / "a", 10)
    name = os.fsdecode(b"na\xefve \x1b[31m")
    fill(tmp_path / "raw" / name, 10)
    os.rename(tmp_path / "raw" / "a" / "0.png", os.fsencode(tmp_path / "raw" / "a") + b"/ \xff .png")
    assert pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), "--resize", "0"]) == 0
    assert (tmp_path / "out" / "classes.txt").read_bytes() == b"a\n" + os.fsencode(name) + b"\n"
    assert len(packed(tmp_path / "out", "train")) == 18


@pytest.mark.parametrize("resize", (0, 40))
def test_files_that_are_no_pictures_are_named_with_the_reason(tmp_path, capsys, resize):
    fill(tmp_path / "raw" / "a", 10)
    (tmp_path / "notes.txt").write_text("secret")
    (tmp_path / "raw" / "a" / "linked.png").symlink_to(tmp_path / "notes.txt")
    (tmp_path / "raw" / "a" / "dead.png").symlink_to("/nowhere/at/all.png")
    arguments = [str(tmp_path / "raw"), str(tmp_path / "out"), "--resize", str(resize), "--val-fraction", "0.3"]
    assert pack_images.main(arguments) == 0
    err = capsys.readouterr().err
    assert "linked.png could not be packed, so it is left out: it cannot be decoded: it is not a picture" in err
    assert "dead.png could not be packed, so it is left out: it cannot be read: No such file" in err
    assert not any(b"secret" in path.read_bytes() for path in (tmp_path / "out").glob("*.rec"))


@pytest.mark.parametrize("flags", (["--resize", "0"], ["--resize", "48"]))
def test_photos_are_upright_in_records_as_in_folders(tmp_path, flags):
    for split in ("train", "val"):
        (tmp_path / "raw" / split / "a").mkdir(parents=True)
        for orientation in range(1, 9):
            content = photo(orientation, "PNG" if orientation % 2 else "JPEG", 96, 96)
            (tmp_path / "raw" / split / "a" / f"{orientation}.jpg").write_bytes(content)
    assert pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), *flags]) == 0
    raw, _ = read_pass(loader(list_folder(str(tmp_path / "raw" / "val"), ["a"]), num_classes=1))
    records, _ = read_pass(loader(packed(tmp_path / "out", "val"), num_classes=1))
    assert np.abs(raw - records).mean() < (4 if "48" in flags else 1e-9)
    assert len({tuple(quarters(pixels)) for pixels in raw}) == 8


def test_lists_of_packed_images_are_those_of_their_run(tmp_path):
    """Stratified, with near-duplicates on one side, and used unless flags ask for other sizes."""
    for name in ("a", "b", "c"):
        fill(tmp_path / "raw" / name, 30)  # the same thirty pictures
    assert (
        pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), "--resize", "0", "--val-fraction", "0.2"]) == 0
    )
    lists = tmp_path / "out" / "lists"
    assert sorted(path.name for path in lists.iterdir()) == ["bn.idx", "search_val.idx", "train.idx"]
    options = DataOptions(dataset="record", data_dir=str(tmp_path / "out"), input_size=32)
    data = with_lists(open_data(options), options, tmp_path / "run")
    assert data.class_names == ("a", "b", "c")
    assert {name: np.bincount(own.find_labels()).tolist() for name, own in data.splits.items()} == {
        "train_full": [24] * 3,
        "test": [6] * 3,
        "train": [20] * 3,
        "bn": [2] * 3,
        "search_val": [2] * 3,
    }
    pixels = {name: {row.tobytes() for row in read_pass(loader(data.splits[name]))[0]} for name in data.splits}
    for name in ("test", "bn", "search_val"):
        others = set().union(*(own for other, own in pixels.items() if other not in (name, "train_full")))
        assert not pixels[name] & others
    flags = DataOptions(dataset="record", data_dir=str(tmp_path / "out"), input_size=32, holdout=5)
    assert len(with_lists(open_data(flags), flags, tmp_path / "other").splits["search_val"]) == 5


def test_lists_that_would_be_empty_are_said(tmp_path, capsys):
    fill(tmp_path / "raw" / "a", 3)
    arguments = [str(tmp_path / "raw"), str(tmp_path / "out"), "--resize", "0", "--val-fraction", "0.34"]
    assert pack_images.main(arguments) == 0
    assert not (tmp_path / "out" / "lists").exists()
    assert "no held-out lists are written, for the list 'search_val' would have no image" in capsys.readouterr().err


def test_a_table_is_packed_where_it_lies(tmp_path):
    fill(tmp_path / "raw", 40)
    rows = "".join(f"{i}.png,{'odd' if i % 2 else 'even'}\n" for i in range(40))
    (tmp_path / "raw" / "labels.csv").write_text(f"path,label\n{rows}missing.png,odd\n")
    assert pack_images.main([str(tmp_path / "raw"), str(tmp_path / "raw" / "packed"), "--resize", "0"]) == 0
    assert sorted(labels(tmp_path / "raw" / "packed", "val")) == [0, 0, 1, 1]
    assert len(packed(tmp_path / "raw" / "packed", "train")) == 36


def test_classes_that_are_not_named_are_refused(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / "raw" / name, 10)
    assert pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), "--resize", "0"]) == 0
    (tmp_path / "out" / "classes.txt").write_text("a\n")
    with pytest.raises(InputError, match="names 1 classes, but the images have 2"):
        open_data(DataOptions(dataset="record", data_dir=str(tmp_path / "out")))


def test_test_images_like_training_images_are_said(tmp_path, capsys):
    for part, num in (("train", 10), ("test", 4)):
        for name in ("a", "b"):
            fill(tmp_path / "raw" / part / name, num)
    assert pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), "--resize", "0"]) == 0
    assert "8 of 8 test images are near-duplicates of training images" in capsys.readouterr().err
