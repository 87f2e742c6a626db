"""Cards of published networks: what they say, what is left out of them, and that they know their files."""

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from spos.core.errors import InputError
from spos.core.intervals import student_interval
from spos.deploy.card import (
    CARD_FILE,
    Card,
    FileCard,
    Trainings,
    card_page,
    check_files,
    read_card,
    recipe_of,
    without_places,
)
from spos.runs.files import file_digest, write_json
from spos.training.flags import TeacherOptions, TrainOptions
from spos.training.recipes import recipe_values

TRAININGS = Trainings(5_000_000, 300_000, [0.8, 0.82, 0.84])


@pytest.fixture
def folder(tmp_path):
    for name in ("model.onnx", "model.params"):
        (tmp_path / name).write_text(name)
    return tmp_path


def card_of(folder):
    file = FileCard(file_digest(folder / "model.onnx"), 10, 0.8125, [0.8, 0.825])
    return Card(
        **{"name": "small", "data": "digits", "num_images": 1000, "input_size": 32},
        **{"num_classes": 2, "classes": ["zero", "one"]},
        **{"block_choices": [0, 3], "channel_choices": [1, 2], "flops": 5_000_000, "params": 300_000},
        **{"recipe": {"lr": 0.2, "cutmix": True, "ema_decay": 0.99}, "epochs": 8, "hours": 1.25, "versions": {}},
        **{"params_sha256": file_digest(folder / "model.params"), "files": {"model.onnx": file}},
        **{"seeds": [TRAININGS], "controls": [Trainings(5_100_000, 310_000, [0.75])], "note": "Digits are free."},
    )


def test_a_card_is_what_was_written(folder):
    card = card_of(folder)
    write_json(folder / CARD_FILE, to_builtins(card))
    assert read_card(folder) == card
    write_json(folder / CARD_FILE, {**to_builtins(card), "params_sha256": "none"})
    with pytest.raises(InputError, match="is no card of a network: .*params_sha256"):
        read_card(folder)


def test_the_page_says_all_of_it(folder):
    page = card_page(card_of(folder))
    low, high = student_interval(TRAININGS.top1)[1:]
    for words in (
        "# small\n",
        "digits, 32 px, 2 classes: zero, one",
        "5.00M FLOPs",
        "`--lr 0.2 --cutmix --ema-decay 0.99`",
        "8 epochs, 1.2 hours",
        f"82.00% (95% {low:.2%} to {high:.2%}, 3 seeds)",
        "75.00% (one seed), 5.10M FLOPs",
        "| model.onnx | 10 | 81.25% | 80.00% | 82.50% |",
        "1,000 test images",
        "Digits are free.",
    ):
        assert words in page


@pytest.mark.parametrize("name", ("model.onnx", "model.params"))
def test_files_are_known_by_their_checksums(folder, name):
    card = card_of(folder)
    check_files(folder, card)
    (folder / name).write_text("other")
    with pytest.raises(InputError, match=f"{name} is not the file that its card describes"):
        check_files(folder, card)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        check_files(folder, card)


def test_places_of_a_machine_are_left_out():
    places = {"data_dir": "/home/x", "save_dir": "/home/y", "resume_states": "/a"}
    config = {"program": "train_imagenet.py", "options": {"lr": 0.2, "teacher": "/home/y/large", **places}}
    assert without_places(config) == {"program": "train_imagenet.py", "options": {"lr": 0.2, "teacher": "y/large"}}


def test_what_a_training_began_with_and_learned_from_is_told():
    train = TrainOptions(lr=0.3, cutmix=True, init_params="/home/x/large/model.params")
    groups = [train, TeacherOptions(teacher="resnet50_v1,/home/x/runs/m-0", temperature=4.0)]
    began = {"init_params": "large/model.params", "teacher": "resnet50_v1,runs/m-0"}
    assert recipe_of(groups, {}) == {"lr": 0.3, "cutmix": True, "temperature": 4.0, **began}


def test_what_was_taken_out_of_a_recipe_is_told(folder):
    """Its value is the default of the flag, which is not what the name of the recipe says."""
    train = TrainOptions(recipe="published", lr=0.325, label_smoothing=False, no_wd=True)
    told = recipe_of([train], recipe_values("published", 256))
    assert told == {"recipe": "published", "lr": 0.325, "label_smoothing": False, "no_wd": True, "warmup_epochs": 0}
    page = card_page(replace(card_of(folder), recipe=told))
    assert "`--recipe published --lr 0.325 --warmup-epochs 0 --no-label-smoothing --no-wd`" in page


def test_an_interval_ends_where_shares_do():
    assert Trainings(1, 1, [0.9889, 0.9944]).text == "99.16% (95% 95.67% to 100.00%, 2 seeds)"
