"""Finalists are trained from the supernet and measured on its held-out images; a stop changes nothing."""

import shutil

import pytest

from search_tests.test_session import SETTINGS, supernet  # noqa: F401  a fixture
from spos.core.errors import InputError
from spos.runs.files import read_json
from spos.runs.journal import read_rows
from spos.runs.run import open_run_directory
from spos.search import fine_tuning
from spos.search.session import search_supernet
from spos.space.architecture import architecture_of
from spos.space.architecture_file import load_architecture

FINALS = {**SETTINGS, "search_mode": "random", "finalists": 3}
FILES = ("history.jsonl", "finals.jsonl", "best.json")


@pytest.fixture(scope="module")
def held(supernet, tmp_path_factory):  # noqa: F811
    """A search with finals, undisturbed."""
    folder = tmp_path_factory.mktemp("finals") / "search"
    return search_supernet(supernet, folder, **FINALS), folder


def test_finalists_are_trained_without_the_images_that_score(held, supernet):  # noqa: F811
    found, folder = held
    rows = read_rows(folder / "finals.jsonl")
    assert [(row["round"], row["epochs"]) for row in rows] == [(0, 1)] * 3 + [(1, 2)] * 2
    for row in rows:
        assert architecture_of(row) == architecture_of(found.rows[row["evaluation"]])
        assert row["num_images"] == found.rows[0]["num_images"]
        run = open_run_directory(folder / "finals" / f"evaluation-{row['evaluation']}" / f"round-{row['round']}")
        assert (run.options["train_on"], run.options["val_on"]) == ("train", "holdout")
        assert ("init_from_supernet_sha256" in run.config) == (row["round"] == 0)
        for own in (supernet.parent / "lists").iterdir():
            assert (run.path / "lists" / own.name).read_bytes() == own.read_bytes()
    best = load_architecture(folder / "best.json")
    assert best.architecture == found.best == architecture_of(found.finalist)
    assert best.more["finals"]["rounds"][-1][0]["evaluation"] == found.finalist["evaluation"]
    top = load_architecture(folder / "top-1.json")
    assert "finals" not in top.more and top.more["evaluation"] == best.more["finals"]["first_by_search"]


class Killed(BaseException):
    """As a kill: nothing of the program runs after it."""


@pytest.mark.parametrize("moment", (1, 4))
def test_a_stop_between_trainings_changes_nothing(moment, held, supernet, tmp_path, monkeypatch):  # noqa: F811
    _, whole = held
    train, calls = fine_tuning.train_subnet, []

    def killing(*arguments, **recipe):
        calls.append(1)
        result = train(*arguments, **recipe)
        if len(calls) == moment:
            raise Killed
        return result

    monkeypatch.setattr(fine_tuning, "train_subnet", killing)
    with pytest.raises(Killed):
        search_supernet(supernet, tmp_path / "run", **FINALS)
    search_supernet(supernet, tmp_path / "run", **FINALS)
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()
    assert len(calls) == 6  # the finished training is only loaded again


def test_finals_can_be_added_and_asked_for_with_other_flags_are_refused(held, supernet, tmp_path):  # noqa: F811
    _, whole = held
    search_supernet(supernet, tmp_path / "run", **{**FINALS, "finalists": 0})
    assert "finals" not in read_json(tmp_path / "run" / "best.json")
    for name in ("finals", "finals.jsonl"):
        (shutil.copytree if name == "finals" else shutil.copy)(whole / name, tmp_path / "run" / name)
    search_supernet(supernet, tmp_path / "run", **FINALS)
    assert (tmp_path / "run" / "best.json").read_bytes() == (whole / "best.json").read_bytes()
    with pytest.raises(InputError, match="was trained with lr 0.05, now it is 0.1; remove this file and the folder"):
        search_supernet(supernet, tmp_path / "run", finalist_lr=0.1, **FINALS)
