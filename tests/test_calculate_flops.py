"""The program `calculate_flops.py`: its figures, its two outputs, and one clear line for bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import calculate_flops
from oneshot_nas_network import Subnet
from spos.compat import import_gluoncv, mx
from spos.cost import COMPARISON_MODELS, count_architecture
from spos.options import run_program
from spos.records import ArchitectureRecord, load_architecture, write_json
from spos.search_space import format_choices, search_space

ROOT = Path(__file__).resolve().parent.parent
ONESHOT = load_architecture("oneshot").architecture
CHOICES = (
    "--block-choices",
    format_choices(ONESHOT.block_choices),
    "--channel-choices",
    format_choices(ONESHOT.channel_choices),
)


@pytest.fixture
def as_json(capsys):
    """Run the program with --json and read what it prints."""

    def run(*argv):
        capsys.readouterr()  # what fixtures printed
        assert run_program(calculate_flops.main, [*argv, "--json"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return json.loads(captured.out)

    return run


def figures(report):
    return report["flops"], report["params"]


@pytest.mark.parametrize(
    "name, flops, params",
    (
        ("oneshot", 327_909_096, 3_433_579),
        ("oneshot+", 297_058_024, 3_742_955),
        ("oneshot-s+", 291_475_944, 3_541_829),
    ),
)
def test_published_architectures(name, flops, params, as_json):
    report = as_json("--architecture", name)
    assert figures(report) == (flops, params)
    assert (report["architecture"], report["input_size"], report["classes"]) == (name, 224, 1000)
    assert report["fingerprint"] == load_architecture(name).space.fingerprint


@pytest.mark.parametrize(
    "flags, flops, params",
    (
        ((), 327_909_096, 3_433_579),
        (("--use-se",), 321_576_488, 4_662_955),
        (("--use-se", "--last-conv-after-pooling"), 297_058_024, 3_742_955),
    ),
)
def test_choices_on_the_command_line(flags, flops, params, as_json):
    assert figures(as_json(*CHOICES, *flags)) == (flops, params)


@pytest.mark.parametrize("flags, params", (((), 15_937_592), (("--use-se", "--last-conv-after-pooling"), 17_180_216)))
def test_supernet(flags, params, as_json):
    report = as_json("--supernet", *flags)
    assert report["params"] == params
    assert report["flops"] == report["range"]["largest"]["flops"] > report["range"]["smallest"]["flops"]
    assert "15.4M" in report["note"]


def test_range_of_the_stable_supernet_is_narrower(as_json):
    whole, stable = as_json("--supernet"), as_json("--supernet", "--ignore-first-two-cs")
    assert whole["range"]["smallest"]["flops"] < stable["range"]["smallest"]["flops"]
    assert figures(whole) == figures(stable)


def test_other_images(as_json):
    report = as_json("--architecture", "oneshot", "--input-size", "160", "--classes", "10")
    space = search_space(input_size=160, num_classes=10)
    assert figures(report) == count_architecture(space, ONESHOT)
    assert (report["input_size"], report["classes"], report["strides"]) == (160, 10, [2] * 5)


@pytest.mark.parametrize("flags, strides", (((), (1, 1, 2, 2, 2)), (("--strides", "1,2,2,2,2"), (1, 2, 2, 2, 2))))
def test_small_images_have_the_stride_plan_of_training(flags, strides, as_json):
    report = as_json("--architecture", "oneshot", "--input-size", "32", *flags)
    assert report["strides"] == list(strides)
    assert figures(report) == count_architecture(search_space(input_size=32, strides=strides), ONESHOT)


def test_an_architecture_file_brings_its_own_space(as_json, tmp_path, rng):
    space = search_space("ShuffleNetV2+", use_se=True, num_classes=10, input_size=64, strides=(1, 2, 2, 2, 2))
    record = ArchitectureRecord(space, space.sample(rng), {})
    write_json(tmp_path / "best.json", record.to_json())
    report = as_json("--architecture", str(tmp_path / "best.json"))
    assert figures(report) == count_architecture(space, record.architecture)
    assert report["space"] == space.to_json()


@pytest.mark.parametrize("name", COMPARISON_MODELS)
def test_scores_against_a_comparison_model(name, as_json):
    scores = as_json("--architecture", "oneshot", "--comparison-model", name)["scores"]
    flop_ratio, param_ratio = 327_909_096 / COMPARISON_MODELS[name].macs, 3_433_579 / COMPARISON_MODELS[name].params
    assert scores["normalized_sum"] == pytest.approx(flop_ratio + param_ratio)
    assert scores["combined"] == pytest.approx((flop_ratio + param_ratio) / 2)


def test_an_exported_subnet_counts_as_its_architecture(as_json, tmp_path):
    net = Subnet(search_space(use_se=True), ONESHOT)
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros((1, 3, 64, 64)))  # the input size of the export does not matter
    net.export(str(tmp_path / "net"))
    report = as_json("--symbol", str(tmp_path / "net-symbol.json"))
    assert figures(report) == (321_576_488, 4_662_955)
    assert report["classes"] == 1000 and report["space"] is None


def test_a_network_of_the_gluoncv_zoo(as_json, tmp_path):
    zoo = import_gluoncv().model_zoo
    zoo.get_model("mobilenet1.0", pretrained=False)(mx.sym.var("data")).save(str(tmp_path / "mobilenet-symbol.json"))
    report = as_json("--symbol", str(tmp_path / "mobilenet-symbol.json"))
    assert figures(report) == (568_791_528, 4_231_976)  # 569 M and 4.2 M in arXiv:1704.04861
    assert report["classes"] == 1000


@pytest.mark.parametrize(
    "argv, words",
    (
        (("--architecture", "oneshot"), ("327.909 M (327,909,096)", "3.434 M (3,433,579)", "2.009599", "1.004800")),
        (("--supernet",), ("trainable params", "15.938 M (15,937,592)", "FLOPs of the largest path", "15.4M")),
    ),
)
def test_the_table_for_eyes(argv, words, capsys):
    assert run_program(calculate_flops.main, list(argv)) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)
    assert printed.rstrip().split("\n")[-1].startswith("Counted: one multiply-add is 1")


BAD_INPUT = (
    ((), "given: none"),
    (("--architecture", "oneshot", "--supernet"), "given: --architecture and --supernet"),
    (("--architecture", "oneshot", *CHOICES), "given: --architecture and --block-choices"),
    (("--symbol", "x-symbol.json", "--supernet"), "given: --supernet and --symbol"),
    (("--architecture", "oneshot-xl"), "no architecture 'oneshot-xl'"),
    (("--architecture", "oneshot", "--use-se"), "--use-se contradicts architecture 'oneshot'"),
    (("--architecture", "oneshot", "--channels-layout", "ShuffleNetV2+"), "contradicts"),
    (CHOICES[:2], "--block-choices and --channel-choices must be given together"),
    (("--block-choices", "0, " * 19, "--channel-choices", "0, " * 20), "19 block choices"),
    (("--block-choices", "0, " * 20, "--channel-choices", "0, " * 19 + "10"), "channel choice 10"),
    (("--block-choices", "4, " * 20, "--channel-choices", "0, " * 20), "block choice 4"),
    (("--block-choices", "a", "--channel-choices", "b"), "must be integers"),
    (("--supernet", "--input-size", "0"), "--input-size: must be at least 1, not 0"),
    (("--supernet", "--input-size", "-5"), "--input-size: must be at least 1, not -5"),
    (("--supernet", "--input-size", "big"), "--input-size"),
    (("--supernet", "--classes", "0"), "--classes: must be at least 1, not 0"),
    (("--supernet", "--strides", "2,2"), "needs 5 entries"),
    (("--supernet", "--channels-layout", "Wide"), "--channels-layout"),
    (("--supernet", "--comparison-model", "LeNet"), "--comparison-model"),
    (("--supernet", "--inputsize", "3"), "unrecognized arguments: --inputsize"),
    (("--symbol", "nothing-symbol.json"), "nothing-symbol.json does not exist"),
    (("--symbol", str(ROOT / "architectures" / "oneshot.json")), "no list of nodes"),
    (("--symbol", "x-symbol.json", "--classes", "10"), "--classes has no effect on --symbol"),
    (("--symbol", "x-symbol.json", "--use-se"), "--use-se has no effect on --symbol"),
)


@pytest.mark.parametrize("argv, message", BAD_INPUT, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_input_is_one_line_and_code_2(argv, message, capsys):
    try:
        code = run_program(calculate_flops.main, list(argv))
    except SystemExit as stop:  # argparse's own way out
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2 and captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and message in captured.err


def test_the_program_runs_without_mxnet_unless_a_symbol_is_counted(tmp_path):
    (tmp_path / "mxnet.py").write_text("raise RuntimeError('MXNet was imported')")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(ROOT / "calculate_flops.py"), "--architecture", "oneshot", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["flops"] == 327_909_096
