"""The front door: its names and signatures, what it loads, and that it opens without MXNet."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import spos

SOURCE = ast.parse(Path(spos.__file__).read_text("utf-8"))
# Names and signatures are promises to scripts: a change here is a change for their authors.
SIGNATURES = {}


def run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def signature(name):
    """As text, without the module of types."""
    return str(inspect.signature(getattr(spos, name))).replace("'", "")


def test_names_are_sorted_and_complete():
    assert spos.__all__ == sorted(SIGNATURES)
    assert set(dir(spos)) == {*SIGNATURES, "__version__"}


def test_the_types_of_names_are_those_that_are_loaded():
    """What a type checker reads, under TYPE_CHECKING, and what is imported by name are the same."""
    (block,) = (node for node in SOURCE.body if isinstance(node, ast.If))
    read = {alias.asname: node.module for node in block.body for alias in node.names}
    assert read == spos._HOMES and set(read) == set(spos.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    assert signature(name) == SIGNATURES[name]


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_name_says_what_it_is(name):
    thing = getattr(spos, name)
    assert thing.__doc__ and thing.__doc__ != type.__doc__
    if inspect.isfunction(thing):
        assert "Raises:" in thing.__doc__ or thing.__name__ in CANNOT_FAIL


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_name_is_in_the_documentation(name):
    assert f"`{name}" in (ROOT / "docs" / "api.md").read_text("utf-8")


def test_import_loads_next_to_nothing():
    code = "import sys; before = set(sys.modules); import spos; print(sorted(set(sys.modules) - before))"
    new = ast.literal_eval(run(code))
    assert [name for name in new if name.partition(".")[0] not in sys.stdlib_module_names] == ["spos"]


def test_import_needs_no_mxnet():
    code = (
        "import sys; sys.modules['mxnet'] = None; import spos; "
        "print(spos.count_architecture(*vars(spos.load_architecture('oneshot')).values()[:2]))"
    )


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'spos' has no attribute 'retrain'"):
        spos.retrain
