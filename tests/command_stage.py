"""A place where commands of the documentation run without running anything.

A shell executes them word for word, with the real scripts, in a copy of the folders they expect; but Python and make
only write down their arguments. Those go to the parser of the program that would have run, and no further.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Sequence
from unittest import mock

from conftest import ROOT

RECORDED = ("make", "pip", "python", "python3")
TOOLS = ("cat", "cp", "dirname", "env", "mkdir", "mv", "sh", "xargs")
RECORDER = """#!/bin/sh
printf '%s\\0' "$#" "${0##*/}" "$@" >>"$RECORD"
"""
# What follows `--` is for another program.
FOLLOWED_BY = {
    "utils.compare_recipes": "train_imagenet",
    "utils.launch_cluster": "train_imagenet",
    "utils.rank_correlation": "train_imagenet",
    "utils.search_cluster": "search_supernet",
    "utils.searched_against_random": "train_imagenet",
}
# Programs of others: that they are named is checked, their flags are not.
FOREIGN = ("distributed.cli.dask_scheduler", "distributed.cli.dask_worker", "mypy", "ruff")


class Parsed(BaseException):
    """The parser took the arguments: the program goes no further."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


class Stage:
    """Runs commands in `folder`, and says what is wrong with them."""

    def __init__(self, folder: Path, pytest_parser: Any) -> None:
        self.folder, self.pytest_parser = folder, pytest_parser
        self.record = folder / "record"
        for place in ("scripts", "benchmarks"):
            (folder / place).mkdir(parents=True)
            for script in (ROOT / place).glob("*.sh"):
                shutil.copy(script, folder / place)
        own_part, end, _ = (ROOT / "scripts" / "setup.sh").read_text().partition("\ndone\n")
        assert end and 'for argument in "$@"' in own_part
        (folder / "scripts" / "setup.sh").write_text(own_part + end)  # it reads its arguments, and installs nothing
        for place in ("bin", "env/bin", "env-predict/bin"):
            (folder / place).mkdir(parents=True)
        (folder / "env-predict" / ".ready").touch()
        self.installed = installed_programs()
        for name in (
            "env/bin/python",
            "env-predict/bin/python",
            *(f"bin/{name}" for name in (*RECORDED, *self.installed)),
        ):
            (folder / name).write_text(RECORDER)
            (folder / name).chmod(0o755)
        for tool in TOOLS:
            (folder / "bin" / tool).symlink_to(shutil.which(tool) or tool)
        self._lay_out_files()

    def _lay_out_files(self) -> None:
        """What scripts look for before they begin, and what they copy at the end."""
        for place in ("IMAGES", "PATH/TO/cifar10", "data/cifar10"):
            (self.folder / place).mkdir(parents=True)
            for name in ("train.rec", "val.rec"):
                (self.folder / place / name).touch()
        (self.folder / "TABLE").touch()
        macro = self.folder / "runs" / "nas-bench-macro"
        shutil.copytree(ROOT / "logs" / "nas-bench-macro", macro)
        shutil.copytree(macro / "ranking", macro / "refit")
        for epoch in (1, 2, 4):
            checkpoint = macro / "supernets" / "fair-0" / "checkpoints" / f"epoch-{epoch:04d}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "model.params").touch()
        study = self.folder / "runs" / "study"
        shutil.copytree(ROOT / "logs" / "study-cifar10", study)
        (study / "supernets" / "warm-up-0" / "bn_update.jsonl").touch()

    def faults(self, command: str) -> List[str]:
        """What is wrong with a text for a shell: its exit code, its scripts, the programs and flags that it names."""
        done = self._run(command)
        calls = list(read_calls(self.record.read_bytes()))
        faults = [fault for program, *argv in calls for fault in self.faults_of_call(program, argv)]
        if done.returncode:
            faults.append(f"exit code {done.returncode}: {done.stderr.strip()}")
        return [f"{' '.join(command.split())}: {fault}" for fault in faults]

    def calls(self, command: str) -> List[List[str]]:
        """The modules that a text for a shell runs, with their arguments."""
        self._run(command)
        return [self.module_of(argv) for _, *argv in read_calls(self.record.read_bytes())]

    def _run(self, command: str) -> subprocess.CompletedProcess:
        self.record.write_bytes(b"")
        environ = {"PATH": str(self.folder / "bin"), "RECORD": str(self.record), "HOME": str(self.folder), "JOBS": "1"}
        return subprocess.run(
            ["sh", "-euc", command],
            cwd=self.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def faults_of_call(self, program: str, argv: Sequence[str]) -> List[str]:
        """What is wrong with one call of a program that is recorded."""
        if program == "make":
            return [f"no target '{name}'" for name in argv if name not in targets()]
        if program == "pip":
            return self.faults_of_pip(argv)
        if program in self.installed:
            return self.faults_of_module(self.installed[program], argv)
        module, *argv = self.module_of(argv)
        return self.faults_of_module(module, argv)

    def module_of(self, argv: Sequence[str]) -> List[str]:
        """The module that Python would run, and its arguments."""
        if argv[0] == "-m":
            return list(argv[1:])
        file = Path(argv[0])
        name = file.relative_to(self.folder) if file.is_absolute() else file
        return [".".join(name.with_suffix("").parts), *argv[1:]]

    def faults_of_module(self, module: str, argv: Sequence[str]) -> List[str]:
        if module in FOREIGN:
            return []
        if module == "pytest":
            return self.faults_of_pytest(argv)
        if not program_file(module):
            return [f"no program {module}"]
        place = list(argv).index("--") if module in FOLLOWED_BY and "--" in argv else len(argv)
        return [*self.faults_of_flags(module, argv[:place]), *self.faults_behind(module, argv[place + 1 :])]

    def faults_behind(self, module: str, rest: Sequence[str]) -> List[str]:
        """What follows `--`: a script, a program, or flags of the program that is meant."""
        if rest and rest[0].endswith(".sh"):
            return self.faults(" ".join(["sh", *map(quoted, rest)]))
        if rest and rest[0].endswith(".py"):
            return self.faults_of_call("python", rest)
        return self.faults_of_flags(FOLLOWED_BY[module], rest) if rest else []

    def faults_of_flags(self, module: str, argv: Sequence[str]) -> List[str]:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(printed):
                parse_only(module, argv)
        except SystemExit as stop:
            return [f"{module}: {printed.getvalue().strip().splitlines()[-1]}"] if stop.code else []
        except Exception as error:
            return [f"{module}: {type(error).__name__}: {error}"]
        return []

    def faults_of_pip(self, argv: Sequence[str]) -> List[str]:
        """pip installs this repository, with or without extras, or what its lists of requirements name or pin."""
        lists = [path.read_text() for path in ROOT.glob("requirements*.txt")]
        known = {name for text in lists for name in re.findall(r"^[\w-]+", text, re.MULTILINE)}
        names = [word for word in argv[1:] if not word.startswith(("-", ".")) and word != "constraints.txt"]
        faults = [f"pip: nothing of this repository is '{name}'" for name in names if name not in known]
        return faults + ([] if argv[0] in ("install", "wheel") else [f"pip {argv[0]}"])

    def faults_of_pytest(self, argv: Sequence[str]) -> List[str]:
        try:
            known, unknown = self.pytest_parser.parse_known_and_unknown_args(list(argv))
        except Exception as error:  # pytest's own, for a value that is refused
            return [f"pytest: {error}"]
        faults = [f"pytest has no {flag}" for flag in unknown]
        faults += [
            f"{path} does not exist" for path in (*known.file_or_dir, *(known.ignore or ())) if not has_test(path)
        ]
        markers = re.findall(r'^ +"(\w+):', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        words = set(re.findall(r"\w+", known.markexpr)) - {"and", "or", "not"}
        return faults + [f"no marker '{word}'" for word in sorted(words) if word not in markers]


def has_test(path: str) -> bool:
    """Whether a file or folder of tests is there, or FILE::TEST in it."""
    file, _, test = path.partition("::")
    return (ROOT / file).exists() and (not test or f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8"))


def quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def read_calls(record: bytes) -> Iterator[List[str]]:
    """The calls that recorders wrote: the number of arguments, the name of the program, the arguments."""
    words = iter(os.fsdecode(record).split("\0")[:-1])
    for count in words:
        yield [next(words) for _ in range(int(count) + 1)]


def program_file(module: str) -> Optional[Path]:
    """The file that `python -m module` runs, if it is in this repository."""
    place = ROOT.joinpath(*module.split("."))
    files = [path for path in (place / "__main__.py", place.with_suffix(".py")) if path.is_file()]
    return files[0] if files else None


def load_program(module: str) -> ModuleType:
    """What `python -m module` runs, imported."""
    is_package = program_file(module).name == "__main__.py"
    return importlib.import_module(f"{module}.__main__" if is_package else module)


def module_name(path: Path) -> str:
    """The name by which `python -m` runs a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).replace(".__main__", "")


def installed_programs() -> Dict[str, str]:
    """The modules behind the commands that the installed package has."""
    _, _, scripts = (ROOT / "pyproject.toml").read_text().partition("\n[project.scripts]\n")
    return dict(re.findall(r'^([\w-]+) *= *"([\w.]+):\w+"$', scripts.split("\n[")[0], re.MULTILINE))


def targets() -> List[str]:
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def parse_only(module: str, argv: Sequence[str]) -> argparse.ArgumentParser:
    """Let a program parse arguments, and stop it there. Returns its parser.

    Raises: SystemExit as parsers do, and what the program raises where it does not come to a parser.
    """
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> None:
        parse_args(parser, args, namespace)
        raise Parsed(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop):
        return parser_of(module, argv)


def parser_of(module: str, argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser that a program gives these arguments to, which is made to raise `Parsed` or SystemExit."""
    try:
        program = load_program(module)
        if hasattr(program, "main"):
            program.main(list(argv))
        else:  # it hands its arguments to a program of others
            with mock.patch.object(sys, "argv", [module, *argv]):
                runpy.run_path(program.__file__, run_name="__main__")
    except Parsed as parsed:
        return parsed.parser
    if "--help" in argv:  # printed by itself
        raise SystemExit(0)
    raise AssertionError(f"{module} does not parse its arguments")


def options_of(module: str, *argv: str) -> argparse.ArgumentParser:
    """The parser of a program, whatever arguments it needs."""

    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise Parsed(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        return parser_of(module, argv)
