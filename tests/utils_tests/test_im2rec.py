"""MXNet's im2rec: its bytes, without its processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from image_files import jpeg_file, make_folders

from spos.core.errors import InputError
from spos.engine.compat import mx
from utils import im2rec


def run(*arguments):
    """The program as it is started; it reads its own command line."""
    return subprocess.run(
        [sys.executable, "-m", "utils.im2rec", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def images(tmp_path):
    make_folders(tmp_path, "images", {"a": 6, "b": 7})
    (tmp_path / "images" / "b" / "photo.jpg").write_bytes(jpeg_file())
    return tmp_path / "images"


@pytest.mark.parametrize(
    "flags",
    (
        ["--resize", "40", "--quality", "80"],
        *(pytest.param(own, marks=pytest.mark.slow) for own in (["--pass-through"], ["--encoding", ".png"])),
    ),
)
def test_lists_and_records_are_those_of_mxnet(tmp_path, images, flags):
    (tmp_path / "own").mkdir()
    (tmp_path / "theirs").mkdir()
    assert run("--list", "--recursive", tmp_path / "own" / "x", images).returncode == 0
    (tmp_path / "theirs" / "x.lst").write_bytes((tmp_path / "own" / "x.lst").read_bytes())
    done = run("--num-thread", "3", *flags, tmp_path / "own" / "x", images)
    assert done.returncode == 0, done.stderr
    tool = Path(mx.__file__).parent / "tools" / "im2rec.py"
    code = f"import runpy, spos.engine.compat; runpy.run_path({str(tool)!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, "--num-thread", "2", *flags, str(tmp_path / "theirs" / "x"), str(images)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=60)
    for suffix in ("rec", "idx"):
        assert (tmp_path / "own" / f"x.{suffix}").read_bytes() == (tmp_path / "theirs" / f"x.{suffix}").read_bytes()


@pytest.mark.parametrize("name", ("../../secret.png", "a/../../secret.png", "/etc/passwd", "a/.."))
def test_a_list_that_leads_out_of_the_folder_is_refused(tmp_path, images, name):
    (tmp_path / "x.lst").write_text(f"0\t0\ta/000.png\n1\t0\t{name}\n")
    done = run("--pass-through", tmp_path / "x", images)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {tmp_path}/x.lst, line 2: {name} leads out of")
    assert not list(tmp_path.glob("x.rec"))


@pytest.mark.parametrize("line", ("0", "0\tpath", "a\t0\tpath", "0\tb\tpath"))
def test_lines_that_say_nothing_are_refused(tmp_path, line):
    (tmp_path / "x.lst").write_text(f"{line}\n")
    with pytest.raises(InputError, match="line 1: expected index<TAB>label<TAB>path"):
        im2rec.read_list(tmp_path / "x.lst")


def test_names_of_any_bytes_marks_and_several_labels_are_read(tmp_path):
    (tmp_path / "x.lst").write_bytes(b"\xef\xbb\xbf3\t1.0\t2.0\tcaf\xe9/1.png\r\n")
    assert im2rec.read_list(tmp_path / "x.lst") == [(3, os.fsdecode(b"caf\xe9/1.png"), 1.0, 2.0)]


def test_bad_files_are_named_and_left_out(tmp_path, images):
    (tmp_path / "x.lst").write_text("0\t0\ta/000.png\n1\t0\ta/gone.png\n2\t1\tb/001.png\n")
    done = run("--pass-through", tmp_path / "x", images)
    assert done.returncode == 0 and "warning: a/gone.png cannot be read or decoded" in done.stderr
    assert [line.split("\t")[0] for line in (tmp_path / "x.idx").read_text().splitlines()] == ["0", "2"]


@pytest.mark.parametrize(
    "flags, words", ((["--num-thread", "0"], "--num-thread must be"), ([], "none of the 1 images"))
)
def test_what_was_packed_before_stays_when_a_packing_fails(tmp_path, images, flags, words):
    (tmp_path / "x.lst").write_text("0\t0\ta/gone.png\n")
    for name in ("x.rec", "x.idx"):
        (tmp_path / name).write_bytes(b"before")
    done = run("--pass-through", *flags, tmp_path / "x", images)
    assert done.returncode == 2 and words in done.stderr.splitlines()[-1]
    assert all((tmp_path / name).read_bytes() == b"before" for name in ("x.rec", "x.idx"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "x.idx", "x.lst", "x.rec"]


def test_no_list_is_said(tmp_path):
    done = run(tmp_path / "x", tmp_path)
    assert done.returncode == 2 and "there is no list" in done.stderr
