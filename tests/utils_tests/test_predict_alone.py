"""`scripts/predict.sh`: with three packages alone it says what the project says, and refuses in one line."""

import os
import re
import subprocess
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import ROOT
from deploy_tests.test_deployed_example import NAMES, ONNX_PYTHON, info, needs_environment
from exported_files import SIZE, exported
from image_files import png, random_images

from spos.deploy.exported import open_model
from spos.deploy.prediction import predict

pytestmark = needs_environment


def run(*argv, folder=None):
    """(exit code, standard output, standard error)."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ.update(PYTHONIOENCODING="utf-8", SPOS_ONNX_PYTHON=ONNX_PYTHON)
    command = ["sh", str(ROOT / "scripts" / "predict.sh"), *map(str, argv)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, encoding="utf-8", timeout=100)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def model(tmp_path):
    return exported("onnxruntime", tmp_path, info())


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    images = random_images(40, SIZE, SIZE)
    for i, image in enumerate(images):
        (folder / ("below" if i % 2 else ".") / f"{i:02d}.png").write_bytes(png(image))
    return folder


def test_it_says_what_the_project_says(model, pictures, tmp_path):
    """Pictures of the input size; more than a batch; the suffix of the file is left out."""
    code, printed, errors = run("--model", model.with_suffix(""), "--top", len(NAMES), "pictures", folder=tmp_path)
    assert (code, errors) == (0, "")
    lines = dict(line.split("  ", 1) for line in printed.splitlines())
    paths = sorted(str(path.relative_to(tmp_path)) for path in pictures.rglob("*.png"))
    assert list(lines) == paths
    for own in predict(open_model(model), [str(tmp_path / path) for path in paths], top=len(NAMES)):
        found = re.findall(r"(.*?) ([\d.]+)%(?:, |$)", lines[str(os.path.relpath(own.image, tmp_path))])
        assert sorted(name for name, _ in found) == sorted(NAMES)
        shares = {name: float(share) / 100 for name, share in found}
        assert all(abs(shares[guess.name] - guess.probability) < 2e-3 for guess in own.classes)


def test_larger_pictures_are_cut_and_resized(tmp_path):
    model = exported("onnxruntime", tmp_path, info(0.875))
    image = cv2.resize(random_images(1, SIZE, SIZE)[0][:6, :6], (60, 40), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "one.png").write_bytes(png(image))
    code, printed, _ = run("--model", model, "--top", 1, tmp_path / "one.png")
    (own,) = predict(open_model(model), [str(tmp_path / "one.png")], top=1)
    name, share = re.fullmatch(r".*one.png  (.*) ([\d.]+)%\n", printed).groups()
    assert code == 0 and name == own.classes[0].name
    assert float(share) / 100 == pytest.approx(own.classes[0].probability, abs=0.02)


def test_classes_without_names_are_numbers(tmp_path):
    nameless = replace(info(), preprocessing=replace(info().preprocessing, class_names=()))
    model = exported("onnxruntime", tmp_path, nameless)
    (tmp_path / "one.png").write_bytes(png(random_images(1, SIZE, SIZE)[0]))
    assert re.search(r"  \d [\d.]+%, \d [\d.]+%\n$", run("--model", model, "--top", 2, tmp_path / "one.png")[1])


def test_grey_of_16_bits_is_as_bright_as_the_project_sees_it(model, tmp_path):
    grey = (random_images(1, SIZE, SIZE)[0][..., 0].astype(np.uint16) << 8) + 200
    (tmp_path / "grey.png").write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    (own,) = predict(open_model(model), [str(tmp_path / "grey.png")], top=1)
    name, share = re.fullmatch(
        r".*grey.png  (.*) ([\d.]+)%\n", run("--model", model, "--top", 1, tmp_path / "grey.png")[1]
    ).groups()
    assert name == own.classes[0].name and abs(float(share) / 100 - own.classes[0].probability) < 2e-3


def test_what_cannot_be_read_is_named_and_the_others_are_labelled(model, pictures, tmp_path):
    (pictures / "00.png").write_bytes(b"no picture")
    whole = (pictures / "02.png").read_bytes()
    start = whole.index(b"IDAT")
    (pictures / "02.png").write_bytes(whole[: start - 4] + (20).to_bytes(4, "big") + whole[start:])  # a SyntaxError
    code, printed, errors = run("--model", model, pictures, tmp_path / "gone.png")
    assert code == 2 and len(printed.splitlines()) == 38
    lines = errors.splitlines()
    assert len(lines) == 3 and all(
        f"{name}.png cannot be read" in line for name, line in zip(("00", "02", "gone"), lines)
    )


def test_wrong_files_are_one_line(model, pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "array.npy", np.zeros(3))
    for argv, words in (
        (("--model", model, "--top", "0", pictures), "--top 0 shows nothing"),
        (("--model", tmp_path / "gone", pictures), "gone does not exist"),
        (("--model", tmp_path / "array.npy", pictures), "array.npy is no network that was exported by this project"),
        (("--model", model, tmp_path / "empty"), "no picture in"),
    ):
        code, printed, errors = run(*argv)
        assert code == 2 and not printed and len(errors.splitlines()) == 1 and words in errors, errors
