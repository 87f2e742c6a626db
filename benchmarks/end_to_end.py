"""Time of the whole method, from images to the exported network, stage by stage: the quickstart of the README.

    OMP_NUM_THREADS=1 python -m benchmarks.end_to_end
    OMP_NUM_THREADS=1 python -m benchmarks.end_to_end --runs 3
    OMP_NUM_THREADS=1 python -m benchmarks.end_to_end --quick

The commands of scripts/quickstart.sh on the digits, each a process of its own in a folder that is removed afterwards,
and the export of the network. The installation is left out, and the images are packed before instead of by the first
program. A stage takes what the clock says of its process, with its start and its compilations. Speeds are those that
the program itself writes to its log: images a second in the median epoch of a training, seconds of a search for each
candidate that it scored.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from benchmarks.measure import OutputOptions, where_and_when, write_line
from benchmarks.table import END_TO_END, table_of_stages
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, pick, positive, run_program
from spos.core.installation import ROOT
from spos.core.progress import progress_bar
from spos.core.tables import as_text
from spos.data.digits import prepare_digits
from spos.engine.compat import num_threads
from spos.runs.journal import read_rows
from spos.runs.run import LOG_FILE, MODEL_FILE

DATA_FOLDER = "data"
IMAGES_PER_SECOND, SECONDS_PER_CANDIDATE = "images/s", "s a candidate"


@dataclass(frozen=True)
class EndToEndOptions:
    """What to measure."""

    runs: int = flag(1, "how often everything is done anew", type=positive)
    quick: bool = flag(False, "an epoch of each training and three candidates, to see that everything runs")


@dataclass(frozen=True)
class Step:
    """A stage: a command, in the folder of all runs.

    Args:
        script: of scripts/, or a module for `scripts/run.sh`.
        quick: flags of `--quick`, behind the others.
        speed: (folder of the run) -> speed as its log has it; in `unit`.
    """

    name: str
    script: str
    arguments: Tuple[str, ...]
    quick: Tuple[str, ...] = ()
    speed: Optional[Callable[[Path], float]] = None
    unit: str = ""

    def command(self, folder: Path, quick: bool) -> List[str]:
        own = self.script.endswith(".sh")
        scripts = ROOT / "scripts"
        start = ["sh", str(scripts / self.script)] if own else ["sh", str(scripts / "run.sh"), self.script]
        arguments = (*self.arguments, *(self.quick if quick else ()))
        return [*start, *(argument.format(runs=folder) for argument in arguments)]


def images_per_second(run: Path) -> float:
    """Of a training, in its median epoch."""
    return median(row["images_per_second"] for row in read_rows(run / LOG_FILE) if "images_per_second" in row)


def seconds_per_candidate(run: Path) -> float:
    """Of a search, whose log adds both up."""
    last = read_rows(run / LOG_FILE)[-1]
    return last["seconds"] / last["evaluations"]


PICTURES = ("--dataset", "digits", "--data-dir", "{runs}/" + DATA_FOLDER)
RUNS = ("{runs}/supernet", "{runs}/search", "{runs}/oneshot", "{runs}/control")


def subnet_step(name: str, architecture: str, *flags: str) -> Step:
    """The training of an architecture of the search."""
    return Step(
        name,
        "train_oneshot.sh",
        (*PICTURES, "--architecture", f"{{runs}}/search/{architecture}", "--save-dir", f"{{runs}}/{name}", *flags),
        ("--num-epochs", "1", "--warmup-epochs", "0", "--batch-size", "180"),
        images_per_second,
        IMAGES_PER_SECOND,
    )


STEPS = (
    Step(
        "supernet",
        "train_supernet.sh",
        (*PICTURES, "--save-dir", "{runs}/supernet"),
        ("--num-epochs", "1", "--warmup-epochs", "0", "--epoch-start-cs", "0", "--batch-size", "180"),
        images_per_second,
        IMAGES_PER_SECOND,
    ),
    Step(
        "search",
        "search_supernet.sh",
        (*PICTURES, "--supernet-params", "{runs}/supernet/" + MODEL_FILE, "--save-dir", "{runs}/search"),
        ("--search-iters", "1", "--population-size", "3", "--retain-length", "2"),
        seconds_per_candidate,
        SECONDS_PER_CANDIDATE,
    ),
    subnet_step("oneshot", "best.json"),
    subnet_step("control", "control.json", "--control"),
    Step(
        "bn_update_effect",
        "utils.bn_update_effect",
        ("--supernet", "{runs}/supernet", "--architectures", "6"),
        ("--architectures", "1", "--counts", "16"),
    ),
    Step("summary", "utils.summarize", RUNS),
    Step("report", "utils.report", (*RUNS, "--output", "{runs}/report.html")),
    Step("export", "utils.export_model", ("--params", "{runs}/oneshot/" + MODEL_FILE, "--format", "mxnet")),
)


@dataclass
class Measured:
    """Seconds of a stage, and its speed in every run, if it has one."""

    name: str
    unit: str = ""
    seconds: List[float] = field(default_factory=list)
    speeds: List[float] = field(default_factory=list)

    def to_json(self) -> Dict[str, Any]:
        row: Dict[str, Any] = {"name": self.name, **spread("seconds", self.seconds), "runs": len(self.seconds)}
        return {**row, **spread("speed", self.speeds), "unit": self.unit} if self.speeds else row


def spread(name: str, values: Sequence[float]) -> Dict[str, Any]:
    """Median and quartiles, for the record."""
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return {name: middle, f"{name}_quartiles": [low, high]}


def main(argv: Optional[List[str]] = None) -> int:
    groups = (EndToEndOptions, OutputOptions)
    options, output = (pick(group, OneLineParser(__doc__, groups).parse_args(argv)) for group in groups)
    output.check()
    stages = [Measured("pack"), *(Measured(step.name, step.unit) for step in STEPS), Measured("all")]
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            run_once(Path(folder), options.quick, stages)
    rows = [stage.to_json() for stage in stages]
    record = {"stage": END_TO_END, "unit": "a stage", "options": asdict(options), "rows": rows, **where_and_when()}
    line = json.dumps(record)
    write_line(line, output)
    print(line if output.json else as_text(table_of_stages([record])))
    return 0


def run_once(folder: Path, quick: bool, stages: Sequence[Measured]) -> None:
    """Do everything, and note how long each stage took; the last of `stages` is their sum."""
    pack, *others, whole = stages
    started = time.perf_counter()
    prepare_digits(str(folder / DATA_FOLDER / "digits"))
    pack.seconds.append(time.perf_counter() - started)
    for step, stage in zip(progress_bar(STEPS, unit="stage"), others):
        stage.seconds.append(run_command(step.name, step.command(folder, quick)))
        if step.speed:
            stage.speeds.append(step.speed(folder / step.name))
    whole.seconds.append(sum(stage.seconds[-1] for stage in (pack, *others)))


def run_command(name: str, command: Sequence[str]) -> float:
    """Seconds of a process with as many threads as this one.

    Raises: InputError with the last words of one that fails.
    """
    environ = {**os.environ, "SPOS_PYTHON": sys.executable, "OMP_NUM_THREADS": str(num_threads())}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise InputError(f"stage '{name}' ended with code {done.returncode}: {words}")
    return seconds


if __name__ == "__main__":
    sys.exit(run_program(main))
