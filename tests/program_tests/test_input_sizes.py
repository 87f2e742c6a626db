"""A space whose input size is a choice, from end to end on the digits: supernet, search, and the winner alone."""

import json

import pytest
from conftest import fails
from sized_spaces import DIGITS, FILE

import calculate_flops
import search_supernet
import train_imagenet
from spos.core.flags import run_program
from spos.data.flags import DataOptions
from spos.deploy.exported import open_model
from spos.runs.files import read_json, write_json
from spos.runs.journal import read_rows
from spos.space.architecture_file import load_architecture
from spos.space.cost import cost_table, count_architecture
from spos.space.space import SearchSpace
from spos.training.session import train_subnet
from utils import build_latency_table, check_resume, check_search, export_model
from utils.report import __main__ as report

TRAINING = (
    "--model ShuffleNas --dataset digits --num-epochs 1 --batch-size 64 --reduced-dataset-scale 4 "
    "--val-architectures 1 -j 1 --seed 7"
)
SEARCH = (
    "--dataset digits --search-iters 3 --population-size 8 --retain-length 3 --topk 1 --batch-size 180 -j 1 --seed 7 "
    "--flop-max-m 0.4"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    write_json(folder / "sized.json", FILE)
    return folder


def train(folder, name, *flags):
    flags = [*TRAINING.split(), *map(str, flags), "--data-dir", str(folder), "--save-dir", str(folder / name)]
    assert run_program(train_imagenet.main, flags) == 0
    return folder / name


@pytest.fixture(scope="module")
def supernet(folder):
    return train(folder, "supernet", "--space", folder / "sized.json")


@pytest.fixture(scope="module")
def search(folder, supernet):
    flags = [*SEARCH.split(), "--data-dir", str(folder), "--supernet-params", str(supernet / "model.params")]
    assert run_program(search_supernet.main, [*flags, "--save-dir", str(folder / "search")]) == 0
    return folder / "search"


def test_images_are_loaded_at_the_largest_size(supernet):
    config = read_json(supernet / "config.json")
    assert config["options"]["input_size"] == config["preprocessing"]["input_size"] == 32
    assert SearchSpace.from_json(config["space"]) == DIGITS


def test_a_search_scores_both_sizes(search):
    rows = read_rows(search / "history.jsonl")
    assert {row["input_size"] for row in rows} == {24, 32} and all(row["flops"] <= 400_000 for row in rows)
    best = load_architecture(search / "best.json")
    assert best.space == DIGITS and best.architecture.input_size == read_json(search / "best.json")["input_size"]


@pytest.fixture
def small(search, tmp_path):
    """The architecture file of the best at the smaller size."""
    record = read_json(search / "best.json")
    best = load_architecture(search / "best.json").architecture
    small = DIGITS.validate(type(best)(best.block_choices, best.channel_choices, 24))
    cost = cost_table(DIGITS).cost(small)
    write_json(tmp_path / "small.json", {**record, "input_size": 24, "flops": cost.macs, "params": cost.params})
    return tmp_path / "small.json"


def test_the_winner_is_trained_counted_and_exported_at_its_size(folder, supernet, search, small, tmp_path, capsys):
    data = DataOptions(dataset="digits", data_dir=str(folder), batch_size=64, num_workers=1)
    begin = str(supernet / "model.params")
    params = train_subnet(data, tmp_path / "subnet", small, num_epochs=1, init_from_supernet=begin)
    config = read_json(tmp_path / "subnet" / "config.json")
    assert config["options"]["input_size"] == config["preprocessing"]["input_size"] == 24
    assert SearchSpace.from_json(config["space"]) == DIGITS.at(24) and "input_size" not in config["architecture"]
    counted = count_architecture(DIGITS, load_architecture(small).architecture)
    assert (config["architecture"]["flops"], config["architecture"]["params"]) == counted
    capsys.readouterr()
    assert run_program(calculate_flops.main, ["--architecture", str(small), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["input_size"], counts["flops"], counts["params"]) == (24, *counted)
    output = tmp_path / "exported"
    assert run_program(export_model.main, ["--params", str(params), "--output", str(output), "--format", "mxnet"]) == 0
    assert open_model(output).info.preprocessing.input_size == 24
    runs = list(map(str, (supernet, search, tmp_path / "subnet")))
    assert run_program(report.main, [*runs, "--output", str(tmp_path / "page.html")]) == 0
    assert "24 px" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_training_ends_with_the_same_bits(folder, tmp_path, capsys):
    recipe = TRAINING.replace("--num-epochs 1", "--num-epochs 2")
    recipe += f" --save-steps 1 --sampling fair --space {folder / 'sized.json'} --data-dir {folder}"
    flags = ["--kills", "2", "--folder", str(tmp_path / "check"), "--recipe", recipe]
    assert run_program(check_resume.main, flags) == 0
    assert "after 2 kills" in capsys.readouterr().out


@pytest.mark.timeout(300)
def test_a_killed_search_ends_with_the_same_history(folder, supernet, search, tmp_path, capsys):
    flags = ["--kills", "1", "--processes", "2", "--folder", str(tmp_path / "check")]
    flags += ["--recipe", f"{SEARCH} --data-dir {folder}", "--supernet-params", str(supernet / "model.params")]
    assert run_program(check_search.main, flags) == 0
    assert "equal byte for byte" in capsys.readouterr().out
    assert (tmp_path / "check" / "whole" / "history.jsonl").read_bytes() == (search / "history.jsonl").read_bytes()


def test_refusals(folder, supernet, tmp_path, capsys):
    space, run = ["--space", folder / "sized.json"], ["--save-dir", tmp_path / "run"]
    wrong = [*TRAINING.split(), *space, "--data-dir", folder, *run, "--input-size", "24"]
    fails(train_imagenet.main, wrong, capsys, "images are loaded at 32 px, not 24; give --input-size 32")
    wrong = [*SEARCH.split(), "--supernet-params", supernet / "model.params", "--data-dir", folder, *run]
    fails(search_supernet.main, [*wrong, "--input-size", "24"], capsys, "images are loaded at 32 px, not 24")
    fails(calculate_flops.main, ["--distribution", "9", *space], capsys, "give --input-size, one of 24, 32")
    fails(calculate_flops.main, ["--supernet", *space, "--input-size", "28"], capsys, "28 is not one of space 'sized'")
    fails(
        build_latency_table.main, [*space, *run], capsys, "a table is of one input size; give --input-size, one of 24"
    )
    assert not (tmp_path / "run").exists()


def test_a_latency_table_of_each_size_limits_a_search(folder, supernet, tmp_path, capsys):
    tables = []
    for size in (24, 32):
        flags = ["--supernet-params", str(supernet / "model.params"), "--input-size", str(size), "--passes", "1"]
        flags += ["--fit-networks", "3", "--held-out-networks", "2", "--copies", "1", "--max-rounds", "10"]
        assert run_program(build_latency_table.main, [*flags, "--save-dir", str(tmp_path / str(size))]) == 0
        tables.append(tmp_path / str(size) / "latency.json")
        table = read_json(tables[-1])
        assert table["input_size"] == size
        write_json(tables[-1], {**table, "scale": 1.0, "offset_ms": 0.0})  # a few networks fit no correction
    flags = [
        *SEARCH.split(),
        "--data-dir",
        folder,
        "--supernet-params",
        supernet / "model.params",
        "--search-iters",
        "1",
    ]
    flags += ["--latency-table", ",".join(map(str, tables)), "--latency-error-max", "-1", "--latency-max", "1000"]
    assert run_program(search_supernet.main, [*map(str, flags), "--save-dir", str(tmp_path / "search")]) == 0
    assert all(row["latency_ms"] > 0 for row in read_rows(tmp_path / "search" / "history.jsonl"))
    capsys.readouterr()
    fails(search_supernet.main, [*flags, "--save-dir", tmp_path / "x", "--latency-table", tables[0]], capsys, "24 px")
