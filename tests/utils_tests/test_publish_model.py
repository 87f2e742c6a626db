"""utils.publish_model: a folder that stands alone, with the accuracy of its files."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from conftest import data_flags, fails

import train_imagenet
from spos.deploy.card import check_files, read_card
from spos.deploy.exported import open_model
from spos.engine.parameters import load_arrays
from spos.runs.files import read_json, write_json
from utils import evaluate, merge_bn, predict, predict_alone, publish_model

BLOCKS, CONTROL = ", ".join(["0", "3", "1", "2"] * 2), ", ".join(["0"] * 8)
CHANNELS = ", ".join(["2", "5", "4", "3"] * 2)
NETWORK = ["--model", "ShuffleNas_fixArch", "--block-choices", BLOCKS, "--channel-choices", CHANNELS]
SPACE = ["--channels-layout", "Small", "--use-se", "--last-conv-after-pooling"]
RECIPE = [*SPACE, "--num-epochs", "2", "--lr", "0.1", "--ema-decay", "0.8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, work):
    folder = tmp_path_factory.mktemp("publish") / "run"
    assert train_imagenet.main([*NETWORK, *RECIPE, "--save-dir", str(folder), *data_flags(work)]) == 0
    return folder


@pytest.fixture(scope="module")
def others(run, work):
    """The same network with another seed, and another network."""
    seed, control = (run.with_name(name) for name in ("seed-1", "control"))
    for folder, changes in ((seed, ["--seed", "1"]), (control, ["--block-choices", CONTROL])):
        argv = [*NETWORK, *RECIPE, *changes, "--save-dir", str(folder), *data_flags(work)]
        assert train_imagenet.main(argv) == 0
    return seed, control


@pytest.fixture(scope="module")
def published(run, others, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "digits"
    argv = ["--params", str(run / "model-ema.params"), "--output", str(folder), "--note", "Digits of 1998."]
    seed, control = map(str, others)
    assert publish_model.main([*argv, "--seeds", str(run), seed, "--controls", control]) == 0
    return folder


def last_row(folder):
    return json.loads((folder / "log.jsonl").read_text().splitlines()[-1])


def test_the_folder_holds_what_its_card_says(run, others, published):
    card = read_card(published)
    check_files(published, card)
    assert sorted(path.name for path in published.iterdir()) == sorted(
        ["README.md", "card.json", "config.json", "model.onnx", "model-int8.onnx", "model.params"]
    )
    assert [path.name for path in published.parent.iterdir()] == ["digits"]
    assert card.seeds[0].top1 == [last_row(folder)["ema_top1"] for folder in (run, others[0])]
    assert card.seeds[0].flops == card.flops != card.controls[0].flops
    assert card.recipe["num_epochs"] == 2 and card.recipe["ema_decay"] == 0.8 and card.epochs == 2 and card.hours >= 0
    assert "Digits of 1998." in (published / "README.md").read_text()
    own, given = (load_arrays(file) for file in (published / "model.params", run / "model-ema.params"))
    assert all(np.array_equal(own[name].asnumpy(), given[name].asnumpy()) for name in given)


def test_it_names_no_place_of_the_machine(run, published):
    for name in ("README.md", "card.json", "config.json"):
        text = (published / name).read_text()
        assert str(run.parent) not in text and "digits.rec" not in text
    assert read_json(published / "config.json")["architecture"]["block_choices"][:4] == [0, 3, 1, 2]


def test_accuracies_are_those_of_the_files(published, work, capsys):
    data = data_flags(work)
    del data[data.index("--strides") : data.index("--strides") + 2]
    for name, file in read_card(published).files.items():
        capsys.readouterr()
        assert evaluate.main(["--model", str(published / name), "--json", *data]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["top1"], found["top1_interval"]) == (file.top1, file.top1_interval)


def test_the_folder_is_a_model(published, tmp_path, capsys):
    """For predictions, with MXNet and without it."""
    from image_files import png

    (tmp_path / "x.png").write_bytes(png(np.zeros((40, 40, 3), np.uint8)))
    assert open_model(published).path == published / "model.onnx"
    for program in (predict, predict_alone):
        assert program.main(["--model", str(published), str(tmp_path / "x.png")]) == 0
        assert "x.png" in capsys.readouterr().out


def test_it_can_be_fine_tuned(published, tmp_path, work, capsys):
    """From the parameters in the folder, whose config says the architecture."""
    argv = ["--model", "ShuffleNas_fixArch", "--init-params", str(published / "model.params"), "--num-epochs", "1"]
    assert train_imagenet.main([*argv, "--save-dir", str(tmp_path / "tuned"), *data_flags(work)]) == 0
    assert "model.params" in capsys.readouterr().out


def test_a_published_folder_is_replaced_and_no_other(run, published, tmp_path, capsys):
    copy = shutil.copytree(published, tmp_path / "models" / "digits")
    (copy / "card.json").write_text("{}")
    argv = ["--params", str(run / "model.params"), "--output", str(copy)]
    assert publish_model.main(argv) == 0
    assert read_card(copy).seeds == []
    assert [path.name for path in copy.parent.iterdir()] == ["digits"]
    (copy / "card.json").unlink()
    fails(publish_model.main, argv, capsys, "is there, and is no published network")


def test_what_cannot_be_published_is_one_line(run, tmp_path, capsys):
    params = ["--params", str(run / "model.params")]
    fails(publish_model.main, params, capsys, "--output is missing")
    alone = shutil.copy(run / "model.params", tmp_path / "alone.params")
    argv = ["--params", str(alone), "--output", str(tmp_path / "out")]
    fails(publish_model.main, argv, capsys, "alone.params")
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    first, last = (json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    (unfinished / "log.jsonl").write_text(json.dumps({**last, "epoch": first["epoch"]}) + "\n")  # validated, not ended
    argv = [*params, "--output", str(tmp_path / "out"), "--seeds", str(unfinished)]
    fails(publish_model.main, argv, capsys, "is not finished")
    assert not (tmp_path / "out").exists()


def test_what_was_chosen_by_test_images_and_what_was_trained_otherwise_is_refused(run, others, tmp_path, capsys):
    publish = partial(fails, publish_model.main)
    out, params = ["--output", str(tmp_path / "out")], ["--params", str(run / "model.params")]
    shutil.copy(run / "model.params", run / "best.params")
    publish(["--params", str(run / "best.params"), *out], capsys, "was chosen by the test images")
    checkpoint = next(run.glob("checkpoints/*/model.params"))
    publish(["--params", str(checkpoint), *out], capsys, "is a checkpoint")
    assert merge_bn.main(["--params", str(run / "model.params")]) == 0
    publish(["--params", str(run / "model-merged.params"), *out], capsys, "has its BatchNorm merged")
    other = shutil.copytree(others[0], tmp_path / "other")
    config = read_json(other / "config.json")
    write_json(other / "config.json", {**config, "options": {**config["options"], "lr": 0.2}})
    for flag, folders, words in (
        ("--seeds", [run, run], "twice with the same seed"),
        ("--seeds", [others[1]], "is of another network"),
        ("--controls", [others[0]], "is of the same network"),
        ("--seeds", [other], "was not trained like"),
    ):
        publish([*params, *out, flag, *map(str, folders)], capsys, words)
    assert not (tmp_path / "out").exists()
