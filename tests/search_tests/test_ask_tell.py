"""A search that is asked and told: any order, stops anywhere, and what is refused."""

import random
from dataclasses import replace

import pytest
from conftest import TINY

from search_tests.test_function import SETTINGS, score
from spos.core.errors import InputError
from spos.runs.journal import as_lines, read_rows
from spos.sampling.limits import Limits
from spos.search.ask_tell import open_search
from spos.search.function import search_architectures
from spos.space.architecture import Architecture, architecture_of

FILES = ("history.jsonl", "best.json", "config.json")


def tell_all(folder, shuffle, stop_after=10**9, **settings):
    """Tell all scores in an order of one's own, or so many of them. Returns what was told."""
    told = []
    with open_search(TINY, folder, **{**SETTINGS, **settings}) as search:
        while waiting := search.ask():
            shuffle(waiting)
            for architecture in waiting:
                if len(told) == stop_after:
                    return told
                search.tell(architecture, score(architecture))
                told.append(architecture)
    return told


def same_files(first, second):
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


@pytest.mark.parametrize("mode", ("genetic", "random", "two-stage", "surrogate"))
def test_the_order_of_scores_changes_nothing(mode, tmp_path):
    search_architectures(TINY, score, tmp_path / "whole", mode=mode, **SETTINGS)
    for name, shuffle in (("turned", list.reverse), ("mixed", random.Random(3).shuffle)):
        told = tell_all(tmp_path / name, shuffle, mode=mode)
        assert len(told) == len(set(told)) == len(read_rows(tmp_path / name / "history.jsonl"))
        assert same_files(tmp_path / name, tmp_path / "whole")


@pytest.mark.parametrize("stop_after", (1, 5, 6, 9))
def test_what_was_told_before_a_stop_is_not_asked_for_again(stop_after, tmp_path):
    search_architectures(TINY, score, tmp_path / "whole", **SETTINGS)
    first = tell_all(tmp_path / "stopped", list.reverse, stop_after)
    rest = tell_all(tmp_path / "stopped", random.Random(1).shuffle)
    assert len(first) == stop_after and not set(first) & set(rest)
    assert same_files(tmp_path / "stopped", tmp_path / "whole")
    assert tell_all(tmp_path / "stopped", list.reverse) == []


def test_the_same_is_asked_for_until_all_of_it_is_told(tmp_path):
    with open_search(TINY, tmp_path, **SETTINGS) as search:
        generation = search.ask()
        assert search.ask() == generation and search.iteration == 0 and len(generation) == SETTINGS["population"]
        search.tell(generation[2], 1.0)
        assert search.ask() == [*generation[:2], *generation[3:]] and search.found.rows == ()
        search.tell(generation[0], 2)
        (row,) = search.found.rows
        assert architecture_of(row) == search.found.best == generation[0] and search.found.best_score == 2.0
        for architecture in search.ask():
            search.tell(architecture, 0.5)
        assert search.iteration == 1 and not set(search.ask()) & set(generation)
    assert (tmp_path / "best.json").is_file()


def test_what_cannot_be_told_is_refused_and_changes_nothing(tmp_path):
    with open_search(TINY, tmp_path, **SETTINGS) as search:
        first, second, *_ = waiting = search.ask()
        other = Architecture((0,) * TINY.num_choice_blocks, (0,) * TINY.num_choice_blocks)
        search.tell(first, 1.0)
        for architecture, value, message in (
            (first, 1.0, "has a score already, 1.0"),
            (other, 1.0, "was not asked for"),
            (second, float("nan"), "is nan; it must be a real number"),
            (second, None, "is of type NoneType; it must be a real number"),
        ):
            with pytest.raises(InputError, match=message):
                search.tell(architecture, value)
        assert search.ask() == waiting[1:] and len(search.found.rows) == 1


def test_nothing_is_the_best_before_a_score_or_within_limits_that_nothing_keeps(tmp_path):
    with open_search(TINY, tmp_path, **SETTINGS) as search:
        for read in ("best", "best_row", "best_score"):
            with pytest.raises(InputError, match="nothing was scored within these limits"):
                getattr(search.found, read)
        search.tell(search.ask()[0], 1.0)
        assert search.found.best_score == 1.0
        with pytest.raises(InputError, match="nothing was scored within these limits"):
            search.found.within(Limits(flops=1)).best  # noqa: B018


def test_a_folder_is_open_once(tmp_path):
    with open_search(TINY, tmp_path, **SETTINGS), pytest.raises(InputError, match="is in use"):
        search_architectures(TINY, score, tmp_path, **SETTINGS)


def test_a_history_of_another_order_is_refused(tmp_path):
    """As another version of the search would have written it; the check values are right."""
    search_architectures(TINY, score, tmp_path, **SETTINGS)
    history = tmp_path / "history.jsonl"
    first, second, *rest = read_rows(history)
    swapped = [{**second, "evaluation": 0}, {**first, "evaluation": 1}, *rest]
    history.write_bytes(as_lines(swapped, with_check=True))
    with pytest.raises(InputError, match="line 1 is of .* this search asks for .* there; remove it and all"):
        search_architectures(TINY, score, tmp_path, **SETTINGS)
    assert history.read_bytes() == as_lines(swapped, with_check=True)


def test_a_part_of_what_was_found_keeps_limits(tmp_path):
    found = search_architectures(TINY, score, tmp_path, mode="random", **SETTINGS)
    middle = sorted(row["flops"] for row in found.rows)[len(found.rows) // 2]
    part = found.within(Limits(flops=middle))
    assert part.rows == tuple(row for row in found.rows if row["flops"] <= middle) and part.space == TINY
    assert part.best_score == max(row["fitness"] for row in part.rows)
    cheap, dear = part.rows[0], next(row for row in found.rows if row["flops"] > middle)
    for finalist, left in ((cheap, cheap), (dear, None)):
        assert replace(found, finalist=finalist).within(Limits(flops=middle)).finalist == left
    with pytest.raises(InputError, match="needs rows of a search with a latency table"):
        found.within(Limits(latency_ms=1))
