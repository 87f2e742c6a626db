"""The examples of docs/deployment.md, taken from its text, where this project and its packages are not."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from exported_files import INFO, SIZE, exported, logits_of, mxnet_pair
from image_files import png, random_images

from spos.deploy.exported import open_model
from spos.deploy.parity import random_images as random_inputs
from spos.deploy.prediction import predict

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"
ONNX_PYTHON = os.environ.get("SPOS_ONNX_PYTHON")
needs_environment = pytest.mark.skipif(
    not ONNX_PYTHON, reason="SPOS_ONNX_PYTHON does not name a Python with onnxruntime, numpy and pillow"
)
NAMES = ("red", "light green", "größer", "五", "", "six")


def example(number):
    """The text of one of the two examples."""
    section = DOCUMENT.read_text("utf-8").split("\n## Without this project\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)[number]


def run(python, folder, *argv):
    """What a Python prints that sees neither this repository nor packages of the user."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ["PYTHONIOENCODING"] = "utf-8"
    command = [python, *(str(item) for item in argv)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, encoding="utf-8", timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def info(crop_ratio=1.0):
    return replace(INFO, preprocessing=replace(INFO.preprocessing, crop_ratio=crop_ratio, class_names=NAMES))


def found_by(python, folder, names):
    code = f"from importlib.util import find_spec; print(*[name for name in {names} if find_spec(name)])"
    return run(python, folder, "-c", code).split()


@needs_environment
def test_the_environment_has_nothing_else(tmp_path):
    assert found_by(ONNX_PYTHON, tmp_path, ("mxnet", "onnx", "cv2", "spos", "numpy")) == ["numpy"]


@needs_environment
@pytest.mark.parametrize(
    "height, width, crop_ratio, tolerance",
    ((SIZE, SIZE, 1.0, 1e-3), (40, 60, 0.875, 0.02), (61, 33, 1.0, 0.02), (10, 12, 0.875, 0.02)),
)
def test_onnx_runtime_alone_sees_what_the_project_sees(height, width, crop_ratio, tolerance, tmp_path):
    path = exported("onnxruntime", tmp_path, info(crop_ratio))
    image = random_images(1, SIZE, SIZE)[0]
    if (height, width) != image.shape[:2]:  # smooth, as pictures are
        image = cv2.resize(image[:6, :6], (width, height), interpolation=cv2.INTER_CUBIC)
    (tmp_path / "image.png").write_bytes(png(image))
    (tmp_path / "example.py").write_text(example(0), "utf-8")
    printed = run(ONNX_PYTHON, tmp_path, "example.py", path, "image.png")
    found = [(float(share) / 100, name) for share, name in re.findall(r"^ *([\d.]+)%  (.*)$", printed, re.MULTILINE)]
    (own,) = predict(open_model(path), [str(tmp_path / "image.png")], top=len(NAMES))
    probabilities = {guess.name: guess.probability for guess in own.classes}
    print(found, probabilities)
    assert len(found) == 5 and found == sorted(found, key=lambda guess: -guess[0])
    assert found[0][1] == own.classes[0].name
    assert max(abs(probabilities[name] - share) for share, name in found) < tolerance


@pytest.mark.skipif(
    sys.version_info >= (3, 12) and not find_spec("setuptools"), reason="on Python 3.12 plain MXNet needs setuptools"
)
def test_mxnet_alone_reads_the_pair(tmp_path):
    mxnet_pair(tmp_path / "model", info())
    images = random_inputs(SIZE, 6)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "example.py").write_text(example(1), "utf-8")
    assert found_by(sys.executable, tmp_path, ("spos", "mxnet")) == ["mxnet"]
    printed = run(sys.executable, tmp_path, "example.py", "model", "images.npy")
    assert printed.splitlines() == [NAMES[label] for label in logits_of(images).argmax(axis=1)]
