"""The package: what the wheel and the source distribution hold, what they say, and that an installed command runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import spos

MODULES = ("calculate_flops", "oneshot_nas_blocks", "oneshot_nas_network", "search_supernet", "train_imagenet")
PROGRAMS = {
    "spos-train": "spos.core.commands:train",
    "spos-search": "spos.core.commands:search",
    "spos-count": "spos.core.commands:count",
    "spos-build-native": "spos.core.commands:build_native",
}
EXTRAS = ("cluster", "deploy", "dev")


def run(*command, cwd, **environ):
    """What a command prints; it has to succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environ}, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(source, folder):
    """Build without the network, with the setuptools of this environment."""
    quiet = ("-q", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "wheel", *quiet, "-w", str(folder), str(source), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is built from: a build leaves files beside it."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("spos", "architectures", "spaces", "utils", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for pattern in ("*.py", "*.toml", "*.txt", "README.md", "LICENSE"):
        for path in ROOT.glob(pattern):
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def contents(wheel):
    """The files of a wheel without what describes it, with their bytes."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def requirements(*names):
    """The requirements in some requirements files."""
    lines = [line.partition("#")[0].strip() for name in names for line in (ROOT / name).read_text("utf-8").splitlines()]
    return {str(Requirement(line)) for line in lines if line}


def test_the_wheel_holds_the_library_the_programs_architectures_spaces_and_kernels_and_nothing_else(wheel):
    packages = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "spos").rglob("*.py")}
    programs = {f"{name}.py": (ROOT / f"{name}.py").read_bytes() for name in MODULES}
    files = {
        f"spos/{folder}/{path.name}": path.read_bytes()
        for folder in ("architectures", "spaces")
        for path in (ROOT / folder).glob("*.json")
    }
    assert len(files) == 3 + 7
    kernels = [path for suffix in ("h", "cpp") for path in (ROOT / "spos" / "native").glob(f"*.{suffix}")]
    assert len(kernels) == 5
    files.update({f"spos/native/{path.name}": path.read_bytes() for path in kernels})
    assert contents(wheel) == {**packages, **programs, **files}


def test_a_wheel_from_the_source_distribution_is_the_same(source, wheel, tmp_path):
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    run(sys.executable, "-c", code, cwd=source)
    (archive,) = tmp_path.glob("*.tar.gz")
    assert contents(build_wheel(archive, tmp_path)) == contents(wheel)


def test_metadata(metadata):
    assert (metadata["Name"], metadata["Version"], metadata["License"]) == ("spos", spos.__version__, "Apache-2.0")
    supported = SpecifierSet(metadata["Requires-Python"])
    assert [minor for minor in range(6, 16) if f"3.{minor}" in supported] == [8, 9, 10, 11, 12]
    assert metadata.get_all("Provides-Extra") == list(EXTRAS)


def test_requirements_are_those_of_the_files(metadata):
    stated = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    always = {str(one) for one in stated if one.marker is None}
    assert always == requirements("requirements-cpu.txt", "requirements-common.txt")
    for extra in EXTRAS:
        own = [one for one in stated if one.marker is not None and one.marker.evaluate({"extra": extra})]
        for one in own:
            one.marker = None
        assert {str(one) for one in own} == requirements(f"requirements-{extra}.txt")


def test_installed_commands_run_from_any_folder(wheel, tmp_path):
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    quiet = ("-q", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-compile")
    run(sys.executable, "-m", "pip", "install", *quiet, "--target", str(installed), str(wheel), cwd=elsewhere)
    assert sorted(path.name for path in (installed / "bin").iterdir()) == sorted(PROGRAMS)
    path = {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    printed = run(str(installed / "bin" / "spos-count"), "--architecture", "oneshot-s+", cwd=elsewhere, **path)
    assert "291.476 M" in printed and "3.542 M" in printed
    flags = {"spos-train": "--num-epochs", "spos-search": "--search-iters", "spos-build-native": "--compiler"}
    for program, flag in flags.items():
        assert flag in run(str(installed / "bin" / program), "--help", cwd=elsewhere, **path)
    code = (
        "import spos; from spos.core.installation import install_command; from spos.engine.devices import versions; "
        "print(spos.__file__, versions()['commit'], install_command('deploy'))"
    )
    git = ("git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(tmp_path))
    run(*git, "init", "-q", cwd=tmp_path)  # an environment inside another repository
    run(*git, "commit", "-q", "--allow-empty", "-m", "m", cwd=tmp_path)
    printed = run(sys.executable, "-c", code, cwd=elsewhere, **path)
    assert printed.split() == [str(installed / "spos" / "__init__.py"), "None", "pip", "install", "'spos[deploy]'"]
