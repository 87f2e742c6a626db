"""Kill a search, or its workers, at random moments, and compare with an undisturbed search byte for byte.

python -m utils.check_search --kills 10                    # kill -9 of the program, on the digits
python -m utils.check_search --kills 10 --processes 2      # the same with two local processes that score
python -m utils.check_search --dask 1,2,3                  # one Dask worker of each cluster is killed in the middle

A small supernet is trained first, unless --supernet-params is given. Compared are history.jsonl and best.json, and
that every architecture stands in the history once.
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
from typing import List, Optional

import numpy as np

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, not_negative, pick, positive, run_program
from spos.core.installation import ROOT
from spos.runs.run import ARRIVED_FILE, BEST_FILE, HISTORY_FILE, MODEL_FILE
from spos.space.architecture import architecture_of, parse_choices
from utils.check_resume import finish
from utils.search_cluster import LocalCluster

SUPERNET_RECIPE = (
    "--model ShuffleNas --use-se --last-conv-after-pooling --dataset digits --input-size 16 --num-epochs 1 "
    "--batch-size 64 --reduced-dataset-scale 4 --val-architectures 1 -j 1 --seed 7"
)
RECIPE = (
    "--dataset digits --input-size 16 --search-iters 4 --population-size 10 --retain-length 3 --topk 2 "
    "--batch-size 180 -j 1 --seed 7"
)
COMPARED = (HISTORY_FILE, BEST_FILE)
POLL_SECONDS = 0.002
MOMENT, START_SECONDS = 0.1, 4.0  # an evaluation takes some 0.1 s, the start of the program some seconds


@dataclass(frozen=True)
class CheckOptions:
    """What to kill, and how often."""

    kills: int = flag(0, "times to kill the program", type=not_negative)
    processes: int = flag(1, "local processes that score, in the search that is killed", type=positive)
    dask: str = flag("", "sizes of Dask clusters, like 1,2,3; one worker of each is killed in the middle")
    seed: int = flag(0, "seed of the moments")
    folder: str = flag("runs/check-search", "where all runs are written; must not exist")
    supernet_params: str = flag("", "trained supernet (default: a small one is trained)")
    recipe: str = flag(RECIPE, "flags of search_supernet.py")


@dataclass(frozen=True)
class Check:
    """One check in progress."""

    options: CheckOptions
    folder: Path
    supernet: Path

    def command(self, name: str, *flags: str) -> List[str]:
        """The search as users start it, written to a folder of this name."""
        own = ["--supernet-params", str(self.supernet), "--save-dir", str(self.folder / name)]
        return [sys.executable, str(ROOT / "search_supernet.py"), *self.options.recipe.split(), *own, *flags]

    def num_scored(self, name: str) -> int:
        """Evaluations that are on disk; one may stand in both files."""
        found = set()
        for path in (self.folder / name / file for file in (HISTORY_FILE, ARRIVED_FILE)):
            lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
            found |= {architecture_of(json.loads(line)) for line in lines}
        return len(found)

    def compare(self, name: str) -> str:
        """Raises InputError that names the first difference."""
        for file in COMPARED:
            if (self.folder / "whole" / file).read_bytes() != (self.folder / name / file).read_bytes():
                raise InputError(f"{self.folder / 'whole' / file} and {self.folder / name / file} differ")
        if (self.folder / name / ARRIVED_FILE).exists():
            raise InputError(f"{self.folder / name / ARRIVED_FILE} was left behind")
        return f"{' and '.join(COMPARED)} ({self.num_scored(name)} evaluations) are equal byte for byte"


def main(argv: Optional[List[str]] = None) -> int:
    options = pick(CheckOptions, OneLineParser(__doc__, (CheckOptions,)).parse_args(argv))
    folder = Path(options.folder)
    if folder.exists():
        raise InputError(f"{folder} exists; remove it or give another --folder")
    if not options.kills and not options.dask:
        raise InputError("nothing to check: give --kills or --dask")
    folder.mkdir(parents=True)
    check = Check(options, folder, Path(options.supernet_params or folder / "supernet" / MODEL_FILE))
    if not options.supernet_params:
        flags = [*SUPERNET_RECIPE.split(), "--save-dir", str(folder / "supernet")]
        finish([sys.executable, str(ROOT / "train_imagenet.py"), *flags])
    start = time.time()
    finish(check.command("whole"))
    print(f"undisturbed search: {check.num_scored('whole')} evaluations, {time.time() - start:.0f} s", flush=True)
    if options.kills:
        check_kills(check)
    for num_workers in parse_choices(options.dask, "--dask") if options.dask else ():
        check_dask(check, num_workers)
    return 0


def check_kills(check: Check) -> None:
    """Kill the program again and again, then let it end."""
    options, rng = check.options, np.random.default_rng(check.options.seed)
    arguments = check.command("killed", "--num-cpus-ctx", str(options.processes))
    total = check.num_scored("whole")
    for number in range(options.kills):
        enough = int(total * (number + rng.random()) / (options.kills + 1))
        scored = kill(check, arguments, enough, rng)
        print(f"kill {number + 1}: after {scored} evaluations", flush=True)
    finish(arguments)
    print(f"{check.compare('killed')}, after {options.kills} kills with {options.processes} process(es)", flush=True)


def kill(check: Check, arguments: List[str], enough: int, rng: np.random.Generator) -> int:
    """Start the search, and kill it a moment after so many evaluations, or somewhere in its start if they are there
    already. Returns how many are on disk then."""
    delay = rng.uniform(0, MOMENT if check.num_scored("killed") < enough else START_SECONDS)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while check.num_scored("killed") < enough and process.poll() is None:
        time.sleep(POLL_SECONDS)
    time.sleep(delay)
    if process.poll() is not None:
        errors = process.communicate()[1].decode()
        raise InputError(f"the search ended before it could be killed: {errors[-500:]}")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return check.num_scored("killed")


def check_dask(check: Check, num_workers: int) -> None:
    """One search on a cluster; when half is scored a worker is killed, and a new one comes later."""
    name, half = f"dask-{num_workers}", check.num_scored("whole") // 2
    with LocalCluster(num_workers) as cluster:
        process = subprocess.Popen(
            check.command(name, "--scheduler", cluster.address), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while check.num_scored(name) < half and process.poll() is None:
            time.sleep(POLL_SECONDS)
        cluster.kill_worker(0)
        if num_workers == 1:
            cluster.add_worker()
        errors = process.communicate()[1].decode()
        if process.returncode:
            raise InputError(f"the search ended with code {process.returncode}: {errors[-500:]}")
    print(f"{check.compare(name)}, on {num_workers} Dask worker(s), one killed after {half} evaluations", flush=True)


if __name__ == "__main__":
    sys.exit(run_program(main))
