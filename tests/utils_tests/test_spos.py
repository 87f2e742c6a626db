"""Commands of utils/ that are run by their file, from any folder."""

import subprocess
import sys

import pytest
from conftest import ROOT
from core_tests.test_startup import PROGRAMS

STAND_IN = ROOT / "utils" / "spos.py"
COMMANDS = [path for path in PROGRAMS if path.parts[0] == "utils"]
CODE = (
    "import sys\nsys.path[0] = sys.argv[1]\nimport spos.core.startup\n"
    "import utils.options, spos\nprint(spos.__file__, spos.core.startup.__file__, sys.path[0])"
)


def run(*words, cwd):
    done = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_the_package_is_found_from_the_folder_of_every_command(command):
    assert (ROOT / command).with_name("spos.py").resolve() == STAND_IN


@pytest.mark.parametrize("folder", sorted({path.parent for path in COMMANDS}), ids=str)
def test_what_stands_beside_a_command_brings_the_package_and_the_folder_of_the_project(folder, tmp_path):
    expected = [ROOT / "spos" / "__init__.py", ROOT / "spos" / "core" / "startup.py", ROOT]
    assert run("-c", CODE, ROOT / folder, cwd=tmp_path).split() == list(map(str, expected))


@pytest.mark.parametrize("name", ("merge_bn", "report"))
def test_a_command_by_its_file_is_the_same_command(name, tmp_path):
    path = ROOT / "utils" / name
    by_file = run(path if path.is_dir() else path.with_suffix(".py"), "--help", cwd=tmp_path)
    by_name = run("-m", f"utils.{name}", "--help", cwd=ROOT)
    assert by_file.split("\n\n")[1:] == by_name.split("\n\n")[1:]  # behind the name of the program
