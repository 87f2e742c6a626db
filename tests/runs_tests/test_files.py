"""Files: written whole or not at all, read with a clear refusal of what does not fit."""

import errno
import hashlib
import os
import stat
import subprocess
import sys

import pytest
from conftest import ROOT

from spos.core.errors import InputError, warn_once
from spos.runs.files import (
    check_output,
    file_digest,
    read_json,
    replacing,
    to_text,
    write_atomic,
    write_json,
    write_once,
)


@pytest.mark.parametrize("content", ("text é\n", b"\x00\xff"))
def test_what_is_written_is_read(content, tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_atomic(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("step", ("fsync", "chmod", "replace"))
def test_a_failure_while_writing_leaves_the_old_file(step, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_is_renamed_only_after_it_is_on_disk(tmp_path, monkeypatch):
    steps = []

    def noting(name, call):
        return lambda *args: (steps.append(name), call(*args))

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    write_atomic(tmp_path / "file", "text")
    assert steps == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_json_is_readable_and_survives(tmp_path):
    record = {"a": [1, 2, 3], "b": {"c": [], "d": [[1, 2], [3]]}, "text": "[ 1,  2 ]", "n": None}
    write_json(tmp_path / "r.json", record)
    assert read_json(tmp_path / "r.json") == record
    assert '"a": [1, 2, 3]' in to_text(record)


@pytest.mark.parametrize("content", (b"", b"{", b"\xff\xfe", b"{'a': 1}"))
def test_files_that_are_no_json_are_refused(content, tmp_path):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="r.json is not a JSON file"):
        read_json(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.json does not exist"):
        read_json(tmp_path / "nothing.json")


@pytest.mark.parametrize("error", (KeyboardInterrupt, OSError))
def test_nothing_is_replaced_when_the_block_fails(error, tmp_path):
    write_atomic(tmp_path / "file", "old")
    with pytest.raises(error), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "file").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_until_the_block_ends_the_old_file_is_there(tmp_path):
    write_atomic(tmp_path / "file", "old")
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path and (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("number", (errno.EINVAL, errno.ENOTSUP, errno.EACCES))
@pytest.mark.parametrize("step, words", (("fsync", "does not flush files"), ("chmod", "does not change permissions")))
def test_a_file_system_that_can_do_less_gets_one_warning(step, words, number, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, refuse)
    warn_once.cache_clear()
    for text in ("first", "second"):
        write_atomic(tmp_path / "file", text)
        assert (tmp_path / "file").read_text() == text
    lines = capsys.readouterr().err.splitlines()
    assert sum(words in line for line in lines) == 1 and all(line.startswith("warning: ") for line in lines)


def test_a_folder_that_cannot_be_flushed_does_not_stop_a_run(tmp_path, monkeypatch, capsys):
    flush = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSYS, "Function not implemented")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    warn_once.cache_clear()
    write_atomic(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"
    assert "does not flush folders on demand (Function not implemented)" in capsys.readouterr().err


@pytest.mark.parametrize("number", (errno.EIO, errno.ENOSPC, errno.EDQUOT))
def test_a_disk_that_fails_is_no_file_system_that_can_do_less(number, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError) as error:
        write_atomic(tmp_path / "file", "text")
    assert error.value.filename == str(tmp_path / "file")  # which the system does not say
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask, mode", ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)))
def test_permissions_are_those_of_any_new_file(umask, mode, tmp_path):
    code = "import os, sys\nfrom spos.runs.files import write_atomic\nos.umask(int(sys.argv[1]))\n"
    code += "write_atomic(sys.argv[2], 'text')"
    subprocess.run([sys.executable, "-c", code, str(umask), str(tmp_path / "file")], check=True, cwd=ROOT)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_file_is_written_once(tmp_path):
    write_once(tmp_path / "list", b"1\n")
    inode = (tmp_path / "list").stat().st_ino
    write_once(tmp_path / "list", b"1\n")
    assert (tmp_path / "list").stat().st_ino == inode
    with pytest.raises(InputError, match="holds another list"):
        write_once(tmp_path / "list", b"2\n")
    assert (tmp_path / "list").read_bytes() == b"1\n"


def test_a_digest_is_that_of_the_whole_file(tmp_path):
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    check_output(tmp_path / "new" / "table.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"] and not list((tmp_path / "new").iterdir())
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        check_output(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        check_output(tmp_path / "file" / "table.json")
