"""docs/autopilot.ipynb: it parses, and it runs from top to bottom."""

import ast
import base64
import json

import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "docs" / "autopilot.ipynb"
FOLDER = 'root / "runs" / "autopilot-notebook"'


def cells(kind):
    found = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found if cell["cell_type"] == kind]


def test_it_is_kept_without_output_and_parses():
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells("code"))
    for cell in cells("code"):
        ast.parse(cell["source"])
    assert sum(FOLDER in cell["source"] for cell in cells("code")) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_and_shows_figures(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:  # the same in a folder of its own
        cell.source = cell.source.replace(FOLDER, f"Path({str(tmp_path)!r})")
    nbclient.NotebookClient(notebook, timeout=800, kernel_name="python3", cwd=str(ROOT / "docs")).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) == 2 and all(len(base64.b64decode(one["data"]["image/png"])) > 5000 for one in figures)
    printed = "".join(output.get("text", "") for output in outputs)
    assert "test top-1" in printed and "to deploy" in printed and (tmp_path / "report.html").exists()
