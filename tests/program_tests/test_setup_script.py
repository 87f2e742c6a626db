"""scripts/setup.sh: which Pythons and arguments it refuses. The installation itself is what .ci/run does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.fixture
def checkout(tmp_path):
    """A copy of what setup.sh reads, in a folder with a space. No test here may get as far as pip."""
    folder = tmp_path / "check out"
    (folder / "scripts").mkdir(parents=True)
    (folder / "spos" / "engine").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup.sh", folder / "scripts")
    for name in ("spos/__init__.py", "spos/engine/__init__.py", "spos/engine/gpu.py"):
        shutil.copy(ROOT / name, folder / name)
    for path in [*ROOT.glob("requirements*.txt"), ROOT / "constraints.txt"]:
        shutil.copy(path, folder)
    return folder


def executable(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def python_that_claims(path, version):
    """Make a Python that takes itself for another version."""
    code = f"import sys; sys.version_info = {version}; exec(sys.argv.pop(1))"
    text = f"""case $1 in
    --version) echo "Python {".".join(str(part) for part in version)}" ;;
    -c) exec "{sys.executable}" -c '{code}' "$2" ;;
    *) exit 99 ;;
esac
"""
    return executable(path, text)


def setup(checkout, *arguments, **environ):
    command = ["sh", str(checkout / "scripts" / "setup.sh"), *arguments]
    environ = {**os.environ, **environ}
    answer = subprocess.run(command, cwd="/", env=environ, capture_output=True, text=True, timeout=60)
    return answer.returncode, answer.stdout + answer.stderr


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 7, 16), (3, 13, 0)])
def test_other_pythons_are_refused(checkout, tmp_path, version):
    fake = python_that_claims(tmp_path / "fake python", version)
    status, output = setup(checkout, PYTHON=str(fake))
    dotted = ".".join(str(part) for part in version)
    assert status == 1
    assert f"is Python {dotted}; MXNet 1.9.1 works with Python 3.8 to 3.12" in output
    assert not (checkout / "env").exists()


@pytest.mark.parametrize("minor", range(8, 13))
def test_supported_pythons_are_accepted(checkout, tmp_path, minor):
    (checkout / "env").mkdir()  # stops the script after the check
    fake = python_that_claims(tmp_path / "python", (3, minor, 1))
    status, output = setup(checkout, PYTHON=str(fake))
    assert status == 1 and "env/ is there but is no Python environment" in output


def test_an_unknown_argument_is_refused(checkout):
    status, output = setup(checkout, "gpu", PYTHON=sys.executable)
    assert status == 1 and "unknown argument 'gpu'; usage: sh scripts/setup.sh [cpu|cu101|cu112]" in output


def test_a_python_that_does_not_run_is_refused(checkout, tmp_path):
    for fake in (tmp_path / "missing", executable(tmp_path / "broken", "exit 3\n")):
        status, output = setup(checkout, PYTHON=str(fake))
        assert status == 1 and "does not run; name a Python 3.8 to 3.12" in output


def test_a_python_without_venv_is_refused(checkout, tmp_path):
    text = f'case $2 in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n'
    status, output = setup(checkout, PYTHON=str(executable(tmp_path / "python", text)))
    assert status == 1 and "has no venv module (Debian: apt-get install python3-venv)" in output


def test_no_python_at_all_is_one_clear_line(checkout, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "dirname", "cat"):
        (tools / name).symlink_to(shutil.which(name))
    environ = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    command = [str(tools / "sh"), str(checkout / "scripts" / "setup.sh")]
    answer = subprocess.run(command, env={**environ, "PATH": str(tools)}, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1
    assert "no Python 3.8 to 3.12 found" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_foreign_env_folder_is_not_deleted(checkout):
    (checkout / "env").mkdir()
    (checkout / "env" / "mine.txt").write_text("precious")
    status, output = setup(checkout, PYTHON=sys.executable)
    assert status == 1 and "env/ is there but is no Python environment" in output
    assert (checkout / "env" / "mine.txt").exists()


def test_a_gpu_that_no_build_can_run_stops_before_the_download(checkout):
    stub = "import sys; print('GPU 0: too new'); sys.exit(1)"
    (checkout / "spos" / "engine" / "gpu.py").write_text(stub)
    status, output = setup(checkout, "cu112", PYTHON=sys.executable)
    assert status == 1 and "GPU 0: too new" in output and "nothing was installed" in output
    assert not (checkout / "env").exists()


@pytest.fixture
def made(checkout, tmp_path):
    """The checkout with an env/ that is complete, but for the kernels: its Python answers what setup.sh asks."""

    def make(building):
        packages = tmp_path / "packages"
        packages.mkdir()
        text = f"""case "$1 $2" in
    *purelib*) echo "{packages}" ;;
    "-m utils.build_native") {building} ;;
    "-c "*) exec "{sys.executable}" "$@" ;;
    *) exit 99 ;;
esac
"""
        (checkout / "env" / "bin").mkdir(parents=True)
        executable(checkout / "env" / "bin" / "python", text)
        shutil.copy(ROOT / "spos" / "engine" / "before_mxnet.py", checkout / "spos" / "engine")
        files = ["constraints.txt", "requirements.txt", "requirements-common.txt", "requirements-cpu.txt"]
        content = b"".join((checkout / name).read_bytes() for name in files)
        total = subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout
        contents = {".flavour": b"cpu\n", ".installed-cpu": total, ".verified": b"all is well\n"}
        for name, value in contents.items():
            (checkout / "env" / name).write_bytes(value)
        return {name: value for name, value in os.environ.items() if name != "PYTHON"}

    return make


def test_kernels_are_built_once_the_environment_is_made(checkout, made):
    environ = made('echo "native kernels: somewhere"; echo done >built')
    command = ["sh", str(checkout / "scripts" / "setup.sh")]
    answer = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "all is well\n", "")
    assert (checkout / "built").is_file()


def test_without_a_compiler_one_line_says_what_that_means(checkout, made):
    environ = made('echo "error: no C++ compiler: none of them is installed" >&2; exit 2')
    command = ["sh", str(checkout / "scripts" / "setup.sh")]
    answer = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout) == (0, "all is well\n")
    assert answer.stderr == (
        "There are no native kernels (no C++ compiler: none of them is installed): "
        "MXNet's operators do their work, which takes longer\n"
    )
