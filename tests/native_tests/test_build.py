"""Building the native library: where it belongs, compilers that fail or are not there, and builds that are stopped."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from spos.core.errors import InputError
from spos.native import build


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the library belongs in these tests; nothing is there."""
    file = tmp_path / "lib" / "spos-native" / "session-0123.so"
    forget_files()
    monkeypatch.setattr(build, "place_of_library", lambda: file)
    monkeypatch.delenv(build.SWITCH, raising=False)
    yield file
    forget_files()


def forget_files():
    build.library_file.cache_clear()


def compiler(tmp_path, text):
    """A program in the place of a compiler, which finds its target in $target."""
    path = tmp_path / "compiler"
    path.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ntarget=$2\n{text}\n')
    path.chmod(0o755)
    return str(path)


def test_the_digest_is_that_of_sources_flags_and_processor(tmp_path, monkeypatch):
    for path in build.SOURCE.iterdir():
        if path.suffix in (".h", ".cpp"):
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    place = build.place_of_library.__wrapped__
    names = [place().name]
    assert place().name == names[0] and place().parent == build.Path(sys.prefix) / "lib" / "spos-native"
    for change in ("header", "source", "name", "flags", "processor"):
        if change == "header":
            (tmp_path / "matrix.h").write_bytes((tmp_path / "matrix.h").read_bytes() + b"\n")
        elif change == "source":
            (tmp_path / build.MAIN).write_bytes((tmp_path / build.MAIN).read_bytes() + b"\n")
        elif change == "name":
            (tmp_path / "layers.h").rename(tmp_path / "layers_of_images.h")
        elif change == "flags":
            monkeypatch.setattr(build, "FLAGS", [*build.FLAGS, "-g"])
        else:
            monkeypatch.setattr(build, "_processor", lambda: "another")
        names.append(place().name)
    assert len(set(names)) == len(names)


def test_what_is_built_is_there_from_then_on(place, tmp_path):
    assert build.library_file() is None and not build.are_ready() and build.version() is None
    assert build.build(compiler(tmp_path, 'echo built >"$target"')) == place
    assert place.read_text() == "built\n" and [path.name for path in place.parent.iterdir()] == [place.name]
    assert build.library_file() == place and build.are_ready()
    assert (build.version(), build.describe()) == ("0123", "native kernels (0123)")
    assert build.build(compiler(tmp_path, "exit 1")) == place  # is not run again


def test_the_switch_turns_them_off(place, monkeypatch):
    place.parent.mkdir(parents=True)
    place.touch()
    assert build.are_ready()
    monkeypatch.setenv(build.SWITCH, "0")
    assert not build.are_ready() and build.version() is None
    assert build.describe() == "MXNet's operators, because SPOS_NATIVE=0"


def test_without_a_library_it_is_said_how_to_build_it(place):
    assert (
        build.describe() == "MXNet's operators; `python -m utils.build_native` builds native kernels, which are faster"
    )


def test_no_compiler_at_all(place, tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no C\+\+ compiler: none of g\+\+, clang\+\+, c\+\+ is installed"):
        build.build()
    assert not place.parent.exists()


def test_a_compiler_that_is_not_there(place, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(InputError, match="no-such-compiler -O1 does not run: No such file or directory"):
        build.build()
    assert not list(place.parent.iterdir())


@pytest.mark.parametrize(
    "text, said",
    (
        (
            "echo 'a.h:1: note: see' >&2; echo 'a.h:2: error: no such thing' >&2; exit 3",
            "with 3: a.h:2: error: no such",
        ),
        ("echo unknown flag >&2; exit 1", "failed with 1: unknown flag"),
        ("exit 1", "failed with 1: it says nothing"),
        ("exit 0", "failed with 0: it says nothing"),  # and writes nothing
        ("printf part >\"$target\"; echo 'fatal error: no space left' >&2; exit 1", "fatal error: no space left"),
    ),
)
def test_a_compiler_that_fails(place, tmp_path, text, said):
    with pytest.raises(InputError, match=said) as caught:
        build.build(compiler(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert not list(place.parent.iterdir()) and build.library_file() is None


def test_an_environment_that_cannot_be_written(place, tmp_path):
    place.parent.parent.write_text("a file in the place of the folder")
    with pytest.raises(InputError, match="cannot be written: "):
        build.build(compiler(tmp_path, 'echo built >"$target"'))


@pytest.mark.parametrize("signum, code", ((signal.SIGINT, 130), (signal.SIGTERM, 143)))
def test_a_build_that_is_stopped_leaves_nothing(tmp_path, signum, code):
    """Nor do the files that the compiler was at: it is killed with them half written."""
    folder = tmp_path / "lib"
    text = f'printf half >"$target"; printf half >"$TMPDIR/cc.s"; kill -{signum:d} $PPID; exec sleep 60'
    program = (
        "import sys; from pathlib import Path; from spos.core.flags import run_program; "
        "from spos.native import build, command; build.place_of_library = lambda: Path(sys.argv[1]) / 'a-0.so'; "
        "sys.exit(run_program(command.main, ['--compiler', sys.argv[2]]))"
    )
    words = [sys.executable, "-c", program, str(folder), compiler(tmp_path, text)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert folder.is_dir() and not list(folder.iterdir())


def test_the_processor_is_told_by_its_instruction_sets(tmp_path, monkeypatch):
    text = "model name\t: b\nflags\t\t: fpu avx2\nflags\t\t: other\n"
    monkeypatch.setattr(build.Path, "read_text", lambda *_: text)
    assert build._processor().endswith(" flags\t\t: fpu avx2")

    def missing(*_):
        raise FileNotFoundError

    monkeypatch.setattr(build.Path, "read_text", missing)
    assert build._processor() == f"{build.platform.machine()} {build.platform.processor()}"
