"""Tables of flights: what is in the logs, in the document too."""

import json

import msgspec
import pytest
from conftest import ROOT, fails
from pilot_plans import plan
from pilot_tests.test_session import OUTCOME

from spos.pilot.flight import DONE, Flight
from utils.study import __main__ as study
from utils.study.flights import flight_tables, has_flights, load_flights


@pytest.fixture
def logs(tmp_path):
    for name, asked in (("b", {}), ("a", {"model_size_max": 2_000_000, "flops_max_m": 60.0})):
        folder = tmp_path / "logs" / name
        folder.mkdir(parents=True)
        made = plan(asked)
        made.write(folder)
        flight = Flight(made, folder, 1600.0)
        for own in flight.state.stages.values():
            own.state, own.seconds = DONE, 77.0
        flight._write()
        (folder / "outcome.json").write_text(json.dumps(msgspec.to_builtins(OUTCOME)))
    return tmp_path / "logs"


def test_flights_are_tabled_by_name(logs):
    assert has_flights(logs) and not has_flights(ROOT / "logs" / "study-cifar10")
    tables = flight_tables(load_flights(logs))
    rows = tables["flights"].rows
    assert [row[0] for row in rows] == ["a", "b"] and rows[0][1] == "60M FLOPs, 2.0 MB"
    assert rows[1][5] == "95.00% (92.00% to 97.00%)" and rows[1][4] == pytest.approx(1600 / 3600, abs=0.01)
    stages = [row for row in tables["stages"].rows if row[0] == "a"]
    assert [row[1] for row in stages] == [stage.name for stage in plan().stages] and {row[4] for row in stages} == {
        77.0
    }


def test_a_document_gets_their_tables(logs, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- table flights -->\n<!-- end -->\n<!-- table stages -->\n<!-- end -->\n")
    assert study.main([str(logs), "--document", str(page)]) == 0
    assert "| a | 60M FLOPs, 2.0 MB |" in page.read_text()
    assert study.main([str(logs), "--document", str(page), "--check"]) == 0
    (logs / "a" / "outcome.json").write_text("{}")
    fails(study.main, [str(logs), "--document", str(page)], capsys, "says no outcome")


def test_the_documented_flights_are_those_of_the_logs(capsys):
    page = str(ROOT / "docs" / "autopilot.md")
    assert study.main([str(ROOT / "logs" / "autopilot"), "--document", page, "--check"]) == 0
