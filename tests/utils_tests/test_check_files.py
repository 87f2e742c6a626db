"""The fuzz test of every reader: sound files are taken, a small share of the damaged ones is refused in one line."""

import json
import shutil

import numpy as np
import pytest
from conftest import fails

from spos.core.errors import InputError
from utils.check_files.__main__ import main
from utils.check_files.kinds import KINDS, Kind, write_corpus
from utils.check_files.mutations import mutate
from utils.check_files.reading import LONGEST_MESSAGE, REFUSED, TAKEN, TRACEBACK, read

SHARE = 4  # inputs of each kind here, of the hundreds of the program


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check-files") / "sound"
    write_corpus(folder)
    return folder


@pytest.fixture
def folder(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "files")
    return tmp_path / "files"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_sound_file_of_each_kind_is_taken(kind, folder):
    kind.read(folder)
    assert read(kind, folder) == (TAKEN, "")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_files_are_taken_or_refused_in_one_line(kind, corpus, tmp_path):
    rng = np.random.default_rng(20261129)
    for number in range(SHARE):
        folder = tmp_path / str(number)
        shutil.copytree(corpus, folder)
        content = (corpus / kind.file).read_bytes()
        (folder / kind.file).write_bytes(mutate(content, kind.is_json, kind.has_check, rng))
        outcome, text = read(kind, folder)
        assert outcome in (TAKEN, REFUSED), text


def test_changes_follow_from_the_seed_and_differ():
    content = json.dumps({"a": [1, 2, {"b": "text"}], "c": 0.5}).encode()
    first, again = ([mutate(content, True, False, np.random.default_rng([s, 7])) for s in range(60)] for _ in range(2))
    assert first == again and len(set(first)) > 50


def raiser(error):
    def fail(folder):
        raise error

    return fail


@pytest.mark.parametrize(
    "error, outcome",
    (
        (InputError("no"), REFUSED),
        (FileNotFoundError("no"), REFUSED),
        (InputError("x" * (LONGEST_MESSAGE + 1)), TRACEBACK),
        (KeyError("block_choices"), TRACEBACK),
        (RecursionError(), TRACEBACK),
        (MemoryError(), TRACEBACK),
    ),
)
def test_what_is_no_error_of_one_line_is_found(error, outcome, tmp_path):
    assert read(Kind("some", "file", raiser(error)), tmp_path)[0] == outcome


def test_the_program_prints_a_table_of_kinds(capsys):
    assert main(["--inputs", "12", "--kinds", "hosts, parameters,history", "--processes", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == ["hosts", "parameters", "history", "all"]
    assert lines[4].split()[1] == "12"


def test_an_unknown_kind_is_refused(capsys):
    fails(main, ["--kinds", "hosts,letters"], capsys, "no kind 'letters'")
