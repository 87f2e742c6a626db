"""Kill a training run at random moments, run it again until it ends, and compare with an undisturbed run bit by bit.

python -m utils.check_resume --kills 10 --devices 1        # digits, a supernet, about two minutes
python -m utils.check_resume --kills 10 --devices 2

Every second kill is aimed at the moment a checkpoint is being written. Everything that a run keeps is compared:
parameters, averaged weights, optimizer state, statistics of every device, and the log except its speeds.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, pick, positive, run_program
from spos.core.installation import ROOT
from spos.engine.parameters import load_arrays
from spos.runs.run import AVERAGE_MODEL_FILE, LOG_FILE, MODEL_FILE
from spos.training.checkpoint import CHECKPOINTS, newest_checkpoint

RECIPE = (
    "--model ShuffleNas --use-se --last-conv-after-pooling --dataset digits --input-size 16 --num-epochs 4 "
    "--batch-size 64 --reduced-dataset-scale 4 --epoch-start-cs 1 --cs-warm-up --label-smoothing --no-wd "
    "--save-steps 1 --val-architectures 1 -j 1 --ema-decay 0.9 --seed 7"
)
SPEEDS = ("images_per_second",)


@dataclass(frozen=True)
class CheckOptions:
    """What to kill, and how often."""

    kills: int = flag(10, "times to kill the run", type=positive)
    devices: int = flag(1, "CPU contexts that share the batch", type=positive)
    seed: int = flag(0, "seed of the moments")
    folder: str = flag("runs/check-resume", "where both runs are written; must not exist")
    recipe: str = flag(RECIPE, "flags of train_imagenet.py")


def main(argv: Optional[List[str]] = None) -> int:
    options = pick(CheckOptions, OneLineParser(__doc__, (CheckOptions,)).parse_args(argv))
    folder = Path(options.folder)
    if folder.exists():
        raise InputError(f"{folder} exists; remove it or give another --folder")
    folder.mkdir(parents=True)
    start = time.time()
    finish(command(options, folder / "whole"))
    seconds = time.time() - start
    print(f"undisturbed run: {seconds:.0f} s", flush=True)
    rng = np.random.default_rng(options.seed)
    killed = ended = 0
    while killed < options.kills:
        in_checkpoint = killed % 2 == 1
        moment = kill(command(options, folder / "killed"), rng.uniform(0.1, 0.9) * seconds, in_checkpoint, folder)
        if moment is None:  # the run ended before that; the next kill is of a new one
            print(compare(folder / "whole", folder / "killed"), flush=True)
            ended += 1
            (folder / "killed").rename(folder / f"ended-{ended}")
            continue
        killed += 1
        print(f"kill {killed}: {moment}", flush=True)
    finish(command(options, folder / "killed"))
    print(f"{compare(folder / 'whole', folder / 'killed')}, after {killed} kills on {options.devices} device(s)")
    return 0


def command(options: CheckOptions, save_dir: Path) -> List[str]:
    """The training program as users start it."""
    flags = [*options.recipe.split(), "--num-cpus-ctx", str(options.devices), "--save-dir", str(save_dir)]
    return [sys.executable, str(ROOT / "train_imagenet.py"), *flags]


def finish(arguments: List[str]) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"the run ended with code {done.returncode}: {done.stderr.strip()[-500:]}")


def kill(arguments: List[str], after: float, in_checkpoint: bool, folder: Path) -> Optional[str]:
    """Start a run and kill it after some seconds, or at the first checkpoint being written after them.

    Returns: what was reached, or None if the run ended first.
    """
    start = time.time()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    checkpoints = folder / "killed" / CHECKPOINTS
    being_written = f".epoch-*.{process.pid}"  # others are left by earlier kills
    while time.time() - start < after or (in_checkpoint and not any(checkpoints.glob(being_written))):
        if process.poll() is not None:
            if process.returncode:
                errors = process.communicate()[1].decode()
                raise InputError(f"the run ended with code {process.returncode}: {errors[-500:]}")
            return None
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    half = sorted(path.name for path in checkpoints.glob(being_written))
    reached = newest_checkpoint(folder / "killed")
    where = f"epoch {reached.epoch}, step {reached.step}" if reached else "no checkpoint yet"
    return f"{time.time() - start:5.1f} s, {where}" + (f", while {half[0]} was being written" if half else "")


def compare(one: Path, other: Path) -> str:
    """What is equal. Raises InputError that names the first difference."""
    count = 0
    ends = newest_checkpoint(one), newest_checkpoint(other)
    if ends[0] is None or ends[1] is None:
        raise InputError(f"{one} or {other} has no checkpoint")
    pairs = [(path, other / path.name) for path in (one / MODEL_FILE, *one.glob(AVERAGE_MODEL_FILE))]
    for path in ends[0].folder.glob("*"):
        if path.suffix != ".json":
            pairs.append((path, ends[1].folder / path.name))
    for files in pairs:
        arrays = [load_arrays(file) for file in files]
        if set(arrays[0]) != set(arrays[1]):
            raise InputError(f"{files[0]} and {files[1]} hold different names")
        for name in arrays[0]:
            if not np.array_equal(arrays[0][name].asnumpy(), arrays[1][name].asnumpy()):
                raise InputError(f"{files[0]} and {files[1]} differ in {name}")
            count += 1
    if read_log(one) != read_log(other):
        raise InputError(f"{one / LOG_FILE} and {other / LOG_FILE} differ")
    return f"{count} arrays and {len(read_log(one))} epochs of the log are equal bit by bit"


def read_log(run: Path) -> List[Dict[str, Any]]:
    rows = [json.loads(line) for line in (run / LOG_FILE).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in SPEEDS} for row in rows]


if __name__ == "__main__":
    sys.exit(run_program(main))
