"""The study of docs/study.md: its figures and tables come from the committed logs, and from half of them too."""

import shutil

import pytest
from conftest import ROOT, fails

from spos.core.errors import InputError
from spos.core.tables import Column, Table
from spos.study.matched import compare, matched_table
from utils.study import __main__ as study
from utils.study.figures import make_figures
from utils.study.logs import RANKING, SEARCHED, STRATEGIES_FILE, SUPERNETS, by_bn_count, load_study
from utils.study.tables import make_tables

LOGS = ROOT / "logs" / "study-cifar10"
DOCUMENT = ROOT / "docs" / "study.md"


@pytest.fixture(scope="module")
def logged():
    return load_study(LOGS)


def test_the_document_has_the_tables_that_the_logs_give(capsys):
    assert study.main([str(LOGS), "--document", str(DOCUMENT), "--check"]) == 0
    assert "checked" in capsys.readouterr().out


def test_the_page_about_networks_of_others_has_the_tables_that_its_logs_give(capsys):
    logs, page = ROOT / "logs" / "nas-bench-macro", ROOT / "docs" / "nas-bench-macro.md"
    assert study.main([str(logs), "--document", str(page), "--check"]) == 0
    logged = load_study(logs)
    assert logged.is_of_others and len(logged.architectures) == 500
    assert all(len(rows) == 500 for rows in logged.scores.values())
    assert set(make_figures(logged)) == {path.stem for path in (ROOT / "images" / "nas-bench-macro").glob("*.png")}


def test_every_figure_of_the_document_is_made_of_the_logs(logged, tmp_path):
    figures = make_figures(logged)
    assert set(figures) == {path.stem for path in (ROOT / "images" / "study-cifar10").glob("*.png")}
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in figures:
        assert f"images/study-cifar10/{name}.png" in text


def test_ways_of_sampling_are_compared_at_equal_image_passes(logged):
    passes = {supernet.num_passes for supernet in logged.supernets}
    assert len(passes) == 1
    updates = {supernet.options["sampling"]: supernet.num_updates for supernet in logged.supernets}
    assert updates["uniform"] == 4 * updates["fair"] == 4 * updates["sandwich"]


def test_every_supernet_scored_every_architecture_of_the_ranking(logged):
    assert set(logged.scores) == {supernet.name for supernet in logged.supernets}
    assert all(len(rows) == len(logged.architectures) for rows in logged.scores.values())
    assert 0 in by_bn_count(logged)


def test_the_logs_name_no_folder_of_a_machine():
    for path in [*LOGS.rglob("*.json*"), *(ROOT / "logs" / "nas-bench-macro").rglob("*.json*")]:
        assert '"/' not in path.read_text(encoding="utf-8"), path


def test_a_study_that_has_not_come_to_everything_has_fewer_tables(tmp_path):
    for part in (SUPERNETS, RANKING):
        shutil.copytree(LOGS / part, tmp_path / part)
    half = load_study(tmp_path)
    assert set(make_tables(half)) == {"supernets", "ranking", "hours"}
    assert set(make_figures(half)) == {"supernets", "ranking"}


@pytest.mark.parametrize("missing", (f"{RANKING}/alone.jsonl", SUPERNETS))
def test_a_folder_without_logs_is_said(tmp_path, capsys, missing):
    shutil.copytree(LOGS, tmp_path / "logs")
    gone = tmp_path / "logs" / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    fails(study.main, [tmp_path / "logs", "--document", ""], capsys, "holds no logs of a study")


def test_another_table_than_the_document_s_is_said(tmp_path, capsys):
    shutil.copytree(LOGS, tmp_path / "logs")
    rows = (tmp_path / "logs" / SEARCHED / "alone.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "logs" / SEARCHED / "alone.jsonl").write_text("".join(rows).replace('"top1": 0.', '"top1": 0.1'))
    fails(study.main, [tmp_path / "logs", "--document", DOCUMENT, "--check"], capsys, "has other tables than")
    (tmp_path / "logs" / STRATEGIES_FILE).unlink()
    fails(study.main, [tmp_path / "logs", "--document", DOCUMENT, "--check"], capsys, "strategies")


TABLE = Table("", (Column("a"),), ((1,),))


def test_a_table_is_written_into_its_place_and_nothing_else_changes():
    old = "before\n<!-- table x -->\nold\n<!-- end -->\nafter\n"
    new = study.fill(old, {"x": TABLE}, "doc.md")
    assert new == "before\n<!-- table x -->\n\n| a |\n| ---: |\n| 1 |\n\n<!-- end -->\nafter\n"
    assert study.fill(new, {"x": TABLE}, "doc.md") == new


@pytest.mark.parametrize("tables", ({}, {"x": TABLE, "y": TABLE}))
def test_a_place_without_table_or_a_table_without_place_is_said(tables):
    with pytest.raises(InputError, match="only one of doc.md and the logs has these tables: [xy]"):
        study.fill("<!-- table x -->\n<!-- end -->\n", tables, "doc.md")


def test_the_readme_quotes_the_study(logged):
    """The one place outside the document that names its result, and the document's own summary."""
    together = compare(logged.searched)[-1]
    chance = matched_table(logged.searched, [together]).rows[-1][1]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    gain = "{:+.2%} ({:+.2%} to {:+.2%})".format(*together.gain)
    assert f"| three searched networks, mean | {together.top1.mean:.2%} | {gain} |" in text
    assert f"| ten random networks of the same FLOPs, mean | {chance:.2%} | |" in text
    document = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    low, high = (100 * end for end in together.gain[1:])
    assert f"reach {together.top1.mean:.2%} on average, random ones of the same FLOPs {chance:.2%}" in document
    assert f"**{100 * together.gain[0]:.2f} points more (95%: {low:.2f} to {high:.2f})**" in document
