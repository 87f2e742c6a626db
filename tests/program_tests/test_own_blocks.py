"""docs/spaces.md: the blocks and the space of its example through the programs, on digits; what --blocks means."""

import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT, data_flags, fails

import calculate_flops
import search_supernet
import train_imagenet
from spos.core.errors import InputError
from spos.core.flags import run_program
from spos.data.flags import DataOptions
from spos.deploy.exported import open_model
from spos.deploy.flags import TrainedOptions
from spos.deploy.parity import random_images, relative_difference
from spos.deploy.subnet import as_function
from spos.deploy.trained import open_trained
from spos.runs.files import read_json
from spos.runs.run import open_run_directory
from spos.scoring.job import make_evaluator
from spos.scoring.trained import TrainedSupernet
from spos.space.architecture_file import load_architecture
from spos.space.flags import ArchitectureOptions, SpaceOptions
from spos.space.space_file import load_space
from spos.study.alone import Network, train_all
from spos.training.session import train_supernet
from utils import build_latency_table, export_model, merge_bn, quantize
from utils.report import __main__ as report

MOST_LINES = 40
PAGE = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
(SPACE,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
(BLOCKS,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
QUICK = ["--max-rounds", "10", "--passes", "1", "--copies", "1", "--fit-networks", "3", "--held-out-networks", "4"]
SEARCH = ["--search-iters", "1", "--population-size", "4", "--retain-length", "2", "--topk", "2"]


def run(main, *argv):
    assert run_program(main, [str(item) for item in argv]) == 0


@pytest.fixture(scope="module")
def files(tmp_path_factory, own_kinds):
    """The example as it stands on the page: (space file, blocks file)."""
    folder = tmp_path_factory.mktemp("example")
    (folder / "my_space.json").write_text(SPACE)
    (folder / "my_blocks.py").write_text(BLOCKS)
    return folder / "my_space.json", folder / "my_blocks.py"


@pytest.fixture(scope="module")
def supernet(files, work, tmp_path_factory):
    """The run of a supernet of the example, at the size that the space file says."""
    save_dir = tmp_path_factory.mktemp("own") / "supernet"
    own = ["--space", files[0], "--blocks", files[1], "--save-dir", save_dir]
    run(train_imagenet.main, "--model", "ShuffleNas", *flags_of(work), *own, "--num-epochs", 1, "--lr", 0.1)
    return save_dir


@pytest.fixture(scope="module")
def best(supernet, files, work):
    """The best of a search, whose space is that of the supernet's run."""
    save_dir = supernet.with_name("search")
    own = ["--supernet-params", supernet / "model.params", "--blocks", files[1], "--save-dir", save_dir]
    run(search_supernet.main, *own, *flags_of(work), *SEARCH)
    return save_dir / "best.json"


@pytest.fixture(scope="module")
def subnet(best, files, work):
    save_dir = best.parent.with_name("subnet")
    own = ["--architecture", best, "--blocks", files[1], "--save-dir", save_dir]
    run(train_imagenet.main, "--model", "ShuffleNas_fixArch", *own, *flags_of(work), "--num-epochs", 1, "--lr", 0.1)
    return save_dir / "model.params"


def flags_of(work):
    """Images without a size, nor strides: the space says them."""
    pairs = zip(*[iter(data_flags(work))] * 2)
    return [word for pair in pairs if pair[0] not in ("--input-size", "--strides") for word in pair]


def test_the_example_is_short_and_says_that_it_is_run():
    assert len(BLOCKS.splitlines()) <= MOST_LINES
    assert "**`--blocks` runs the file**" in PAGE


def test_the_runs_say_size_and_fingerprint(supernet, best, subnet):
    for folder in (supernet, best.parent, subnet.parent):
        config = read_json(folder / "config.json")
        assert config["options"]["input_size"] == 32 and config["space"]["layout"] == "mine"
        assert config["fingerprint"] == load_space(folder / "config.json").fingerprint


def test_it_is_counted(best, files, capsys):
    run(calculate_flops.main, "--architecture", best, "--blocks", files[1], "--json")
    report = json.loads(capsys.readouterr().out)
    record = read_json(best)
    assert (report["flops"], report["params"]) == (record["flops"], record["params"])


def test_its_latency_is_measured(files, tmp_path):
    """Each choice block in the widths that it has. How sure they are is for a machine that does nothing else."""
    run(build_latency_table.main, "--space", files[0], "--blocks", files[1], *QUICK, "--save-dir", tmp_path / "latency")
    table = read_json(tmp_path / "latency" / "latency.json")
    assert [[len(widths) for widths in block] for block in table["blocks_ms"]] == [[2, 2], [3, 3], [2, 2, 2, 2]]
    assert table["blocks_ms"][2][3] == [0, 0]  # nothing takes no time
    assert table["fingerprint"] == load_space(files[0]).fingerprint


def test_it_is_merged_quantized_and_exported(subnet, files, work, capsys):
    blocks = ["--params", subnet, "--blocks", files[1]]
    run(merge_bn.main, *blocks)
    images = random_images(32, 5)
    trained = logits(subnet, images)
    assert relative_difference(trained, logits(subnet.with_name("model-merged.params"), images)) < 1e-5
    run(quantize.main, *blocks)
    run(export_model.main, *blocks, "--format", "mxnet")
    assert relative_difference(trained, open_model(subnet.with_name("model-symbol.json"))(images)) < 1e-4


def logits(params, images):
    opened = open_trained(TrainedOptions(str(params)), ArchitectureOptions(), SpaceOptions())
    return as_function(opened.subnet.network())(images)


def test_onnx_computes_the_same(subnet, files):
    pytest.importorskip("onnx", reason="onnx is not installed (sh scripts/setup.sh --deploy)")
    run(export_model.main, "--params", subnet, "--blocks", files[1], "--format", "onnx")
    images = random_images(32, 5)
    exported = open_model(subnet.with_suffix(".onnx"))
    assert relative_difference(logits(subnet, images), exported(images)) < 1e-4


def test_a_report_shows_it(supernet, best, subnet, files, tmp_path):
    run(report.main, supernet, best.parent, subnet.parent, "--blocks", files[1], "--output", tmp_path / "report.html")
    assert "mine" in (tmp_path / "report.html").read_text()


def test_a_process_without_blocks_says_what_to_do(best):
    """No file that is read makes a program run another."""
    done = program("--architecture", best)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "no kind of blocks is called 'fused'" in done.stderr and "by --blocks" in done.stderr


def program(*argv):
    command = [sys.executable, ROOT / "calculate_flops.py", *argv]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


def test_blocks_that_have_changed_are_other_blocks(best, files, tmp_path):
    changed = tmp_path / "blocks.py"
    changed.write_text(BLOCKS.replace('act="hard_swish"', 'act="relu"'))
    done = program("--architecture", best, "--blocks", changed)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "fingerprint" in done.stderr and f"{changed} describes other blocks" in done.stderr


def test_a_run_whose_blocks_have_changed_is_refused(supernet, files, work, tmp_path):
    changed = tmp_path / "blocks.py"
    changed.write_text(BLOCKS.replace('act="hard_swish"', 'act="relu"'))
    argv = ["--model", "ShuffleNas", *flags_of(work), "--space", files[0], "--blocks", changed, "--save-dir", supernet]
    command = [sys.executable, ROOT / "train_imagenet.py", *argv, "--num-epochs", "1", "--lr", "0.1"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "holds another run: the blocks of its search space have other layers" in done.stderr


@pytest.fixture
def job(best, supernet):
    """What the search sends to whoever scores."""
    data = open_run_directory(best.parent).flags(DataOptions)
    return TrainedSupernet.open(supernet / "model.params", data, folder=best.parent).job(best.parent)


def test_a_process_that_scores_runs_the_file(job, files, best, tmp_path):
    """The job brings its name; the process has not run it."""
    assert [file for file, _ in job.blocks] == [str(files[1].resolve())]
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    code = (
        "import pickle, sys; from spos.scoring.job import score; from spos.space.architecture import Architecture; "
        "job = pickle.load(open(sys.argv[1], 'rb')); print(score(job, Architecture.parse(*sys.argv[2:])).top1)"
    )
    record = read_json(best)
    words = [str(tmp_path / "job"), str(record["block_choices"]), str(record["channel_choices"])]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, float(done.stdout or -1)) == (0, record["searched_accuracy"]["top1"]), done.stderr


def test_a_worker_with_another_file_refuses(job):
    with pytest.raises(InputError, match="my_blocks.py is not there as the search has it; copy it"):
        make_evaluator(replace(job, blocks=((job.blocks[0][0], "0" * 64),)))


def test_a_script_trains_a_space_of_its_own_file(files, work, tmp_path):
    """No flags mean it: it is written to the run, which goes on with it and with no other."""
    data = replace(open_run_data(work), batch_size=32, holdout=32, update_bn_images=32)
    space = load_space(files[0])
    params = train_supernet(data, tmp_path / "run", space, num_epochs=1, lr=0.1)
    assert load_space(tmp_path / "run" / "space.json") == space
    assert open_run_directory(tmp_path / "run").flags(DataOptions).input_size == 32
    assert train_supernet(data, tmp_path / "run", space, num_epochs=1, lr=0.1) == params
    with pytest.raises(InputError, match="holds a run in another search space"):
        train_supernet(data, tmp_path / "run", replace(space, stem_channels=16), num_epochs=1, lr=0.1)


def open_run_data(work):
    names = ("rec_train", "rec_train_idx", "rec_val", "rec_val_idx")
    files = ("digits.rec", "train.idx", "digits.rec", "val.idx")
    return DataOptions(classes=10, **{name: str(work / file) for name, file in zip(names, files)})


def test_networks_that_are_trained_alone_run_the_file(best, files, work, tmp_path, monkeypatch):
    """A study starts trainings in processes of their own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    record = load_architecture(best)
    recipe = [*flags_of(work), "--num-epochs", "1", "--lr", "0.1"]
    (row,) = train_all([Network(record.architecture, 0)], record.space, recipe, tmp_path, 1)
    assert row["flops"] == read_json(best)["flops"]
    (config,) = tmp_path.glob("networks/*/config.json")
    assert load_space(config).input_size == 32


@pytest.mark.parametrize(
    "flags, words",
    (
        (["--blocks", "missing.py"], ["--blocks missing.py: no such file"]),
        (["--channels-layout", "Small"], ["both name a space"]),
        (["--use-se"], ["--use-se: no stage of", "has se or hard_swish"]),
        (["--last-conv-after-pooling"], ["--last-conv-after-pooling:", "a head of its own"]),
        (
            ["--ignore-first-two-cs", "--space", "nas-bench-macro"],
            ["--ignore-first-two-cs: nas-bench-macro has 1 width,"],
        ),
        (["--strides", "2,2"], ["--strides 2,2 needs 3 entries, not 2"]),
        (["--strides", "2,2,3"], ["entries of 1 or 2"]),
    ),
)
def test_flags_that_a_space_file_excludes(flags, words, files, capsys):
    argv = ["--supernet", "--space", files[0], "--blocks", files[1], *flags]
    fails(calculate_flops.main, argv, capsys, *words)


def test_flags_that_a_space_file_allows(files, capsys):
    argv = [
        "--supernet",
        "--space",
        files[0],
        "--blocks",
        files[1],
        "--width-multiple",
        8,
        "--strides",
        "1,2,2",
        "--json",
    ]
    run(calculate_flops.main, *argv)
    space = json.loads(capsys.readouterr().out)["space"]
    assert (space["width_multiple"], space["strides"]) == (8, [1, 2, 2])
