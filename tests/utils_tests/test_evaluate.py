"""python -m utils.evaluate: the same accuracy of a network in all of its files, on the lists of its run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import NUM_TEST, NUM_TRAIN, data_flags, fails

import train_imagenet
from oneshot_nas_network import Subnet
from spos.data.flags import DataOptions
from spos.data.pixels import load_images
from spos.data.registry import open_data
from spos.deploy.evaluation import Subject, open_subnet
from spos.deploy.flags import TrainedOptions
from spos.deploy.subnet import as_function
from spos.deploy.trained import open_trained
from spos.engine.compat import mx
from spos.engine.flags import DeviceOptions
from spos.engine.parameters import load_arrays, save_arrays
from spos.runs.files import read_json, write_json
from spos.runs.journal import read_rows
from spos.runs.run import LISTS_FOLDER, LOG_FILE
from spos.space.architecture import Architecture
from spos.space.architecture_file import ArchitectureRecord
from spos.space.flags import ArchitectureOptions, SpaceOptions
from spos.space.original import ORIGINAL_PERMUTATION
from spos.space.space_file import load_space
from utils import evaluate, export_model, merge_bn

BLOCKS, CHANNELS = ", ".join(["0", "3", "1", "2"] * 5), ", ".join(["2", "5", "4", "3", "7"] * 4)
ARCHITECTURE = ["--block-choices", BLOCKS, "--channel-choices", CHANNELS, "--use-se", "--last-conv-after-pooling"]
HELD_OUT = 32


@pytest.fixture(scope="module")
def run(tmp_path_factory, work):
    """The run of a subnet that was trained until it is neither lost nor perfect, each epoch validated."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    flags = ["--model", "ShuffleNas_fixArch", *ARCHITECTURE, "--num-epochs", "4", "--lr", "0.05"]
    flags += ["--val-frequency", "1", "--save-dir", str(folder)]
    assert train_imagenet.main([*flags, *data_flags(work, **{"batch-size": 8})]) == 0
    return folder


@pytest.fixture
def here(run, tmp_path):
    """A copy of the run that a test may write to."""
    return shutil.copytree(run, tmp_path / "run")


def run_json(capsys, *argv):
    capsys.readouterr()
    assert evaluate.main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def without_file(result):
    return {key: value for key, value in result.items() if key not in ("file", "runtime", "loss", "top1_interval")}


def test_the_accuracy_is_that_of_the_largest_logit(run, tmp_path, capsys):
    trained = open_trained(TrainedOptions(str(run / "model.params")), ArchitectureOptions(), SpaceOptions())
    options = trained.data_options(DataOptions())
    pixels = load_images(trained.open_data(options, tmp_path), "test", options, tmp_path)
    ([(images, labels)],) = pixels.batches(NUM_TEST, [mx.cpu()])
    logits, labels = as_function(trained.subnet.network())(images.asnumpy()), labels.asnumpy().astype(int)
    order = np.argsort(-logits, axis=1)
    found = run_json(capsys, "--params", run / "model.params")
    assert (found["split"], found["num_images"], found["runtime"]) == ("val", NUM_TEST, "mxnet")
    assert found["top1"] == (order[:, 0] == labels).mean()
    assert found["top5"] == (order[:, :5] == labels[:, None]).any(axis=1).mean()
    assert 0.15 < found["top1"] < found["top5"] < 1  # neither chance nor all


def test_it_is_that_of_the_validation_in_training(run, capsys):
    rows = read_rows(run / LOG_FILE)
    best = max(rows, key=lambda row: row["val_top1"])
    for name, row in (("model.params", rows[-1]), ("best.params", best)):
        found = run_json(capsys, "--params", run / name)
        assert (found["top1"], found["top5"]) == (row["val_top1"], row["val_top5"])


@pytest.mark.parametrize(
    "split, count",
    (("val", NUM_TEST), ("holdout", HELD_OUT), ("train", NUM_TRAIN - 2 * HELD_OUT), ("train_full", NUM_TRAIN)),
)
def test_each_list_is_that_of_the_run(split, count, run, capsys):
    before = sorted((run / LISTS_FOLDER).iterdir())
    assert run_json(capsys, "--params", run / "model.params", "--split", split)["num_images"] == count
    assert sorted((run / LISTS_FOLDER).iterdir()) == before


def test_every_file_of_a_network_has_its_accuracy(here, tmp_path, work, capsys):
    params = here / "model.params"
    expected = run_json(capsys, "--params", params)
    assert merge_bn.main(["--params", str(params)]) == 0
    found = [run_json(capsys, "--params", here / "model-merged.params")]
    for form, file in (("mxnet", "model-symbol.json"), ("onnx", "model.onnx")):
        if form == "onnx":
            pytest.importorskip("onnx", reason="onnx is not installed (sh scripts/setup.sh --deploy)")
        assert export_model.main(["--params", str(params), "--format", form]) == 0
        found.append(run_json(capsys, "--model", here / file))
    assert [one["runtime"] for one in found] == ["mxnet", "mxnet", "onnxruntime"]
    for one in found:
        assert without_file(one) == without_file(expected)
        assert abs(one["loss"] - expected["loss"]) < 1e-4 * expected["loss"]
    shutil.move(str(here / "model.onnx"), str(tmp_path / "alone.onnx"))
    flags = data_flags(work)
    place = flags.index("--strides")
    assert (
        run_json(capsys, "--model", tmp_path / "alone.onnx", *flags[:place], *flags[place + 2 :])["top1"]
        == (expected["top1"])
    )


@pytest.mark.parametrize("dtype", ("float32", "float16"))
def test_parameters_of_the_original_are_taken(dtype, run, tmp_path, work, capsys):
    """With the constants of a shuffle by convolution, and no run that would say of which architecture they are."""
    arrays = {name: value.astype(dtype) for name, value in load_arrays(run / "model.params").items()}
    constant = f"features.3.channel_shuffle.{ORIGINAL_PERMUTATION}"
    save_arrays(tmp_path / "original.params", {**arrays, constant: mx.nd.ones((2, 2, 1, 1))})
    flags = [*ARCHITECTURE, *data_flags(work)]
    found = run_json(capsys, "--params", tmp_path / "original.params", *flags)
    expected = run_json(capsys, "--params", run / "model.params")
    assert found["num_images"] == NUM_TEST
    assert abs(found["loss"] - expected["loss"]) < (1e-6 if dtype == "float32" else 1e-2)
    assert abs(found["top1_hits"] - expected["top1_hits"]) <= (0 if dtype == "float32" else 1)


def test_parameters_without_a_run_are_for_the_images_as_training_takes_them(run, tmp_path, work):
    shutil.copy(run / "model.params", tmp_path / "alone.params")
    named = ArchitectureOptions(block_choices=BLOCKS, channel_choices=CHANNELS)
    space = SpaceOptions(use_se=True, last_conv_after_pooling=True)
    images = DataOptions(dataset="digits", data_dir=str(work))
    for flags, strides in ((space, open_data(images).strides), (replace(space, strides="2,2,2,2,2"), (2, 2, 2, 2, 2))):
        found = open_subnet(TrainedOptions(str(tmp_path / "alone.params")), named, flags, images).subnet.space
        assert (found.input_size, found.strides) == (32, strides)


@pytest.mark.parametrize("name", ("nas-bench-macro", "tiny"))
def test_parameters_without_a_run_keep_the_size_and_the_strides_of_a_space_file(name, tmp_path):
    """The images have a stride plan of five, and 32 px; these spaces have four, and 96 px."""
    space = replace(load_space(name), num_classes=10)
    architecture = space.validate(Architecture((0,) * space.num_choice_blocks, (0,) * space.num_choice_blocks))
    net = Subnet(space, architecture)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    write_json(tmp_path / "net.json", ArchitectureRecord(space, architecture, {}).to_json())
    named, data = ArchitectureOptions(str(tmp_path / "net.json")), DataOptions(dataset="digits", data_dir=str(tmp_path))
    opened = open_subnet(TrainedOptions(str(tmp_path / "net.params")), named, SpaceOptions(), data).subnet.space
    assert (opened.strides, opened.input_size) == (space.strides, space.input_size)


def test_lists_of_a_network_without_a_run_are_not_kept(run, tmp_path, work, capsys, monkeypatch):
    shutil.copy(run / "model.params", tmp_path / "alone.params")
    monkeypatch.chdir(tmp_path)
    found = run_json(
        capsys, "--params", "alone.params", "--split", "holdout", *ARCHITECTURE, *data_flags(work.resolve())
    )
    assert without_file(found) == without_file(run_json(capsys, "--params", run / "model.params", "--split", "holdout"))
    assert [path.name for path in tmp_path.iterdir()] == ["alone.params"]


def test_a_network_that_has_seen_the_images_is_named(run, capsys):
    assert evaluate.main(["--params", str(run / "model.params"), "--split", "holdout"]) == 0
    printed = capsys.readouterr()
    assert "was trained on these images" in printed.err and "--train-on train" in printed.err
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines] == ["network", "images", "top-1", "top-5", "loss"]
    assert "holdout" in lines[1] and f"{HELD_OUT} images)" in lines[2]


def test_bad_input_is_one_line(here, tmp_path, work, capsys):
    params = here / "model.params"
    shutil.copy(params, tmp_path / "alone.params")
    assert export_model.main(["--params", str(params), "--format", "mxnet"]) == 0
    model = here / "model-symbol.json"
    for argv, words in (
        (("--params", params, "--split", "test"), ("invalid choice",)),
        (("--params", tmp_path / "gone.params"), ("gone.params does not exist",)),
        (("--params", tmp_path / "alone.params"), ("name its architecture",)),
        (("--params", params, "--worst", 5), ("--worst is for --details",)),
        (("--params", params, "--details", params), ("model.params", "cannot be written")),
        (("--params", params, "--classes", 12), ("is for 10 classes", "have 12")),
        (("--model", model, "--classes", 12), ("is for 10 classes", "have 12")),
        (("--model", model, "--input-size", 64), ("takes images of 32 px",)),
        (("--model", model, "--architecture", "oneshot"), ("--architecture is for --params",)),
        (("--model", model, "--num-gpus", 1), ("--num-gpus is for --params",)),
        (("--model", tmp_path / "gone.onnx"), ("gone.onnx does not exist",)),
        (("--params", params, "--rec-val", tmp_path / "gone.rec"), ("gone.rec does not exist",)),
        (("--params", params, "--dataset", "folder", "--data-dir", tmp_path), ("--dataset folder",)),
    ):
        fails(evaluate.main, argv, capsys, *words)


def test_details_tell_the_same_by_class_and_show_the_worst(run, tmp_path, capsys):
    """The sums of the matrix are the hits, and each image on the sheet is one of its list."""
    folder = tmp_path / "evaluation"
    found = run_json(capsys, "--params", run / "model.params", "--details", folder, "--worst", 5)
    names = ("calibration.png", "classes.csv", "confusion.csv", "confusion.png", "evaluation.json", "worst.png")
    assert sorted(path.name for path in folder.iterdir()) == list(names)
    assert read_json(folder / "evaluation.json") == found
    matrix = np.array(found["confusion"])
    assert (matrix.trace(), matrix.sum()) == (found["top1_hits"], found["num_images"])
    for label, one in enumerate(found["classes"]):
        assert one["num_images"] == matrix[label].sum() and one["top1"] * one["num_images"] == matrix[label, label]
    rows = (folder / "confusion.csv").read_text().splitlines()
    assert [row.split(",")[1:] for row in rows[1:]] == [list(map(str, row)) for row in matrix.tolist()]
    plain = run_json(capsys, "--params", run / "model.params")
    assert {key: found[key] for key in plain} == plain
    assert evaluate.main(["--params", str(run / "model.params"), "--details", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "mean of the classes" in out and "calibration error" in out and f"written to           {folder}" in out


def test_pixels_are_those_of_the_list(run, tmp_path):
    trained = open_trained(TrainedOptions(str(run / "model.params")), ArchitectureOptions(), SpaceOptions())
    subject = Subject.of_subnet(trained, DataOptions(), DeviceOptions())
    data = subject.open_images("val", tmp_path)
    options = trained.data_options(DataOptions())
    pixels = load_images(data, "test", options, tmp_path)
    evaluation = subject.evaluate(data, "val", keeps=True)
    own = {image.tobytes() for image in subject.pixels(data, "val", evaluation.predictions.positions.tolist())}
    assert own == {np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes() for image in pixels._images}
