"""Accuracies of given architectures by trained supernets, each after a BatchNorm update, on the held-out images."""

from __future__ import annotations

import sys
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from tqdm import tqdm

from spos import assembly
from spos.compat import threads_of_each
from spos.errors import InputError
from spos.executors import open_executor
from spos.options import SUPERNET, DataOptions
from spos.records import CONFIG_FILE, LISTS_FOLDER, MODEL_FILE, Journal, read_json
from spos.scoring import ScoringJob, check_supernet, make_job, score
from spos.search_history import architecture_of
from spos.search_space import Architecture, SearchSpace
from utils.supernet_oracle import recorded

SCORES_FILE = "supernets.jsonl"


@dataclass(frozen=True)
class TrainedSupernet:
    """A finished run of `train_imagenet.py --model ShuffleNas`."""

    run: Path
    space: SearchSpace
    data: DataOptions

    @property
    def name(self) -> str:
        return self.run.resolve().name

    def job(self, folder: Path) -> ScoringJob:
        """What scores with it. Args: folder: where decoded images are kept, if they take too much memory."""
        lists = self.run / LISTS_FOLDER
        data = assembly.with_lists(assembly.open_data(self.data), self.data, lists)
        params = str(self.run / MODEL_FILE)
        return make_job(params, self.space, self.data, data, lists, "holdout", False, "float32", folder, shared=False)


def open_supernets(runs: Sequence[Path], batch_size: int) -> List[TrainedSupernet]:
    """Raises: InputError if a run is no finished supernet, or if two have one name or differ in their space."""
    supernets = []
    for run in runs:
        config = read_json(run / CONFIG_FILE)
        if not isinstance(config, dict) or config.get("options", {}).get("model") != SUPERNET:
            raise InputError(f"{run} is no run of train_imagenet.py --model {SUPERNET}")
        if not (run / MODEL_FILE).is_file():
            raise InputError(f"the run in {run} is not finished: it has no {MODEL_FILE} yet")
        space = SearchSpace.from_json(config["space"], str(run))
        check_supernet(str(run / MODEL_FILE), space)
        supernets.append(TrainedSupernet(run, space, replace(recorded(DataOptions, config), batch_size=batch_size)))
    names = [supernet.name for supernet in supernets]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"two of the supernets are named {twice.pop()}: their folders must differ in the last part")
    for supernet in supernets[1:]:
        if supernet.space != supernets[0].space:
            raise InputError(f"{supernet.run} was trained in another search space than {supernets[0].run}")
    return supernets


def score_all(
    supernets: Sequence[TrainedSupernet], architectures: Sequence[Architecture], folder: Path, num_jobs: int
) -> Dict[str, List[Dict[str, Any]]]:
    """The row of every architecture by every supernet, by the supernet's name; nothing is scored twice.

    Args:
        folder: rows are appended to `supernets.jsonl` in it.    num_jobs: processes.
    """
    journal = Journal(folder / SCORES_FILE)
    jobs = {supernet.name: supernet.job(folder) for supernet in supernets}
    known = {(row["supernet"], row["images"], architecture_of(row)): row for row in journal.rows}

    def key(name: str, architecture: Architecture) -> Tuple[str, str, Architecture]:
        return jobs[name].identity["supernet"], jobs[name].identity["images"], architecture

    wanted = deque((name, one) for name in jobs for one in architectures if key(name, one) not in known)
    out: Dict[Future, Tuple[str, Architecture]] = {}
    bar = tqdm(total=len(wanted), desc="scores", unit="arch", disable=not sys.stderr.isatty(), leave=False)
    with bar, open_executor(num_jobs, threads_of_each(num_jobs)) as executor:
        while wanted or out:
            while wanted and len(out) < num_jobs:
                name, architecture = wanted.popleft()
                out[executor.submit(score, jobs[name], architecture)] = name, architecture
            for future in wait(out, return_when=FIRST_COMPLETED).done:
                name, architecture = out.pop(future)
                row = _row(name, architecture, future.result().to_json(), jobs[name].identity)
                journal.append(row)
                known[key(name, architecture)] = row
                bar.update()
    return {name: [known[key(name, one)] for one in architectures] for name in jobs}


def _row(name: str, architecture: Architecture, accuracy: Dict[str, Any], identity: Dict[str, str]) -> Dict[str, Any]:
    return {
        "name": name,
        "block_choices": list(architecture.block_choices),
        "channel_choices": list(architecture.channel_choices),
        **accuracy,
        **identity,
    }
