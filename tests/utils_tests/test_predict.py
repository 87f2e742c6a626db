"""python -m utils.predict: from image files to names, by exported files alone."""

import csv
import io
import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import SHARED, TINY, fails
from deploy_tests.test_exported import TINY_INFO, tiny_network, write_block
from exported_files import INFO, NAMES, PREPROCESSING, exported, matrix, mxnet_pair
from image_files import loader, pack, png, random_images

from spos.core.flags import run_program
from spos.deploy.exported import open_model, softmax
from spos.deploy.prediction import find_images, predict
from utils import predict as program

KINDS = ("mxnet", "onnxruntime")


@pytest.fixture
def pictures(tmp_path):
    """A folder with seven images of several sizes, some below others, and files that are no images."""
    folder = tmp_path / "pictures"
    for number, name in enumerate(("b.png", "a.PNG", "c/z.png", "c/y.png", "c/d/1.png", "c/d/2.png", "e.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(random_images(1, 20 + number, 30)[0]))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder


def run(capsys, *argv):
    capsys.readouterr()
    code = run_program(program.main, [str(item) for item in argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def run_json(capsys, *argv):
    code, out, err = run(capsys, *argv, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_folders_are_searched_and_sorted(pictures):
    names = ["a.PNG", "b.png", "c/d/1.png", "c/d/2.png", "c/y.png", "c/z.png", "e.png"]
    assert find_images([str(pictures)]) == [str(pictures / name) for name in names]
    text, picture = str(pictures / "notes.txt"), str(pictures / "e.png")
    assert find_images([text, picture, str(pictures / "c" / "d"), picture]) == [
        text,
        picture,
        *(str(pictures / "c" / "d" / name) for name in ("1.png", "2.png")),
        picture,
    ]


def test_probabilities_are_those_of_the_evaluation_bit_by_bit(tmp_path, rng):
    """The network itself on what the loader of evaluation gives, and its exported files on the same images as files."""
    net, info = tiny_network(rng), TINY_INFO
    contents = [png(image) for image in random_images(7, 30, 40)]
    images = info.preprocessing
    batches = loader(
        pack(tmp_path, contents),
        batch_size=3,
        size=images.input_size,
        mean=images.mean,
        std=images.std,
        crop_ratio=images.crop_ratio,
    ).epoch(0)
    expected = np.concatenate([softmax(net(batch.images).asnumpy()) for batch in batches])
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    model = open_model(write_block(tmp_path / "tiny", net)[0])
    found = list(predict(model, find_images([str(tmp_path)]), top=TINY.num_classes, batch_size=3))
    assert len(found) == 7
    for row, prediction in zip(expected, found):
        assert [guess.label for guess in prediction.classes] == np.argsort(-row).tolist()
        assert [guess.probability for guess in prediction.classes] == sorted(row.tolist(), reverse=True)
        assert [guess.name for guess in prediction.classes] == [str(guess.label) for guess in prediction.classes]


@pytest.mark.parametrize("kind", KINDS)
def test_both_runtimes_name_the_classes(kind, pictures, tmp_path, capsys):
    path = exported(kind, tmp_path)
    result = run_json(capsys, "--model", path, pictures, "--batch-size", 2)
    assert (result["model"], result["runtime"], result["precision"]) == (str(path), kind, "float32")
    assert [image["image"] for image in result["images"]] == find_images([str(pictures)])
    for image in result["images"]:
        guesses = image["classes"]
        assert [guess["name"] for guess in guesses] == [NAMES[guess["label"]] for guess in guesses]
        probabilities = [guess["probability"] for guess in guesses]
        assert len(guesses) == 5 and probabilities == sorted(probabilities, reverse=True)
        assert 0.5 < sum(probabilities) < 1  # the sixth is missing
    assert len({image["classes"][0]["label"] for image in result["images"]}) > 1


def test_there_are_never_more_classes_than_the_network_has(pictures, tmp_path, capsys):
    result = run_json(capsys, "--model", exported("mxnet", tmp_path), pictures / "e.png", "--top", 9)
    (image,) = result["images"]
    assert sorted(guess["label"] for guess in image["classes"]) == list(range(len(NAMES)))
    assert abs(sum(guess["probability"] for guess in image["classes"]) - 1) < 1e-12


@pytest.mark.parametrize("style", ("text", "markdown", "csv"))
def test_tables_say_the_same(style, pictures, tmp_path, capsys):
    argv = ["--model", exported("mxnet", tmp_path), pictures, "--top", 2]
    code, out, err = run(capsys, *argv, "--format", style)
    assert (code, err) == (0, "")
    images = run_json(capsys, *argv)["images"]
    if style == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [(row["image"], int(row["label"]), row["class"], float(row["probability"])) for row in rows] == [
            (image["image"], guess["label"], guess["name"], guess["probability"])
            for image in images
            for guess in image["classes"]
        ]
        assert [row["rank"] for row in rows] == ["1", "2"] * len(images)
    else:
        assert "tiny-symbol.json (mxnet, float32)" in out.splitlines()[0]
        for image in images:
            assert image["image"] in out and f"{image['classes'][0]['probability']:.2%}" in out


def test_classes_without_names_are_numbers(pictures, tmp_path, capsys):
    info = replace(INFO, preprocessing=replace(PREPROCESSING, class_names=()))
    result = run_json(capsys, "--model", exported("mxnet", tmp_path, info), pictures / "e.png")
    assert all(guess["name"] == str(guess["label"]) for guess in result["images"][0]["classes"])


def test_undecodable_images_are_named_and_left_out(pictures, tmp_path, capsys):
    (pictures / "c" / "broken.png").write_bytes(b"noise")
    (pictures / "empty.jpg").write_bytes(b"")
    code, out, err = run(capsys, "--model", exported("mxnet", tmp_path), pictures, "--json", "--batch-size", 3)
    assert code == 2
    assert len(json.loads(out)["images"]) == 7
    *warnings, last = err.splitlines()
    assert len(warnings) == 2 and "broken.png cannot be decoded" in warnings[0] and "empty.jpg" in warnings[1]
    assert last == "error: 2 of 9 images cannot be decoded, see above"
    code, out, err = run(capsys, "--model", tmp_path / "tiny", pictures / "empty.jpg")
    assert (code, out) == (2, "") and "1 of 1" in err


def test_what_surrounds_an_undecodable_image_keeps_its_prediction(pictures, tmp_path):
    model = open_model(exported("mxnet", tmp_path))
    paths = find_images([str(pictures)])
    alone = list(predict(model, paths, batch_size=1))
    (pictures / "c" / "a.png").write_bytes(b"noise")
    assert list(predict(model, find_images([str(pictures)]), batch_size=1)) == alone


def test_a_file_name_that_is_no_text_is_printed(tmp_path, capfd):
    name = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.png")
    with open(name, "wb") as file:
        file.write(png(random_images(1)[0]))
    assert program.main(["--model", str(exported("mxnet", tmp_path)), name]) == 0
    assert "/\\xff.png" in capfd.readouterr().out


def test_logits_that_are_not_finite_are_told(pictures, tmp_path, capsys):
    path, _ = mxnet_pair(tmp_path / "tiny", weights=np.full_like(matrix(), np.inf))
    fails(program.main, ["--model", path, pictures / "e.png"], capsys, "logits that are not finite for", "e.png")


def test_bad_input_is_one_line(pictures, tmp_path, capsys):
    path = exported("mxnet", tmp_path)
    (tmp_path / "none").mkdir()
    for argv, words in (
        (["--model", path, tmp_path / "gone.png"], ("gone.png does not exist",)),
        (["--model", path, tmp_path / "none"], ("none holds no image", ".jpg .png")),
        (["--model", tmp_path / "gone.onnx", pictures], ("gone.onnx does not exist",)),
        (["--model", path], ("IMAGE_OR_FOLDER",)),
        (["--model", path, pictures, "--top", 0], ("at least 1",)),
        (["--model", path, pictures, "--json", "--format", "csv"], ("two outputs",)),
    ):
        fails(program.main, argv, capsys, *words)


def test_odd_files_are_predicted_or_named(tmp_path, capfd):
    folder = SHARED / "data" / "imagenet_odd"
    if not folder.is_dir():
        pytest.skip("needs imagenet_odd in ../shared/data")
    with open(folder / "cases.tsv", encoding="utf-8") as file:
        cases = list(csv.DictReader(file, delimiter="\t"))
    undecodable = {case["file"] for case in cases if case["decodable"] == "0"}
    code = run_program(program.main, ["--model", str(exported("mxnet", tmp_path)), str(folder), "--json"])
    out, err = capfd.readouterr()
    assert code == 2 and f"error: {len(undecodable)} of {len(cases)} images cannot be decoded" in err
    assert all(f"{folder / name} cannot be decoded" in err for name in undecodable)
    predicted = {image["image"] for image in json.loads(out)["images"]}
    assert predicted == {str(folder / case["file"]) for case in cases if case["file"] not in undecodable}


def test_nothing_but_the_exported_files_is_needed(pictures, tmp_path, capsys, monkeypatch):
    path = exported("mxnet", tmp_path)
    expected = run_json(capsys, "--model", path, pictures)["images"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for end in ("-symbol.json", "-0000.params"):
        shutil.move(str(tmp_path / f"tiny{end}"), str(elsewhere / f"other{end}"))
    monkeypatch.chdir(elsewhere)
    assert run_json(capsys, "--model", "other-symbol.json", pictures)["images"] == expected


def test_a_bar_is_shown_on_terminals_only(pictures, tmp_path, capsys, monkeypatch):
    argv = ["--model", str(exported("mxnet", tmp_path)), str(pictures)]
    assert run(capsys, *argv)[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert program.main(argv) == 0
    assert "0/7" in capsys.readouterr().err
