"""`import mxnet` before anything of this project, in an environment that setup.sh has prepared."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NOTEBOOK = """
import mxnet as mx
from mxnet import autograd, gluon, nd
import os, sys
net = gluon.nn.Dense(2)
net.initialize()
with autograd.record():
    loss = net(nd.ones((1, 3))).sum()
loss.backward()
assert net.weight.grad().shape == (2, 3)
print(os.environ["MXNET_SAFE_ACCUMULATION"], os.environ["OMP_NUM_THREADS"], "numpy" in sys.modules)
from spos.engine.compat import mx as ours
assert ours is mx
"""


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """A checkout with an env/ that setup.sh's own function has prepared, and the packages of this Python."""
    checkout = tmp_path_factory.mktemp("check out")
    venv.create(checkout / "env", symlinks=True)
    (checkout / "spos").symlink_to(ROOT / "spos")
    python = checkout / "env" / "bin" / "python"
    script = (ROOT / "scripts" / "setup.sh").read_text()
    (function,) = re.findall(r"^prepare_mxnet\(\) \{\n.*?^\}\n", script, re.MULTILINE | re.DOTALL)
    subprocess.run(["sh", "-euc", f"{function}prepare_mxnet"], cwd=checkout, check=True)
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (Path(packages) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(env, code, cwd, **environ):
    variables = {name: value for name, value in os.environ.items() if name not in environ and name != "PYTHONPATH"}
    variables.update({name: value for name, value in environ.items() if value is not None})
    return subprocess.run([env, "-c", code], cwd=cwd, env=variables, capture_output=True, text=True, timeout=100)


def test_mxnet_alone_is_prepared(env, tmp_path):
    answer = run(env, NOTEBOOK, ROOT, MXNET_SAFE_ACCUMULATION=None, OMP_NUM_THREADS="1")
    assert (answer.returncode, answer.stdout) == (0, "1 1 True\n"), answer.stderr
    elsewhere = run(env, "import numpy, mxnet; print(mxnet.nd.ones(3).sum().asscalar())", tmp_path)
    assert (elsewhere.returncode, elsewhere.stdout) == (0, "3.0\n"), elsewhere.stderr


def test_a_python_that_wants_no_mxnet_loads_nothing(env, tmp_path):
    code = "import sys, json; print([name for name in ('numpy', 'mxnet', 'spos') if name in sys.modules])"
    assert run(env, code, tmp_path).stdout == "[]\n"


def test_the_checkout_that_is_worked_in_comes_first(env, tmp_path):
    (tmp_path / "spos" / "engine").mkdir(parents=True)
    for name, text in (
        ("__init__.py", ""),
        ("engine/__init__.py", ""),
        ("engine/compat.py", "raise SystemExit('own')"),
    ):
        (tmp_path / "spos" / name).write_text(text)
    assert run(env, "import mxnet", tmp_path).stderr == "own\n"
