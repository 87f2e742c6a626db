"""The table of published networks beside our own count."""

from dataclasses import replace

import pytest
from conftest import ROOT
from space_tests.test_published import BY_NAME

from spos.core.tables import render
from spos.counting import summary
from spos.counting.comparison import SUPERNET_SPACE, comparison_table, counted_cost, score_follows, supernet_note
from spos.space.architecture_file import load_architecture
from spos.space.cost import Cost, count_supernet
from spos.space.published import NETWORKS, SUPERNET, agrees
from spos.space.space_file import search_space


@pytest.mark.parametrize(
    "name, counted",
    (
        ("OneShot", (327_909_096, 3_433_579)),
        ("OneShot+", (297_058_024, 3_742_955)),
        ("OneShot-S+", (291_475_944, 3_541_829)),
        ("OneShot+ Supernet", (849_514_600, 17_180_216)),
        ("FBNet-B", None),
    ),
)
def test_counted_beside_published(name, counted):
    assert counted_cost(BY_NAME[name]) == counted


def test_the_table_says_which_scores_do_not_follow():
    notes = comparison_table().notes
    assert "FBNet-B: the printed score 2.19 does not follow; 295 / 328 + 4.5 / 3.4 = 2.223." in notes
    assert "OneShot+ Supernet: the printed score 7.09 does not follow; 841.9 / 328 + 15.4 / 3.4 = 7.096." in notes
    supernet = notes[-1]
    for figure in ("15.4M", "17,180,216", "15,498,400", "15,938,616", "841,896,360", "849,514,600", "848,890,600"):
        assert figure in supernet


def test_published_scores_of_the_table_equal_the_computed_ones_where_they_follow():
    for row in comparison_table().records():
        network = BY_NAME[row["network"]]
        if score_follows(network):
            assert agrees(row["computed_score"], row["published_score"])


def test_other_networks_have_rows_below():
    rows = comparison_table([("mine", Cost(164_000_000, 1_700_000))]).records()
    assert len(rows) == len(NETWORKS) + 1
    assert rows[-1]["network"] == "mine" and rows[-1]["counted_score"] == 1.0
    assert rows[-1]["published_flops"] is None and rows[-1]["computed_score"] is None


def test_scores_against_another_network():
    rows = comparison_table(comparison_model="MobileNetV2_1.4").records()
    scores = {row["network"]: row["computed_score"] for row in rows}
    assert scores["MobileNetV2-1.4"] == 2 and scores["OneShot"] == pytest.approx(328 / 585 + 3.4 / 6.9)


def test_the_supernet_is_that_of_the_published_head():
    assert load_architecture("oneshot+").space == SUPERNET_SPACE
    assert BY_NAME["OneShot+ Supernet"].architecture == SUPERNET


def test_the_note_counts_the_supernet_without_se_and_with_its_head():
    without = count_supernet(search_space(last_conv_after_pooling=True))
    assert f"({without.params:,} without SE)" in supernet_note() and f"({without.macs:,} without SE)" in supernet_note()


def test_only_the_published_supernet_is_noted_as_published():
    published = search_space(use_se=True, last_conv_after_pooling=True)
    assert "Published are 15.4M" in summary.supernet_note(published)
    for other in (replace(published, num_classes=10), search_space("Small", use_se=True)):
        assert "Published" not in summary.supernet_note(other)


def test_the_page_about_counting_has_the_table_as_it_is_printed():
    lines = render([comparison_table()], "markdown").split("\n")
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert table in (ROOT / "docs" / "counting.md").read_text("utf-8")


def test_markdown_of_the_table():
    lines = render([comparison_table()], "markdown").split("\n")
    assert "| FBNet-B | 295 | 4.5 | 74.1 | - | 2.19 | 2.2229 | - | - | - |" in lines
    assert "| OneShot-S+ | 291 | 3.5 | 75.75 | 92.77 | 1.9166 | 1.9166 | 291.476 | 3.542 | 1.9304 |" in lines
