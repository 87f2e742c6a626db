"""Recipes compared on one network: the program, what it keeps, and what it refuses."""

import json

import pytest
from conftest import TINY, fails
from study_tests.test_alone import trainer  # noqa: F401  a fixture
from study_tests.test_matched import make_searched

from spos.runs.files import read_json, write_json
from utils import compare_recipes

VARIANTS = ["--variant", "better: --gain 0.125", "--variant", "averaged: --ema 0.25"]


def arguments(tmp_path, rng, *own, recipe=("--seconds", "0")):
    file = tmp_path / "best.json"
    if not file.exists():
        write_json(file, make_searched(rng, 1, TINY)[0].to_json())
    return ["--architecture", str(file), "--save-dir", str(tmp_path / "out"), *own, "--", *recipe]


def test_a_program_run(trainer, tmp_path, rng, capsys):  # noqa: F811
    """The stand-in gains (1 + seed) x 0.125 by --gain 0.125: 0.125 and 0.25, on average 0.1875."""
    argv = arguments(tmp_path, rng, *VARIANTS, "--seeds", "2", "--jobs", "2", "--json")
    assert compare_recipes.main(argv) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found == read_json(tmp_path / "out" / "recipes.json")
    assert list(found) == ["baseline", "better", "averaged"] and found["baseline"]["gain"] is None
    assert found["better"]["gain"][0] == pytest.approx(0.1875) and found["better"]["flags"] == ["--gain", "0.125"]
    assert found["averaged"]["gain"] == pytest.approx([0.25] * 3)
    more = arguments(tmp_path, rng, *VARIANTS, "--variant", "third: --gain 0.0625", "--seeds", "3")
    assert compare_recipes.main(more) == 0
    printed = capsys.readouterr().out
    assert "third" in printed and "mean of 3 seeds" in printed
    starts = list((tmp_path / "out" / "networks").glob("*/starts"))
    assert len(starts) == 12 and {path.read_text() for path in starts} == {"x"}
    options = read_json(tmp_path / "out" / "config.json")["options"]
    assert options["recipe"] == "--seconds 0 --train-on train --val-on holdout"
    changed = arguments(tmp_path, rng, "--variant", "better: --gain 0.25", "--seeds", "2")
    fails(compare_recipes.main, changed, capsys, "better was trained with other flags")


@pytest.mark.parametrize(
    "own, recipe, words",
    (
        ([], ("--seconds", "0"), "nothing to compare: give a --variant"),
        (["--variant", "nothing"], ("--seconds", "0"), "must be like"),
        ([*VARIANTS, "--seeds", "1"], ("--seconds", "0"), "--seeds must be at least 2"),
        (VARIANTS, (), "the recipe is missing"),
        (VARIANTS, ("--val-on", "val"), "held-out images"),
    ),
)
def test_bad_flags_are_one_line(tmp_path, rng, capsys, own, recipe, words):
    fails(compare_recipes.main, arguments(tmp_path, rng, *own, recipe=recipe), capsys, words)
    assert not (tmp_path / "out").exists()
