"""Layers: rooms import each other downwards only, nothing imports in a circle, one module imports MXNet."""

import importlib
import operator
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from utils.plot.rooms import (
    PROGRAMS,
    ROOMS,
    as_module,
    imported_names,
    module_graph,
    module_name,
    python_files,
    room_of,
)

# What loads MXNet, by room; everything else in spos/ runs without it.
WITH_MXNET = {
    "engine": "batch_norm cluster compat depthwise devices function graph_file parameters resizing slicing symbols",
    "data": "arrays cifar digits loader pixels prepared registry",
    "execution": "graphs inferred native parts scored trained",
    "scoring": "accuracy candidate job many supernet trained",
    "deploy": (
        "calibration candidates evaluation export exported formats int8 onnx prediction quantization rewrites subnet "
        "trained"
    ),
    "latency": "graphs",
    "counting": "symbol",
    "training": (
        "aligned assembly averaging checkpoint initial_values losses meter network optimizers path_trainer progress "
        "session teachers trainer validation zoo"
    ),
    "search": "fine_tuning session",
    "study": "alone finals matched rank recipes strategies supernet_oracle",
    "pilot": "look measure results session",
}
# Modules without a test file of their name (tests/ROOM_tests/test_MODULE.py), by room, each with the reason.
UNTESTED = {
    "counting": {
        "flags": "test_calculate_flops.py has the table of its refusals",
        "profile": "test_micronet.py compares its tables with the published",
        "summary": "test_calculate_flops.py runs the program on it",
    },
    "data": {
        "flags": "a declaration; tests/data_tests/test_registry.py compares its choices with what can be opened",
    },
    "deploy": {
        "flags": "tables without rules: the tests of the programs that have them parse them",
        "int8": "needs a run with held-out images: utils_tests/test_export_programs.py",
        "prediction": "utils_tests/test_predict.py, with its program",
        "trained": "needs a run: utils_tests/test_export_programs.py",
    },
    "engine": {
        "flags": "tables without rules: the tests of the programs that have them parse them",
    },
    "latency": {
        "flags": "a table without rules: counting_tests and search_tests parse it",
    },
    "runs": {
        "schema": "types alone: test_json.py checks values by them",
    },
    "scoring": {
        "many": "needs runs of supernets: utils_tests/test_rank_correlation.py",
    },
    "space": {
        "architecture_file": "test_run.py writes and reads the files of a run",
        "names": "test_network.py compares them with the names of real networks",
        "schema": "types alone: test_space.py and test_space_file.py read by them",
        "stages": "test_space.py and test_space_file.py make spaces of them",
    },
    "pilot": {
        "measure": "runs trainings: test_session.py makes a plan by it",
        "outcome": "test_session.py reads and shows one",
        "rates": "numbers alone: test_times.py computes with them",
    },
    "study": {
        "flags": "three option groups; the programs' tests fill them",
        "supernet_oracle": "test_search_program.py compares searches by a real supernet",
    },
    "utils": {
        "kinds": "test_check_files.py reads one of each kind, sound and damaged",
        "mutations": "test_check_files.py damages files by it",
        "reading": "test_check_files.py reads by it",
        "build_native": "native_tests/test_command.py runs its parts",
        "check_resume": "test_training_programs.py runs it on a real training",
        "check_search": "test_search_program.py runs it on a real search",
        "export_model": "test_export_programs.py runs it",
        "merge_bn": "test_export_programs.py runs it",
        "quantize": "test_export_programs.py runs it",
        "summarize": "test_programs.py runs it on a pipeline",
        "blocks": "test_readme_figures.py draws it",
        "grid": "drawn by supernet: test_readme_figures.py draws it",
        "diagrams": "drawn by blocks and supernet: test_readme_figures.py draws it",
        "supernet": "test_readme_figures.py draws it",
        "warm_up": "test_readme_figures.py draws it",
        "classification": "test_evaluate.py writes its figures",
        "evaluation": "test_report.py shows it on a page",
        "style": "colours and saving, in every figure: test_plot.py runs `utils.plot` on it",
        "latency": "test_build_latency_table.py draws it",
        "ranking": "test_rank_correlation.py draws it",
        "strategies": "test_compare_search.py draws it",
        "search": "test_plot.py runs `utils.plot` on it",
        "training": "test_plot.py runs `utils.plot` on it",
        "architecture": "test_report.py reads the page that has it",
        "flight": "pilot_tests/test_session.py reads the page that has it",
        "autopilot": "pilot_tests/test_session.py runs it",
        "lineage": "test_report.py reads the page that has it",
        "page": "test_report.py reads the page that has it",
        "plots": "test_report.py reads the page that has it",
        "result": "test_report.py reads the page that has it",
        "runs": "test_report.py reads the page that has it",
        "sections": "test_report.py reads the page that has it",
        "figures": "test_study.py compares the document with it",
        "logs": "test_study.py compares the document with it",
        "tables": "test_study.py compares the document with it",
    },
}
LARGEST_SHARE = 0.25  # of the lines of spos/, in one room


@pytest.fixture(scope="module")
def graph():
    return module_graph()


@pytest.mark.parametrize(
    "source, expected",
    (
        ("import mxnet as mx", {"mxnet"}),
        ("def f():\n    from mxnet.gluon import nn", {"mxnet.gluon.nn"}),
        ("from spos.engine.compat import mx", {"spos.engine.compat.mx"}),
        ("from . import mxnet", set()),
        ("import os, mxnet_tools", {"os", "mxnet_tools"}),
    ),
)
def test_imports_are_found(source, expected):
    assert set(imported_names(source)) == expected


def test_names_are_traced_to_modules():
    modules = ("spos", "spos.space.cost", "oneshot_nas_network")
    names = ("spos.space.cost.Cost", "spos.space.cost", "oneshot_nas_network.Subnet", "numpy.random")
    expected = ["spos.space.cost", "spos.space.cost", "oneshot_nas_network", None]
    assert [as_module(name, modules) for name in names] == expected


@pytest.mark.parametrize(
    "module, room",
    (
        ("spos.space.cost", "space"),
        ("spos.space", "space"),
        ("spos.cost", None),
        ("oneshot_nas_blocks", "oneshot_nas_blocks"),
        ("train_imagenet", "programs"),
        ("utils.plot.style", "utils.plot"),
        ("utils.predict", "utils"),
        ("tests.space_tests.test_cost", "tests"),
        ("setup", None),
    ),
)
def test_modules_stand_in_rooms(module, room):
    assert room_of(module) == room


def test_every_module_stands_in_a_room(graph):
    assert [module for module in graph if room_of(module) is None and module != "spos"] == []


def test_rooms_import_downwards_only(graph):
    rank = {room: number for number, room in enumerate(ROOMS)}
    wrong = [
        f"{module} imports {other}"
        for module, imports in graph.items()
        for other in imports - {"spos"}
        if module != "spos" and rank[room_of(other)] > rank[room_of(module)]
    ]
    assert wrong == []


def test_programs_are_not_imported_by_the_library_or_by_each_other(graph):
    wrong = [(module, imports & set(PROGRAMS)) for module, imports in graph.items() if room_of(module) != "tests"]
    assert [pair for pair in wrong if pair[1]] == []


def test_nothing_is_imported_in_a_circle(graph):
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in graph[module]:
                visit(other, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_no_room_is_larger_than_its_share(graph):
    lines = {}
    for path in (ROOT / "spos").rglob("*.py"):
        room = room_of(module_name(path)) or "spos"
        lines[room] = lines.get(room, 0) + len(path.read_text("utf-8").splitlines())
    largest = max(lines, key=lines.get)
    assert lines[largest] <= LARGEST_SHARE * sum(lines.values()), (largest, lines)


def test_only_compat_imports_mxnet():
    importers = [
        module_name(path)
        for path in python_files()
        if any(name.split(".")[0] == "mxnet" for name in imported_names(path.read_text("utf-8")))
    ]
    assert importers == ["spos.engine.compat"]


def test_what_needs_no_mxnet_runs_without_it(graph):
    with_mxnet = {f"spos.{room}.{name}" for room, names in WITH_MXNET.items() for name in names.split()}
    assert with_mxnet <= set(graph)
    modules = sorted(module for module in graph if module.split(".")[0] == "spos" and module not in with_mxnet)
    code = (
        f"import sys; sys.modules['mxnet'] = None; import {', '.join(modules)}; "
        "assert 'spos.engine.compat' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", [f"spos.{room}.{name}" for room in WITH_MXNET for name in WITH_MXNET[room].split()])
def test_the_list_of_what_needs_mxnet_is_short(graph, module):
    reached, todo = set(), [module]
    while todo:
        one = todo.pop()
        if one not in reached:
            reached.add(one)
            todo += graph[one]
    assert "spos.engine.compat" in reached


def test_every_module_has_the_test_file_of_its_name(graph):
    missing = {}
    for module in graph:
        *_, room, name = ["", *module.split(".")]
        room = "utils" if module.startswith("utils.") else room
        name = module.split(".")[1] if name == "__main__" else name
        is_module = module.startswith(("spos.", "utils.")) and not (ROOT / module.replace(".", "/")).is_dir()
        if is_module and not (ROOT / "tests" / f"{room}_tests" / f"test_{name}.py").is_file():
            missing.setdefault(room, set()).add(name)
    assert missing == {room: set(reasons) for room, reasons in UNTESTED.items() if reasons}


@pytest.mark.parametrize(
    "modules, most",
    (("spos.data.registry", 20), ("spos.execution.scored, spos.execution.trained", 33), ("spos.training.trainer", 32)),
)
def test_an_import_pulls_few_modules_of_ours(modules, most):
    """Packages, which hold a docstring alone, are not counted."""
    code = f"import sys, {modules}; print(*(name for name, one in sys.modules.items() if not hasattr(one, '__path__')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = [name for name in done.stdout.split() if name.startswith(("spos.", "oneshot_nas_"))]
    assert 5 < len(ours) <= most, ours


def test_the_page_about_the_architecture_names_what_is_there(graph):
    """Every room in its table; and everything that it names in backticks, without `spos.`, is there."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    rooms = {room for room in ROOMS if (ROOT / "spos" / room).is_dir() or (ROOT / f"{room}.py").is_file()}
    assert rooms <= set(re.findall(r"`(\w+)`", rows))
    named = {name if name in graph else f"spos.{name}" for name in re.findall(r"`((?:\w+\.)+\w+)`", text)}
    named |= {name for name in re.findall(r"`(oneshot\w+\.[\w.]+)`", text)}
    named = {name for name in named if as_module(name, graph) not in (None, "spos")}
    assert len(named) > 25
    for name in named:
        module = as_module(name, graph)
        operator.attrgetter(f"{name}.__class__"[len(module) + 1 :])(importlib.import_module(module))
