"""Finals of searches, judged: is who was left better than who was first?

By accuracies that others measured, or by training both, and the first also as much longer as its finals have cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.flags import OneLineParser
from spos.core.intervals import Interval, student_interval
from spos.runs.run import BEST_FILE, SEARCH_RUN, open_run_directory
from spos.search.budgets import budget_file
from spos.search.finals import read_finals
from spos.search.history import load_history
from spos.space.architecture import Architecture, architecture_of
from spos.space.flags import space_of_run
from spos.space.space import SearchSpace
from spos.study.alone import Network
from spos.study.flags import FinalsOptions, check_seeds
from spos.study.recipes import counted_top1
from spos.study.truth import TruthOptions, read_truth
from spos.training.flags import TrainingFlags

FIRST, LEFT, LONGER = ROLES = ("first", "left", "longer")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class SearchFinals:
    """The finals of one search within one budget.

    Args:
        budget: its name, "" where there are none.    first: by the search.    left: by the finals.
        epochs: of all finalists in all rounds together.
    """

    search: str
    budget: str
    finalists: Tuple[Architecture, ...]
    first: Architecture
    left: Architecture
    epochs: int


def finals_of(run: Path) -> Tuple[SearchSpace, List[SearchFinals]]:
    """The space of a search, and what its architecture files tell of finals.

    Raises: InputError if it is no search, or none of them tells of any.
    """
    directory, history = open_run_directory(run), load_history(run)
    space = space_of_run(directory)
    if directory.kind != SEARCH_RUN or space is None:
        raise InputError(f"{run} is no run of search_supernet.py")
    prefix, suffix = budget_file("*").split("*")
    found = []
    for file in sorted(run.glob(budget_file("*"))) or [run / BEST_FILE]:
        held = read_finals(file)
        if held is None:
            continue
        name = "" if file.name == BEST_FILE else file.name[len(prefix) : -len(suffix)]
        numbers = [one.evaluation for one in held.rounds[0]]
        of = {number: architecture_of(history.rows[number]) for number in numbers}
        epochs = sum(one.epochs for standings in held.rounds for one in standings)
        found.append(
            SearchFinals(history.name, name, tuple(of.values()), of[held.first_by_search], of[held.winner], epochs)
        )
    if not found:
        raise InputError(f"{run} has held no finals: search with --finalists, among candidates that tie")
    return space, found


class FinalsTruth(NamedTuple):
    """True accuracies, means over the seeds of the truth, of the finalists of one search within one budget.

    Attributes:
        mean: of all finalists, which a draw among them would have.
    """

    search: str
    budget: str
    num_finalists: int
    first: float
    left: float
    mean: float
    best: float


def true_finals(run: Path, options: TruthOptions) -> List[FinalsTruth]:
    """Raises: InputError as `finals_of`, or if the truth does not know a finalist."""
    space, all_finals = finals_of(run)
    truth = read_truth(options, space)
    found = []
    for one in all_finals:
        unknown = [architecture for architecture in one.finalists if architecture not in truth]
        if unknown:
            raise InputError(f"{options.truth} does not know {unknown[0]}, a finalist of {run}")
        values = {architecture: float(np.mean(truth[architecture])) for architecture in one.finalists}
        mean, best = float(np.mean(list(values.values()))), max(values.values())
        first, left = values[one.first], values[one.left]
        found.append(FinalsTruth(one.search, one.budget, len(one.finalists), first, left, mean, best))
    return found


def gains(rows: Sequence[FinalsTruth]) -> Optional[List[Interval]]:
    """Of who was left over who was first, and over the mean of the finalists; None for a single row."""
    if len(rows) < 2:
        return None
    return [
        student_interval([row.left - row.first for row in rows]),
        student_interval([row.left - row.mean for row in rows]),
    ]


def longer_epochs(finals: SearchFinals, recipe: Sequence[str]) -> int:
    """Epochs of the recipe, and as many more as the finals have cost.

    An epoch of theirs counts as one whole epoch of the recipe, though held-out images were not in it: what is trained
    longer has a little more of everything.
    """
    flags = OneLineParser("", tuple(TrainingFlags.groups().values())).parse_args(list(recipe))
    return int(flags.num_epochs + finals.epochs * flags.reduced_dataset_scale)


def plan(finals: Sequence[SearchFinals], recipe: Sequence[str], options: FinalsOptions) -> List[Network]:
    """The networks to be trained, none of them twice: all with the first seed, then with the next."""
    check_seeds(options.seeds)
    networks: Dict[Any, Network] = {}
    for seed in range(options.seed, options.seed + options.seeds):
        for one in finals:
            for role in ROLES:
                network = network_of(one, role, recipe, seed)
                networks.setdefault(network.key, network)
    return list(networks.values())


def network_of(finals: SearchFinals, role: str, recipe: Sequence[str], seed: int) -> Network:
    """What stands for a role of these finals."""
    if role != LONGER:
        return Network(finals.left if role == LEFT else finals.first, seed)
    epochs = str(longer_epochs(finals, recipe))
    return Network(finals.first, seed, variant=f"{epochs}-epochs", flags=("--num-epochs", epochs))


class TrainedFinals(NamedTuple):
    """Accuracies of trained networks, means over the seeds.

    Attributes:
        longer: of the first by the search, trained as much longer as the finals have cost.
    """

    search: str
    budget: str
    num_finalists: int
    first: float
    left: float
    longer: float
    longer_epochs: int


def judge(finals: Sequence[SearchFinals], rows: Sequence[Row], recipe: Sequence[str]) -> List[TrainedFinals]:
    """A line for each finals, by the rows of `train_all` for the networks of `plan`; averaged weights count."""
    tops: Dict[Any, List[float]] = {}
    for row in rows:
        tops.setdefault((architecture_of(row), row.get("variant", "")), []).append(counted_top1(row))
    found = []
    for one in finals:
        architectures = [network_of(one, role, recipe, 0) for role in ROLES]
        means = [float(np.mean(tops[network.architecture, network.variant])) for network in architectures]
        first, left, longer = means
        epochs = longer_epochs(one, recipe)
        found.append(TrainedFinals(one.search, one.budget, len(one.finalists), first, left, longer, epochs))
    return found


def trained_gains(rows: Sequence[TrainedFinals]) -> Optional[Dict[str, Interval]]:
    """Over the first by the search, of who was left and of the first trained longer; None for a single row."""
    if len(rows) < 2:
        return None
    return {role: student_interval([getattr(row, role) - row.first for row in rows]) for role in (LEFT, LONGER)}
