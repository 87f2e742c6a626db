"""The supernet of a search as an oracle: its accuracies, each measured once and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Dict, Tuple

from spos.core.errors import InputError
from spos.core.flags import split_files
from spos.data.flags import DataOptions
from spos.deploy.candidates import scorer_of
from spos.runs.journal import Journal
from spos.runs.run import HISTORY_FILE, SEARCH_RUN, open_run_directory
from spos.runs.schema import Scored
from spos.scoring.job import ScoringJob
from spos.scoring.trained import open_together
from spos.search.domain import Domain
from spos.search.flags import INT8, ConstraintOptions, SearchOptions, make_domain
from spos.search.history import NeededRow, check_history, is_complete, read_search_rows
from spos.space.architecture import Architecture, architecture_of, choices_of
from spos.space.flags import SpaceOptions, space_of_run

SCORES_FILE = "comparison.jsonl"  # in the run directory: architectures that the search itself has not scored


class SupernetOracle:
    """Top-1 of architectures by the supernet and the images of a search run."""

    def __init__(self, job: ScoringJob, run: Path) -> None:
        self._job, self._score = job, scorer_of(job)
        self._scores = Journal(run / SCORES_FILE, Scored)
        rows = [*read_search_rows(run / HISTORY_FILE, NeededRow), *self._scores.rows]
        check_history(rows, job.identity, run)
        self._known: Dict[Architecture, float] = {architecture_of(row): row["top1"] for row in rows if is_complete(row)}

    def __call__(self, architecture: Architecture) -> float:
        if architecture not in self._known:
            accuracy = self._score(architecture).to_json()
            self._scores.append({**choices_of(architecture), **accuracy, **self._job.identity})
            self._known[architecture] = accuracy["top1"]
        return self._known[architecture]


def open_search(path: Path) -> Tuple[Domain, SupernetOracle]:
    """What a search could visit, and its supernet as the oracle. Raises InputError if it is no search's run."""
    run = open_run_directory(path)
    space = space_of_run(run)
    if run.kind != SEARCH_RUN or space is None:
        raise InputError(f"{path} is no run of search_supernet.py")
    search, limits = run.flags(SearchOptions), run.flags(ConstraintOptions)
    options = replace(run.flags(SpaceOptions), blocks="")  # no config makes a program run a file
    supernet = open_together(split_files(search.supernet_params), run.flags(DataOptions), options, path)
    job = supernet.job(path, search.search_on)
    job = replace(job, quantized=search.score_dtype == INT8, num_refit_images=search.refit_classifier)
    return make_domain(space, search, limits), SupernetOracle(job, path)
