"""Where the native library is, and how it is built: for this machine's processor, by the C++ compiler that it has."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import List, Optional

from spos.core.errors import InputError
from spos.core.installation import IN_CHECKOUT

SOURCE = Path(__file__).resolve().parent
MAIN = "session.cpp"
FLAGS = ["-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra"]
ONLY_X86 = ["-mprefer-vector-width=512"]
COMPILERS = ("g++", "clang++", "c++")
SWITCH = "SPOS_NATIVE"  # environment variable: 0 for MXNet's operators alone
COMMAND = "python -m utils.build_native" if IN_CHECKOUT else "spos-build-native"


def are_ready() -> bool:
    """Whether there are native kernels, and the environment does not say SPOS_NATIVE=0."""
    return os.environ.get(SWITCH, "1") != "0" and library_file() is not None


def version() -> Optional[str]:
    """Which native kernels compute, by their digest: the last bits depend on it. None: MXNet's operators."""
    return place_of_library().stem.partition("-")[2] if are_ready() else None


def describe() -> str:
    """What computes on a CPU, for people."""
    if are_ready():
        return f"native kernels ({version()})"
    if os.environ.get(SWITCH) == "0":
        return f"MXNet's operators, because {SWITCH}=0"
    return f"MXNet's operators; `{COMMAND}` builds native kernels, which are faster"


@lru_cache(maxsize=None)
def library_file() -> Optional[Path]:
    """The library built from these sources for this processor; None if there is none."""
    file = place_of_library()
    return file if file.is_file() else None


@lru_cache(maxsize=None)
def place_of_library() -> Path:
    """Where it belongs: in the environment, by a digest of sources, flags and processor."""
    digest = hashlib.sha256()
    for file in sorted([*SOURCE.glob("*.h"), *SOURCE.glob("*.cpp")]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    digest.update("\0".join([*FLAGS, *ONLY_X86, _processor()]).encode())
    return Path(sys.prefix) / "lib" / "spos-native" / f"session-{digest.hexdigest()[:16]}.so"


def build(compiler: Optional[str] = None) -> Path:
    """Compile the library, if it is not there. Takes a quarter of a minute.

    It is there whole or not at all, and others may build it at the same time.

    Args:
        compiler: a program; by default CXX of the environment, or the first of COMPILERS that there is.
    Raises: InputError if there is no compiler, if it fails, or if the environment cannot be written to.
    """
    place = place_of_library()
    if place.is_file():
        return place
    command = compiler or os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if command is None:
        raise InputError(f"no C++ compiler: none of {', '.join(COMPILERS)} is installed")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            made = Path(folder) / place.name
            _compile(command, made)
            made.replace(place)
    except OSError as error:
        raise InputError(f"{place.parent} cannot be written: {error.strerror}") from None
    library_file.cache_clear()
    return place


def _compile(command: str, target: Path) -> None:
    flags = FLAGS + (ONLY_X86 if platform.machine() in ("x86_64", "AMD64") else [])
    words: List[str] = [*command.split(), *flags, "-o", str(target), str(SOURCE / MAIN)]
    own = {**os.environ, "TMPDIR": str(target.parent)}  # what a killed compiler leaves goes with the folder
    try:
        done = subprocess.run(
            words, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise InputError(f"{command} does not run: {error.strerror}") from None
    if done.returncode or not target.is_file():
        lines = done.stderr.strip().splitlines()
        reason = next((line for line in lines if "error" in line), lines[-1] if lines else "it says nothing")
        raise InputError(f"{command} failed with {done.returncode}: {reason[:300]}")


def _processor() -> str:
    """What the machine code depends on: the instruction sets of this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {flags}"
