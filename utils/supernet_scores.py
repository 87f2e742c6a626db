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
from spos.data_set import DataSet
from spos.errors import InputError
from spos.executors import open_executor
from spos.options import DataOptions
from spos.records import LISTS_FOLDER, MODEL_FILE, Journal
from spos.run_directories import SUPERNET_RUN, RunDirectory, open_run_directory
from spos.scoring import ScoringJob, check_supernet, load_job_images, make_job, score
from spos.search_history import architecture_of, choices_of
from spos.search_space import Architecture, SearchSpace

SCORES_FILE = "supernets.jsonl"


@dataclass(frozen=True)
class TrainedSupernet:
    """A finished run of `train_imagenet.py --model ShuffleNas`."""

    run: RunDirectory
    space: SearchSpace
    data: DataOptions

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def params(self) -> str:
        return str(self.run.path / MODEL_FILE)

    def with_lists(self) -> DataSet:
        """Its images, with the lists that were held out of its training."""
        return assembly.with_lists(assembly.open_data(self.data), self.data, self.run.path / LISTS_FOLDER)

    def job(self, folder: Path, on_gpu: bool = False, shared: bool = False) -> ScoringJob:
        """What scores with it.

        Args:
            folder: where decoded images are kept, if they take too much memory, or several processes use them
                (`shared`).
        """
        lists, data = self.run.path / LISTS_FOLDER, self.with_lists()
        return make_job(self.params, self.space, self.data, data, lists, "holdout", on_gpu, "float32", folder, shared)


def open_supernet(path: Path, batch_size: int = 0) -> TrainedSupernet:
    """Args: batch_size: images in a step of scoring; 0: as in its training.

    Raises: InputError if it is no finished run of a supernet.
    """
    run = open_run_directory(path)
    if run.kind != SUPERNET_RUN or run.space is None:
        raise InputError(f"--supernet {path} is the run of a {run.kind}")
    if not (path / MODEL_FILE).is_file():
        raise InputError(f"the run in {path} is not finished: it has no {MODEL_FILE} yet; the same command goes on")
    options = run.flags(DataOptions)
    return TrainedSupernet(run, run.space, replace(options, batch_size=batch_size or options.batch_size))


def open_supernets(paths: Sequence[Path], batch_size: int) -> List[TrainedSupernet]:
    """Raises: InputError as `open_supernet`, and if two have one name or differ in their space."""
    supernets = [open_supernet(path, batch_size) for path in paths]
    names = [supernet.name for supernet in supernets]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"two of the supernets are named {twice.pop()}: their folders must differ in the last part")
    for supernet in supernets:
        check_supernet(supernet.params, supernet.space)
        if supernet.space != supernets[0].space:
            raise InputError(f"{supernet.run.path} was trained in another search space than {supernets[0].run.path}")
    return supernets


def score_all(
    supernets: Sequence[TrainedSupernet], architectures: Sequence[Architecture], folder: Path, num_jobs: int
) -> Dict[str, List[Dict[str, Any]]]:
    """The row of every architecture by every supernet, by the supernet's name; nothing is scored twice.

    Args:
        folder: rows are appended to `supernets.jsonl` in it.    num_jobs: processes.
    """
    journal = Journal(folder / SCORES_FILE)
    jobs = {supernet.name: supernet.job(folder, shared=num_jobs > 1) for supernet in supernets}
    known = {(row["supernet"], row["images"], architecture_of(row)): row for row in journal.rows}

    def key(name: str, architecture: Architecture) -> Tuple[str, str, Architecture]:
        return jobs[name].identity["supernet"], jobs[name].identity["images"], architecture

    wanted = deque((name, one) for name in jobs for one in architectures if key(name, one) not in known)
    if num_jobs > 1:
        for name in dict.fromkeys(name for name, _ in wanted):
            load_job_images(jobs[name])
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
    assembly.remove_images(folder)
    return {name: [known[key(name, one)] for one in architectures] for name in jobs}


def _row(name: str, architecture: Architecture, accuracy: Dict[str, Any], identity: Dict[str, str]) -> Dict[str, Any]:
    return {"name": name, **choices_of(architecture), **accuracy, **identity}
