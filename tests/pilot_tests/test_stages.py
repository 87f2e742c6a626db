"""Commands of the stages: flags that the programs know, made of the plan alone."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from pilot_plans import FACTS, plan, smallest_plan

import train_imagenet
from spos.core.flags import OneLineParser, pick
from spos.pilot.stages import stages_of
from spos.pilot.times import DEPLOY, IMAGES, NETWORKS, REPORT, SEARCH, SUPERNET, TABLE
from spos.search.session import GROUPS as SEARCH_GROUPS
from spos.space.cost import cost_table
from spos.space.flags import SpaceOptions, fit, space_of
from utils import build_latency_table

PICTURES = replace(FACTS, kind="pictures", where="my pictures", num_test=0, side=300)


def words_of(stage, made=None):
    groups = stages_of(made or plan(), Path("here"))[stage]
    return [list(command.words) for group in groups for command in group]


def value(words, flag):
    return words[words.index(flag) + 1]


def parse(groups, words):
    return OneLineParser("", groups).parse_args(words[1:])


def test_flags_are_those_of_the_programs():
    made = plan({"latency_max": 5.0}, facts=PICTURES)
    for stage, groups in (
        (SUPERNET, train_imagenet.GROUPS),
        (SEARCH, SEARCH_GROUPS),
        (NETWORKS, train_imagenet.GROUPS),
        (TABLE, build_latency_table.GROUPS),
    ):
        for words in words_of(stage, made):
            parse(groups, words)


def test_the_search_counts_what_the_plan_counted():
    (words,) = words_of(SEARCH)
    options = pick(SpaceOptions, parse(SEARCH_GROUPS, words))
    space = fit(space_of(options), options, 32, 10)
    assert space.strides == (2, 2, 2, 2, 2)
    assert cost_table(space).range() == cost_table(plan().values.setting.search_space(10)).range()


def test_every_limit_reaches_the_search():
    (words,) = words_of(SEARCH, plan({"params_max_m": 0.4, "latency_max": 5.0}))
    assert value(words, "--flop-max-m") == "5.0" and value(words, "--param-max-m") == "0.4"
    assert value(words, "--latency-max") == "5.0" and value(words, "--latency-table") == "here/latency/latency.json"
    assert value(words, "--flop-max") == value(words, "--score-max") == "-1"
    (words,) = words_of(SEARCH, plan({"flops_max_m": 0.0, "model_size_max": 2_000_000}))
    assert float(value(words, "--param-max-m")) == pytest.approx((2_000_000 - 8 * 9000 - 30_000) / 4e6)
    assert "--flop-max-m" not in words


def test_the_control_is_trained_like_the_searched_network():
    searched, control = words_of(NETWORKS)
    assert value(searched, "--architecture") == "here/search/best.json"
    assert value(control, "--architecture") == "here/search/control.json"
    for words in (searched, control):
        for flag in ("--architecture", "--save-dir"):
            del words[words.index(flag) : words.index(flag) + 2]
    assert searched == control


def test_pictures_are_packed_and_read_where_they_are_packed():
    made = plan(facts=PICTURES)
    (words,) = words_of(IMAGES, made)
    assert words[:3] == ["utils.pack_images", "my pictures", "here/images"] and value(words, "--val-fraction") == "0.2"
    assert value(words_of(SUPERNET, made)[0], "--data-dir") == "here/images"
    assert value(words, "--max-bad-images") == "10"
    (allowed,) = words_of(IMAGES, plan(facts=PICTURES, max_bad_images=7))
    assert value(allowed, "--max-bad-images") == "7"
    given = replace(PICTURES, num_test=100)
    assert "--val-fraction" not in words_of(IMAGES, plan(facts=given))[0]
    assert IMAGES not in stages_of(plan(), Path("here"))


def test_uneven_classes_are_shown_alike_everywhere():
    made = plan(facts=replace(FACTS, smallest=10))
    for stage in (SUPERNET, NETWORKS):
        assert all("--class-balanced" in words for words in words_of(stage, made))
    assert not any("--class-balanced" in words for words in words_of(NETWORKS))


def test_what_is_deployed_is_measured():
    programs = [words[0] for words in words_of(DEPLOY)]
    assert programs == ["utils.export_model"] * 2 + ["utils.evaluate"] * 5
    assert [value(words, "--split") for words in words_of(DEPLOY)[2:]] == ["val", "holdout", "val", "holdout", "val"]
    folders = [value(words, "--details") for words in words_of(DEPLOY)[2:]]
    assert (
        len(set(folders)) == 5 and folders[0] == "here/searched/evaluation" and folders[4] == "here/control/evaluation"
    )
    assert words_of(REPORT)[0][-4:] == ["--autopilot", "here", "--output", "here/report.html"]


def test_seeds_are_those_that_were_asked_for():
    for stage in (SUPERNET, SEARCH, NETWORKS):
        assert all(value(words, "--seed") == "7" for words in words_of(stage, plan({"seed": 7})))


def test_a_plan_makes_the_same_commands_every_time():
    assert stages_of(smallest_plan(), Path("x")) == stages_of(smallest_plan(), Path("x"))
