"""Containerfile: what it copies and runs is here. No container engine is needed, and none is used."""

import re

from conftest import ROOT

LINES = re.sub(r"\\\n\s*", "", (ROOT / "Containerfile").read_text("utf-8")).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line and not line.startswith("#")]


def test_instructions_are_those_of_a_container_file():
    assert [word for word, _ in INSTRUCTIONS] == ["FROM", "RUN", "WORKDIR", "COPY", "RUN", "ENTRYPOINT"]
    assert re.fullmatch(r"docker.io/library/python:3\.\d+-slim-\w+", INSTRUCTIONS[0][1])


def test_what_it_runs_is_here():
    named = [name for _, words in INSTRUCTIONS for name in re.findall(r"scripts/\w+\.sh", words)]
    assert named == ["scripts/setup.sh", "scripts/autopilot.sh"] and all((ROOT / name).is_file() for name in named)


def test_nothing_that_was_made_here_is_copied():
    ignored = (ROOT / ".containerignore").read_text("utf-8").split()
    made = [line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines() if line.startswith("/")]
    assert {"env", "env-predict", "runs", "data", ".git"} <= set(ignored)
    assert set(made) - set(ignored) <= {"build", "dist"}
