"""The benchmark programs at tiny sizes: they run, they refuse to time another computation, and the table is made."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import ROOT, SPACES, TINY, fails

from benchmarks import (
    bn_update,
    constrained_sampling,
    flops_count,
    inference,
    input_pipeline,
    measure,
    plain,
    recipe_step,
    scoring,
    subnet_step,
    supernet_step,
    table,
    torch_process,
    training,
)
from benchmarks.measure import OTHER, OURS, PLAIN, Way, rows_of, take_turns
from spos.core.errors import InputError
from spos.engine.batch_norm import MOMENTUM
from spos.engine.compat import mx
from spos.space.architecture_file import ArchitectureRecord
from spos.space.flags import ArchitectureOptions, SpaceOptions
from spos.space.space_file import load_space, search_space

ARCHITECTURE = TINY.sample(np.random.default_rng(1))
STEPS = ("--batch-size", "4", "--rounds", "1", "--warm-up", "1")
MAKE_SPACE = supernet_step.make_space
TORCH_PYTHON = os.environ.get("SPOS_TORCH_PYTHON", "")
torch_only = pytest.mark.skipif(not TORCH_PYTHON, reason="SPOS_TORCH_PYTHON names no Python with PyTorch")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Every program measures the tiny space."""
    for program in (supernet_step, bn_update, scoring, flops_count):
        monkeypatch.setattr(program, "make_space", lambda *_: TINY)
    record = ArchitectureRecord(TINY, ARCHITECTURE, {})
    for program in (subnet_step, inference):
        monkeypatch.setattr(program, "named_architecture", lambda *_: record)
        monkeypatch.setattr(program, "fit", lambda space, *_: space)


PROGRAMS = {
    "supernet_step": (supernet_step, STEPS),
    "subnet_step": (subnet_step, STEPS),
    "bn_update": (bn_update, (*STEPS, "--batches", "2")),
    "scoring": (scoring, STEPS),
    "flops_count": (flops_count, ("--rounds", "1")),
}


def run(program, argv, tmp_path, capsys, behind=()):
    """The line of JSON that a program prints, which is also what it appends."""
    out = tmp_path / "results.jsonl"
    assert program.main([*argv, "--json", "--out", str(out), *behind]) == 0
    printed = capsys.readouterr().out
    assert printed == out.read_text()
    return json.loads(printed)


@pytest.mark.parametrize("stage", PROGRAMS)
def test_a_program_writes_what_the_table_needs(stage, tmp_path, capsys):
    program, argv = PROGRAMS[stage]
    line = run(program, argv, tmp_path, capsys)
    assert line["stage"] == stage and set(table.FIELDS) <= set(line)
    by_role = {role: [row for row in line["rows"] if row["role"] == role] for role in measure.ROLES}
    assert len(by_role[PLAIN]) == len(by_role[OURS]) == 1
    assert by_role[PLAIN][0]["speedup"] == 1
    assert all(row["rounds"] == 1 and 0 < row["median"] == row["quartiles"][0] for row in line["rows"])
    assert line["machine"]["cores"] >= 1 and line["versions"]["mxnet"] == mx.__version__
    assert f"| `{stage}`" in table.render(table.newest(table.read_lines(str(tmp_path / "results.jsonl"))))


def test_what_ingredients_of_a_recipe_cost(tmp_path, capsys):
    record = ArchitectureRecord(replace(TINY, num_classes=10, input_size=32), ARCHITECTURE, {})
    (tmp_path / "architecture.json").write_text(json.dumps(record.to_json()))
    own = ("--architecture", str(tmp_path / "architecture.json"), "--rounds", "1", "--warm-up", "0")
    digits = ("--dataset", "digits", "--data-dir", str(tmp_path), "--lr", "0.01", "--warmup-epochs", "0", "-j", "1")
    recipe = ("--", *digits, "--reduced-dataset-scale", "8", "--batch-size", "32")
    line = run(
        recipe_step, [*own, "--variant", "ema: --ema-decay 0.9", "--variant", "cut: --cutmix"], tmp_path, capsys, recipe
    )
    assert [(row["name"], row["role"]) for row in line["rows"]] == [("baseline", PLAIN), ("ema", OTHER), ("cut", OURS)]
    assert all(row["median"] > 0 for row in line["rows"])
    fails(recipe_step.main, [*own, "--variant", "ema: --ema-decay 2", *recipe], capsys, "ema-decay")


def test_without_pytorch_the_reason_is_said(tmp_path, capsys):
    assert torch_process.WITHOUT in run(subnet_step, STEPS, tmp_path, capsys)["notes"]


def test_a_python_without_pytorch_is_refused(capsys):
    fails(subnet_step.main, [*STEPS, "--torch-python", sys.executable], capsys, "torch")
    fails(subnet_step.main, [*STEPS, "--torch-python", "/no/such/python"], capsys, "/no/such/python")


@torch_only
@pytest.mark.parametrize("stage", ("supernet_step", "subnet_step", "bn_update", "scoring"))
def test_pytorch_computes_the_same(stage, tmp_path, capsys):
    program, argv = PROGRAMS[stage]
    line = run(program, [*argv, "--torch-python", TORCH_PYTHON], tmp_path, capsys)
    found = [row for row in line["rows"] if row["role"] == measure.PYTORCH]
    assert found and all(row["ours"][0] > 0 for row in found) and "torch" in line
    assert sum("PyTorch" in note for note in line["notes"]) == len(found)


@torch_only
@pytest.mark.parametrize("stage", ("supernet_step", "scoring"))  # paths; and a subnet with BatchNorm folded
@pytest.mark.parametrize("space", SPACES)
def test_pytorch_computes_the_same_in_every_space(space, stage, monkeypatch, tmp_path, capsys):
    program, argv = PROGRAMS[stage]
    monkeypatch.setattr(program, "make_space", lambda *_: SPACES[space])
    line = run(program, [*argv, "--space", "tiny", "--torch-python", TORCH_PYTHON], tmp_path, capsys)
    assert any(row["role"] == measure.PYTORCH for row in line["rows"])


def test_flags_choose_the_space():
    published = search_space(use_se=True, last_conv_after_pooling=True, min_channel_choice=2)
    assert MAKE_SPACE(None, None) == published
    small = MAKE_SPACE(32, 10)
    assert (small.input_size, small.num_classes, small.strides) == (32, 10, (1, 1, 2, 2, 2))
    assert MAKE_SPACE(None, None, SpaceOptions(strides="2,1,2,2,2")) == replace(published, strides=(2, 1, 2, 2, 2))
    macro = load_space("nas-bench-macro")
    assert MAKE_SPACE(None, None, SpaceOptions(space="nas-bench-macro")) == macro
    assert MAKE_SPACE(64, None, SpaceOptions(space="nas-bench-macro")) == replace(macro, input_size=64)


def test_the_largest_input_size_is_measured_if_none_is_said(monkeypatch):
    sizes = replace(TINY, input_sizes=(12, 16))
    monkeypatch.setattr(supernet_step, "space_of", lambda flags: sizes)
    assert (MAKE_SPACE(None, None).input_size, MAKE_SPACE(12, None).input_size) == (16, 12)
    assert MAKE_SPACE(None, None).input_sizes == ()


def test_a_subnet_is_drawn_from_a_space_that_is_named(monkeypatch):
    options = training.TrainingOptions(seed=3)
    assert subnet_step.find_subnet(options, ArchitectureOptions(), SpaceOptions()) == (TINY, ARCHITECTURE)
    monkeypatch.setattr(subnet_step, "make_space", MAKE_SPACE)
    space, architecture = subnet_step.find_subnet(options, ArchitectureOptions(), SpaceOptions(space="tiny"))
    assert space == load_space("tiny") and space.validate(architecture) == architecture


def test_flags_of_the_space_are_recorded(tmp_path, capsys):
    options = run(supernet_step, [*STEPS, "--space", "mobilenet", "--input-size", "64"], tmp_path, capsys)["options"]
    assert options["space"] == "mobilenet" and "channels_layout" not in options
    assert (options["input_size"], options["classes"]) == (TINY.input_size, TINY.num_classes)  # of what was measured
    text = table.render(table.read_lines(str(tmp_path / "results.jsonl")))
    assert "`supernet_step` (space mobilenet, input size 16, batch size 4)" in text


def test_inference_is_measured_for_every_batch_size(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    argv = ["--architecture", "tiny", "--batch-sizes", "1,2", "--rounds", "1", "--json"]
    assert inference.main(argv) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["options"]["batch_size"] for line in lines] == [1, 2]
    roles = [row["role"] for row in lines[0]["rows"]]
    assert roles[0] == PLAIN and {OURS, OTHER, measure.ONNX_RUNTIME} <= set(roles)


@torch_only
def test_pytorch_infers_the_same(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(inference, "exported_networks", lambda *_: [])
    argv = ["--batch-sizes", "2", "--rounds", "1", "--torch-python", TORCH_PYTHON]
    line = run(inference, argv, tmp_path, capsys)
    assert [row["name"] for row in line["rows"] if row["role"] == measure.PYTORCH] == list(inference.TORCH_NETWORKS)


def test_inference_goes_without_onnx(monkeypatch, tmp_path, capsys):
    def missing(name):
        raise InputError(f"ONNX needs {name}")

    monkeypatch.setattr(inference, "import_library", missing)
    monkeypatch.setattr(inference, "exported_networks", lambda subnet, forms, pad_to: check_forms(forms))
    check_forms = lambda forms: [] if forms == ["mxnet"] else pytest.fail(str(forms))  # noqa: E731
    line = run(inference, ["--batch-sizes", "1", "--rounds", "1"], tmp_path, capsys)
    assert any("ONNX Runtime was left out" in note for note in line["notes"])


def wrong_rate(net, problem, lr, make_step=training.our_step):
    return make_step(net, problem, 1.05 * lr)


def wrong_loss(net, problem, lr, make_step=training.our_step):
    step = make_step(net, problem, lr)
    return lambda architecture: 1.01 * step(architecture)


def wrong_statistics(net, problem, lr, make_step=training.plain_step):
    for layer in plain.batch_norms(net):
        layer._kwargs["momentum"] = MOMENTUM / 2
    return make_step(net, problem, lr)


@pytest.mark.parametrize(
    "make_step, words", ((wrong_rate, "weight"), (wrong_loss, "losses"), (wrong_statistics, "running_mean"))
)
@pytest.mark.parametrize("program, other", ((supernet_step, {}), (subnet_step, {"hybridize": {}})))
def test_a_step_that_computes_something_else_is_not_timed(program, other, make_step, words, monkeypatch, capsys):
    ways = (program.WAYS[0], training.MXNetWay("wrong", OURS, make_step, **other))
    monkeypatch.setattr(program, "WAYS", ways)
    monkeypatch.setattr(training, "take_turns", lambda *_: pytest.fail("it was timed"))
    fails(program.main, STEPS, capsys, "wrong", words, "not timed")


def test_a_loss_that_is_not_finite_ends_the_run(monkeypatch, capsys):
    def make_step(net, problem, lr):
        step = training.our_step(net, problem, lr)
        return step if lr == training.CHECK_LR else lambda architecture: np.nan * step(architecture)

    monkeypatch.setattr(subnet_step, "WAYS", (subnet_step.WAYS[0], training.MXNetWay("ours", OURS, make_step)))
    fails(subnet_step.main, STEPS, capsys, "ours", "not finite")


def test_another_update_is_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(bn_update, "take_turns", lambda *_: pytest.fail("it was timed"))
    monkeypatch.setattr(
        bn_update.SubnetUpdate, "update", lambda self, architecture, batches: self.net.extract(architecture)
    )
    fails(bn_update.main, [*STEPS, "--batches", "1"], capsys, "subnet", "not timed")


def test_other_scores_are_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(scoring, "take_turns", lambda *_, **__: pytest.fail("it was timed"))
    update = scoring.OurUpdate.update
    stale = lambda self, architecture, batches: update(self, architecture, [images / 2 for images in batches])  # noqa: E731
    monkeypatch.setattr(scoring.OurUpdate, "update", stale)
    fails(scoring.main, STEPS, capsys, "logits of plain and ours", "not timed")


def test_another_count_is_not_timed(monkeypatch, capsys):
    count = flops_count.count_architecture
    monkeypatch.setattr(flops_count, "take_turns", lambda *_: pytest.fail("it was timed"))
    monkeypatch.setattr(flops_count, "count_architecture", lambda *args: count(*args) + (1, 0))
    fails(flops_count.main, ["--rounds", "1"], capsys, "differ", "not timed")


def test_other_logits_are_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(inference, "take_turns", lambda *_: pytest.fail("it was timed"))

    def exported(subnet, forms, pad_to):
        function = inference.as_function(subnet.network())
        return [inference.Network("wrong", OURS, lambda images: 1.01 * function(images))]

    monkeypatch.setattr(inference, "exported_networks", exported)
    fails(inference.main, ["--batch-sizes", "1"], capsys, "wrong", "not timed")


def test_plain_switches_are_thrown_and_put_back():
    from oneshot_nas_blocks import HardSigmoid, HardSwish

    def now():
        return HardSwish.hybrid_forward, HardSigmoid.hybrid_forward

    before, x = now(), mx.nd.array(np.linspace(-5, 5, 41, dtype=np.float32))
    ours = [layer()(x).asnumpy() for layer in (HardSwish, HardSigmoid)]
    with pytest.raises(KeyError), plain.clip_and_divide():
        assert all(own != other for own, other in zip(now(), before))
        for layer, expected in zip((HardSwish, HardSigmoid), ours):
            np.testing.assert_allclose(layer()(x).asnumpy(), expected, atol=1e-6)
        raise KeyError
    assert now() == before


def test_labels_smoothed_on_the_host_are_those_of_training():
    labels = np.array([0, 3, 4], np.float32)
    expected = training.Objective(5, training.SMOOTHING).example(None, mx.nd.array(labels)).targets
    np.testing.assert_allclose(plain.smooth_on_host(labels, 5), expected.asnumpy(), rtol=1e-6)


def test_every_way_takes_its_turn_in_every_round():
    called = []

    def way(name, seconds, role=OTHER):
        return Way(name, role, lambda number: called.append((number, name)) or seconds * number, True)

    ways = (way("a", 2.0, PLAIN), way("b", 0.5, OURS))
    seconds = take_turns(ways, (1, 2, 3, 4, 5), 2, np.random.default_rng(0))
    assert seconds == {"a": [6, 8, 10], "b": [1.5, 2, 2.5]}
    assert [number for number, _ in called] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert len({tuple(name for _, name in called[i : i + 2]) for i in range(0, 10, 2)}) == 2  # in both orders
    base, other = rows_of(ways, seconds)
    assert (base.speedup, other.speedup, other.error, other.median) == (1, 4, 0, 2)


def test_ours_is_held_against_pytorch_round_by_round():
    ways = [Way(name, role, print) for name, role in zip("abcd", (PLAIN, OURS, OURS, measure.PYTORCH))]
    rows = rows_of(ways, {"a": [8, 8, 8], "b": [6, 6, 6], "c": [1, 2, 6], "d": [2, 4, 12]})  # machine slows down
    assert [row.ours for row in rows] == [None, None, None, (0.5, 0)]  # of the faster of ours, which is c
    assert rows_of(ways[:2], {"a": [8], "b": [4]})[1].ours is None


def test_work_may_be_warm_when_it_is_timed(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setitem(measure.CLOCKS, "cpu", lambda: next(ticks))
    calls = []
    ways = [Way("a", PLAIN, calls.append)]
    assert take_turns(ways, "xy", 0, np.random.default_rng(0), "cpu", twice=True) == {"a": [1, 1]}
    assert "".join(calls) == "xxyy"


def test_close_numbers_are_told_from_others():
    one = np.ones(4)
    assert measure.check_close(one, one * (1 + 1e-5), 1e-4, "they") == pytest.approx(1e-5, rel=1e-3)
    for other in (one * 1.01, one * np.nan, np.ones(3)):
        with pytest.raises(InputError, match="they .*not timed"):
            measure.check_close(one, other, 1e-4, "they")


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(flops_count, "measure", lambda *_: pytest.fail("it was measured"))
    fails(flops_count.main, ["--out", str(tmp_path)], capsys, str(tmp_path))


@pytest.mark.parametrize("parts", (2, 3))
def test_constrained_sampling_is_measured_for_every_box(parts, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(constrained_sampling, "SHARES", (0.5,))
    out = tmp_path / "results.jsonl"
    argv = ["--rounds", "1", "--tries", "20000", "--json", "--out", str(out)]
    assert constrained_sampling.main(argv) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[parts - 2])
    assert line["options"]["parts"] == parts and 0.3 < line["options"]["share"] < 0.7
    assert {row["role"] for row in line["rows"]} == {PLAIN, OTHER, OURS}
    assert table.render(table.newest(table.read_lines(str(out)))).count("`constrained_sampling`") == 2


def test_images_for_the_input_pipeline_can_be_decoded(monkeypatch, tmp_path):
    monkeypatch.setattr(input_pipeline, "NUM_NOISE_IMAGES", 6)
    file = input_pipeline.make_images(str(tmp_path))
    images = input_pipeline.make_pipeline(file, 96, 2, 1, training=True)
    assert images() == 6
    size = os.path.getsize(file.rec) / 6
    assert 20_000 < size < 120_000  # bytes; a photograph of 500 x 375 px at this quality takes 50,000 to 100,000


PYTORCH_ROW = {"role": "pytorch", "error": 0.01}
LINE = {
    "stage": "supernet_step",
    "unit": "a step",
    "options": {"input_size": 224, "batch_size": 16, "seed": 0},
    "rows": [
        {"name": "plain", "role": "plain", "median": 3.0, "speedup": 1.0, "error": 0.0},
        {"name": "ours", "role": "ours", "median": 0.75, "speedup": 4.0, "error": 0.01},
        {**PYTORCH_ROW, "name": "PyTorch, slice", "median": 0.8, "speedup": 3.75, "ours": [0.94, 0.02]},
        {**PYTORCH_ROW, "name": "PyTorch, mask", "median": 0.9, "speedup": 3.3, "ours": [0.83, 0.02]},
    ],
    "machine": {"cpu": "a processor", "cores": 2, "memory": 2**34},
    "threads": 2,
    "versions": {"mxnet": "1.9.1", "commit": "0123456789abcdef"},
    "torch": "2.0",
    "date": "2025-01-01T00:00:00+00:00",
}


def changed(**changes):
    return {**LINE, **changes}


def write_lines(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_the_table_says_what_was_measured():
    text = table.render([LINE])
    row = "| `supernet_step` (input size 224, batch size 16) | a step | 2 | 3,000 ms | 750 ms | 4 ± 0.04 | 3 |"
    assert f"{row} 800 ms (3.75 x plain) | 0.94 ± 0.02 | - |" in text
    assert "supernet_step: a processor, 2 cores, 16 GiB; mxnet 1.9.1, torch 2.0; commit" in text
    assert "commit 0123456789ab; 2025-01-01." in text


def test_of_the_same_case_the_last_line_counts(tmp_path):
    rows = [{**row, "median": 2 * row["median"]} for row in LINE["rows"]]
    small = changed(options={"input_size": 32, "batch_size": 16})
    other = {"stage": "width_multiple"}  # has a form of its own
    file = write_lines(tmp_path / "a.jsonl", LINE, small, changed(rows=rows), other)
    lines = table.newest(table.read_lines(file))
    assert [line["rows"][0]["median"] for line in lines] == [6.0, 3.0]
    assert [line["options"]["input_size"] for line in lines] == [224, 32]


def test_numbers_of_threads_are_lines_of_their_own():
    lines = table.newest([LINE, changed(threads=1), changed(threads=1, date="2025-01-02T00:00:00+00:00")])
    assert [(line["threads"], line["date"][:10]) for line in lines] == [(2, "2025-01-01"), (1, "2025-01-02")]
    assert "| a step | 1 | 3,000 ms |" in table.render(lines)


def test_lines_from_before_there_was_a_ratio_have_none():
    rows = [{name: value for name, value in row.items() if name != "ours"} for row in LINE["rows"]]
    assert "| 800 ms (3.75 x plain) | - | - |" in table.render([changed(rows=rows)])


def test_the_table_takes_the_place_between_its_markers(tmp_path, capsys):
    file, page = write_lines(tmp_path / "a.jsonl", LINE), tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    for _ in range(2):
        assert table.main([file, "--write", str(page)]) == 0
    assert page.read_text() == f"before\n{table.BEGIN}\n{table.render([LINE])}\n{table.END}\nafter\n"
    assert table.main([file]) == 0
    assert capsys.readouterr().out == table.render([LINE]) + "\n"


def test_the_readme_has_a_place_for_the_table():
    page = (ROOT / "benchmarks" / "README.md").read_text()
    assert "the table" in table.replace_between(page, "the table", "README.md")


@pytest.mark.parametrize("page", ("", f"{table.BEGIN}", f"{table.END}{table.BEGIN}", f"{table.BEGIN}{table.END}" * 2))
def test_a_page_without_a_place_for_the_table_is_refused(page):
    with pytest.raises(InputError, match="page needs the lines"):
        table.replace_between(page, "the table", "page")


def test_results_that_are_no_results_are_refused(tmp_path, capsys):
    fails(table.main, [tmp_path / "missing"], capsys, "missing does not exist")
    fails(table.main, [write_lines(tmp_path / "empty")], capsys, "no results")
    damaged = {name: value for name, value in LINE.items() if name != "machine"}
    fails(table.main, [write_lines(tmp_path / "damaged", damaged)], capsys, "supernet_step", "machine")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh")
@pytest.mark.timeout(900)
def test_all_programs_run_quickly(tmp_path):
    results = tmp_path / "results.jsonl"
    environment = {**os.environ, "SPOS_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["sh", str(ROOT / "benchmarks" / "run_all.sh"), "--quick", str(results)]
    call = partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    done = call(command)
    assert done.returncode == 0, done.stderr
    stages = {json.loads(line)["stage"] for line in results.read_text().splitlines()}
    assert stages == {*PROGRAMS, "inference", "constrained_sampling", "input_pipeline", "end_to_end"}
    assert all(f"`{stage}`" in done.stdout for stage in stages)
    refused = call(["sh", str(ROOT / "benchmarks" / "run_all.sh"), "--unknown"])
    assert refused.returncode == 2 and "--unknown" in refused.stderr
