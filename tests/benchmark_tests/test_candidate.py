"""The benchmark of a candidate at a tiny size: the same hits by every way, shares that add up, wrong ways refused."""

import json

import pytest
from conftest import TINY, fails

from benchmarks import candidate, candidate_ways, shares
from benchmarks.pictures import write_pictures
from spos.core.flags import run_program
from spos.data.recordio import RecordReader, open_index
from spos.engine.compat import mx

SIZES = ("--bn-images", "12", "--scoring-images", "20", "--batch-size", "8", "--candidates", "2")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(candidate, "make_space", lambda input_size, classes: TINY)


def lines_of(argv, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    assert run_program(candidate.main, [*SIZES, *argv, "--json", "--out", str(out)]) == 0
    assert capsys.readouterr().out == out.read_text()
    return json.loads(out.read_text())


def test_ways_are_compared_and_timed(tmp_path, capsys):
    line = lines_of((), tmp_path, capsys)
    assert line["stage"] == "candidate"
    assert [row["role"] for row in line["rows"]] == ["plain", "other", "other", "ours"]
    assert all(row["median"] > 0 for row in line["rows"])
    assert any(note.endswith("the same hits for all 2 candidates.") for note in line["notes"])
    assert not line["notes"][-1].startswith("plain, plain, forward")  # moving averages are other statistics


def test_one_batch_makes_moving_averages_comparable(tmp_path, capsys):
    line = lines_of(("--bn-images", "8"), tmp_path, capsys)
    names = line["notes"][-1].partition(":")[0].split(", ")
    assert names.count("plain") == 2 and "ours" in names


def test_shares_are_of_the_whole(tmp_path, capsys):
    line = lines_of(("--part", "shares"), tmp_path, capsys)
    for name in ("plain", "ours"):
        one = line["ways"][name]
        assert set(one["shares"]) == set(shares.STAGES)
        assert sum(one["shares"].values()) == pytest.approx(1)
        assert 0 <= one["python_share"] < 1 and one["wall"] > 0
    assert line["ways"]["ours"]["seconds"]["decode"] == 0
    assert line["ways"]["plain"]["seconds"]["decode"] > 0


def test_a_way_that_computes_something_else_is_not_timed(capsys, monkeypatch):
    own = candidate_ways.OurCandidate.prepare

    def wrong(self, architecture, batches):
        forward = own(self, architecture, batches)
        return lambda images: forward(images) * (1 + mx.nd.arange(TINY.num_classes) / 10)

    monkeypatch.setattr(candidate_ways.OurCandidate, "prepare", wrong)
    fails(candidate.main, SIZES, capsys, "logits of plain and ours", "differ")


def test_a_single_candidate_is_refused(capsys):
    fails(candidate.main, (*SIZES, "--candidates", "1"), capsys, "--candidates must be at least 2")


def test_pictures_are_real_files(tmp_path):
    file = write_pictures(tmp_path, 3, 2)
    assert len(file) == 3
    with RecordReader(file.rec) as reader:
        images = [reader.read_image(int(offset)) for offset in open_index(file).offsets]
    assert [float(label[0]) for label, _ in images] == [0, 1, 0]
    assert all(content[:2] == b"\xff\xd8" and len(content) > 20_000 for _, content in images)
    assert len({content for _, content in images}) == 3
