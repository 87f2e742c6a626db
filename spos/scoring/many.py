"""Accuracies of given architectures by trained supernets, each after a BatchNorm update, on the held-out images."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from spos.core.executors import open_executor
from spos.core.progress import progress_bar
from spos.data.pixels import remove_images
from spos.engine.compat import threads_of_each
from spos.runs.journal import Journal
from spos.runs.schema import Scored, Text
from spos.scoring.job import load_job_images, score
from spos.scoring.trained import TrainedSupernet
from spos.space.architecture import Architecture, architecture_of, choices_of

SCORES_FILE = "supernets.jsonl"
REFIT = "/refit"  # behind the name of a supernet whose paths have classifiers of their own


class ScoreRow(Scored, kw_only=True):
    """A row of `supernets.jsonl`."""

    name: Text
    supernet: Text
    images: Text


def name_of_scores(supernet: TrainedSupernet, num_refit_images: int = 0) -> str:
    """What scores of a supernet's paths are called. Args: num_refit_images: as of `score_all`."""
    return supernet.name + (REFIT if num_refit_images else "")


def score_all(
    supernets: Sequence[TrainedSupernet],
    architectures: Sequence[Architecture],
    folder: Path,
    num_jobs: int,
    num_refit_images: int = 0,
) -> Dict[str, List[Dict[str, Any]]]:
    """The row of every architecture by every supernet, by the supernet's name (and REFIT); nothing is scored twice.

    Args:
        folder: rows are appended to `supernets.jsonl` in it.    num_jobs: processes.
        num_refit_images: training images of a classifier for each path; 0: that of the supernet is used.
    """
    journal = Journal(folder / SCORES_FILE, ScoreRow)
    jobs = {
        name_of_scores(supernet, num_refit_images): replace(
            supernet.job(folder, shared=num_jobs > 1), num_refit_images=num_refit_images
        )
        for supernet in supernets
    }
    known = {(row["supernet"], row["images"], architecture_of(row)): row for row in journal.rows}

    def key(name: str, architecture: Architecture) -> Tuple[str, str, Architecture]:
        return jobs[name].identity["supernet"], jobs[name].identity["images"], architecture

    wanted = deque((name, one) for name in jobs for one in architectures if key(name, one) not in known)
    if num_jobs > 1:
        for name in dict.fromkeys(name for name, _ in wanted):
            load_job_images(jobs[name])
    out: Dict[Future, Tuple[str, Architecture]] = {}
    bar = progress_bar(total=len(wanted), desc="scores", unit="arch")
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
    remove_images(folder)
    return {name: [known[key(name, one)] for one in architectures] for name in jobs}


def _row(name: str, architecture: Architecture, accuracy: Dict[str, Any], identity: Dict[str, str]) -> Dict[str, Any]:
    return {"name": name, **choices_of(architecture), **accuracy, **identity}
