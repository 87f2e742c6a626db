"""The command that builds the native kernels: what it prints, and that it gives a compiler on."""

import shutil

import pytest
from conftest import ROOT, fails

from spos.native import build, command


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "place_of_library", lambda: tmp_path / "lib" / "session-0.so")
    yield tmp_path / "lib" / "session-0.so"
    build.library_file.cache_clear()


def test_it_says_where_the_library_is(place, capsys):
    place.parent.mkdir()
    place.touch()
    assert command.main([]) == 0
    assert capsys.readouterr().out == f"native kernels: {place}\n"


def test_a_compiler_that_fails_is_one_line(place, capsys):
    fails(command.main, ["--compiler", "false"], capsys, "false failed with 1")


def test_a_compiler_that_is_not_there_is_one_line(place, capsys):
    fails(command.main, ["--compiler", "no-such-compiler"], capsys, "no-such-compiler does not run: No such file")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("compiler", build.COMPILERS)
def test_the_sources_compile_without_a_warning(compiler, place, monkeypatch):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not here")
    monkeypatch.setattr(build, "FLAGS", [*build.FLAGS, "-Werror"])
    assert build.build(compiler) == place and place.stat().st_size > 50_000


def test_both_commands_are_this_one():
    from utils import build_native

    assert build_native.main is command.main
    assert 'import_module("spos.native.command").main' in (ROOT / "spos" / "core" / "commands.py").read_text("utf-8")
