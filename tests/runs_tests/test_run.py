"""Files: written whole or not at all, read with a clear refusal of what does not fit."""

import json
import os
import stat

import pytest

from spos.core.errors import InputError
from spos.core.flags import run_program
from spos.runs import run
from spos.runs.files import read_json, to_text, write_atomic, write_json
from spos.runs.journal import Journal
from spos.runs.run import CONFIG_FILE, find_config, open_run
from spos.space.architecture_file import ARCHITECTURES, ArchitectureRecord, load_architecture, published_architectures
from spos.space.space import search_space

# --- Writing whole files ---


@pytest.mark.parametrize("content", ("text é\n", b"\x00\xff"))
def test_what_is_written_is_read(content, tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_atomic(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("step", ("fsync", "chmod", "replace"))
def test_a_failure_while_writing_leaves_the_old_file(step, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_is_renamed_only_after_it_is_on_disk(tmp_path, monkeypatch):
    steps = []

    def noting(name, call):
        return lambda *args: (steps.append(name), call(*args))

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    write_atomic(tmp_path / "file", "text")
    assert steps == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_json_is_readable_and_survives(tmp_path):
    record = {"a": [1, 2, 3], "b": {"c": [], "d": [[1, 2], [3]]}, "text": "[ 1,  2 ]", "n": None}
    write_json(tmp_path / "r.json", record)
    assert read_json(tmp_path / "r.json") == record
    assert '"a": [1, 2, 3]' in to_text(record)


@pytest.mark.parametrize("content", (b"", b"{", b"\xff\xfe", b"{'a': 1}"))
def test_files_that_are_no_json_are_refused(content, tmp_path):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="r.json is not a JSON file"):
        read_json(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.json does not exist"):
        read_json(tmp_path / "nothing.json")


# --- Journal ---


def test_rows_are_on_disk_when_append_returns(tmp_path):
    journal = Journal(tmp_path / "runs" / "log.jsonl")
    journal.append({"epoch": 0})
    journal.append({"epoch": 1})
    assert Journal(journal.path).rows == journal.rows == [{"epoch": 0}, {"epoch": 1}]


@pytest.mark.parametrize("torn", (b"{", b'{"epoch": 2', b'{"epoch": 2}', b"\xff"))
def test_a_torn_last_line_is_dropped(torn, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"epoch": 0}\n{"epoch": 1}\n' + torn)
    journal = Journal(path)
    journal.append({"epoch": 2})
    assert [row["epoch"] for row in journal.rows] == [row["epoch"] for row in Journal(path).rows] == [0, 1, 2]


@pytest.mark.parametrize("damaged", (b'{"epoch": ', b"", b"\xff", b"5", b"[]"))
def test_any_other_damaged_line_is_refused(damaged, tmp_path):
    path = tmp_path / "log.jsonl"
    content = b'{"epoch": 0}\n' + damaged + b'\n{"epoch": 2}\n'
    path.write_bytes(content)
    with pytest.raises(InputError, match="log.jsonl line 2 is damaged"):
        Journal(path)
    assert path.read_bytes() == content


def test_keep_drops_rows_from_the_file_too(tmp_path):
    journal = Journal(tmp_path / "log.jsonl")
    for epoch in range(4):
        journal.append({"epoch": epoch})
    journal.keep(lambda row: row["epoch"] < 2)
    journal.append({"epoch": 9})
    assert [row["epoch"] for row in Journal(journal.path).rows] == [0, 1, 9]


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
    write_json(tmp_path / "best.json", [1, 2])
    with pytest.raises(InputError, match="is not an architecture file"):
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
