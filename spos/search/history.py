"""The rows of `history.jsonl`, and what is read from them: the best, ties, the mean of random architectures.

A row is one evaluation, in the order of the search; the file holds no times, so equal searches write equal files.

    evaluation, iteration             numbers from 0
    block_choices, channel_choices    the architecture
    input_size                        of its images, if the space leaves a choice of it
    flops, params                     its cost;    flop_ratio, param_ratio, score    relative to the comparison model
    latency_ms                        by the latency table, if there is one
    fitness                           what the search maximises
    top1, top5, top1_interval         fractions 0..1; the interval is Wilson's, 95%
    top1_hits, num_images             hits among how many images
    num_supernets                     whose mean the score is, if there are several: the hits are those of all together
    dropped                           true: it lost its race after num_images, and its accuracy is of those alone
    from_history                      true: the score was taken over from --seed-history
    fingerprint, supernet, images     search space, weights (SHA-256) and images that the score holds for
    check                             CRC-32 of the rest of the line; in the file only

docs/history.md says more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

import numpy as np
from msgspec import UNSET, Struct, UnsetType

from spos.core.errors import InputError
from spos.runs.files import PathLike, read_json
from spos.runs.journal import Journal, as_lines, read_rows
from spos.runs.run import CONFIG_FILE, HISTORY_FILE, SEARCHING
from spos.runs.schema import Choices, Count, NotNegative, Positive, Share, ShareInterval, Text
from spos.search.costs import COSTS
from spos.search.domain import Domain
from spos.search.linear_model import variance_of
from spos.space.architecture import Architecture, architecture_of
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import cost_table
from spos.space.space import SearchSpace
from spos.space.space_file import described_space

SCORES = ("top1", "top5", "top1_interval", "top1_hits", "num_images")  # of a row, as `Accuracy.to_json` has them
SEVERAL = "num_supernets"  # of a row, where several have scored it
NEEDED = ("evaluation", "iteration", "top1", "top1_interval", "fitness", "flops", "params")

Row = Dict[str, Any]
SEED_FILE = "seed_history.jsonl"  # in a run: what --seed-history gave
IDENTITY = {  # by key of a row, what differs
    "fingerprint": "in another search space",
    "supernet": "with another supernet",
    "images": "on other images, in another precision, or with other classifiers",
}

TOLERANCE = 1e-9  # of shares and ratios that are computed again
REMEDY = "remove it and all lines after it to go on"


class HistoryRow(Struct):
    """What a row may say; which keys have to be there is up to the reader."""

    evaluation: Union[Count, UnsetType] = UNSET
    iteration: Union[Count, UnsetType] = UNSET
    block_choices: Union[Choices, UnsetType] = UNSET
    channel_choices: Union[Choices, UnsetType] = UNSET
    input_size: Union[Positive, UnsetType] = UNSET
    flops: Union[Count, UnsetType] = UNSET
    params: Union[Count, UnsetType] = UNSET
    flop_ratio: Union[NotNegative, UnsetType] = UNSET
    param_ratio: Union[NotNegative, UnsetType] = UNSET
    score: Union[NotNegative, UnsetType] = UNSET
    latency_ms: Union[NotNegative, UnsetType] = UNSET
    fitness: Union[float, UnsetType] = UNSET
    top1: Union[Share, UnsetType] = UNSET
    top5: Union[Share, UnsetType] = UNSET
    top1_interval: Union[ShareInterval, UnsetType] = UNSET
    top1_hits: Union[Count, UnsetType] = UNSET
    num_images: Union[Positive, UnsetType] = UNSET
    num_supernets: Union[Positive, UnsetType] = UNSET
    dropped: Union[bool, UnsetType] = UNSET
    from_history: Union[bool, UnsetType] = UNSET
    fingerprint: Union[Text, UnsetType] = UNSET
    supernet: Union[Text, UnsetType] = UNSET
    images: Union[Text, UnsetType] = UNSET


class NeededRow(HistoryRow, kw_only=True):
    """What a search itself writes, and reads to go on."""

    evaluation: Count
    iteration: Count
    block_choices: Choices
    channel_choices: Choices
    flops: Count
    params: Count
    fitness: float
    top1: Share
    top1_hits: Count
    num_images: Positive


class ArrivedRow(HistoryRow, kw_only=True):
    """A score that waits for its turn."""

    block_choices: Choices
    channel_choices: Choices
    top1: Share
    top1_hits: Count
    num_images: Positive


def open_history(path: PathLike, schema: Any = NeededRow) -> Journal:
    """The history of a search that is to go on. Raises InputError if it is damaged, or breaks a rule of histories."""
    journal = Journal(path, schema, with_check=True)
    check_rules(journal.rows, path)
    return journal


def read_search_rows(path: PathLike, schema: Any = HistoryRow) -> List[Row]:
    """The rows of a history that a search may be writing; none if it is not there.

    Raises: InputError if it is damaged, or breaks a rule of histories. Costs are compared with those of the choices
        if the space stands in the `config.json` beside it.
    """
    rows = read_rows(path, schema, with_check=True)
    check_rules(rows, path)
    if rows:
        space = _space_beside(Path(path))
        if space is not None:
            check_costs(rows, space, path)
    return rows


def seed_lines(rows: Sequence[Row]) -> bytes:
    """The content of `seed_history.jsonl`."""
    return as_lines(rows, with_check=True)


def _space_beside(path: Path) -> Optional[SearchSpace]:
    config_file = path.parent / CONFIG_FILE
    config = read_json(config_file) if config_file.is_file() else None
    if not isinstance(config, dict) or config.get("program") != SEARCHING or not config.get("space"):
        return None
    return described_space(config, str(config_file))


def check_costs(rows: Sequence[Row], space: SearchSpace, source: PathLike) -> None:
    """Raise InputError if a row states other FLOPs or params than its choices give."""
    table = cost_table(space)
    for number, row in enumerate(rows, 1):
        if "block_choices" not in row or "channel_choices" not in row:
            continue
        architecture = architecture_of(row)
        canonical = space.validate(architecture, f"{source} line {number}")
        if architecture != canonical:
            raise InputError(
                f"{source} line {number} gives another width than the widest to a block that has none: {architecture}; "
                f"write {canonical}"
            )
        cost = table.cost(canonical)
        if (row.get("flops", cost.macs), row.get("params", cost.params)) != cost:
            raise InputError(
                f"{source} line {number} states {row.get('flops')} FLOPs and {row.get('params')} params, its choices "
                f"give {cost.macs} and {cost.params}; {REMEDY}"
            )


def check_rules(rows: Sequence[Row], source: PathLike, numbered: bool = True) -> None:
    """Raise InputError if rows break what docs/history.md promises of a history.

    Args:
        numbered: `evaluation` is the number of the line; else, in a part of a history, it only rises.
    """
    seen: Set[Architecture] = set()
    num_images: Dict[Any, int] = {}
    before: Row = {}
    for number, row in enumerate(rows, 1):
        wrong = _broken_rule(row, before, number - 1 if numbered else None)
        if not wrong and "block_choices" in row and "channel_choices" in row:
            architecture = architecture_of(row)
            wrong = "holds an architecture that stands above" if architecture in seen else ""
            seen.add(architecture)
        if not wrong and is_complete(row) and "num_images" in row:
            count = num_images.setdefault(row.get("images"), row["num_images"])
            if count != row["num_images"]:
                wrong = f"was scored on {row['num_images']} images, those above on {count}"
        if wrong:
            raise InputError(f"{source} line {number} {wrong}; {REMEDY}")
        before = row


def _broken_rule(row: Row, before: Row, number: Optional[int]) -> str:
    """What is wrong with a row below another one; empty if nothing is."""
    own, last = row.get("evaluation"), before.get("evaluation")
    if own is not None and number is not None and own != number:
        return f"is evaluation {own}, not {number}"
    if None not in (own, last) and own <= last:  # type: ignore[operator]  # neither is None
        return f"is evaluation {own}, below evaluation {last}"
    iteration = row.get("iteration", 0)
    if iteration < before.get("iteration", 0):
        return f"is of iteration {iteration}, below iteration {before['iteration']}"
    top1 = row.get("top1")
    if top1 is None:
        return ""
    if "top1_hits" in row and "num_images" in row:
        hits, count, voters = row["top1_hits"], row["num_images"], row.get(SEVERAL, 1)
        if hits > count * voters or abs(top1 - hits / (count * voters)) > TOLERANCE:
            by = f" by {voters} supernets" if voters > 1 else ""
            return f"has a top1 of {top1}, {hits} hits among {count} images{by}"
    if row.get("top5", 1.0) < top1 - TOLERANCE:
        return f"has a top5 of {row['top5']}, below its top1 of {top1}"
    low, high = row.get("top1_interval", (0, 1))
    if not low - TOLERANCE <= top1 <= high + TOLERANCE:
        return f"has a top1 of {top1} outside of its interval, {low} to {high}"
    return ""


def scores_of(row: Mapping[str, Any]) -> Row:
    """What a row says of the accuracy, as `Accuracy.to_json` does."""
    return {key: row[key] for key in (*SCORES, SEVERAL) if key in row}


def is_complete(row: Mapping[str, Any]) -> bool:
    """Whether the row was scored on all images."""
    return not row.get("dropped", False)


def fitness_of(row: Mapping[str, Any]) -> float:
    """Fitness as a search is sent it: what was dropped is worse than anything."""
    return row["fitness"] if is_complete(row) else float("-inf")


def check_history(rows: Sequence[Mapping[str, Any]], identity: Mapping[str, str], source: PathLike) -> None:
    """Raise InputError if a row's score does not hold for this space, supernet and images."""
    for row in rows:
        for key, what in IDENTITY.items():
            if row.get(key) != identity[key]:
                raise InputError(
                    f"{source}: evaluation {row.get('evaluation')} was scored {what} ({key} {row.get(key)}, here it is "
                    f"{identity[key]}), so its scores cannot be used"
                )


def read_history(file_or_run: str) -> List[Row]:
    """The rows of a history, given as a file or a run directory. Raises InputError if there are none."""
    path = Path(file_or_run)
    path = path / HISTORY_FILE if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"--seed-history {path} does not exist")
    rows = read_rows(path, HistoryRow, with_check=True)
    if not rows or not all({"block_choices", "channel_choices", *SCORES} <= set(row) for row in rows):
        raise InputError(f"--seed-history {path} is no history of a search, or an empty one")
    check_rules(rows, path, numbered=False)
    return rows


def best_rows(rows: Sequence[Row], count: int) -> List[Row]:
    """The complete rows of highest fitness, best first; of equals, the one evaluated first."""
    return sorted(filter(is_complete, rows), key=lambda row: (-row["fitness"], row["evaluation"]))[:count]


def find_ties(rows: Sequence[Row], best: Row) -> List[Row]:
    """The others whose fitness the images cannot tell from the best's: their intervals overlap. Complete rows only."""
    low, high = fitness_interval(best)
    others = [(row, fitness_interval(row)) for row in rows if row is not best and is_complete(row)]
    return [row for row, (own_low, own_high) in others if own_high >= low and own_low <= high]


def find_better(rows: Sequence[Row], chosen: Row) -> List[Row]:
    """The complete rows whose interval lies wholly above that of the one that a model, or finals, have chosen."""
    high = fitness_interval(chosen)[1]
    return [row for row in rows if is_complete(row) and fitness_interval(row)[0] > high]


def fitness_interval(row: Mapping[str, Any]) -> Tuple[float, float]:
    """`top1_interval` of a row, less what its fitness subtracts from its accuracy."""
    low, high = row["top1_interval"]
    subtracted = subtracted_of(row)
    return low - subtracted, high - subtracted


def subtracted_of(row: Mapping[str, Any]) -> float:
    """What the fitness of a row subtracts from its accuracy for what it costs; 0 where that alone is maximised."""
    return row["top1"] - row["fitness"]


def learned_from(rows: Sequence[Row]) -> Tuple[np.ndarray, np.ndarray]:
    """What a model of the scores learns from rows: fitness, and the variance that it has by its images, (rows,) each.

    A dropped row tells its fitness as well, but on few images. Variances are 0 where rows tell no number of images.
    """
    fitness = np.array([row["fitness"] for row in rows], dtype=float)
    num_images = [row.get("num_images", 0) for row in rows]
    return fitness, variance_of([row.get("top1", 0.0) for row in rows], num_images)


def num_images_of(rows: Sequence[Row]) -> int:
    """Images that a score on all of them is of; 0 if there is none, or if scores are no accuracies on images."""
    return next((row.get("num_images", 0) for row in rows if is_complete(row)), 0)


def mean_of_random(rows: Sequence[Row], search_mode: str = "") -> Tuple[int, float]:
    """(count, mean top-1) of the architectures drawn at random: of the first iteration, of `random` search all.

    Only those scored on all images, and none that an older search had chosen; (0, nan) if there are none.
    """
    drawn = [row for row in rows if row["iteration"] == 0 or search_mode == "random"]
    top1 = [row["top1"] for row in drawn if is_complete(row) and not row.get("from_history", False)]
    return len(top1), sum(top1) / len(top1) if top1 else float("nan")


def best_record(
    domain: Domain, row: Row, origin: Mapping[str, Any], name: Optional[str] = None, ties: int = 0
) -> ArchitectureRecord:
    """An architecture file's content for a row: the searched accuracy, where it came from, its number of ties."""
    accuracy = scores_of(row)
    more = {
        **({"latency_ms": row["latency_ms"]} if "latency_ms" in row else {}),
        "name": name or "searched",
        "fitness": row["fitness"],
        "score": row["score"],
        "searched_accuracy": accuracy,
        "ties": ties,
        "evaluation": row["evaluation"],
        "iteration": row["iteration"],
        "origin": dict(origin),
    }
    return ArchitectureRecord(domain.space, architecture_of(row), more)


@dataclass(frozen=True)
class History:
    """All evaluations of a search."""

    name: str
    rows: Sequence[Row]

    @cached_property
    def scored(self) -> List[Row]:
        """The rows that saw all images. Only these are compared."""
        return list(filter(is_complete, self.rows))

    @property
    def dropped(self) -> List[Row]:
        return [row for row in self.rows if not is_complete(row)]

    @property
    def best(self) -> Row:
        """The scored row of highest fitness; of equals, the first."""
        return best_rows(self.rows, 1)[0]

    @property
    def ties(self) -> List[Row]:
        """The other rows that `find_ties` cannot tell from the best."""
        return find_ties(self.rows, self.best)

    def best_so_far(self) -> Tuple[List[int], List[float]]:
        """(evaluations done, top-1 of the fittest of them), up to the last evaluation."""
        tops = [row["top1"] for row in accumulate(self.scored, _fitter)]
        return [row["evaluation"] + 1 for row in (*self.scored, self.rows[-1])], [*tops, tops[-1]]

    def means(self) -> List[Tuple[int, int, float]]:
        """(first evaluation, last evaluation, mean top-1) of the scored rows of every iteration, counted from 1."""
        iterations: Dict[int, List[Row]] = {}
        for row in self.scored:
            iterations.setdefault(row["iteration"], []).append(row)
        return [
            (rows[0]["evaluation"] + 1, rows[-1]["evaluation"] + 1, float(np.mean([row["top1"] for row in rows])))
            for rows in iterations.values()
        ]

    def costs(self, x: str, rows: Sequence[Row]) -> List[float]:
        """A cost of rows in its unit. Raises InputError if a row does not tell it."""
        cost = COSTS[x]
        key, unit = cost.key, cost.unit
        if any(key not in row for row in self.rows):
            raise InputError(f"--x {x}: the history of {self.name} tells no {key}; search with --latency-table")
        return [row[key] / unit for row in rows]

    def front(self, x: str) -> Tuple[List[float], List[float]]:
        """(cost, top-1) of the scored rows that no other one beats in both, by rising cost."""
        points = sorted(zip(self.costs(x, self.scored), (-row["top1"] for row in self.scored)))
        front: List[Tuple[float, float]] = []
        for cost, minus_top1 in points:
            if not front or -minus_top1 > front[-1][1]:
                front.append((cost, -minus_top1))
        costs, tops = zip(*front)
        return list(costs), list(tops)

    def text(self, x: str) -> str:
        low, high = self.best["top1_interval"]
        dropped = f" ({len(self.dropped)} dropped early)" if self.dropped else ""
        return (
            f"{len(self.rows)} architectures{dropped}, best top-1 {self.best['top1']:.2%} (95% interval {low:.2%} to "
            f"{high:.2%}), {len(self.ties)} ties, {len(self.front(x)[0])} on the front"
        )


def _fitter(best: Row, row: Row) -> Row:
    return row if row["fitness"] > best["fitness"] else best


def load_history(path: Path) -> History:
    """From a run directory or the history in it. Raises InputError if it is not there, is empty or lacks fields."""
    file = path / HISTORY_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist; give a run directory of search_supernet.py or its {HISTORY_FILE}")
    history = History(file.resolve().parent.name, read_search_rows(file))
    for number, row in enumerate(history.rows, 1):
        missing = [key for key in NEEDED if key not in row]
        if missing:
            raise InputError(f"{file} line {number} is no row of a search: it lacks {', '.join(missing)}")
    if not history.scored:
        raise InputError(f"{file} holds no evaluation that saw all images")
    return history


def load_histories(paths: Sequence[Path]) -> List[History]:
    """All of them, each named after its folder, or by its path where two folders have one name."""
    histories = [load_history(path) for path in paths]
    names = [history.name for history in histories]
    return [
        replace(history, name=str(path)) if names.count(history.name) > 1 else history
        for path, history in zip(paths, histories)
    ]
