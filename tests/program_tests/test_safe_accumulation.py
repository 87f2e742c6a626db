"""MXNET_SAFE_ACCUMULATION, as MXNet itself reads it in the process of each program."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAMS = ("train_imagenet", "search_supernet", "calculate_flops")
TOOLS = sorted(
    f"utils.{path.stem}" for path in (ROOT / "utils").glob("*.py") if "\nif __name__" in path.read_text("utf-8")
)
READ = "import {module}; from spos.engine.compat import mx; print(mx.util.getenv('MXNET_SAFE_ACCUMULATION'))"


def read(module, **environ):
    variables = {name: value for name, value in os.environ.items() if name != "MXNET_SAFE_ACCUMULATION"}
    done = subprocess.run(
        [sys.executable, "-c", READ.format(module=module)],
        cwd=ROOT,
        env={**variables, **environ},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", (*PROGRAMS, *(pytest.param(tool, marks=pytest.mark.slow) for tool in TOOLS), "spos.core.agent")
)
def test_every_program_accumulates_safely(module):
    assert read(module) == "1"


def test_what_the_user_set_stays():
    assert read("train_imagenet", MXNET_SAFE_ACCUMULATION="0") == "0"
