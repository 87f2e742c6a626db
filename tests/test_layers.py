"""Who may import whom: lower layers never import higher ones, nothing imports in a circle, one module imports MXNet."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LIBRARY = {
    # pure Python and NumPy
    0: """
        ancestry architectures augmentation command_line comparison constrained_policy constrained_sampling constraints
        cost cost_report count_rules data_set deployment_options distribution distribution_report domain errors
        evolution execution_forms executors flag_rules gpu image_folder image_source intervals latency latency_fit
        latency_run layer_names layer_specs layer_table micronet model_info nsga2 options oracles pareto parity
        profile_report published racing ranking record_file records reporting run_directories sampling schedule
        search_history search_plan search_report search_space searcher stopping strategies tables tilting timing
        two_stage
        """,
    # MXNet, but no network of ours
    1: """
        assembly batch_norm calibration checkpoint cifar cluster compat data datasets depthwise digits evaluation
        exported graph_rewrites graphs image_decoder jpeg losses meter onnx_model onnx_session path_trainer pixels
        prediction prepared quantization slicing supernet_file symbol_cost trainer validation zoo
        """,
    # networks of ours
    3: """
        deployment execution exporting formats initial_values int8 latency_graphs scoring trained_subnet training_graphs
        """,
}
LAYERS = {f"spos.{name}": layer for layer, names in LIBRARY.items() for name in names.split()}
LAYERS.update({"spos": 0, "oneshot_nas_blocks": 2, "oneshot_nas_network": 3})
PROGRAMS, TESTS = 4, 5


def layer_of(module):
    """Layer of a module of this repository, or None if it stands in no table."""
    if module in LAYERS:
        return LAYERS[module]
    if module.split(".")[0] == "tests":
        return TESTS
    if module.split(".")[0] in ("utils", "benchmarks") or module.count(".") == 0:
        return PROGRAMS
    return None


def python_files():
    """All Python files of the repository, without environments, hidden folders and results."""
    for folder, subfolders, names in os.walk(ROOT):
        here = Path(folder)
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".") and name not in ("runs", "data") and not (here / name / "pyvenv.cfg").exists()
        ]
        yield from (here / name for name in names if name.endswith(".py"))


def imported_names(source):
    """Everything that a source imports, anywhere in it: `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def as_module(name, modules):
    """`spos.cost.Cost` -> `spos.cost`; None for what is not of this repository."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


@pytest.fixture(scope="module")
def graph():
    """Modules of this repository -> the modules of this repository that they import."""
    sources = {module_name(path): path.read_text("utf-8") for path in python_files()}
    return {
        module: {as_module(name, sources) for name in imported_names(source)} - {None, module}
        for module, source in sources.items()
    }


@pytest.mark.parametrize(
    "source, expected",
    (
        ("import mxnet as mx", {"mxnet"}),
        ("def f():\n    from mxnet.gluon import nn", {"mxnet.gluon.nn"}),
        ("from spos.compat import mx", {"spos.compat.mx"}),
        ("from . import mxnet", set()),
        ("import os, mxnet_tools", {"os", "mxnet_tools"}),
    ),
)
def test_imports_are_found(source, expected):
    assert set(imported_names(source)) == expected


def test_names_are_traced_to_modules():
    modules = ("spos", "spos.cost", "oneshot_nas_network")
    names = ("spos.cost.Cost", "spos.cost", "oneshot_nas_network.Subnet", "numpy.random")
    assert [as_module(name, modules) for name in names] == ["spos.cost", "spos.cost", "oneshot_nas_network", None]


def test_every_module_has_a_layer(graph):
    assert [module for module in graph if layer_of(module) is None] == []


def test_lower_layers_never_import_higher_ones(graph):
    wrong = [
        f"{module} (layer {layer_of(module)}) imports {other} (layer {layer_of(other)})"
        for module, imports in graph.items()
        for other in imports
        if layer_of(other) > layer_of(module)
    ]
    assert wrong == []


def test_programs_are_not_imported_by_the_library_or_by_each_other(graph):
    programs = {module for module in graph if layer_of(module) == PROGRAMS and "." not in module}
    wrong = [(module, imports & programs) for module, imports in graph.items() if layer_of(module) != TESTS]
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


def test_only_compat_imports_mxnet():
    importers = [
        module_name(path)
        for path in python_files()
        if any(name.split(".")[0] == "mxnet" for name in imported_names(path.read_text("utf-8")))
    ]
    assert importers == ["spos.compat"]


def test_layer_0_runs_without_mxnet(graph):
    modules = sorted(module for module in graph if layer_of(module) == 0)
    code = (
        f"import sys; sys.modules['mxnet'] = None; import {', '.join(modules)}; assert 'spos.compat' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
