"""What a child process of the fuzz test does: it damages files and reads them."""

from __future__ import annotations

import resource
import shutil
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import List, Tuple
from zlib import crc32

import numpy as np

from spos.core.errors import InputError
from utils.check_files.kinds import KINDS, Kind
from utils.check_files.mutations import mutate

TAKEN, REFUSED, TRACEBACK, DEATH, HANG, MEMORY = "taken", "refused", "tracebacks", "deaths", "hangs", "too much memory"
OUTCOMES = (TAKEN, REFUSED, TRACEBACK, DEATH, HANG, MEMORY)
FAILURES = OUTCOMES[2:]
LONGEST_MESSAGE = 2000  # characters
BYTES_OF_MB = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What came of one input."""

    outcome: str
    seconds: float = 0.0
    text: str = ""


def chosen_kinds(text: str) -> List[Kind]:
    """Raises InputError for an unknown name."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {kind.name: kind for kind in KINDS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"--kinds: no kind '{unknown[0]}'; known: {', '.join(known)}")
    return [known[name] for name in names] or list(KINDS)


def serve(pipe: Connection, names: str, seed: int, megabytes: int, sound: Path, folder: Path) -> None:
    """Answer tasks until the pipe is closed. A child that answers MEMORY is to be replaced."""
    kinds = chosen_kinds(names)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    for kind in kinds:  # what is loaded when it is first needed counts as memory of no input
        read(kind, folder)
    pipe.send("ready")
    while True:
        try:
            number, index = pipe.recv()
        except EOFError:
            return
        kind = kinds[number]
        shutil.rmtree(folder)  # the input of a failure stays until now, for whoever wants it; readers write too
        shutil.copytree(sound, folder)
        content = (sound / kind.file).read_bytes()
        rng = np.random.default_rng([seed, crc32(kind.name.encode()), index])
        (folder / kind.file).write_bytes(mutate(content, kind.is_json, kind.has_check, rng))
        before, start = _most_memory(), time.monotonic()
        outcome, text = read(kind, folder)
        seconds, taken = time.monotonic() - start, _most_memory() - before
        if taken > megabytes:
            outcome, text = MEMORY, f"{taken} MB"
        pipe.send(Answer(outcome, seconds, text))


def read(kind: Kind, folder: Path) -> Tuple[str, str]:
    """Outcome of reading, and what was said about a failure."""
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            kind.read(folder)
        return TAKEN, ""
    except (InputError, OSError) as error:  # both end a program with one line
        lines = " ".join(str(error).split())
        return (REFUSED, "") if len(lines) <= LONGEST_MESSAGE else (TRACEBACK, f"a message of {len(lines)} characters")
    except Exception:
        return TRACEBACK, traceback.format_exc()


def _most_memory() -> int:
    """The most memory that this process had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // BYTES_OF_MB
