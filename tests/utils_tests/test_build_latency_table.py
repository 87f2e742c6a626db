"""The builder of latency tables on a tiny space: what it times, what it writes, how it goes on, what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import SPACE_FILES, SPACES, TINY, data_flags, fails

import search_supernet
from oneshot_nas_network import Supernet
from spos.core.flags import run_program
from spos.engine.compat import mx
from spos.latency.measurements import place_of
from spos.latency.table import LatencyTable
from spos.runs.files import write_json
from spos.runs.journal import read_rows
from spos.runs.run import SUPERNET
from spos.search.domain import Domain
from utils import build_latency_table
from utils.plot import __main__ as plot

SPACE = replace(TINY, min_channel_choice=7)
QUICK = ("--max-rounds", 10, "--passes", 2, "--copies", 2, "--fit-networks", 3, "--held-out-networks", 4)


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    """The parameter file of a supernet, as far as the builder looks: its run says what space it has."""
    folder = tmp_path_factory.mktemp("supernet")
    write_json(folder / "config.json", {"program": "train_imagenet.py", "space": SPACE.to_json(), "options": {}})
    return folder / "model.params"


def build(*argv):
    return run_program(build_latency_table.main, [str(item) for item in argv])


@pytest.fixture(scope="module")
def run(supernet, tmp_path_factory):
    """A finished run that was stopped twice: (folder, rows that were there when it went on)."""
    folder = tmp_path_factory.mktemp("latency") / "run"
    argv = ("--supernet-params", supernet, *QUICK, "--save-dir", folder)
    time_in_turns, lines = build_latency_table.time_in_turns, []
    with pytest.MonkeyPatch.context() as patch:
        for stop_after in (1, 5):
            left = [stop_after]

            def stopping(*args, left=left):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return time_in_turns(*args)

            patch.setattr(build_latency_table, "time_in_turns", stopping)
            assert build(*argv) == 130
            lines.append((folder / "measurements.jsonl").read_text())
    assert build(*argv, "--resume") == 0
    return folder, lines


def test_the_table_serves_a_search(run, rng):
    table = LatencyTable.read(run[0] / "latency.json")
    assert table.space == SPACE and table.held_out_error == table.details["held_out"]["median_error"]
    assert "thread" in table.device and table.versions["mxnet"] == mx.__version__
    domain = Domain(SPACE, latency=table)
    assert all(domain.cost(domain.sample(rng)).latency_ms > 0 for _ in range(10))


def test_a_table_of_a_space_file_serves_a_search_with_a_limit(tmp_path, work, capsys):
    """Of ragged choices, one of which computes nothing; and of a supernet that has not learnt anything."""
    write_json(tmp_path / "mixed.json", SPACE_FILES["mixed"])
    argv = ["--space", tmp_path / "mixed.json", "--classes", 10, *QUICK, "--passes", 1]
    assert build(*argv, "--save-dir", tmp_path / "run") == 0
    table = LatencyTable.read(tmp_path / "run" / "latency.json")
    space = replace(SPACES["mixed"], num_classes=10)
    assert table.space == space and table.blocks_ms[4] == ((0.0,) * 3,)
    net = Supernet(space)
    net.initialize()
    net.save_parameters(str(tmp_path / "model.params"))
    write_json(tmp_path / "config.json", {"options": {"model": SUPERNET}, "space": space.to_json()})
    table = replace(table, scale=1.0, offset_ms=0.0)  # a correction by so few networks may be any
    write_json(tmp_path / "table.json", table.to_json())
    times = sorted(table.latency_ms(space.sample(np.random.default_rng(i))) for i in range(50))
    data = [*data_flags(work, **{"input-size": 16, "strides": "1,2,2"}), "--space", str(tmp_path / "mixed.json")]
    flags = ["--supernet-params", tmp_path / "model.params", "--search-iters", 2, "--population-size", 4, "--topk", 2]
    flags += ["--retain-length", 2, "--flop-max", -1, "--score-max", -1, "--save-dir", tmp_path / "search"]
    flags += ["--latency-table", tmp_path / "table.json", "--latency-max", f"{times[25]:.4f}"]
    assert run_program(search_supernet.main, [*data, *map(str, flags), "--latency-error-max", "-1"]) == 0
    found = read_rows(tmp_path / "search" / "history.jsonl")
    assert len(found) >= 4 and all(row["latency_ms"] <= round(times[25], 4) for row in found)


def test_a_stopped_measurement_goes_on(run):
    folder, lines = run
    text = (folder / "measurements.jsonl").read_text()
    assert [len(part.splitlines()) for part in lines] == [1, 6]
    assert text.startswith(lines[1]) and lines[1].startswith(lines[0])
    places = [place_of(row) for row in map(json.loads, text.splitlines())]
    assert len(places) == len(set(places)) == 2 * (1 + 4 * 4 + 1 + 1)


def test_a_finished_measurement_is_not_repeated(run, supernet, monkeypatch, capsys):
    before = (run[0] / "latency.json").read_bytes()
    monkeypatch.setattr(build_latency_table, "time_in_turns", None)
    assert build("--supernet-params", supernet, *QUICK, "--save-dir", run[0]) == 0
    assert (run[0] / "latency.json").read_bytes() == before
    assert "held-out networks  median error" in capsys.readouterr().out


def test_its_figure(run, tmp_path, capsys):
    outputs = [tmp_path / name for name in ("a.png", "b.png")]
    for output in outputs:
        assert run_program(plot.main, ["latency", str(run[0]), str(run[0]), "--output", str(output)]) == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert "Kendall tau-b" in capsys.readouterr().out


def test_its_held_out_networks(run, tmp_path, capsys):
    argv = ["latency", run[0], "--networks", "csv", "--output", tmp_path / "latency.png"]
    assert run_program(plot.main, [str(item) for item in argv]) == 0
    header, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert header == "flops,measured_ms,predicted_ms,error" and len(rows) == 4
    for row in rows:
        flops, measured, predicted, error = map(float, row.split(","))
        assert flops > 1e4 and measured > 0 and error == pytest.approx(predicted / measured - 1)


def test_a_figure_of_no_run_is_refused(run, supernet, tmp_path, capsys):
    fails(plot.main, ["latency", supernet.parent], capsys, "is not a run of utils.build_latency_table")
    fails(plot.main, ["latency", *[run[0]] * 5], capsys, "at most 4 latency tables")


def test_another_measurement_is_not_overwritten(run, supernet, capsys):
    argv = ["--supernet-params", supernet, *QUICK, "--save-dir", run[0]]
    fails(build_latency_table.main, [*argv, "--batch-size", 2], capsys, "holds another run: --batch-size was 1")


def test_other_threads_are_another_measurement(run, supernet, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    argv = ["--supernet-params", supernet, *QUICK, "--save-dir", run[0]]
    fails(build_latency_table.main, argv, capsys, "the device, or its number of threads, has changed")


@pytest.mark.parametrize(
    "argv, words",
    (
        (("--dtype", "float16"), "no float16 convolutions on a CPU"),
        (("--device", "gpu"), "sees no GPU"),
        (("--fit-networks", 2), "--fit-networks must be at least 3"),
        (("--held-out-networks", 1), "--held-out-networks at least 2"),
        (("--max-rounds", 9), "--max-rounds must be at least 10"),
        (("--error", 0), "must be above 0"),
        (("--supernet-params", "gone.params"), "does not lie in a run"),
        (("--supernet-params", "gone.params", "--use-se"), "leave out flags of the space"),
        (("--supernet-params", "gone.params", "--classes", 3), "leave out flags of the space"),
    ),
)
def test_bad_flags_are_one_line(argv, words, capsys, tmp_path):
    fails(build_latency_table.main, [*argv, "--save-dir", tmp_path / "run"], capsys, words)
    assert not (tmp_path / "run").exists()


def test_a_space_of_too_few_networks_is_refused(supernet, capsys, monkeypatch, tmp_path):
    few = [SPACE.widest((0,) * 4)] * 2
    monkeypatch.setattr(build_latency_table, "draw_parts", lambda _space, counts, _seed: dict.fromkeys(counts, few))
    argv = ["--supernet-params", supernet, "--save-dir", tmp_path / "run"]
    fails(build_latency_table.main, argv, capsys, "too few networks for 'fit': 2, not 3")


def test_processor_time_is_for_one_thread(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    fails(build_latency_table.main, ["--clock", "cpu", "--save-dir", tmp_path], capsys, "set OMP_NUM_THREADS=1")
