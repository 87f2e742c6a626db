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
    ),
)
def test_a_plan_that_was_edited_wrongly_is_one_line(tmp_path, change, message):
    plan().write(tmp_path)
    values = json.loads((tmp_path / "plan.json").read_text())
    change(values)
    (tmp_path / "plan.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"is no plan of the autopilot: .*{message}"):
        read_plan(tmp_path / "plan.json")


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
    with pytest.raises(InputError, match="networks need 1.2 GB of memory, and 1.0 GB are free; a smaller --batch-size"):
        check_room(plan(), 10**9, 10**9)
    with pytest.raises(InputError, match="of disk, and 1.0 MB are free at --save-dir"):
        check_room(plan(), 4 * 10**9, 10**6)


def test_a_plan_says_how_fast_a_supernet_begins():
    made = plan(rates=replace(RATES, full_width_images=250.0))
    why = made.stage(SUPERNET).why
    assert made.values.warm_up_from > 0 and "500 a second, 250 at full width, with which it begins" in why
    assert "full width" not in plan().stage(SUPERNET).why
