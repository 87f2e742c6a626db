"""utils.export_model and utils.quantize on a subnet that was trained: files, reports, refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import data_flags, fails
from image_files import png

import train_imagenet
from spos.core.errors import InputError
from spos.data.flags import DataOptions
from spos.deploy import export
from spos.deploy.exported import open_model
from spos.deploy.flags import FORMATS, TrainedOptions
from spos.deploy.parity import random_images, relative_difference, rms_error
from spos.deploy.subnet import as_function
from spos.deploy.trained import FileOfRun, open_trained
from spos.engine.parameters import load_arrays, save_arrays
from spos.space.flags import ArchitectureOptions, SpaceOptions
from utils import evaluate, export_model, merge_bn, predict, quantize

BLOCKS, CHANNELS = ", ".join(["0", "3", "1", "2"] * 5), ", ".join(["2", "5", "4", "3", "7"] * 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory, work):
    """The run of a subnet that was trained for two epochs."""
    folder = tmp_path_factory.mktemp("deploy") / "run"
    flags = ["--model", "ShuffleNas_fixArch", "--block-choices", BLOCKS, "--channel-choices", CHANNELS]
    flags += ["--use-se", "--last-conv-after-pooling", "--num-epochs", "2", "--lr", "0.1", "--save-dir", str(folder)]
    assert train_imagenet.main([*flags, *data_flags(work)]) == 0
    return folder


@pytest.fixture(scope="module")
def run_of_space(tmp_path_factory, work):
    """The same of a space that is a file, with inverted bottlenecks and blocks that are left out."""
    folder = tmp_path_factory.mktemp("deploy-space") / "run"
    flags = ["--model", "ShuffleNas_fixArch", "--space", "tiny", "--num-epochs", "2", "--lr", "0.1"]
    flags += ["--block-choices", "3, 0, 1, 3, 2, 3, 0, 1, 2", "--channel-choices", "0, 1, 2, 0, 1, 2, 0, 1, 2"]
    data = data_flags(work)
    del data[data.index("--strides") : data.index("--strides") + 2]  # the file says them
    assert train_imagenet.main([*flags, "--save-dir", str(folder), *data]) == 0
    return folder


@pytest.fixture
def here(run, tmp_path):
    """A copy of the run that a test may write to."""
    return shutil.copytree(run, tmp_path / "run")


def plain_logits(params, images):
    trained = open_trained(TrainedOptions(str(params)), ArchitectureOptions(), SpaceOptions())
    return as_function(trained.subnet.network())(images)


def test_trained_weights_merge(here, capsys):
    assert merge_bn.main(["--params", str(here / "model.params")]) == 0
    images = random_images(32)
    merged = plain_logits(here / "model-merged.params", images)  # the run says of which architecture
    assert relative_difference(plain_logits(here / "model.params", images), merged) < 1e-5


@pytest.mark.parametrize(
    "flags, files",
    (
        (["--format", "mxnet", "--shuffle-by-conv"], ["model-0000.params", "model-symbol.json"]),
        pytest.param(["--format", "onnx"], ["model.onnx"], id="onnx"),
        pytest.param(["--format", "onnx", "--pad-to", "1", "--shuffle-by-conv"], ["model.onnx"], id="onnx-conv"),
    ),
)
def test_exported_files_compute_the_same(here, flags, files, capsys):
    if "onnx" in flags:
        pytest.importorskip("onnx", reason="onnx is not installed (sh scripts/setup.sh --deploy)")
    before = {path.name for path in here.iterdir()}
    assert export_model.main(["--params", str(here / "model.params"), *flags]) == 0
    assert sorted({path.name for path in here.iterdir()} - before) == files
    exported = open_model(here / files[-1])
    images = random_images(32, 5)
    assert relative_difference(plain_logits(here / "model.params", images), exported(images)) < 1e-4
    info = exported.info
    assert info.preprocessing.input_size == 32 and info.precision == "float32"
    assert info.architecture["block_choices"] == [0, 3, 1, 2] * 5
    assert info.architecture["space"]["width_multiple"] == 1  # as trained, whatever the padding
    assert f"{'logits':7} differ by" in capsys.readouterr().out


@pytest.mark.parametrize("form", FORMATS)
def test_a_subnet_of_a_space_file_is_merged_exported_quantized_and_predicts(run_of_space, tmp_path, form, capsys):
    if form == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed (sh scripts/setup.sh --deploy)")
    params, images = str(run_of_space / "model.params"), random_images(32, 5)
    expected = plain_logits(params, images)
    merged = str(tmp_path / "merged.params")
    assert merge_bn.main(["--params", params, "--output", merged]) == 0
    flags = ["--params", params, "--format", form, "--output", str(tmp_path / "net")]
    assert export_model.main(flags) == 0
    exported = open_model(tmp_path / "net")
    assert relative_difference(expected, exported(images)) < 1e-4
    assert exported.info.architecture["space"]["layout"] == "tiny"
    capsys.readouterr()
    flags = [*flags[:-1], str(tmp_path / "int8"), "--json", "--calibration-images", "20", "--test-images", "30"]
    assert quantize.main(flags) == 0
    assert 0 < json.loads(capsys.readouterr().out)["logits_rms_error"] < 0.5
    (tmp_path / "image.png").write_bytes(png(np.zeros((40, 30, 3), np.uint8)))
    assert predict.main(["--model", str(tmp_path / "int8"), "--json", str(tmp_path / "image.png")]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)["images"]
    assert len(prediction["classes"]) == 5


def test_a_checkpoint_and_merged_parameters_are_exported_too(here, tmp_path):
    checkpoint = sorted((here / "checkpoints").iterdir())[-1] / "model.params"
    assert merge_bn.main(["--params", str(checkpoint), "--output", str(here / "merged.params")]) == 0
    outputs = [tmp_path / "one", tmp_path / "two"]
    for params, output in zip((checkpoint, here / "merged.params"), outputs):
        assert export_model.main(["--params", str(params), "--format", "mxnet", "--output", str(output)]) == 0
    images = random_images(32)
    one, two = (open_model(output)(images) for output in outputs)
    np.testing.assert_array_equal(one, two)


def test_int8_of_a_checkpoint_reads_the_lists_of_its_run(here, tmp_path):
    checkpoint = sorted((here / "checkpoints").iterdir())[-1]
    before = sorted(checkpoint.iterdir())
    flags = ["--format", "mxnet", "--dtype", "int8", "--calibration-images", "10", "--output", str(tmp_path / "net")]
    assert export_model.main(["--params", str(checkpoint / "model.params"), *flags]) == 0
    assert sorted(checkpoint.iterdir()) == before


def test_another_input_size_is_exported(here):
    flags = ["--params", str(here / "model.params"), "--format", "mxnet", "--input-size", "64", "--crop-ratio", "0.5"]
    assert export_model.main(flags) == 0
    exported, images = open_model(here / "model-symbol.json"), random_images(64)
    assert exported.info.preprocessing.input_size == 64 and exported.info.preprocessing.crop_ratio == 0.5
    assert relative_difference(plain_logits(here / "model.params", images), exported(images)) < 1e-4


def test_parameters_outside_a_run_are_exported_as_they_are_evaluated(run, tmp_path, work, capsys):
    """With the size and the strides that training would take from the images; and nothing is left beside them."""
    alone = shutil.copy(run / "model.params", tmp_path / "alone.params")
    data = data_flags(work)
    del data[data.index("--strides") : data.index("--strides") + 2]
    named = ["--params", str(alone), "--use-se", "--last-conv-after-pooling", "--dataset", "record", *data]
    named += ["--block-choices", BLOCKS, "--channel-choices", CHANNELS]
    capsys.readouterr()
    assert evaluate.main([*named, "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    for form, flags in (("plain", []), ("int8", ["--dtype", "int8", "--calibration-images", "10"])):
        assert export_model.main([*named, "--format", "mxnet", "--output", str(tmp_path / form), *flags]) == 0
    info = open_model(tmp_path / "plain").info
    space = info.architecture["space"]
    assert (info.preprocessing.input_size, space["strides"]) == (32, [1, 1, 2, 2, 2])
    assert not (tmp_path / "lists").exists()
    capsys.readouterr()
    assert evaluate.main(["--model", str(tmp_path / "plain-symbol.json"), "--json", *data]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top1"] == expected["top1"] and abs(found["loss"] - expected["loss"]) < 1e-4


def test_int8_sees_images_as_the_run_has_prepared_them(run, tmp_path):
    """Whatever the data set says of mean and deviation; or it is calibrated for other inputs than the network gets."""
    trained = open_trained(TrainedOptions(str(run / "model.params")), ArchitectureOptions(), SpaceOptions())
    mean, std = [70.0, 80.0, 90.0], [50.0, 60.0, 70.0]
    config = {**trained.config, "preprocessing": {**trained.config["preprocessing"], "mean": mean, "std": std}}
    data = replace(trained, config=config).open_data(trained.data_options(DataOptions()), tmp_path)
    assert (list(data.mean), list(data.std)) == (mean, std)


@pytest.mark.parametrize(
    "given, expected",
    (
        ({}, ("record", "here", "a/train.rec", "a/val.rec")),
        ({"rec_val": "b.rec"}, ("record", "here", "a/train.rec", "b.rec")),
        ({"data_dir": "there"}, ("record", "there", "", "")),
        ({"dataset": "folder", "data_dir": "there"}, ("folder", "there", "", "")),
        ({"dataset": "digits"}, ("digits", "data", "", "")),
    ),
)
def test_other_images_leave_nothing_of_the_places_of_the_run(given, expected):
    of_run = {"dataset": "record", "data_dir": "here", "rec_train": "a/train.rec", "rec_val": "a/val.rec"}
    options = FileOfRun(Path("x"), None, {"options": {**of_run, "holdout": 7}}).data_options(DataOptions(**given))
    assert (options.dataset, options.data_dir, options.rec_train, options.rec_val) == expected
    assert options.holdout == 7


def test_class_names_come_from_a_file(here, tmp_path, capsys):
    names = [f"digit {i}" for i in range(10)]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    flags = ["--params", here / "model.params", "--format", "mxnet"]
    assert export_model.main([*map(str, flags), "--class-names", str(tmp_path / "names.txt")]) == 0
    assert open_model(here / "model-symbol.json").info.preprocessing.class_names == tuple(names)
    (tmp_path / "names.txt").write_text("one\ntwo\n", encoding="utf-8")
    fails(export_model.main, [*flags, "--class-names", tmp_path / "names.txt"], capsys, "2 names", "10 classes")


@pytest.mark.parametrize("runtime", ("mxnet", "onnx"))
def test_quantize_reports_and_writes(here, runtime, capsys):
    if runtime == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed (sh scripts/setup.sh --deploy)")
    flags = ["--params", str(here / "model.params"), "--format", runtime, "--json", "--calibration-images", "20"]
    capsys.readouterr()
    assert quantize.main([*flags, "--test-images", "30", "--float-first-conv", "--float-se"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["calibration"] == "naive" and result["calibration_images"] == 20
    assert result["accuracy"]["int8"]["num_images"] == result["accuracy"]["float32"]["num_images"] == 30
    assert set(result["milliseconds"]) == {"1", "32"} and result["bytes"]["int8"] > 0
    assert 0 < result["logits_rms_error"] < 0.5
    exported, images = open_model(result["files"][0]), random_images(32, 8)
    assert exported.info.precision == "int8"
    assert rms_error(plain_logits(here / "model.params", images), exported(images)) < 0.5


@pytest.mark.slow
def test_the_best_calibration_is_chosen_on_held_out_images(here, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed (sh scripts/setup.sh --deploy)")
    flags = ["--params", str(here / "model.params"), "--format", "onnx", "--calibration", "best", "--test-images", "10"]
    assert quantize.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    tried = {line.split()[0]: float(line.split()[3].rstrip("%")) for line in lines if "held-out" in line}
    assert list(tried) == ["naive", "percentile", "entropy"]
    chosen = lines[0].split()[1].rstrip(",")
    assert tried[chosen] == max(tried.values())


def test_bad_input_is_one_line_and_leaves_no_file(here, tmp_path, capsys):
    params = here / "model.params"
    arrays = load_arrays(params)
    truncated = here / "truncated.params"
    truncated.write_bytes(params.read_bytes()[:5000])
    alone = tmp_path / "alone.params"
    shutil.copy(params, alone)
    save_arrays(here / "other.params", {**arrays, "features.3.main_branch.0.weight": arrays["output.0.weight"]})
    before = sorted(here.iterdir())
    (tmp_path / "names.txt").write_text("\n".join("0123456789"), encoding="utf-8")
    named = ("--class-names", tmp_path / "names.txt")
    missing = ("--rec-train", tmp_path / "gone.rec", "--rec-val", tmp_path / "gone.rec")
    for program, flags, words in (
        (export_model, ("--params", tmp_path / "none.params"), ["does not exist"]),
        (export_model, ("--params", truncated), ["damaged"]),
        (export_model, ("--params", alone), ["name its architecture"]),
        (export_model, ("--params", alone, "--architecture", "oneshot"), ["belongs to another network"]),
        (export_model, ("--params", params, "--architecture", "oneshot"), ["run of another architecture"]),
        (export_model, ("--params", here / "other.params"), ["belongs to another network", "features.3.main_branch.0"]),
        (export_model, ("--params", params, "--output", params / "below"), ["cannot be written"]),
        (export_model, ("--params", params, "--output", tmp_path), ["is a folder", "name of the files"]),
        (export_model, ("--params", params, "--output", f"{tmp_path}/new/"), ["is a folder", "name of the files"]),
        (export_model, ("--params", params, "--pad-to", 2000), ["--pad-to 2000", "1024"]),
        (export_model, ("--params", params, "--input-size", 5000), ["5000 px", "4096"]),
        (export_model, ("--params", params, "--float-se"), ["--float-se", "--dtype int8 is missing"]),
        (quantize, ("--params", params, "--percentile", 99), ["--percentile", "not for naive"]),
        (export_model, ("--params", params, "--class-names", tmp_path / "none.txt"), ["cannot be read"]),
        (export_model, ("--params", params, "--strides", "2,2,2,2,2"), ["--strides", "lies in a run"]),
        (quantize, ("--params", params, *missing), ["gone.rec does not exist"]),
        (quantize, ("--params", params, *named, "--int8-error-max", "1e-6"), ["above --int8-error-max"]),
        (quantize, ("--params", params, "--calibration", "guess"), ["invalid choice"]),
        (quantize, ("--params", params, "--calibration-images", "0"), ["at least 1"]),
    ):
        fails(program.main, flags, capsys, *words)
    assert sorted(here.iterdir()) == before


@pytest.fixture(scope="module")
def trained_digits(tmp_path_factory):
    """oneshot-s+ by the quickstart's recipe."""
    folder = tmp_path_factory.mktemp("digits")
    flags = "--model ShuffleNas_fixArch --architecture oneshot-s+ --dataset digits --num-epochs 8 --batch-size 64"
    flags += " --lr 0.1 --warmup-epochs 1 --label-smoothing --no-wd -j 2"
    assert train_imagenet.main([*flags.split(), "--data-dir", str(folder), "--save-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runtime", FORMATS)
def test_int8_of_the_digits_loses_at_most_half_a_point(trained_digits, runtime, capsys):
    if runtime == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed (sh scripts/setup.sh --deploy)")
    capsys.readouterr()
    assert quantize.main(["--params", str(trained_digits / "model.params"), "--format", runtime, "--json"]) == 0
    accuracies = json.loads(capsys.readouterr().out)["accuracy"]
    assert accuracies["float32"]["top1"] > 0.95
    assert accuracies["int8"]["top1"] > accuracies["float32"]["top1"] - 0.005


def test_a_script_exports_what_the_program_does(here, tmp_path, capsys):
    flags = ["--params", str(here / "model.params"), "--format", "mxnet", "--output", str(tmp_path / "program")]
    assert export_model.main(flags) == 0
    file = export.export_model(here / "model.params", "mxnet", tmp_path / "script")
    assert file == tmp_path / "script-symbol.json"
    images, models = random_images(32), [open_model(tmp_path / name) for name in ("script", "program")]
    assert models[0].info == models[1].info
    np.testing.assert_array_equal(*(model(images) for model in models))
    with pytest.raises(InputError, match="unknown format 'tflite'; known: onnx, mxnet"):
        export.export_model(here / "model.params", "tflite")
