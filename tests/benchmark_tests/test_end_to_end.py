"""The time of the whole method: the commands are those of the quickstart, and the record says what their logs say."""

import json
import re
import sys

import pytest
from conftest import ROOT, fails

from benchmarks import end_to_end, table
from benchmarks.end_to_end import DATA_FOLDER, PICTURES, STEPS
from spos.core.errors import InputError
from spos.core.flags import run_program
from spos.data.digits import prepare_digits
from spos.runs.run import LOG_FILE

LOGS = {
    "supernet": [{"images_per_second": rate} for rate in (100, 300, 200)],
    "search": [{"seconds": 3.0, "evaluations": 2}, {"seconds": 8.0, "evaluations": 5}],
    "oneshot": [{"images_per_second": 50}, {"val_top1": 0.5}],
    "control": [{"images_per_second": 60}, {"val_top1": 0.5}],
}


def run(argv, tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    assert run_program(end_to_end.main, [*argv, "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed == out.read_text()
    assert set(table.FIELDS) <= set(json.loads(printed))
    return {row["name"]: row for row in json.loads(printed)["rows"]}


@pytest.fixture
def logs_only(monkeypatch):
    """Nothing runs; every stage writes its log, and takes a second more each time."""
    called = []

    def run_command(name, command):
        if "--save-dir" in command:
            folder = end_to_end.Path(command[command.index("--save-dir") + 1])
            folder.mkdir(parents=True)
            (folder / LOG_FILE).write_text("".join(json.dumps(row) + "\n" for row in LOGS[folder.name]))
        called.append(command)
        return float(1 + (len(called) - 1) // len(STEPS))

    monkeypatch.setattr(end_to_end, "run_command", run_command)
    return called


def test_stages_are_told_by_clock_and_log(logs_only, tmp_path, capsys):
    rows = run(("--runs", "2"), tmp_path, capsys)
    assert list(rows) == ["pack", *(step.name for step in STEPS), "all"]
    assert len(logs_only) == 2 * len(STEPS)
    assert rows["supernet"]["seconds"] == 1.5 and rows["supernet"]["seconds_quartiles"] == [1.25, 1.75]
    assert (rows["supernet"]["speed"], rows["supernet"]["unit"]) == (200, "images/s")
    assert (rows["search"]["speed"], rows["search"]["unit"]) == (1.6, "s a candidate")
    assert rows["oneshot"]["speed"] == 50 and "speed" not in rows["report"]
    assert rows["all"]["runs"] == 2
    assert rows["all"]["seconds"] == pytest.approx(1.5 * len(STEPS) + rows["pack"]["seconds"], abs=0.01)


def test_the_images_are_packed_where_the_programs_look(logs_only, monkeypatch, tmp_path, capsys):
    packed = []
    monkeypatch.setattr(end_to_end, "prepare_digits", lambda folder: packed.append(folder))
    run((), tmp_path, capsys)
    training = logs_only[0]
    assert packed == [training[training.index("--data-dir") + 1] + "/digits"]
    assert packed[0].endswith(f"{DATA_FOLDER}/digits") and prepare_digits is not end_to_end.prepare_digits


def test_the_table_has_them_below_the_other_stages(logs_only, tmp_path, capsys):
    run((), tmp_path, capsys)
    text = table.render(table.newest(table.read_lines(str(tmp_path / "results.jsonl"))))
    assert text.startswith("| stage | threads | seconds (s) |")  # alone, without a table of ways
    assert re.search(r"\| `end_to_end`: supernet \| \d+ \| 1 \| 1 to 1 \| 200 images/s \| 200 to 200 \| 1 \|", text)
    assert re.search(r"\| `end_to_end`: report \| \d+ \| 1 \| 1 to 1 \| - \| - \| 1 \|", text)


def test_the_commands_are_those_of_the_quickstart():
    script = (ROOT / "scripts" / "quickstart.sh").read_text()
    theirs = [line.split() for line in re.findall(r"^(?:sh scripts/|env/bin/python -m )(.*)$", script, re.MULTILINE)]
    names = [name for name, *_ in theirs if name != "setup.sh"]
    assert names == [step.script for step in STEPS if step.name != "export"]
    steps = [step for step in STEPS if step.name != "export"]
    for (_, *arguments), own in zip([one for one in theirs if one[0] != "setup.sh"], steps):
        if not own.script.endswith(".sh"):
            assert arguments == [word.format(runs="runs/digits") for word in own.arguments]
            continue
        places, flags = own.arguments[len(PICTURES) :], [word for word in own.arguments if word == "--control"]
        assert arguments == ["--dataset", "digits", *flags] and own.arguments[:2] == ("--dataset", "digits")
        written = (ROOT / "scripts" / own.script).read_text()
        if own.script == "train_oneshot.sh":
            words = re.search(r"--control\) (.*) ;;" if flags else "^(architecture=.*)$", written, re.M)[1]
            for name, value in (word.split("=") for word in words.split()):
                written = written.replace(f"${name}", value)
        for flag, value in zip(places[::2], places[1::2]):  # what follows the images stands in the script
            assert f"{flag} {value.format(runs='runs/digits')}" in written


def test_a_command_that_fails_ends_the_run(monkeypatch, tmp_path, capsys):
    words = "import sys; sys.exit('no space left')"
    with pytest.raises(InputError, match="stage 'pause' ended with code 1: no space left"):
        end_to_end.run_command("pause", [sys.executable, "-c", words])
    broken = lambda step, folder, quick: [sys.executable, "-c", words]  # noqa: E731
    monkeypatch.setattr(end_to_end.Step, "command", broken)
    fails(end_to_end.main, ("--out", str(tmp_path / "out")), capsys, "'supernet' ended", "no space left")
    assert not (tmp_path / "out").exists()


def test_commands_run_with_this_python_and_its_threads(tmp_path):
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['SPOS_PYTHON'] + os.environ['OMP_NUM_THREADS'])"
    assert end_to_end.run_command("pause", [sys.executable, "-c", code, str(tmp_path / "seen")]) > 0
    assert (tmp_path / "seen").read_text() == f"{sys.executable}{end_to_end.num_threads()}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_runs_quickly(tmp_path, capsys):
    rows = run(("--quick",), tmp_path, capsys)
    assert all(row["seconds"] > 0 for row in rows.values())
    assert all(rows[name]["speed"] > 0 for name in ("supernet", "search", "oneshot"))
