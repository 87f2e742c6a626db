"""The figure of what architectures cost stage by stage."""

import pytest
from conftest import TINY
from drawn_spaces import SPACES

from spos.core.flags import run_program
from spos.runs.files import write_json
from spos.space.architecture_file import ArchitectureRecord, load_architecture, published_architectures
from spos.space.cost import ZERO, count_architecture
from utils.plot import __main__ as plot
from utils.plot.stages import stage_costs


@pytest.mark.parametrize("name", published_architectures())
def test_stages_add_up_to_the_architecture(name):
    record = load_architecture(name)
    parts = stage_costs(record)
    assert list(parts) == ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "head, classifier"]
    assert parts["stem"] == (16 * 112 * 112 * 27, 16 * 27 + 32)
    assert sum(parts.values(), ZERO) == count_architecture(record.space, record.architecture)


@pytest.mark.parametrize("name", SPACES)
def test_stages_of_any_space_add_up(name, rng):
    space = SPACES[name]
    architecture = space.sample(rng)
    parts = stage_costs(ArchitectureRecord(space, architecture, {}))
    assert len(parts) == len(space.stages) + 2
    assert sum(parts.values(), ZERO) == count_architecture(space, architecture)


def test_small_costs_are_in_thousands(tmp_path, rng):
    path, output = tmp_path / "best.json", tmp_path / "stages.svg"
    write_json(path, ArchitectureRecord(SPACES["tiny"], SPACES["tiny"].sample(rng), {}).to_json())
    assert run_program(plot.main, ["stages", "--architecture", str(path), "--output", str(output)]) == 0
    assert all(f"<!-- {text} -->" in output.read_text() for text in ("FLOPs (M)", "params (k)"))


def test_stages_are_plotted_for_several_architectures(tmp_path, capsys):
    flags = ["stages", "--architecture", "oneshot-s+", "--architecture", "oneshot"]
    for name in ("one", "two"):
        assert run_program(plot.main, [*flags, "--output", str(tmp_path / f"{name}.png")]) == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    printed = capsys.readouterr().out
    assert "oneshot-s+  291.476 M FLOPs, 3.542 M params (stem 1.9%, 0.0%; stage 1 20.8%, 0.5%;" in printed
    assert printed.index("oneshot-s+") < printed.index("oneshot ")


def test_stages_of_all_published_architectures_are_the_default(tmp_path):
    output = tmp_path / "stages.svg"
    assert run_program(plot.main, ["stages", "--output", str(output)]) == 0
    assert all(f"<!-- {name} -->" in output.read_text() for name in (*published_architectures(), "head, classifier"))


def test_spaces_of_different_depth_are_not_compared(tmp_path, capsys, rng):
    path = tmp_path / "tiny.json"
    write_json(path, ArchitectureRecord(TINY, TINY.sample(rng), {}).to_json())
    assert run_program(plot.main, ["stages", "--architecture", str(path), "--architecture", "oneshot"]) == 2
    assert "oneshot has 4 stages" in capsys.readouterr().err
