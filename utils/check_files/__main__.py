"""Read thousands of damaged files of every kind that the project reads, and count what is no error of one line.

python -m utils.check_files --inputs 4800        # some minutes

A small sound file of each kind is written; each input is one of them with one to three changes to its bytes, to values
of its JSON or to its structure, and is read in a child process as programs read it. A reader may take the input or
refuse it by an InputError. A traceback, the death of the process, more than --seconds or more than --megabytes is a
failure; then the exit code is 1. Inputs follow from --seed: the same seed gives the same ones.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, not_negative, pick, positive, run_program
from spos.core.progress import progress_bar
from spos.core.tables import Column, Table, as_text
from utils.check_files.kinds import Kind, write_corpus
from utils.check_files.reading import DEATH, FAILURES, HANG, MEMORY, OUTCOMES, Answer, chosen_kinds, serve

START_SECONDS = 120  # of a child, which loads MXNet


@dataclass(frozen=True)
class FuzzOptions:
    """What is read, and what it may take."""

    inputs: int = flag(4800, "damaged files in all", type=positive)
    seed: int = flag(0, "seed of the changes", type=not_negative)
    processes: int = flag(2, "child processes", type=positive)
    seconds: int = flag(20, "most seconds for one input", type=positive)
    megabytes: int = flag(500, "most memory for one input", type=positive)
    kinds: str = flag("", "names of kinds, separated by commas (empty: all)")
    keep: str = flag("", "folder for the inputs that failed (empty: they are not kept)")


@dataclass
class Child:
    """A process that reads, and the input that it has."""

    process: Any
    pipe: Connection
    task: Optional[Tuple[int, int]] = None  # number of a kind, number of an input
    deadline: float = 0.0


@dataclass
class Found:
    """What came of all inputs of a kind."""

    outcomes: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    examples: List[str] = field(default_factory=list)


def main(argv: Optional[List[str]] = None) -> int:
    options = pick(FuzzOptions, OneLineParser(__doc__, (FuzzOptions,)).parse_args(argv))
    kinds = chosen_kinds(options.kinds)
    with tempfile.TemporaryDirectory(prefix="spos-check-files-") as folder:
        write_corpus(Path(folder) / "sound")
        found = fuzz(kinds, options, Path(folder))
    print(describe(kinds, found))
    failed = [example for one in found.values() for example in one.examples]
    for example in failed:
        print(f"\n{example}")
    return 1 if failed else 0


def fuzz(kinds: List[Kind], options: FuzzOptions, folder: Path) -> Dict[str, Found]:
    """Read all inputs."""
    found = {kind.name: Found() for kind in kinds}
    tasks = ((number % len(kinds), number // len(kinds)) for number in range(options.inputs))
    children = [_start(number, kinds, options, folder) for number in range(min(options.processes, options.inputs))]
    try:
        with progress_bar(total=options.inputs, unit="file") as bar:
            for number, (kind, index), answer in _answers(children, tasks, kinds, options, folder):
                _note(found[kinds[kind].name], kinds[kind], index, answer, options, folder / str(number))
                bar.update()
    finally:
        for child in children:
            child.process.kill()
            child.process.join()
    return found


def _answers(
    children: List[Child],
    tasks: Iterator[Tuple[int, int]],
    kinds: List[Kind],
    options: FuzzOptions,
    folder: Path,
) -> Iterator[Tuple[int, Tuple[int, int], Answer]]:
    """(number of the child, task, answer) as they come; children that end are started again."""
    for child in children:
        _hand_out(child, next(tasks, None), options)
    while any(child.task for child in children):
        busy = {child.pipe: number for number, child in enumerate(children) if child.task}
        ready = wait(list(busy), timeout=0.5)
        for pipe, number in busy.items():
            child = children[number]
            if pipe in ready:
                try:
                    answer = pipe.recv()
                except (EOFError, OSError):
                    child.process.join()
                    answer = Answer(DEATH, text=f"the process ended with code {child.process.exitcode}")
            elif time.monotonic() > child.deadline:
                answer = Answer(HANG, float(options.seconds), f"more than {options.seconds} s")
            else:
                continue
            if child.task is None:
                raise RuntimeError(f"child {number} answered without having been asked")
            yield number, child.task, answer
            if answer.outcome in (DEATH, HANG, MEMORY):
                child.process.kill()
                child.process.join()
                children[number] = child = _start(number, kinds, options, folder)
            _hand_out(child, next(tasks, None), options)


def _start(number: int, kinds: List[Kind], options: FuzzOptions, folder: Path) -> Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    names = ",".join(kind.name for kind in kinds)
    arguments = (theirs, names, options.seed, options.megabytes, folder / "sound", folder / str(number))
    process = context.Process(target=serve, args=arguments, daemon=True)
    process.start()
    theirs.close()
    if not ours.poll(START_SECONDS):
        raise InputError(f"a child process did not start within {START_SECONDS} s")
    ours.recv()
    return Child(process, ours)


def _hand_out(child: Child, task: Optional[Tuple[int, int]], options: FuzzOptions) -> None:
    child.task = task
    if task is not None:
        child.deadline = time.monotonic() + options.seconds
        child.pipe.send(task)


def _note(found: Found, kind: Kind, index: int, answer: Answer, options: FuzzOptions, folder: Path) -> None:
    found.outcomes[answer.outcome] += 1
    found.slowest = max(found.slowest, answer.seconds)
    if answer.outcome not in FAILURES:
        return
    found.examples.append(f"{kind.name}, input {index}: {answer.outcome}: {answer.text}")
    if options.keep:
        kept = Path(options.keep)
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / kind.file, kept / f"{kind.name.replace(' ', '-')}-{index}-{Path(kind.file).name}")


def describe(kinds: List[Kind], found: Dict[str, Found]) -> str:
    """A row for each kind, and their sum."""
    columns = (Column("kind"), Column("inputs"), *(Column(name) for name in OUTCOMES), Column("slowest", "slowest (s)"))
    rows = [
        (name, sum(one.outcomes.values()), *(one.outcomes[outcome] for outcome in OUTCOMES), f"{one.slowest:.2f}")
        for name, one in found.items()
    ]
    totals = Counter(outcome for one in found.values() for outcome in one.outcomes.elements())
    sums = [sum(totals.values()), *(totals[outcome] for outcome in OUTCOMES)]
    slowest = max(one.slowest for one in found.values())
    return as_text(Table("", columns, (*rows, ("all", *sums, f"{slowest:.2f}"))))


if __name__ == "__main__":
    sys.exit(run_program(main))
