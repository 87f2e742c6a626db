"""Packing raw folders into record files, as the scripts do it."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from image_files import loader, png, random_images, read_pass

from spos.core.errors import InputError
from spos.data.prepared import pack_images as pack_bytes
from spos.data.recordio import Index, RecordFile
from spos.data.registry import imagenet_synsets
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


def pack_all_but_the_first(prefix, root, flags, num_workers):
    """What im2rec leaves after a file it could not read."""
    keys = [int(line.split("\t")[0]) for line in prefix.with_suffix(".lst").read_text().splitlines()[1:]]
    record, index = pack_bytes([png(image) for image in random_images(len(keys))], [0] * len(keys))
    prefix.with_suffix(".rec").write_bytes(record)
    prefix.with_suffix(".idx").write_bytes(Index(np.array(keys), index.offsets).to_bytes())


def test_too_many_bad_files_leave_nothing_behind(tmp_path, monkeypatch):
    fill(tmp_path / "raw" / "a", 20)
    monkeypatch.setattr(pack_images, "run_im2rec", pack_all_but_the_first)
    with pytest.raises(InputError, match="1 of 18 images could not be packed, more than --max-bad-images 0"):
        pack_images.main([str(tmp_path / "raw"), str(tmp_path / "out"), "--max-bad-images", "0"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".packing"]


@pytest.mark.parametrize(
    "make, flags, message",
    [
        (["train/a"], [], "val is not a folder"),
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
