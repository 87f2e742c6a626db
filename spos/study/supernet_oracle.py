"""The supernet of a search as an oracle: its accuracies, each measured once and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

from spos.core.errors import InputError
from spos.data.flags import DataOptions
from spos.data.registry import open_data, with_lists
from spos.runs.journal import Journal, read_rows
from spos.runs.run import HISTORY_FILE, SEARCH_RUN, find_config, open_run_directory
from spos.scoring.job import ScoringJob, make_job, score
from spos.scoring.supernet import supernet_lists
from spos.search.domain import Domain
from spos.search.flags import ConstraintOptions, SearchOptions, make_domain
from spos.search.history import check_history, is_complete
from spos.space.flags import space_of_run
from spos.space.space import Architecture, architecture_of, choices_of

SCORES_FILE = "comparison.jsonl"  # in the run directory: architectures that the search itself has not scored


class SupernetOracle:
    """Top-1 of architectures by the supernet and the images of a search run."""

    def __init__(self, job: ScoringJob, run: Path) -> None:
        self._job = job
        self._scores = Journal(run / SCORES_FILE)
        rows = [*read_rows(run / HISTORY_FILE), *self._scores.rows]
        check_history(rows, job.identity, run)
        self._known: Dict[Architecture, float] = {architecture_of(row): row["top1"] for row in rows if is_complete(row)}

    def __call__(self, architecture: Architecture) -> float:
        if architecture not in self._known:
            accuracy = score(self._job, architecture).to_json()
            self._scores.append({**choices_of(architecture), **accuracy, **self._job.identity})
            self._known[architecture] = accuracy["top1"]
        return self._known[architecture]


def open_search(path: Path) -> Tuple[Domain, SupernetOracle]:
    """What a search could visit, and its supernet as the oracle. Raises InputError if it is no search's run."""
    run = open_run_directory(path)
    space = space_of_run(run)
    if run.kind != SEARCH_RUN or space is None:
        raise InputError(f"{path} is no run of search_supernet.py")
    search, limits, options = run.flags(SearchOptions), run.flags(ConstraintOptions), run.flags(DataOptions)
    lists = supernet_lists(search.supernet_params, find_config(search.supernet_params), path)
    data = with_lists(open_data(options), options, lists)
    job = make_job(
        search.supernet_params, space, options, data, lists, search.search_on, False, "float32", path, shared=False
    )
    return make_domain(space, search, limits), SupernetOracle(job, path)
