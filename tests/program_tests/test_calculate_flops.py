"""The program `calculate_flops.py`: its figures, its two outputs, and one clear line for bad input."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from math import prod

import pytest
from conftest import ROOT

import calculate_flops
from oneshot_nas_network import Subnet, Supernet
from spos.core.flags import run_program
from spos.counting.summary import CONVENTION, PLAIN_CONVENTION
from spos.counting.symbol import count_symbol
from spos.engine.compat import import_gluoncv, mx
from spos.latency.table import LatencyTable
from spos.runs.files import write_json
from spos.space.architecture import Architecture, format_choices
from spos.space.architecture_file import ArchitectureRecord, load_architecture
from spos.space.cost import COMPARISON_MODELS, count_architecture
from spos.space.space_file import LAYOUTS, load_space, search_space

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


@pytest.mark.parametrize("multiple", (1, 8, 16))
def test_widths_in_multiples(multiple, as_json):
    space = search_space(width_multiple=multiple)
    assert figures(as_json(*CHOICES, "--width-multiple", str(multiple))) == count_architecture(space, ONESHOT)


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
    assert " ".join(printed.split()).endswith(CONVENTION)


# --- Other views ---


@pytest.fixture
def lines(capsys):
    """Run the program and read the lines that it prints."""

    def run(*argv):
        capsys.readouterr()
        assert run_program(calculate_flops.main, list(argv)) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.rstrip("\n").split("\n")

    return run


VIEWS = {
    "summary": ("--architecture", "oneshot"),
    "supernet": ("--supernet",),
    "layers": ("--architecture", "oneshot", "--layers"),
    "branches": ("--supernet", "--layers"),
    "profile": ("--architecture", "oneshot-s+", "--profile", "block"),
    "comparison": ("--comparison",),
    "distribution": ("--distribution", "50"),
    "description": ("--describe", "--flop-max-m", "300"),
}
CONVENTIONS = {"profile": "MicroNet convention: an output", "comparison": "FLOPs are multiply-adds"}


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_says_its_convention(view, lines):
    for style in ("text", "markdown"):
        printed = " ".join(" ".join(lines(*VIEWS[view], "--format", style)).split())
        assert CONVENTIONS.get(view, "Counted: one multiply-add is 1") in printed


@pytest.mark.parametrize("view", VIEWS)
def test_csv_is_for_spreadsheets(view, lines):
    tables = "\n".join(lines(*VIEWS[view], "--format", "csv")).split("\n\n")
    assert len(tables) == (2 if view in ("profile", "description") else 1)
    for text in tables:
        header, *rows = csv.reader(io.StringIO(text))
        assert rows and all(len(row) == len(header) for row in rows) and len(set(header)) == len(header)


def test_summary_as_csv_is_one_row_of_raw_values(lines):
    (row,) = csv.DictReader(lines("--architecture", "oneshot", "--format", "csv"))
    assert (row["flops"], row["params"], row["input_size"]) == ("327909096", "3433579", "224")
    assert float(row["scores_normalized_sum"]) == pytest.approx(2.0095990)


def test_layers_of_a_subnet(as_json, lines):
    report = as_json("--architecture", "oneshot-s+", "--layers")
    assert sum(row["flops"] for row in report["layers"]) == 291_475_944
    assert sum(row["params"] for row in report["layers"]) == 3_541_829
    assert report["layers"][0] == {
        "layer": "features.0",
        "kind": "conv 3x3",
        "output": "16 x 112 x 112",
        "flops": 5_419_008,
        "params": 432,
    }
    total = next(line for line in lines("--architecture", "oneshot-s+", "--layers") if line.startswith("total"))
    assert total.split() == ["total", "291,475,944", "3,541,829"]


@pytest.mark.parametrize("flags, untrained", (((), 2 * (16 + 1024)), (("--use-se", "--last-conv-after-pooling"), 32)))
def test_branches_of_a_supernet(flags, untrained, as_json):
    report = as_json("--supernet", "--layers", *flags)
    rows = report["layers"]
    assert sum(row["params"] for row in rows if row["trained"] == "yes") == report["params"]
    assert sum(row["params"] for row in rows) == report["total_params"] == report["params"] + untrained
    assert sum("block_s" in row["layer"] for row in rows) == 80
    assert rows[3]["layer"] == "features.3.block_sn_3x3"


def test_narrowest_branches_are_those_that_may_be_searched(as_json):
    whole, stable = (as_json("--supernet", "--layers", *flags)["layers"] for flags in ((), ("--ignore-first-two-cs",)))
    pairs = [(a, b) for a, b in zip(whole, stable) if "block_s" in a["layer"]]
    assert all(a["flops_narrowest"] < b["flops_narrowest"] < b["flops_widest"] == a["flops_widest"] for a, b in pairs)


def test_total_parameters_of_a_supernet_are_those_of_its_arrays(as_json):
    """Everything that is no running statistic; trained is what has a gradient."""
    report = as_json("--supernet", "--use-se", "--last-conv-after-pooling")
    arrays = {
        name: parameter
        for name, parameter in Supernet(load_architecture("oneshot+").space)._collect_params_with_prefix().items()
        if "running" not in name
    }
    trained = [parameter for parameter in arrays.values() if parameter.grad_req != "null"]
    sizes = [sum(prod(parameter.shape) for parameter in group) for group in (arrays.values(), trained)]
    assert sizes == [report["total_params"], report["params"]] == [17_180_248, 17_180_216]


def test_profile(as_json, lines):
    report = as_json("--architecture", "oneshot-s+", "--profile", "block")
    assert report["profile"]["totals"]["all"] == {
        "params": 3_652_225,
        "mults": 299_620_672,
        "adds": 288_322_560,
        "operations": 587_943_232,
    }
    assert report["flops"] == 291_475_944 and report["profile"]["level"] == "block"
    printed = lines("--architecture", "oneshot-s+", "--profile", "block")
    assert any(line.split()[-4:] == ["3.652", "299.621", "288.323", "587.943"] for line in printed)


def test_profile_of_choices_on_the_command_line(as_json):
    report = as_json(*CHOICES, "--use-se", "--profile", "operator", "--input-size", "64", "--classes", "10")
    rows = report["profile"]["rows"]
    assert (rows[-1]["block"], rows[-1]["operator"], rows[-1]["mults"]) == ("classifier conv", "conv", 1024 * 10)
    assert any(row["operator"] == "channel shuffle" for row in rows)


def test_comparison_alone_and_with_an_architecture(as_json):
    alone = as_json("--comparison")["comparison"]
    beside = as_json("--comparison", "--architecture", "oneshot-s+", "--input-size", "64")["comparison"]
    assert beside[:-1] == alone and beside[-1]["network"] == "oneshot-s+ (64 px, 1000 classes)"
    row = as_json("--comparison", "--architecture", "oneshot-s+")["comparison"][-1]
    assert (row["network"], row["counted_flops"]) == ("oneshot-s+", 291_475_944)
    (own,) = (row for row in alone if row["network"] == "FBNet-B")
    assert own["published_score"] == "2.19" and own["computed_score"] == pytest.approx(2.2229, abs=5e-5)


def test_distribution(as_json):
    start = time.perf_counter()
    report = as_json("--distribution", "100000", "--use-se", "--last-conv-after-pooling", "--ignore-first-two-cs")
    assert time.perf_counter() - start < 10
    assert report["num_samples"] == 100_000 and report["num_architectures"] == 32**20
    smallest = report["flops"]["smallest"]
    assert smallest == 148_922_792 < 168_064_936  # SNB-3 at 0.6 everywhere, which is published as the smallest
    quantiles = list(report["flops"]["quantiles"].values())
    assert quantiles == sorted(quantiles) and quantiles[0] >= smallest
    by_score, ranges, both = report["shares_within"].values()
    assert 0 < both <= min(by_score, ranges) < 1


def test_distribution_has_a_seed(as_json):
    first, again, other = (as_json("--distribution", "20", "--seed", seed) for seed in ("0", "0", "1"))
    assert first == again and first["flops"]["quantiles"] != other["flops"]["quantiles"]
    assert first["flops"]["mean"] == other["flops"]["mean"]  # exact


def test_shares_are_of_the_published_limits(as_json):
    names = list(as_json("--distribution", "20")["shares_within"])
    assert names[:2] == ["combined score <= 1", "190 <= FLOPs <= 330 M, 2.8 <= params <= 5 M"]


SPACE_CHOICES = {
    "nas-bench-macro": ("0, 2, 0, 1, 2, 1, 0, 0", (47_327_744, 890_666)),
    "mobilenetv2": (", ".join("0" * 17), (300_774_272, 3_504_872)),
}


@pytest.fixture(params=SPACE_CHOICES)
def in_a_space(request):
    """Flags of an architecture in a space without additions, and its figures."""
    blocks, expected = SPACE_CHOICES[request.param]
    channels = format_choices((0,) * len(blocks.split(",")))
    return ("--space", request.param, "--block-choices", blocks, "--channel-choices", channels), expected


def test_every_view_of_an_architecture_of_a_space(in_a_space, as_json):
    flags, expected = in_a_space
    report = as_json(*flags)
    assert figures(report) == expected and report["convention"] == PLAIN_CONVENTION
    layers = as_json(*flags, "--layers")["layers"]
    assert (sum(row["flops"] for row in layers), sum(row["params"] for row in layers)) == expected
    row = as_json(*flags, "--comparison")["comparison"][-1]
    assert (row["counted_flops"], row["counted_params"]) == expected
    assert row["network"].endswith("no additions of biases and poolings)")
    totals = as_json(*flags, "--profile", "block")["profile"]["totals"]["all"]
    assert totals["mults"] > expected[0]


def test_views_of_a_space_say_its_convention(lines):
    for flags in (("--supernet",), ("--supernet", "--layers"), ("--distribution", "20"), ("--describe",)):
        printed = " ".join(" ".join(lines("--space", "nas-bench-macro", *flags)).split())
        assert PLAIN_CONVENTION in printed and CONVENTION not in printed and "15.4M" not in printed


def test_branches_of_a_space_say_their_scales(lines, tmp_path):
    (tmp_path / "own.json").write_text(json.dumps(OWN_SCALES))
    for space, words in (("tiny", "at scales 0.5 and 1;"), (str(tmp_path / "own.json"), "ends of the scales of each")):
        assert words in " ".join(" ".join(lines("--supernet", "--layers", "--space", space)).split())


OWN_SCALES = {
    "schema": 1,
    "name": "own",
    "blocks": {"B": {"kind": "basic"}},
    "stem": {"stride": 1},
    "stages": [
        {"num_blocks": 1, "out_channels": 16, "stride": 2, "channel_scales": [0.5, 1.0]},
        {"num_blocks": 1, "out_channels": 32, "stride": 2, "channel_scales": [0.25, 0.5, 0.75, 1.0]},
    ],
}


def test_left_out_widths_of_stages_with_scales_of_their_own(as_json, lines, tmp_path):
    (tmp_path / "own.json").write_text(json.dumps(OWN_SCALES))
    flags = ("--supernet", "--space", str(tmp_path / "own.json"), "--ignore-first-two-cs")
    assert any("without the 2 narrowest widths" in line for line in lines(*flags))
    assert any("widths from 1" in line for line in lines("--supernet", "--space", "tiny", "--ignore-first-two-cs"))


def test_an_exported_network_by_the_convention_of_a_space(in_a_space, as_json, tmp_path):
    flags, expected = in_a_space
    space = load_space(flags[1])
    blank = Architecture(*(tuple(map(int, flags[i].split(","))) for i in (3, 5)))
    Subnet(space, blank)(mx.sym.var("data")).save(str(tmp_path / "net-symbol.json"))
    symbol = ("--symbol", str(tmp_path / "net-symbol.json"))
    report = as_json(*symbol, *flags[:2])
    assert figures(report) == expected and report["convention"] == PLAIN_CONVENTION
    with_additions = as_json(*symbol, "--input-size", str(space.input_size))
    assert with_additions["convention"] == CONVENTION and with_additions["params"] == expected[1]
    assert with_additions["flops"] > expected[0]
    operators = " ".join(" ".join(lines_of(symbol + flags[:2] + ("--layers",))).split())
    assert PLAIN_CONVENTION in operators


def lines_of(argv):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run_program(calculate_flops.main, list(argv)) == 0
    return printed.getvalue().split("\n")


def test_description(as_json, lines):
    flags = ("--describe", "--space", "nas-bench-macro", "--flop-max-m", "9")
    report = as_json(*flags)
    assert report["within"]["num_architectures"] == 1 and report["within"]["is"] == "exact"
    assert {place["forced_block"] for place in report["choice_blocks"]} == {"I"}
    assert any("kept by 1 of 6,561 (exact)" in line for line in lines(*flags))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_described(layout, as_json):
    report = as_json("--describe", "--channels-layout", layout, "--score-max", "1")
    assert report["within"]["can_be_met"] and len(report["choice_blocks"]) == report["num_choice_blocks"]
    as_supernet = as_json("--supernet", "--channels-layout", layout)["range"]
    assert all(report[end] == as_supernet[end] for end in ("smallest", "largest"))


def test_operators_of_an_exported_network(as_json, tmp_path):
    zoo = import_gluoncv().model_zoo
    file = tmp_path / "net-symbol.json"
    net = zoo.get_model("squeezenet1.1", pretrained=False)
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros((1, 3, 224, 224)))
    net.export(str(tmp_path / "net"))
    report = as_json("--symbol", str(file), "--layers")
    assert sum(row["flops"] for row in report["layers"]) == report["flops"]
    assert sum(row["params"] for row in report["layers"]) == report["params"] == 1_235_496
    assert {row["kind"] for row in report["layers"]} >= {"Convolution", "Concat", "Pooling"}
    assert as_json("--symbol", str(file), "--comparison")["comparison"][-1]["counted_params"] == 1_235_496


# Figures of torchvision's documentation where its network is the same: params exactly, GFLOPs to the printed digits.
# Its networks with BatchNorm count gamma and beta too. MobileNetV2 has a classifier with bias there: 1000 params more.
@pytest.mark.parametrize(
    "name, gflops, params",
    (
        ("resnet18_v1", 1.81, 11_689_512),
        ("resnet50_v1b", 4.09, 25_557_032),
        ("mobilenetv2_1.0", 0.30, 3_504_872 - 1000),
        ("mobilenetv3_large", 0.22, None),
        ("densenet121", 2.83, 7_978_856),
        ("squeezenet1.0", 0.82, 1_248_424),
        ("vgg16", 15.47, 138_357_544),
        ("vgg16_bn", 15.47, 138_365_992),
        ("alexnet", 0.71, 61_100_840),
        ("googlenet", 1.50, 6_624_904),
        ("se_resnet50_v1", None, None),
        ("resnext50_32x4d", 4.23, 25_028_904),
        ("xception", None, None),
        ("senet_154", None, None),
        ("resnest50", None, None),
        ("shufflenet_v1", None, None),
        ("hrnet_w18_small_v1_c", None, None),
        ("dla34", None, None),
        ("cifar_resnet20_v1", 0.041, None),
    ),
)
def test_networks_of_the_zoo_have_no_unknown_operator(name, gflops, params):
    symbol = import_gluoncv().model_zoo.get_model(name, pretrained=False)(mx.sym.var("data"))
    size = 32 if name.startswith("cifar") else 224
    cost = count_symbol(symbol, (1, 3, size, size))
    assert cost.macs > 0
    if gflops:
        assert cost.macs / 1e9 == pytest.approx(gflops, rel=0.015)
    if params:
        assert cost.params == params


TABLE = str(ROOT / "logs" / "latency-float32" / "latency.json")


def test_the_latency_of_an_architecture(as_json, capsys):
    latency = as_json("--architecture", "oneshot-s+", "--latency-table", TABLE)["latency"]
    assert latency["ms"] == LatencyTable.read(TABLE).latency_ms(load_architecture("oneshot-s+").architecture)
    assert latency["dtype"] == "float32" and latency["batch_size"] == 1 and 0 < latency["held_out_error"] < 0.05
    assert run_program(calculate_flops.main, ["--architecture", "oneshot-s+", "--latency-table", TABLE]) == 0
    expected = (
        f"{latency['ms']:.2f} ms ({latency['device']}, float32, batch 1; median error {latency['held_out_error']:.1%})"
    )
    assert expected in capsys.readouterr().out


BAD_INPUT = (
    (("--architecture", "oneshot", "--latency-table", TABLE), "the latency table is of another search space"),
    (("--architecture", "oneshot-s+", "--latency-table", TABLE, "--input-size", "160"), "with 224 px, here it is 160"),
    (("--architecture", "oneshot-s+", "--latency-table", TABLE, "--layers"), "leave out --layers"),
    (("--supernet", "--latency-table", TABLE), "latency of one architecture in its summary; leave out --supernet"),
    (("--architecture", "oneshot-s+", "--latency-table", "gone.json"), "gone.json does not exist"),
    ((), "given: none"),
    (("--comparison", "--layers"), "given: --layers and --comparison"),
    (("--architecture", "oneshot", "--layers", "--profile", "block"), "given: --layers and --profile"),
    (("--distribution", "5", "--profile", "block"), "given: --profile and --distribution"),
    (("--layers",), "given: none"),
    (("--profile", "block"), "given: none"),
    (("--profile", "block", "--supernet"), "leave out --supernet"),
    (("--profile", "operator", "--symbol", "x-symbol.json"), "leave out --symbol"),
    (("--profile", "stage", "--architecture", "oneshot"), "--profile: invalid choice: 'stage'"),
    (("--comparison", "--architecture", "oneshot", "--supernet"), "given: --architecture and --supernet"),
    (("--comparison", "--use-se"), "--use-se has no effect on the published networks"),
    (("--comparison", "--input-size", "64"), "--input-size has no effect on the published networks"),
    (("--distribution", "5", "--architecture", "oneshot"), "leave out --architecture"),
    (("--distribution", "5", *CHOICES), "leave out --block-choices"),
    (("--distribution", "5", "--symbol", "x-symbol.json"), "leave out --symbol"),
    (("--distribution", "0"), "--distribution: must be at least 1, not 0"),
    (("--distribution", "5", "--seed", "-1"), "--seed: must be at least 0, not -1"),
    (("--architecture", "oneshot", "--seed", "3"), "--seed has no effect without --distribution"),
    (("--architecture", "oneshot", "--json", "--format", "csv"), "--json and --format csv"),
    (("--architecture", "oneshot", "--format", "html"), "--format: invalid choice: 'html'"),
    (("--architecture", "oneshot", "--supernet"), "given: --architecture and --supernet"),
    (("--architecture", "oneshot", *CHOICES), "given: --architecture and --block-choices"),
    (("--symbol", "x-symbol.json", "--supernet"), "given: --supernet and --symbol"),
    (("--architecture", "oneshot-xl"), "no architecture 'oneshot-xl'"),
    (("--architecture", "oneshot", "--use-se"), "--use-se contradicts architecture 'oneshot'"),
    (("--architecture", "oneshot", "--width-multiple", "8"), "--width-multiple contradicts architecture 'oneshot'"),
    (("--supernet", "--width-multiple", "0"), "--width-multiple: must be at least 1, not 0"),
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
    (("--describe", "--layers"), "given: --layers and --describe"),
    (
        ("--describe", "--architecture", "oneshot"),
        "--describe is of the search space that flags describe; leave out --a",
    ),
    (("--supernet", "--flop-max-m", "5"), "--flop-max-m is a limit of --describe; leave it out"),
    (("--describe", "--latency-table", TABLE), "leave out --describe"),
    (("--describe", "--space", "gone"), "no space 'gone'"),
    (
        ("--describe", "--space", "tiny", "--channels-layout", "Small"),
        "--space and --channels-layout both name a space",
    ),
    (("--supernet", "--space", "mobilenetv2", "--last-conv-after-pooling"), "the head is decided by the space file"),
    (("--symbol", "x-symbol.json", "--blocks", "x.py"), "--blocks has no effect on --symbol"),
    (("--comparison", "--space", "tiny"), "--space has no effect on the published networks"),
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


@pytest.mark.parametrize("view", ((), ("--layers",)), ids=("short", "long"))
def test_output_that_nobody_reads_is_no_error(view):
    """As in `calculate_flops.py ... | head -1`: the reader has gone before everything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "calculate_flops.py"), "--architecture", "oneshot", *view]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
