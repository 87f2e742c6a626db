"""Journals: rows that are on disk, lines that a kill or a disk damaged, and what is no file."""

import errno
import os

import pytest

from spos.core.errors import InputError, warn_once
from spos.runs.journal import Journal, read_rows


def test_rows_are_on_disk_when_append_returns(tmp_path):
    journal = Journal(tmp_path / "runs" / "log.jsonl")
    journal.append({"epoch": 0})
    journal.append({"epoch": 1})
    assert Journal(journal.path).rows == journal.rows == [{"epoch": 0}, {"epoch": 1}]


@pytest.mark.parametrize("torn", (b"{", b'{"epoch": 2', b'{"epoch": 2}', b"\xff"))
def test_a_torn_last_line_is_dropped(torn, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"epoch": 0}\n{"epoch": 1}\n' + torn)
    journal = Journal(path)
    journal.append({"epoch": 2})
    assert [row["epoch"] for row in journal.rows] == [row["epoch"] for row in Journal(path).rows] == [0, 1, 2]


@pytest.mark.parametrize("damaged", (b'{"epoch": ', b"", b"\xff", b"5", b"[]"))
def test_any_other_damaged_line_is_refused(damaged, tmp_path):
    path = tmp_path / "log.jsonl"
    content = b'{"epoch": 0}\n' + damaged + b'\n{"epoch": 2}\n'
    path.write_bytes(content)
    with pytest.raises(InputError, match="log.jsonl line 2 is damaged"):
        Journal(path)
    assert path.read_bytes() == content


def test_keep_drops_rows_from_the_file_too(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    for epoch in range(4):
        journal.append({"epoch": epoch})
    journal.keep(lambda row: row["epoch"] < 2)
    journal.append({"epoch": 9})
    assert [row["epoch"] for row in Journal(journal.path).rows] == [0, 1, 9]


def test_a_journal_that_another_program_writes_is_read_and_left_alone(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    assert read_rows(path) == []
    path.write_bytes(b'{"epoch": 0}\n{"epo')
    assert read_rows(path) == [{"epoch": 0}]
    assert path.read_bytes() == b'{"epoch": 0}\n{"epo'
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ") and "the last line was cut short" in line


def test_a_cleared_journal_has_no_rows_and_no_file(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    journal.append({"epoch": 0})
    journal.clear()
    assert journal.rows == [] and not journal.path.exists()
    journal.append({"epoch": 5})
    assert read_rows(journal.path) == [{"epoch": 5}]


def test_a_file_system_that_does_not_flush_costs_no_row(tmp_path, monkeypatch, capsys):
    def refuse(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    warn_once.cache_clear()
    journal = Journal(tmp_path / "log.jsonl")
    journal.append({"epoch": 0})
    journal.append({"epoch": 1})
    assert read_rows(journal.path) == journal.rows == [{"epoch": 0}, {"epoch": 1}]
    assert capsys.readouterr().err.count("does not flush files on demand") == 1


def test_a_journal_does_not_follow_a_link(tmp_path):
    """Nor one that comes while it is open."""
    mine = tmp_path / "mine"
    mine.write_text('{"epoch": 0}\n')
    (tmp_path / "log.jsonl").symlink_to(mine)
    with pytest.raises(InputError, match="log.jsonl is a link"):
        Journal(tmp_path / "log.jsonl")
    journal = Journal(tmp_path / "arrived.jsonl")
    (tmp_path / "arrived.jsonl").symlink_to(mine)
    with pytest.raises(OSError):
        journal.append({"epoch": 1})
    assert mine.read_text() == '{"epoch": 0}\n'


@pytest.mark.parametrize("make", (os.mkfifo, os.mkdir))
def test_what_is_no_file_is_refused_and_does_not_hang(make, tmp_path):
    make(tmp_path / "arrived.jsonl")
    for read in (Journal, read_rows):
        with pytest.raises(InputError, match="arrived.jsonl is no regular file"):
            read(tmp_path / "arrived.jsonl")
    journal = Journal(tmp_path / "log.jsonl")
    make(tmp_path / "log.jsonl")
    with pytest.raises((InputError, OSError)):
        journal.append({"epoch": 1})
