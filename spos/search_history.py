"""The rows of `history.jsonl`, and what is read from them: the best, ties, the mean of random architectures.

A row is one evaluation, in the order of the search; the file holds no times, so equal searches write equal files.

    evaluation, iteration             numbers from 0
    block_choices, channel_choices    the architecture
    flops, params                     its cost;    flop_ratio, param_ratio, score    relative to the comparison model
    latency_ms                        by the latency table, if there is one
    fitness                           what the search maximises
    top1, top5, top1_interval         fractions 0..1; the interval is Wilson's, 95%
    top1_hits, num_images             hits among how many images
    dropped                           true: it lost its race after num_images, and its accuracy is of those alone
    from_history                      true: the score was taken over from --seed-history
    fingerprint, supernet, images     search space, weights (SHA-256) and images that the score holds for

docs/history.md says more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from spos.domain import Domain
from spos.errors import InputError
from spos.evolution import contains
from spos.records import HISTORY_FILE, ArchitectureRecord, PathLike, read_rows
from spos.search_space import Architecture

Row = Dict[str, Any]
SEED_FILE = "seed_history.jsonl"  # in a run: what --seed-history gave
IDENTITY = {  # by key of a row, what differs
    "fingerprint": "in another search space",
    "supernet": "with another supernet",
    "images": "on other images",
}


def architecture_of(row: Mapping[str, Any]) -> Architecture:
    return Architecture(tuple(row["block_choices"]), tuple(row["channel_choices"]))


def choices_of(architecture: Architecture) -> Dict[str, List[int]]:
    """The architecture in a row: the inverse of `architecture_of`."""
    return {
        "block_choices": list(architecture.block_choices),
        "channel_choices": list(architecture.channel_choices),
    }


def is_complete(row: Mapping[str, Any]) -> bool:
    """Whether the row was scored on all images."""
    return not row.get("dropped", False)


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
    rows = read_rows(path)
    if not rows or not all({"block_choices", "channel_choices", "top1_hits"} <= set(row) for row in rows):
        raise InputError(f"--seed-history {path} is no history of a search, or an empty one")
    return rows


def best_rows(rows: Sequence[Row], count: int) -> List[Row]:
    """The complete rows of highest fitness, best first; of equals, the one evaluated first."""
    return sorted(filter(is_complete, rows), key=lambda row: (-row["fitness"], row["evaluation"]))[:count]


def best_architectures(
    rows: Sequence[Row], domain: Domain, fitness: Callable[[Row], float], count: int
) -> List[Architecture]:
    """The best of an older search that this one may visit, best first."""
    ranked = sorted(filter(is_complete, rows), key=fitness, reverse=True)
    return [architecture for architecture in map(architecture_of, ranked) if contains(domain, architecture)][:count]


def find_ties(rows: Sequence[Row], best: Row) -> List[Row]:
    """The others that the images cannot tell from the best: intervals that overlap its own. Complete rows only."""
    low = best["top1_interval"][0]
    return [row for row in rows if row is not best and is_complete(row) and row["top1_interval"][1] >= low]


def mean_of_random(rows: Sequence[Row]) -> Tuple[int, float]:
    """(count, mean top-1) of the architectures of the first iteration, which are drawn at random.

    Only those scored on all images, and none that an older search had chosen; (0, nan) if there are none.
    """
    first = [
        row["top1"] for row in rows if row["iteration"] == 0 and is_complete(row) and not row.get("from_history", False)
    ]
    return len(first), sum(first) / len(first) if first else float("nan")


def best_record(
    domain: Domain, row: Row, origin: Mapping[str, Any], name: Optional[str] = None, ties: int = 0
) -> ArchitectureRecord:
    """An architecture file's content for a row: the searched accuracy, where it came from, its number of ties."""
    accuracy = {key: row[key] for key in ("top1", "top5", "top1_interval", "top1_hits", "num_images")}
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
