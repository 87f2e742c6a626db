"""The installed commands begin as the programs do. tests/program_tests/test_package.py installs and runs them."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from core_tests.test_startup import interrupt_while_loading

COMMANDS = ("train", "search", "count")


def words(command):
    """As the file that pip writes for it."""
    return ["-c", f"import sys\nfrom spos.core.commands import {command}\nsys.exit({command}())"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_beginning_comes_before_everything_that_is_not_pythons_own(command):
    code = (
        "import sys\nfrom importlib.abc import MetaPathFinder\nseen = []\n"
        "class Finder(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n        seen.append(name)\n"
        f"sys.meta_path.insert(0, Finder())\nfrom spos.core.commands import {command}\nsys.argv = ['x', '--help']\n"
        f"try:\n    {command}()\nexcept SystemExit:\n    pass\n"
        "start = seen.index('spos.core.startup')\n"
        "assert not {'numpy', 'mxnet', 'cv2', 'spos.core.flags'} & set(seen[:start]) and 'numpy' in seen[start:]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("command", ("train", "search"))
def test_ctrl_c_while_modules_load_is_one_line(command):
    assert interrupt_while_loading(words(command), 0.5) == (130, "\nstopped before it began\n")


@pytest.mark.parametrize("closed", (">&-", "2>&-", "<&- >&- 2>&-"))
def test_closed_streams_are_no_error(closed):
    line = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *words("count"), "--architecture", "oneshot"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE")}
    done = subprocess.run(line, cwd=ROOT, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
