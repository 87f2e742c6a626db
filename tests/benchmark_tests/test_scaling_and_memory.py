"""Benchmarks of scaling and memory at tiny sizes: their rows say what they should."""

import json

import pytest
from conftest import TINY, fails

from benchmarks import memory, scaling
from benchmarks.candidate_ways import covering
from spos.core.errors import InputError
from spos.core.flags import run_program


def rows_of(program, argv, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert run_program(program.main, [*argv, "--json", "--out", str(out)]) == 0
    assert capsys.readouterr().out == out.read_text()
    return json.loads(out.read_text())["rows"]


@pytest.fixture
def tiny(monkeypatch):
    for program in (memory, scaling):
        monkeypatch.setattr(program, "make_space", lambda input_size, classes: TINY)


def test_covering_architectures_use_every_choice_once():
    architectures = covering(TINY)
    assert len(architectures) == TINY.num_block_choices * len(TINY.searchable_channel_choices) == 40
    for i in range(TINY.num_choice_blocks):
        assert len({(a.block_choices[i], a.channel_choices[i]) for a in architectures}) == 40


def test_contexts_share_one_batch(tiny, tmp_path, capsys):
    flags = ("--contexts", "1,2", "--batch-size", "4", "--rounds", "1", "--warm-up", "1")
    rows = rows_of(scaling, flags, tmp_path, capsys)
    assert [(row["work"], row["contexts"], row["batch_size"]) for row in rows] == [
        (work, n, 4) for work in ("training step", "candidate") for n in (1, 2)
    ]
    assert all(row["images_per_second"] > 0 for row in rows)
    assert [row["time_of_an_image"] for row in rows if row["contexts"] == 1] == [1, 1]


def test_a_generation_takes_host_time(tmp_path, capsys):
    rows = rows_of(scaling, ("--part", "population", "--populations", "20"), tmp_path, capsys)
    assert [(row["population"], row["generations"]) for row in rows] == [(20, 10)]
    assert 0 < rows[0]["us_per_candidate"] < 1e5


@pytest.mark.slow
@pytest.mark.parametrize("dask", ((), ("--dask",)))
def test_workers_search(tmp_path, capsys, dask):
    if dask:
        pytest.importorskip("distributed", reason="Dask is not installed")
    rows = rows_of(scaling, ("--part", "workers", "--workers", "1,2", "--candidates", "2", *dask), tmp_path, capsys)
    assert [row["workers"] for row in rows] == [1, 2] and rows[0]["speedup"] == 1
    assert all(row["seconds"] > 0 for row in rows)


@pytest.mark.parametrize("part, number", (("training", 1), ("search", 2)))
def test_memory_of_a_case(tiny, part, number):
    found = memory.measure(memory.Case(part, 16, 2, 1, number))
    assert 0 < found["start"] <= found["network"] <= found["peak"]
    assert ("graphs" in found) == (part == "search")


def test_a_child_measures_and_says_why_it_failed():
    with pytest.raises(InputError, match="ended with code 1: KeyError: 'dreaming'"):
        memory.in_a_child(memory.Case("dreaming", 32, 1, 1, 1))


def test_cases_are_all_combinations():
    options = memory.MemoryOptions(batch_sizes=(4,), input_sizes=(64, 224), contexts=(1, 2), candidates=(0, 8))
    assert len(memory.cases(options)) == 8
    assert {case.part for case in memory.cases(memory.MemoryOptions(part="search"))} == {"search"}


def test_bad_lists_are_refused(capsys):
    fails(memory.main, ("--candidates", "-1"), capsys, "--candidates")
