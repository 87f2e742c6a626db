"""The log of a run: a row and a line per epoch, lines inside an epoch as often as asked."""

import json
import os

import pytest

from spos.core.errors import InputError
from spos.runs.journal import Journal
from spos.training.log import EpochDisplay, RunLog, check_logging_file, describe_epoch, is_over, training_hours

ROW = {"epoch": 4, "loss": 1.25, "top1": 0.5, "top5": 0.75, "lr": 0.1, "images_per_second": 321.4}
LINE = "epoch   5  loss 1.250  train top-1 50.00% top-5 75.00%  lr 0.1  321 img/s"


@pytest.mark.parametrize(
    "more, end",
    [
        ({}, ""),
        ({"val_top1": 0.25, "val_top5": 1.0}, "  val top-1 25.00%  top-5 100.00%"),
        ({"undecodable_images": ["a", "b"]}, "  2 undecodable images"),
    ],
    ids=["trained", "validated", "undecodable"],
)
def test_a_line_says_what_the_row_holds(more, end):
    assert describe_epoch({**ROW, **more}) == LINE + end


def test_an_epoch_is_in_the_journal_on_the_terminal_and_in_the_text_log(tmp_path, capsys):
    log = RunLog(Journal(tmp_path / "log.jsonl"), str(tmp_path / "log.txt"))
    log.epoch(ROW)
    assert json.loads((tmp_path / "log.jsonl").read_text()) == ROW
    assert capsys.readouterr().out == (tmp_path / "log.txt").read_text() == LINE + "\n"


@pytest.mark.parametrize(
    "top1, patience, over",
    [
        ([], 1, False),
        ([0.3], 1, False),
        ([0.3, 0.3], 1, True),
        ([0.3, 0.5, 0.4], 2, False),
        ([0.3, 0.5, 0.4, 0.5], 2, True),
        ([0.3, 0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.4, 0.3, 0.2], 0, False),
    ],
)
def test_a_training_is_over_when_validations_do_not_get_better(top1, patience, over):
    rows = [row for value in top1 for row in ({"epoch": 0}, {"epoch": 1, "val_top1": value})]
    assert is_over(rows, patience) == over


def test_hours_are_known_of_epochs_that_were_stopped_at_their_end():
    rows = [{"images_per_second": 100.0}, {}, {"images_per_second": 0.0}, {"images_per_second": 50.0}]
    assert training_hours(rows, 36_000) == pytest.approx((0.1 + 0.2) * 2)
    with pytest.raises(InputError, match="tells no speed"):
        training_hours([{}], 36_000)
    assert "img/s" not in describe_epoch({key: value for key, value in ROW.items() if key != "images_per_second"})


def test_averaged_weights_count_where_there_are(tmp_path):
    rows = [{"epoch": i, "val_top1": own, "ema_top1": mean} for i, (own, mean) in enumerate(((0.3, 0.5), (0.6, 0.4)))]
    assert is_over(rows, 1) and not is_over([{**row, "ema_top1": row["val_top1"]} for row in rows], 1)
    log = RunLog(Journal(tmp_path / "log.jsonl"))
    log.journal.append({**ROW, **rows[0]})
    assert log.best_top1() == 0.5


def test_epochs_that_will_be_done_again_are_forgotten(tmp_path):
    log = RunLog(Journal(tmp_path / "log.jsonl"))
    for epoch in range(4):
        log.epoch({**ROW, "epoch": epoch})
    log.keep_epochs_before(2)
    assert [row["epoch"] for row in Journal(tmp_path / "log.jsonl").rows] == [0, 1]


def lines_of(capsys, shown=True):
    with EpochDisplay(2, 9, 1, 7, 3, shown) as display:
        for done in range(2, 8):
            display.update(done, 10, None if done == 2 else 0.5)
    return capsys.readouterr().out.splitlines()


def test_an_epoch_has_a_line_every_so_many_steps_where_there_is_no_terminal(capsys):
    lines = lines_of(capsys)
    assert [line.split("  loss")[0] for line in lines] == ["epoch   3  [3/7]", "epoch   3  [6/7]"]
    assert all("loss 0.500" in line and line.endswith(" img/s") for line in lines)


def test_workers_but_the_chief_show_nothing(capsys):
    assert lines_of(capsys, shown=False) == []


def test_speed_counts_the_images_since_the_epoch_was_begun(monkeypatch):
    now = iter([100.0, 104.0])
    monkeypatch.setattr("spos.training.log.time.monotonic", lambda: next(now))
    with EpochDisplay(0, 1, 0, 2, 50, shown=False) as display:
        display.update(1, 30, None)
        display.update(2, 50, 1.0)
        assert display.images_per_second == 20.0


def test_a_clock_that_stands_still_is_no_error(monkeypatch):
    monkeypatch.setattr("spos.training.log.time.monotonic", lambda: 100.0)
    with EpochDisplay(0, 1, 0, 2, 50, shown=False) as display:
        display.update(1, 30, 1.0)
        assert display.images_per_second > 0


@pytest.mark.parametrize("name, words", (("", "is a folder"), ("file/log.txt", "be written"), ("pipe", "such d")))
def test_a_text_log_that_cannot_be_written_is_refused_at_the_start(name, words, tmp_path):
    """A pipe that nobody reads would wait."""
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=words):
        check_logging_file(str(tmp_path / name))


def test_a_text_log_that_can_be_written_is_left_as_it_is(tmp_path):
    check_logging_file(str(tmp_path / "new" / "log.txt"))
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "log.txt").write_text("before")
    for path in (tmp_path / "log.txt", "/dev/null"):
        check_logging_file(str(path))
    assert (tmp_path / "log.txt").read_text() == "before"


def test_a_last_epoch_that_could_not_be_written_is_told(tmp_path, capsys):
    log = RunLog(Journal(tmp_path / "log.jsonl"))
    log.epoch({**ROW, "epoch": 0})
    log.keep_epochs_before(1)
    assert not capsys.readouterr().err
    log.keep_epochs_before(2)
    assert "lacks the last epoch that was trained" in capsys.readouterr().err
