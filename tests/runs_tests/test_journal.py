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


def checked(path, count=3):
    journal = Journal(path, with_check=True)
    for epoch in range(count):
        journal.append({"epoch": epoch, "loss": 0.1 + 0.2, "places": [10 * epoch + 3, 40]})
    return journal


def test_every_digit_that_changes_in_a_row_with_a_check_value_is_noticed(tmp_path):
    path = tmp_path / "history.jsonl"
    rows = checked(path).rows
    assert read_rows(path, with_check=True) == rows and "check" not in rows[0]
    content = path.read_bytes()
    digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    assert len(digits) > 60
    for place in digits:
        other = b"0123456789".replace(content[place : place + 1], b"")[place % 9 : place % 9 + 1]
        path.write_bytes(content[:place] + other + content[place + 1 :])
        line = content[:place].count(b"\n") + 1
        with pytest.raises(InputError, match=f"line {line} is damaged; remove it and all lines after it"):
            read_rows(path, with_check=True)


def test_what_the_advice_says_is_true(tmp_path):
    path = tmp_path / "history.jsonl"
    checked(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"40", b"41") + lines[2])
    with pytest.raises(InputError, match="line 2 is damaged; remove it and all lines after it to go on"):
        Journal(path, with_check=True)
    path.write_bytes(lines[0])
    journal = Journal(path, with_check=True)
    journal.append({"epoch": 1})
    assert [row["epoch"] for row in read_rows(path, with_check=True)] == [0, 1]


def test_rows_of_an_earlier_version_stand_in_front_and_are_said_once(tmp_path, capsys):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"epoch": 0}\n{"epoch": 1}\n')
    journal = Journal(path, with_check=True)
    journal.append({"epoch": 2})
    assert [row["epoch"] for row in read_rows(path, with_check=True)] == [0, 1, 2]
    (line,) = capsys.readouterr().err.splitlines()
    assert "2 rows are of an earlier version" in line
    path.write_bytes(path.read_bytes() + b'{"epoch": 3}\n')
    with pytest.raises(InputError, match="line 4 is damaged.*no check value"):
        read_rows(path, with_check=True)


@pytest.mark.parametrize("whole_folder", (False, True))
def test_a_journal_that_is_removed_meanwhile_is_not_begun_anew(tmp_path, whole_folder):
    journal = checked(tmp_path / "run" / "history.jsonl")
    journal.path.unlink()
    if whole_folder:
        journal.path.parent.rmdir()
    for use in (journal.check_place, lambda: journal.append({"epoch": 3})):
        with pytest.raises(InputError, match="history.jsonl was removed while the program ran"):
            use()
    assert journal.path.parent.exists() is not whole_folder and not journal.path.exists()


def test_a_journal_whose_folder_goes_before_its_first_row_does_not_make_it_anew(tmp_path):
    (tmp_path / "run").mkdir()
    journal = Journal(tmp_path / "run" / "arrived.jsonl")
    (tmp_path / "run").rmdir()
    with pytest.raises(InputError, match="was removed while the program ran"):
        journal.append({"epoch": 0})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("how", ("replaced", "written to"))
def test_a_journal_that_others_touch_meanwhile_is_refused(tmp_path, how):
    journal = checked(tmp_path / "history.jsonl")
    if how == "replaced":
        (tmp_path / "other").write_bytes(journal.path.read_bytes())
        (tmp_path / "other").rename(journal.path)
    else:
        Journal(journal.path, with_check=True).append({"epoch": 3})
    content = journal.path.read_bytes()
    with pytest.raises(InputError, match="replaced, or written to by another program"):
        journal.append({"epoch": 3})
    assert journal.path.read_bytes() == content


def test_a_journal_goes_on_after_it_was_kept_in_part_or_cleared(tmp_path):
    journal = checked(tmp_path / "history.jsonl")
    journal.keep(lambda row: row["epoch"] < 1)
    journal.append({"epoch": 5})
    journal.clear()
    journal.append({"epoch": 7})
    assert read_rows(journal.path, with_check=True) == journal.rows == [{"epoch": 7}]


def test_a_journal_that_is_a_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="is no regular file"):
        read_rows(tmp_path)


@pytest.mark.parametrize("value", (float("nan"), float("inf"), -float("inf")))
def test_a_number_that_is_none_is_not_written(tmp_path, value):
    journal = checked(tmp_path / "history.jsonl")
    content = journal.path.read_bytes()
    with pytest.raises(InputError, match="a number that is none"):
        journal.append({"epoch": 3, "loss": value})
    assert journal.path.read_bytes() == content


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
