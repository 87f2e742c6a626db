"""Recipes: what their names stand for, and what counts more."""

import pytest

import train_imagenet
from spos.core.errors import InputError
from spos.core.flags import OneLineParser
from spos.runs.run import open_run
from spos.training.flags import TrainingFlags
from spos.training.recipes import RECIPES, recipe_values
from spos.training.session import train_supernet

PUBLISHED = "--recipe published --num-gpus 4 --batch-size 256"  # as the scripts have it


def parse(line):
    return TrainingFlags.parse(OneLineParser("", train_imagenet.GROUPS), line.split())


def test_the_published_recipe_is_that_of_the_description():
    train = parse(PUBLISHED).train
    assert (train.lr, train.wd, train.momentum, train.warmup_epochs) == (1.3, 3e-5, 0.9, 5)
    assert (train.optimizer, train.lr_mode, train.label_smoothing, train.no_wd) == ("nag", "cosine", True, True)


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize(
    "line, images",
    (("--num-gpus 8 --batch-size 64", 512), ("--batch-size 32", 32), ("--batch-size 32 --num-cpus-ctx 2", 64)),
)
def test_the_learning_rate_is_in_proportion_to_the_images_of_a_step(name, line, images):
    assert parse(f"--recipe {name} {line}").train.lr == pytest.approx(RECIPES[name]["lr"] * images / 256)


def test_what_is_given_counts_more_wherever_it_stands():
    train = parse(f"--lr 0.5 --no-label-smoothing {PUBLISHED} --wd 0.0").train
    assert (train.lr, train.wd, train.label_smoothing, train.no_wd) == (0.5, 0.0, False, True)


def test_no_recipe_changes_nothing():
    assert recipe_values("", 1024) == {}
    assert parse("").train == TrainingFlags.of(OneLineParser("", train_imagenet.GROUPS).parse_args([])).train


def test_every_value_is_in_the_config():
    options = parse(PUBLISHED).to_json()
    assert options["recipe"] == "published"
    assert {**RECIPES["published"], "lr": 1.3}.items() <= options.items()


def test_contradictions_are_told():
    with pytest.raises(InputError, match="--warmup-epochs 5 leaves nothing of --num-epochs 4"):
        parse("--recipe published --num-epochs 4")
    with pytest.raises(InputError, match="--lr-restarts is for --lr-mode"):
        parse("--recipe published --lr-mode step --lr-restarts 2")


def test_a_script_names_them_too(tmp_path):
    from spos.data.flags import DataOptions

    with pytest.raises(InputError, match="recipe is 'old'"):
        train_supernet(DataOptions(), tmp_path, recipe="old")
    with pytest.raises(InputError, match="--warmup-epochs 5 leaves nothing"):
        train_supernet(DataOptions(), tmp_path, recipe="published", num_epochs=3)


def test_a_run_goes_on_under_the_name_of_its_values(tmp_path):
    """One that began before the flag was there, too; a recipe that a study records is a part of it."""
    before = {name: value for name, value in parse(PUBLISHED).to_json().items() if name != "recipe"}
    open_run(tmp_path, {"program": "train_imagenet.py", "options": before})
    open_run(tmp_path, {"program": "train_imagenet.py", "options": parse(PUBLISHED).to_json()})
    with pytest.raises(InputError, match="--lr was 1.3, now it is 0.65"):
        open_run(tmp_path, {"program": "train_imagenet.py", "options": parse(PUBLISHED.replace("4", "2")).to_json()})
    open_run(tmp_path / "study", {"program": "utils.rank_correlation", "options": {"recipe": "--lr 1"}})
    with pytest.raises(InputError, match="--recipe was --lr 1, now it is --lr 2"):
        open_run(tmp_path / "study", {"program": "utils.rank_correlation", "options": {"recipe": "--lr 2"}})
