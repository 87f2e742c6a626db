"""Plans: made, written, read, changed."""

import json

import pytest
from msgspec.structs import replace
from pilot_plans import FACTS, RATES, SHAPE, plan

from spos.core.errors import InputError
from spos.pilot.plan import change_text, check_room, packed_side, read_plan, replanned, times_of
from spos.pilot.times import DEPLOY, IMAGES, NETWORKS, REPORT, SEARCH, SUPERNET, TABLE

PICTURES = replace(FACTS, kind="pictures", where="pictures", num_train=5000, num_test=0, side=300, num_bytes=20_000)


def test_a_plan_fits_its_hours():
    for seconds in (400.0, 1700.0, 7000.0):
        made = plan(seconds=seconds)
        assert [stage.name for stage in made.stages] == [SUPERNET, SEARCH, NETWORKS, DEPLOY, REPORT]
        assert 0.9 * seconds < made.seconds <= seconds


def test_pictures_are_packed_and_a_latency_needs_a_table():
    made = plan({"latency_max": 5.0}, facts=PICTURES)
    assert [stage.name for stage in made.stages][:3] == [IMAGES, TABLE, SUPERNET]
    assert made.stage(TABLE).seconds == pytest.approx(60 + 0.25 * SHAPE.num_choices)
    assert made.seconds <= 1700.0


def test_images_are_split_by_their_number():
    assert plan(facts=PICTURES).values.test_share == 0.1
    assert plan(facts=replace(PICTURES, num_train=1000)).values.test_share == 0.2
    assert plan(facts=PICTURES, test_share=0.3).values.test_share == 0.3
    times = times_of(PICTURES, RATES, 0.1)
    assert (times.full, times.test, times.holdout, times.train) == (4500, 500, 450, 3600)


def test_uneven_classes_are_shown_alike():
    assert not plan().values.class_balanced
    assert plan(facts=replace(FACTS, smallest=14)).values.class_balanced


@pytest.mark.parametrize(
    "side, size, packed", ((300, 224, 256), (300, 64, 64), (64, 64, 0), (250, 224, 0), (40, 32, 32))
)
def test_images_are_packed_as_large_as_they_are_read(side, size, packed):
    assert packed_side(size, replace(FACTS, side=side)) == packed


def test_a_plan_is_read_as_it_was_written(tmp_path):
    made = plan(final_epochs=9)
    made.write(tmp_path)
    assert read_plan(tmp_path / "plan.json") == made and made.given == {"final_epochs": 9}


@pytest.mark.parametrize(
    "change, message",
    (
        (
            lambda values: values["values"].pop("final_epochs") and values["values"].update(final_epochs="many"),
            "final_epochs",
        ),
        (lambda values: values.pop("facts"), "facts"),
        (lambda values: values["rates"].update(supernet_images=None), "supernet_images"),
        (lambda values: values["values"].update(batch_size=0), "`int` >= 1 - at .*batch_size`, not 0"),
        (lambda values: values["values"].update(warm_up_from=-2), "warm_up_from"),
        (lambda values: values["values"].update(test_share=2.0), "test_share"),
        (lambda values: values["values"].update(final_epoch=20), "unknown field `final_epoch`"),
    ),
)
def test_a_plan_that_was_edited_wrongly_is_one_line(tmp_path, change, message):
    plan().write(tmp_path)
    values = json.loads((tmp_path / "plan.json").read_text())
    change(values)
    (tmp_path / "plan.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"is no plan of the autopilot: .*{message}"):
        read_plan(tmp_path / "plan.json")


def edited(folder, made=None, **values):
    """A plan that was written, edited and read again."""
    (made or plan()).write(folder)
    content = json.loads((folder / "plan.json").read_text())
    content["values"].update(values)
    (folder / "plan.json").write_text(json.dumps(content))
    return read_plan(folder / "plan.json")


def test_an_edited_value_is_decided_and_what_follows_from_it_is_new(tmp_path):
    made = plan()
    found = edited(tmp_path, supernet_epochs=6)
    assert found.given == {"supernet_epochs": 6} and found.values.supernet_epochs == 6
    assert found.values.warm_up_from < 6 and made.values.warm_up_from > 6
    assert found.stage(SUPERNET).seconds < 0.2 * made.stage(SUPERNET).seconds
    assert found.stage(NETWORKS) == made.stage(NETWORKS) and "; 6 epochs" in found.stage(SUPERNET).why
    found.write(tmp_path)
    assert read_plan(tmp_path / "plan.json") == found


@pytest.mark.parametrize(
    "values",
    (
        {"supernet_epochs": 6, "supernet_save_every": 3},
        {"population": 12, "generations": 3},
        {"finalists": 0, "final_epochs": 11, "final_validate_every": 5},
        {"finalists": 3, "finalist_epochs": 2},
    ),
)
def test_edited_values_stay_whatever_is_decided_anew(tmp_path, values):
    found = replanned(edited(tmp_path, **values), (), 900.0, 2.0)
    assert {name: getattr(found.values, name) for name in values} == values
    found.write(tmp_path)
    again = replanned(read_plan(tmp_path / "plan.json"), (SUPERNET,), 700.0, 1.0)
    assert {name: getattr(again.values, name) for name in values} == values and again.given == values


def test_another_setting_brings_what_follows_from_it(tmp_path):
    found = edited(tmp_path, plan({"flops_max_m": 60.0}, facts=PICTURES), space="mobilenet", strides="", input_size=64)
    assert (found.values.resize, found.values.warm_up, found.values.warm_up_from) == (64, False, -1)
    assert found.share != plan().share and f"{found.share:.0%} of its architectures" in found.stage(SUPERNET).why


@pytest.mark.parametrize(
    "values, message",
    (
        ({"batch_size": 2000}, "plan.json: batch_size 2000 is more than the 1,149 images"),
        ({"strides": "2,2"}, "plan.json: --strides 2,2 needs 5 entries"),
        ({"space": "oneshot", "strides": ""}, "of the architectures of oneshot at 32 px keep the limits"),
        ({"finalists": 1}, "finalists 1 decides nothing"),
    ),
)
def test_edited_values_that_cannot_be_had_are_one_line(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        edited(tmp_path, plan({"params_max_m": 0.5}), **values)


def test_a_plan_from_before_edits_were_noted_is_read(tmp_path):
    made = plan()
    made.write(tmp_path)
    content = json.loads((tmp_path / "plan.json").read_text())
    del content["planned"], content["edited"]
    (tmp_path / "plan.json").write_text(json.dumps(content))
    assert read_plan(tmp_path / "plan.json") == replace(made, planned=None)


def test_too_few_hours_say_how_many_would_do():
    with pytest.raises(InputError, match=r"--hours are too few: .* give --hours 0\.\d, a smaller --input-size"):
        plan(seconds=60.0)


@pytest.mark.parametrize("slowness", (0.5, 1.0, 2.5))
def test_later_stages_make_up_for_earlier_ones(slowness):
    before = plan()
    after = replanned(before, (SUPERNET,), 900.0, slowness)
    left = [stage for stage in after.stages if stage.name != SUPERNET]
    assert 800.0 < sum(stage.seconds for stage in left) <= 900.0
    assert after.values.supernet_epochs == before.values.supernet_epochs
    assert str(after.values.final_epochs) in after.stage(NETWORKS).why
    assert after.stage(SUPERNET) == before.stage(SUPERNET)


def test_changes_are_said_in_words():
    before = plan()
    after = replanned(before, (SUPERNET, SEARCH), 300.0, 1.0)
    text = change_text(before, after, "late")
    assert text == f"late: final epochs {before.values.final_epochs} -> {after.values.final_epochs}"
    assert change_text(before, before, "late") is None


def test_room_is_checked_with_what_would_work():
    check_room(plan(), 4 * 10**9, 10**9)
    with pytest.raises(InputError, match="networks need 1.2 GB of memory, and 1.0 GB are free; a smaller") as refused:
        check_room(plan(), 10**9, 10**9)
    assert "--jobs" not in str(refused.value)  # two networks are trained side by side by any number of threads
    with pytest.raises(InputError, match="of disk, and 1.0 MB are free at --save-dir"):
        check_room(plan(), 4 * 10**9, 10**6)


def test_a_plan_says_how_fast_a_supernet_begins():
    made = plan(rates=replace(RATES, full_width_images=250.0))
    why = made.stage(SUPERNET).why
    assert made.values.warm_up_from > 0 and "500 a second, 250 at full width, with which it begins" in why
    assert "full width" not in plan().stage(SUPERNET).why
