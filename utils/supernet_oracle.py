"""The supernet of a search as an oracle: its accuracies, each measured once and kept."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple, Type

from spos import assembly
from spos.domain import Domain
from spos.errors import InputError
from spos.options import ConstraintOptions, DataOptions, SearchOptions
from spos.records import CONFIG_FILE, HISTORY_FILE, Journal, find_config, read_json, read_rows
from spos.scoring import ScoringJob, make_job, score
from spos.search_history import architecture_of, check_history, is_complete
from spos.search_plan import make_domain
from spos.search_space import Architecture, SearchSpace
from spos.supernet_file import supernet_lists

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
            choices = {
                "block_choices": list(architecture.block_choices),
                "channel_choices": list(architecture.channel_choices),
            }
            self._scores.append({**choices, **accuracy, **self._job.identity})
            self._known[architecture] = accuracy["top1"]
        return self._known[architecture]


def open_search(run: Path) -> Tuple[Domain, SupernetOracle]:
    """What a search could visit, and its supernet as the oracle. Raises InputError if it is no search's run."""
    config = read_json(run / CONFIG_FILE)
    if not isinstance(config, dict) or config.get("program") != "search_supernet.py":
        raise InputError(f"{run} is no run of search_supernet.py")
    search, limits, options = (recorded(group, config) for group in (SearchOptions, ConstraintOptions, DataOptions))
    space = SearchSpace.from_json(config["space"], source=str(run))
    lists = supernet_lists(search.supernet_params, find_config(search.supernet_params), run)
    data = assembly.with_lists(assembly.open_data(options), options, lists)
    job = make_job(
        search.supernet_params, space, options, data, lists, search.search_on, False, "float32", run, shared=False
    )
    return make_domain(space, search, limits), SupernetOracle(job, run)


def recorded(group: Type, config: Mapping[str, Any]) -> Any:
    """The flags of a group as a run recorded them."""
    return group(**{item.name: config["options"][item.name] for item in fields(group)})
