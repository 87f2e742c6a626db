"""Variants of a recipe: what is refused, in which order they are trained, and gains that are paired by seed."""

import pytest
from conftest import TINY

from spos.core.errors import InputError
from spos.core.intervals import student_interval
from spos.space.architecture_file import ArchitectureRecord
from spos.study.flags import RecipeOptions
from spos.study.recipes import BASELINE, Variant, check_flags, compare, plan, recipes_table

EMA = Variant("ema", ("--ema-decay", "0.9"))


def test_a_variant_is_a_name_and_flags():
    assert Variant.parse("ema: --ema-decay 0.9") == EMA
    assert Variant.parse("all.of-it+:--cutmix --init-params 'a b'").flags == ("--cutmix", "--init-params", "a b")


@pytest.mark.parametrize(
    "text, words",
    (
        ("ema", "must be like"),
        ("ema:", "must be like"),
        (": --cutmix", "must be like"),
        ("a b: --cutmix", "must be like"),
        ("../x: --cutmix", "must be like"),
        ("baseline: --cutmix", "must be like"),
        ("x: --cutmix 'a", "No closing quotation"),
        ("x: --seed 3", "--seed is set for each network"),
        ("x: --save-dir=y", "--save-dir=y is set for each network"),
        ("x: --val-on val", "--val-on is set for all recipes"),
        ("x: --val_on val", "--val-on is set for all recipes"),
        ("x: --save_dir y", "--save-dir is set for each network"),
    ),
)
def test_what_is_no_variant_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        Variant.parse(text)


def test_a_recipe_leaves_the_images_alone():
    check_flags(["--dataset", "digits"])
    for recipe, words in (([], "the recipe is missing"), (["--train-on=train_full"], "held-out images")):
        with pytest.raises(InputError, match=words):
            check_flags(recipe)


def test_the_baseline_comes_first_and_seeds_one_after_the_other(rng):
    record = ArchitectureRecord(TINY, TINY.sample(rng), {})
    networks = plan(record, [EMA], RecipeOptions(seeds=2))
    assert [(one.variant, one.seed) for one in networks] == [(BASELINE, 0), ("ema", 0), (BASELINE, 1), ("ema", 1)]
    assert {one.architecture for one in networks} == {record.architecture}
    assert [one.seed for one in plan(record, [EMA], RecipeOptions(seeds=2, seed=5))] == [5, 5, 6, 6]
    assert [one.flags for one in networks] == [(), EMA.flags] * 2
    for variants, options, words in (
        ([EMA], RecipeOptions(seeds=1), "at least 2"),
        ([EMA, EMA], RecipeOptions(), "given twice: ema, ema"),
    ):
        with pytest.raises(InputError, match=words):
            plan(record, variants, options)


def rows_of(variant, tops, **more):
    speeds = (400.0, 800.0, 600.0)
    return [
        {"variant": variant, "seed": i, "top1": top1, "images_per_second": speeds[i], "num_images": 100, **more}
        for i, top1 in enumerate(tops)
    ]


def test_gains_are_paired_by_seed_and_averaged_weights_count():
    """In the order of the seeds, whatever that of the rows."""
    rows = rows_of(BASELINE, (0.5, 0.6, 0.7)) + rows_of("cutmix", (0.52, 0.6, 0.74))[::-1]
    averaged = rows_of("ema", (0.1, 0.1, 0.1))
    for row, top1 in zip(averaged, (0.51, 0.61, 0.71)):
        row.update(ema_top1=top1, images_per_second=row["images_per_second"] / 2)
    baseline, cutmix, ema = compare(rows + averaged, [Variant("cutmix", ("--cutmix",)), EMA])
    assert baseline.gain is None and baseline.time == 1
    assert baseline.top1 == pytest.approx(student_interval([0.5, 0.6, 0.7]))
    assert cutmix.gain == pytest.approx(student_interval([0.02, 0.0, 0.04])) and cutmix.time == 1
    assert ema.top1.mean == pytest.approx(0.61) and ema.time == 2
    assert ema.gain == pytest.approx((0.01, 0.01, 0.01))
    table = recipes_table([baseline, cutmix, ema], 3)
    assert [row[0] for row in table.rows] == [BASELINE, "cutmix", "ema"] and table.rows[2][1] == "--ema-decay 0.9"
    assert "100 held-out images, mean of 3 seeds" in table.notes[0]


def test_recipes_on_other_images_are_not_compared():
    rows = rows_of(BASELINE, (0.5, 0.6)) + rows_of("ema", (0.5, 0.6), **{"num_images": 50})
    with pytest.raises(InputError, match=r"different numbers of images: \[50, 100\]"):
        compare(rows, [EMA])
