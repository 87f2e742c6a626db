"""Run directories, and architecture files: read with a clear refusal of what does not fit."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from spos.core.errors import InputError
from spos.core.flags import RunOptions, run_program
from spos.runs import run
from spos.runs.files import read_json, write_json
from spos.runs.run import CONFIG_FILE, find_config, open_run, open_run_directory, run_folder
from spos.space.architecture_file import ARCHITECTURES, ArchitectureRecord, load_architecture, published_architectures
from spos.space.space_file import search_space

# --- Architecture files ---


@pytest.fixture
def record(rng):
    space = search_space(use_se=True, num_classes=10, input_size=32, strides=(1, 1, 2, 2, 2))
    return ArchitectureRecord(space, space.sample(rng), {"top1": 0.75, "from": {"seed": 1}})


def test_an_architecture_file_survives(record, tmp_path):
    write_json(tmp_path / "best.json", record.to_json())
    assert load_architecture(tmp_path / "best.json") == record


@pytest.mark.parametrize("name", published_architectures())
def test_published_architectures_are_consistent(name):
    record = load_architecture(name)
    assert record == load_architecture(ARCHITECTURES / f"{name}.json")
    assert (record.space.input_size, record.space.num_classes) == (224, 1000)


def test_three_architectures_are_published():
    assert published_architectures() == ["oneshot", "oneshot+", "oneshot-s+"]


@pytest.mark.parametrize(
    "change, message",
    (
        ({"block_choices": [0] * 19}, "19 block choices.*best.json"),
        ({"channel_choices": [0] * 19 + [10]}, "channel choice 10 of choice block 19"),
        ({"block_choices": [0.5] * 20}, "block_choices must be a list of integers"),
        ({"channel_choices": [True] * 20}, "channel_choices must be a list of integers"),
        ({"channel_choices": "0, 0"}, "channel_choices must be a list of integers"),
        ({"flops": 1}, "states 1 FLOPs"),
        ({"params": None}, "None params, its choices give"),
        ({"schema": 2}, "has schema 2, this version reads 1"),
        ({"fingerprint": "0" * 16}, "fingerprint 0000000000000000 does not fit its space"),
        ({"space": {}}, "search space is not described by the expected fields"),
        ({"space": None}, "search space is not described by the expected fields"),
    ),
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_contradictions_in_an_architecture_file_are_refused(change, message, record, tmp_path):
    write_json(tmp_path / "best.json", {**record.to_json(), **change})
    with pytest.raises(InputError, match=message):
        load_architecture(tmp_path / "best.json")


@pytest.mark.parametrize(
    "key", ("schema", "space", "fingerprint", "block_choices", "channel_choices", "flops", "params")
)
def test_an_incomplete_architecture_file_is_refused(key, record, tmp_path):
    content = record.to_json()
    del content[key]
    write_json(tmp_path / "best.json", content)
    with pytest.raises(InputError, match=f"is not an architecture file: it lacks {key}"):
        load_architecture(tmp_path / "best.json")


def test_json_of_another_kind_is_no_architecture_file(tmp_path):
    for content, message in (([1, 2], "is a list of 2; a front has a file"), ("text", "is not an architecture file")):
        write_json(tmp_path / "best.json", content)
        with pytest.raises(InputError, match=message):
            load_architecture(tmp_path / "best.json")


def leaves(value, path=()):
    """Path and value of everything inside plain JSON, containers included."""
    if path:
        yield path, value
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(item, (*path, key))


def test_a_wrong_type_anywhere_in_a_space_is_one_clear_error(record):
    values = record.space.to_json()
    for path, old in leaves(values):
        for new in (None, "x", "2", 1.5, -1, [], {}, [[]], True):
            if type(new) is type(old) or (type(old), type(new)) == (float, int):
                continue
            damaged = json.loads(json.dumps(values))
            place = damaged
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = new
            with pytest.raises(InputError):
                print(f"{path}: {old!r} -> {new!r}")
                type(record.space).from_json(damaged, "best.json")


@pytest.mark.parametrize("name", ("oneshot-xl", "nowhere/best.json", "oneshot.json", ""))
def test_an_unknown_architecture_names_the_published_ones(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no architecture .*oneshot, oneshot\+, oneshot-s\+"):
        load_architecture(name)


# --- Run directories ---

CONFIG = {
    "program": "train.py",
    "space": {"layout": "OneShot"},
    "options": {"lr": 0.1, "batch_size": 64, "save_dir": "a"},
}


def changed(**options):
    return {**CONFIG, "options": {**CONFIG["options"], **options}}


def test_a_new_run_directory_gets_its_config(tmp_path):
    assert read_json(open_run(tmp_path / "run", CONFIG) / CONFIG_FILE) == CONFIG


@pytest.mark.parametrize("must_resume", (False, True))
def test_the_same_command_enters_its_run_again(must_resume, tmp_path):
    open_run(tmp_path / "run", CONFIG)
    (tmp_path / "run" / "model.params").write_text("weights")
    assert open_run(tmp_path / "run", CONFIG, must_resume) == tmp_path / "run"


@pytest.mark.parametrize(
    "before, now, words",
    (
        ({"native": "0123"}, {"native": "4567"}, "native kernels (0123) and goes on with native kernels (4567)"),
        ({"native": None}, {"native": "4567"}, "MXNet's operators and goes on with native kernels (4567)"),
        ({"mxnet": "1.9.1"}, {"native": "4567"}, "MXNet's operators and goes on with native kernels (4567)"),
        ({"native": "0123"}, {"native": None}, "native kernels (0123) and goes on with MXNet's operators"),
        ({"native": "0123"}, {"native": "0123"}, ""),
        ({"mxnet": "1.9.1"}, {"native": None}, ""),
        (None, {"native": "4567"}, ""),  # nothing is known of it
    ),
)
def test_a_run_may_go_on_with_other_kernels_and_says_so(before, now, words, tmp_path, capsys):
    open_run(tmp_path, {**CONFIG, "versions": before})
    open_run(tmp_path, {**CONFIG, "versions": now})
    said = capsys.readouterr().err
    assert (words in said and len(said.splitlines()) == 1) if words else not said
    assert read_json(tmp_path / CONFIG_FILE)["versions"] == before  # what it began with


def test_flags_that_are_no_part_of_the_run_may_change(tmp_path):
    open_run(tmp_path / "run", CONFIG)
    open_run(tmp_path / "run", changed(save_dir="b", num_workers=2, log_interval=1))
    assert read_json(tmp_path / "run" / CONFIG_FILE) == CONFIG


def test_a_run_goes_on_when_flags_were_added_that_are_not_set(tmp_path):
    open_run(tmp_path / "run", CONFIG)
    open_run(tmp_path / "run", changed(init_params="", use_se=False, classes=0))
    assert read_json(tmp_path / "run" / CONFIG_FILE) == CONFIG


@pytest.mark.parametrize(
    "config, message",
    (
        (changed(batch_size=32), "--batch-size was 64, now it is 32"),
        (changed(use_se=True), "--use-se was None, now it is True"),
        ({**CONFIG, "program": "search.py"}, "a run of another program"),
        ({**CONFIG, "space": {"layout": "ShuffleNetV2+"}}, "a run in another search space"),
    ),
)
def test_another_run_is_refused_by_name(config, message, tmp_path):
    open_run(tmp_path / "run", CONFIG)
    with pytest.raises(InputError, match=message):
        open_run(tmp_path / "run", config)
    assert read_json(tmp_path / "run" / CONFIG_FILE) == CONFIG


def test_logs_that_a_shell_writes_may_be_there(tmp_path):
    """By their name, or because this process writes them."""
    (tmp_path / "run" / "lost+found").mkdir(parents=True)
    (tmp_path / "run" / "slurm-17.out").write_text("")
    code = "import sys\nfrom spos.runs.run import open_run\n"
    code += "open_run(sys.argv[1], {'program': 'a', 'options': {}, 'space': None})"
    with open(tmp_path / "run" / "what I see", "w") as output:
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True, cwd=ROOT, stderr=output)
    assert (tmp_path / "run" / CONFIG_FILE).is_file()


@pytest.mark.parametrize(
    "name, key, now, same",
    (
        ("latency_table", "latency_table_sha256", "moved/latency.json", True),  # its content decides
        ("init_params", "init_params_sha256", "", False),
        ("teacher", "teacher_sha256", "./data/train.rec", True),
        ("space", "space", "tiny", True),
        ("blocks", "fingerprint", "moved/blocks.py", True),
        ("rec_train", "", "data/../data/train.rec", True),
        ("rec_train", "", "other/train.rec", False),
        ("teacher_params", "", "./data//train.rec", True),
        ("recipe", "", "./data/train.rec", False),  # no path
    ),
)
def test_how_a_file_is_spelled_does_not_make_another_run(name, key, now, same, tmp_path):
    digest = {key: "0" * 64} if key else {}
    config = {**CONFIG, **digest, "options": {**CONFIG["options"], name: "data/train.rec"}}
    changed = {**config, "options": {**config["options"], name: now}}
    open_run(tmp_path / "run", config)
    if same:
        open_run(tmp_path / "run", changed)
        return
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} was data/train.rec"):
        open_run(tmp_path / "run", changed)


def test_blocks_that_are_described_otherwise_are_another_run(tmp_path):
    """An older run may not say what they were."""
    config = {**CONFIG, "fingerprint": "0" * 16}
    open_run(tmp_path / "run", config)
    with pytest.raises(InputError, match=r"the blocks of its search space have other layers now .* \(--blocks\)"):
        open_run(tmp_path / "run", {**config, "fingerprint": "1" * 16})
    open_run(tmp_path / "old", CONFIG)
    open_run(tmp_path / "old", config)


@pytest.mark.parametrize("key, flag", (("supernet_sha256", "--supernet-params"), ("teacher_sha256", "--teacher")))
def test_another_content_is_another_run_whatever_its_name(key, flag, tmp_path):
    config = {**CONFIG, key: "0" * 64}
    open_run(tmp_path / "run", config)
    with pytest.raises(InputError, match=f"the content of {flag} has changed"):
        open_run(tmp_path / "run", {**config, key: "1" * 64})


def test_the_content_of_every_file_of_a_run_is_compared():
    """What is not in this list would change without a word."""
    assert set(run.FILES_OF_A_RUN.values()) - {"space", "fingerprint"} <= set(run.INPUTS_OF_A_RUN)


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        open_run(tmp_path, CONFIG)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("leftover", (run.LISTS_FOLDER, f".{CONFIG_FILE}.x1y2z3"))
def test_a_run_that_was_killed_before_its_config_can_start_again(leftover, tmp_path):
    (tmp_path / leftover).mkdir()
    open_run(tmp_path, CONFIG)
    assert read_json(tmp_path / CONFIG_FILE) == CONFIG


def test_resuming_needs_a_run(tmp_path):
    with pytest.raises(InputError, match="--resume: there is no run in"):
        open_run(tmp_path / "run", CONFIG, must_resume=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", ([], {"program": "train.py"}, {**CONFIG, "options": []}), ids=str)
def test_a_damaged_config_is_refused(config, tmp_path):
    write_json(tmp_path / CONFIG_FILE, config)
    with pytest.raises(InputError, match="holds"):
        open_run(tmp_path, CONFIG)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")  # a folder without permission would not stop root
    assert run_program(lambda argv: open_run(tmp_path / "file" / "run", CONFIG)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("error: Not a directory")


def test_the_config_beside_a_file_is_found(tmp_path):
    open_run(tmp_path / "run", CONFIG)
    assert find_config(tmp_path / "run" / "model.params") == CONFIG
    assert find_config(tmp_path / "elsewhere.params") is None


@pytest.mark.parametrize("key", ["supernet_sha256", "architecture", "init_params_sha256", "data"])
def test_a_run_on_other_inputs_under_the_same_flags_is_refused(tmp_path, key):
    """The same flags may name a file that has changed since: old results must not be mixed with new ones."""
    config = {"program": "p.py", "options": {"lr": 1}, "space": {}, key: "before"}
    open_run(tmp_path / "run", config)
    open_run(tmp_path / "run", config)
    with pytest.raises(InputError, match="another"):
        open_run(tmp_path / "run", {**config, key: "now"})


# --- Runs of the programs ---


def make_run(folder, program="train_imagenet.py", **options):
    write_json(folder / CONFIG_FILE, {"program": program, "options": options, "space": None})
    return folder


@pytest.mark.parametrize(
    "program, options, kind",
    (
        ("train_imagenet.py", {"model": "ShuffleNas"}, "supernet"),
        ("train_imagenet.py", {"model": "ShuffleNas_fixArch"}, "subnet"),
        ("train_imagenet.py", {"model": "resnet18_v1"}, "network"),
        ("train_imagenet.py", {}, "network"),
        ("search_supernet.py", {}, "search"),
    ),
)
def test_a_run_knows_its_kind(program, options, kind, tmp_path):
    found = open_run_directory(make_run(tmp_path / "run", program, **options))
    assert (found.kind, found.name, dict(found.options)) == (kind, "run", options)


def test_flags_of_a_run_are_read_as_a_group(tmp_path):
    found = open_run_directory(make_run(tmp_path, seed=7, forgotten=1))
    assert found.flags(RunOptions) == RunOptions(seed=7)
    assert found.rows("log.jsonl") == []


@pytest.mark.parametrize(
    "config, message",
    (
        (None, "it has no config.json"),
        ([], "is not of a run of"),
        ({"program": "other.py", "options": {}}, "is not of a run of"),
        ({"program": "train_imagenet.py"}, "is not of a run of"),
    ),
)
def test_folders_that_are_no_runs_are_refused(config, message, tmp_path):
    if config is not None:
        write_json(tmp_path / CONFIG_FILE, config)
    with pytest.raises(InputError, match=message):
        open_run_directory(tmp_path)
    with pytest.raises(InputError, match="gone is no folder"):
        open_run_directory(tmp_path / "gone")


def test_the_run_of_a_file_is_found_from_its_checkpoints_too(tmp_path):
    run_path = make_run(tmp_path / "run").resolve()
    assert run_folder(run_path / "model.params") == run_path
    assert run_folder(run_path / "checkpoints" / "epoch-0001" / "model.params") == run_path
    assert run_folder(tmp_path / "model.params") is None


def test_a_flag_that_may_change_is_written_anew(tmp_path):
    open_run(tmp_path / "run", CONFIG)
    other = changed(batch_size=32)
    open_run(tmp_path / "run", other, may_change=("batch_size",))
    assert read_json(tmp_path / "run" / CONFIG_FILE) == other


def config_on(contents, **options):
    images = {"contents": contents} if contents else {}
    return {"program": "p.py", "options": {"lr": 1, "data_dir": "disk1", **options}, "space": {}, **images}


def test_a_run_goes_on_when_its_images_have_moved(tmp_path):
    open_run(tmp_path / "run", config_on({"test": "abc"}))
    moved = config_on({"test": "abc"}, data_dir="/mnt/disk2", rec_train="/mnt/disk2/train.rec")
    open_run(tmp_path / "run", moved)
    assert read_json(tmp_path / "run" / CONFIG_FILE) == moved


@pytest.mark.parametrize("data_dir, message", (("disk1", "its images have changed since"), ("disk2", "--data-dir was")))
def test_a_run_on_other_images_is_refused(tmp_path, data_dir, message):
    open_run(tmp_path / "run", config_on({"test": "abc"}))
    with pytest.raises(InputError, match=message):
        open_run(tmp_path / "run", config_on({"test": "abd"}, data_dir=data_dir))
    assert read_json(tmp_path / "run" / CONFIG_FILE)["contents"] == {"test": "abc"}


def test_an_older_run_goes_on_and_says_once_that_it_does_not_know_its_images(tmp_path, capsys):
    open_run(tmp_path / "run", config_on(None))
    with pytest.raises(InputError, match="--data-dir was disk1, now it is disk2"):
        open_run(tmp_path / "run", config_on({"test": "abc"}, data_dir="disk2"))
    for _ in range(3):
        open_run(tmp_path / "run", config_on({"test": "abc"}))
    assert capsys.readouterr().err.count("does not say which images it began with") == 1
    assert read_json(tmp_path / "run" / CONFIG_FILE)["contents"] == {"test": "abc"}


FOREIGN = {
    "a package": '{"name": "app", "version": "1.0", "options": {"port": 80}}',
    "a model": '{"architectures": ["Bert"], "model_type": "bert", "options": {}}',
    "another program": '{"program": "webpack", "entry": "a.js"}',
    "a list": '[{"program": "train_imagenet.py"}]',
    "a number": "5",
    "text": '"train"',
    "no JSON": "// settings\n{port: 80}\n",
    "no text": "\x00\x01",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_the_config_of_another_program_is_none_of_a_run(content, tmp_path):
    for folder in (tmp_path, tmp_path / "checkpoints" / "v2"):
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / CONFIG_FILE).write_text(content)
        assert run_folder(folder / "model.params") is None
    if content != FOREIGN["a list"]:
        assert find_config(tmp_path / "model.params") is None
        with pytest.raises(InputError):
            open_run_directory(tmp_path)


@pytest.mark.parametrize(
    "change",
    (
        {"options": []},
        {"options": {"lr": [0.1]}},
        {"options": {"lr": {"a": 1}}},
        {"space": []},
        {"architecture": "oneshot"},
        {"versions": ["1.9"]},
        {"preprocessing": 3},
        {"data": None},
    ),
)
def test_a_damaged_config_of_a_run_is_one_line(change, tmp_path):
    folder = make_run(tmp_path / "run", model="ShuffleNas")
    write_json(folder / CONFIG_FILE, {**read_json(folder / CONFIG_FILE), **change})
    for read in (open_run_directory, lambda path: find_config(path / "model.params")):
        with pytest.raises(InputError, match="config.json"):
            read(folder)


@pytest.mark.parametrize(
    "options",
    (
        {"seed": "0"},
        {"seed": -1},
        {"seed": 0.5},
        {"seed": None},
        {"save_dir": 3},
        {"resume": 1},
        {"resume": "yes"},
    ),
)
def test_values_that_a_flag_cannot_have_are_refused(options, tmp_path):
    found = open_run_directory(make_run(tmp_path / "run", model="ShuffleNas", **options))
    with pytest.raises(InputError, match=f"config.json: {next(iter(options))} cannot be"):
        found.flags(RunOptions)


def test_folders_whose_names_are_no_text_stay_in_a_config(tmp_path):
    name = os.fsdecode(b"r\xe9sum\xe9")
    found = open_run_directory(make_run(tmp_path / "run", model="ShuffleNas", save_dir=name))
    assert found.flags(RunOptions).save_dir == name
