"""Searched architectures against random ones of the same cost: the plan, the numbers, the program."""

import json

import pytest
from conftest import TINY, fails
from study_tests.test_alone import trainer  # noqa: F401  a fixture
from study_tests.test_matched import make_searched

from spos.runs.files import read_json, write_json
from spos.space.architecture import architecture_of
from spos.study.flags import MatchOptions
from spos.study.matched import plan
from utils import searched_against_random


def test_a_program_run(trainer, tmp_path, rng, capsys):  # noqa: F811
    file = tmp_path / "best.json"
    write_json(file, make_searched(rng, 1)[0].to_json())
    own = ["--architecture", str(file), "--num-random", "4", "--seeds", "2", "--jobs", "2", "--tolerance", "0.05"]
    argv = [*own, "--save-dir", str(tmp_path / "out"), "--json", "--", "--seconds", "0"]
    assert searched_against_random.main(argv) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record == read_json(tmp_path / "out" / "comparison.json")
    assert record["random"]["architectures"] == 4 and len(record["searched"]) == 1
    again = [word for word in argv if word != "--json"]
    assert searched_against_random.main(again) == 0
    printed = capsys.readouterr().out
    assert "10 networks of" in printed and "2 seeds each" in printed
    assert len(list((tmp_path / "out" / "networks").glob("*/starts"))) == 10
    write_json(file, make_searched(rng, 1)[0].to_json())
    fails(searched_against_random.main, argv, capsys, "the architecture has changed")


@pytest.mark.parametrize(
    "change, words",
    (
        (["--seeds", "1"], "--seeds must be at least 2"),
        (["--num-random", "1"], "--num-random must be at least 2"),
        (["--architecture", "nowhere.json"], "no architecture 'nowhere.json'"),
    ),
)
def test_bad_flags_are_one_line(tmp_path, rng, capsys, change, words):
    file = tmp_path / "best.json"
    write_json(file, make_searched(rng, 1)[0].to_json())
    argv = ["--architecture", file, "--save-dir", tmp_path / "out", *change, "--", "--dataset", "digits"]
    fails(searched_against_random.main, argv, capsys, words)
    assert not (tmp_path / "out").exists()


def test_architectures_of_two_spaces_are_refused(tmp_path, rng, capsys):
    from spos.space.space_file import search_space

    files = [tmp_path / "one.json", tmp_path / "other.json"]
    for file, space in zip(files, (TINY, search_space())):
        write_json(file, make_searched(rng, 1, space)[0].to_json())
    argv = ["--architecture", *files, "--save-dir", tmp_path / "out", "--", "--dataset", "digits"]
    fails(searched_against_random.main, argv, capsys, "another search space")


def test_the_choices_of_rows_are_those_of_the_plan(trainer, tmp_path, rng):  # noqa: F811
    from spos.study.alone import train_all

    networks = plan(make_searched(rng, 1), MatchOptions(num_random=2, seeds=2, tolerance=0.05))
    rows = train_all(networks, TINY, ["--seconds", "0"], tmp_path / "out", 3)
    assert [architecture_of(row) for row in rows] == [network.architecture for network in networks]
